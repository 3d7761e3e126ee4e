//! In a few words, which part of a tree a layer has to do with: enough to tell, of a layer that is
//! not here, that it says nothing of a path.

use std::io;

use crate::tree::Tree;
use crate::{Change, Kind, RelPath};

/// Paths that an outline names at most.
const MOST: usize = 64;

/// What a layer has to do with: nothing but these paths, whatever is below them, and the
/// directories on the way to them.
///
/// A directory on the way is one that merges with that of the layers below: one that hides them,
/// anything that is no directory, and whatever is removed is named itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Sorted; none is below another, and each is UTF-8.
    paths: Vec<RelPath>,
}

impl Outline {
    /// The outline of a layer.
    ///
    /// # Errors
    /// When the layer cannot be read.
    pub fn of(tree: &Tree) -> io::Result<Outline> {
        let (_, opaque) = tree.root()?;
        let mut open = vec![Frame::new(RelPath::root(), opaque)];
        for change in tree.change_list()?.read() {
            let (path, change) = change?;
            close_until(&mut open, |frame| path.starts_with(&frame.path));
            let frame = match change {
                Change::Put { node, opaque, .. } if node.kind == Kind::Directory => {
                    Frame::new(path, opaque)
                }
                _ => Frame::new(path, true),
            };
            open.push(frame);
        }
        // Of the root there is no part when the layer changes nothing.
        let is_empty = open.len() == 1 && !opaque;
        close_until(&mut open, |frame| frame.path.is_root());
        let root = open.pop().map(Frame::close).unwrap_or_default();
        Ok(Outline {
            paths: if is_empty { Vec::new() } else { named(root) },
        })
    }

    /// Reads what [`Outline::texts`] wrote. `None` for anything else.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Option<Outline> {
        let path = |text: &T| RelPath::new(text.as_ref().strip_prefix('/')?).ok();
        let paths: Vec<RelPath> = texts.iter().map(path).collect::<Option<_>>()?;
        (paths.len() <= MOST).then_some(Outline { paths })
    }

    /// The paths, each with a slash in front.
    pub fn texts(&self) -> Vec<String> {
        self.paths.iter().map(RelPath::to_string).collect()
    }

    /// Whether the layer may have something to say of `path`, or of what is below it. Each layer
    /// has a root.
    pub fn touches(&self, path: &RelPath) -> bool {
        let meets = |named: &RelPath| named.starts_with(path) || path.starts_with(named);
        path.is_root() || self.paths.iter().any(meets)
    }
}

/// A path whose part of the outline is being collected.
struct Frame {
    path: RelPath,
    /// Nothing below it is named: it is named itself.
    is_whole: bool,
    /// What is named in each of its names.
    parts: Vec<Part>,
}

/// One name of a directory, and what is named at it or below.
struct Part {
    path: RelPath,
    named: Vec<RelPath>,
}

impl Frame {
    fn new(path: RelPath, is_whole: bool) -> Frame {
        Frame {
            path,
            is_whole,
            parts: Vec::new(),
        }
    }

    fn take(&mut self, part: Part) {
        self.is_whole |= self.parts.len() == MOST;
        if self.is_whole {
            self.parts.clear();
        } else {
            self.parts.push(part);
        }
    }

    /// What is named here: of the names that have most below them, only themselves, until there
    /// are few enough.
    fn close(mut self) -> Vec<RelPath> {
        if self.is_whole || self.parts.is_empty() {
            return vec![self.path];
        }
        let mut count: usize = self.parts.iter().map(|part| part.named.len()).sum();
        while count > MOST
            && let Some(largest) = self.parts.iter_mut().max_by_key(|part| part.named.len())
        {
            count -= largest.named.len() - 1;
            largest.named = vec![largest.path.clone()];
        }
        self.parts.into_iter().flat_map(|part| part.named).collect()
    }
}

/// Closes the innermost frames, up to one that is wanted.
fn close_until(open: &mut Vec<Frame>, wanted: impl Fn(&Frame) -> bool) {
    while let Some(frame) = open.pop_if(|frame| !wanted(frame)) {
        let part = Part {
            path: frame.path.clone(),
            named: frame.close(),
        };
        if let Some(outer) = open.last_mut() {
            outer.take(part);
        }
    }
}

/// Paths that are text: one that is not is covered by the nearest directory above it that is.
fn named(paths: Vec<RelPath>) -> Vec<RelPath> {
    let mut named: Vec<RelPath> = Vec::with_capacity(paths.len());
    for mut path in paths {
        while std::str::from_utf8(path.as_bytes()).is_err()
            && let Some(parent) = path.parent()
        {
            path = parent;
        }
        while named.pop_if(|before| before.starts_with(&path)).is_some() {}
        if !named.last().is_some_and(|before| path.starts_with(before)) {
            named.push(path);
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::xattr::Marks;

    /// The outline of a layer with files at these paths, as a directory.
    #[track_caller]
    fn check<P: AsRef<std::path::Path>>(files: &[P], expected: &[&str]) -> Outline {
        let directory = tempfile::tempdir().unwrap();
        for path in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let tree = Tree::Dir {
            path: directory.path().to_owned(),
            marks: Marks::Trusted,
        };
        let outline = Outline::of(&tree).unwrap();
        assert_eq!(outline.texts(), expected);
        assert_eq!(Outline::parse(&outline.texts()).as_ref(), Some(&outline));
        outline
    }

    fn many(directory: &str, count: usize) -> Vec<String> {
        let file = |n| format!("{directory}/f{n:03}");
        (0..count).map(file).collect()
    }

    #[test]
    fn little_is_named_as_it_is() {
        check::<&str>(&[], &[]);
        check(
            &["a/b/c", "a/b/d", "a.x", "e"],
            &["/a/b/c", "/a/b/d", "/a.x", "/e"],
        );
    }

    #[test]
    fn what_is_named_covers_what_it_hides_or_holds() {
        let outline = check(&["usr/lib/x", "out"], &["/out", "/usr/lib/x"]);
        for path in [
            "",
            "usr",
            "usr/lib",
            "usr/lib/x",
            "usr/lib/x/y",
            "out",
            "out/z",
        ] {
            assert!(outline.touches(&RelPath::new(path).unwrap()), "{path}");
        }
        for path in ["us", "usr/bin", "usr/lib/xy", "outer", "bin"] {
            assert!(!outline.touches(&RelPath::new(path).unwrap()), "{path}");
        }
        let nothing = check::<&str>(&[], &[]);
        assert!(nothing.touches(&RelPath::root()));
        assert!(!nothing.touches(&RelPath::new("a").unwrap()));
    }

    #[test]
    fn where_there_is_most_less_is_said() {
        let mut files = many("usr/lib", 60);
        files.extend(many("usr/bin", 10));
        files.push("app/x".into());
        let mut expected = vec!["/app/x".to_string()];
        expected.extend(many("/usr/bin", 10));
        expected.push("/usr/lib".into());
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&files, &expected);
        check(&many("usr/lib", 65), &["/usr/lib"]);
        let top: Vec<String> = many("", 65).iter().map(|f| f[1..].to_string()).collect();
        check(&top, &["/"]);
    }

    #[test]
    fn a_name_that_is_no_text_is_covered_by_its_directory() {
        use std::os::unix::ffi::OsStrExt;
        let odd = |bytes| std::path::PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        check(&[odd(b"a/b"), odd(b"a/\xff/x"), odd(b"c")], &["/a", "/c"]);
        check(&[odd(b"\xff")], &["/"]);
    }

    #[test]
    fn what_is_no_outline_is_none() {
        for text in ["", "a", "/a/", "/../a", "//"] {
            assert_eq!(Outline::parse(&[text]), None, "{text:?}");
        }
        assert_eq!(Outline::parse(&many("/a", MOST + 1)), None);
    }
}
