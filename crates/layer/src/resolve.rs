//! Following symbolic links inside a root, in user space: where does a path lead when the tree is
//! `/`? Absolute targets restart at the root and `..` stops there, so nothing leads outside.
//!
//! This only looks nodes up; opening host files below a root is done elsewhere.

use std::io;

use crate::{InvalidPath, Kind, Node, RelPath, View};

/// Most symbolic links that one resolution follows before it is called a loop.
pub const MAX_LINKS: usize = 255;

/// Which symbolic links of a path are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// All of them.
    All,
    /// All but one in the last component.
    AllButLast,
    /// None: the path is only cleaned.
    None,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without links to follow. Components that do not exist are kept as they were
    /// written.
    pub path: RelPath,
    /// What is there; `None` when something on the way or the end is missing.
    pub node: Option<Node>,
}

/// Why a path could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// More than [`MAX_LINKS`] links: almost certainly a loop.
    #[error("follow {path}: more than {MAX_LINKS} symbolic links")]
    TooManyLinks {
        /// The path that was to be resolved, lossily decoded.
        path: String,
    },
    /// A path or the target of a link holds a NUL byte.
    #[error("follow a path with a NUL byte")]
    Invalid(#[from] InvalidPath),
    /// The tree could not be read.
    #[error("read {path}")]
    Read {
        /// The component that was looked up.
        path: RelPath,
        /// What went wrong.
        source: io::Error,
    },
}

/// Resolves `path` in `view`. It need not be relative or clean; `..` in it is resolved textually
/// first (as `COPY` does), `..` in targets of links where the link is (as the kernel does).
///
/// # Errors
/// On a loop, a NUL byte, or a tree that cannot be read. A missing component is no error.
pub fn resolve(view: &dyn View, path: &[u8], links: Links) -> Result<Resolved, ResolveError> {
    resolve_with(path, links, |p| view.lookup(p))
}

/// [`resolve`] over anything that can be asked for one node.
pub(crate) fn resolve_with(
    path: &[u8],
    links: Links,
    mut lookup: impl FnMut(&RelPath) -> io::Result<Option<Node>>,
) -> Result<Resolved, ResolveError> {
    let clean = RelPath::clamp(path)?;
    let mut look = |path: &RelPath| {
        lookup(path).map_err(|source| ResolveError::Read {
            path: path.clone(),
            source,
        })
    };
    if links == Links::None {
        let node = look(&clean)?;
        return Ok(Resolved { path: clean, node });
    }
    let mut pending: Vec<Vec<u8>> = clean.components().rev().map(<[u8]>::to_vec).collect();
    let mut current = RelPath::root();
    let mut found = look(&current)?;
    let mut followed = 0;
    while let Some(component) = pending.pop() {
        match component.as_slice() {
            b"" | b"." => continue,
            b".." => {
                current = current.parent().unwrap_or_default();
                found = look(&current)?;
                continue;
            }
            _ => {}
        }
        let next = current.join(&component)?;
        // Below something that is missing or no directory there is nothing to look up.
        let below_directory = found.as_ref().is_some_and(|n| n.kind == Kind::Directory);
        let node = if below_directory { look(&next)? } else { None };
        let follow = links == Links::All || !pending.is_empty();
        match node {
            Some(Node {
                kind: Kind::Symlink { target },
                ..
            }) if follow => {
                followed += 1;
                if followed > MAX_LINKS {
                    let path = String::from_utf8_lossy(path).into_owned();
                    return Err(ResolveError::TooManyLinks { path });
                }
                if target.first() == Some(&b'/') {
                    current = RelPath::root();
                    found = look(&current)?;
                }
                pending.extend(target.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
            }
            node => {
                current = next;
                found = node;
            }
        }
    }
    Ok(Resolved {
        path: current,
        node: found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::MemView;

    const TREE: &str = "
        d/f =x
        abs ->/d
        rel ->d
        up ->../../../d/f
        d/sib ->../d/./f
        chain ->abs/sib
        dangling ->nowhere/x
        loop1 ->loop2
        loop2 ->loop1
        d/out ->/../../etc/passwd
        through ->d/f/below
    ";

    #[track_caller]
    fn check(links: Links, path: &str, expect: &str) {
        let view = MemView::parse(TREE);
        let found = resolve(&view, path.as_bytes(), links).unwrap();
        let state = match &found.node {
            None => "missing",
            Some(node) => match node.kind {
                Kind::Directory => "dir",
                Kind::File { .. } => "file",
                Kind::Symlink { .. } => "link",
                _ => "other",
            },
        };
        assert_eq!(format!("{} {state}", found.path), expect, "{path}");
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        for (path, expect) in [
            ("", "/ dir"),
            ("/", "/ dir"),
            ("abs/f", "/d/f file"),
            ("rel/sib", "/d/f file"),
            ("up", "/d/f file"),
            ("chain", "/d/f file"),
            ("/../abs//./f", "/d/f file"),
            ("dangling", "/nowhere/x missing"),
            ("d/out", "/etc/passwd missing"),
            ("through", "/d/f/below missing"),
            ("nope/../d/f", "/d/f file"),
            ("abs/new/deep", "/d/new/deep missing"),
        ] {
            check(Links::All, path, expect);
        }
    }

    #[test]
    fn the_last_link_can_be_kept() {
        for (path, expect) in [
            ("abs", "/abs link"),
            ("abs/sib", "/d/sib link"),
            ("dangling/y", "/nowhere/x/y missing"),
        ] {
            check(Links::AllButLast, path, expect);
        }
        check(Links::None, "abs/f", "/abs/f missing");
    }

    #[test]
    fn loops_end_in_an_error_that_names_the_path() {
        let view = MemView::parse(TREE);
        let error = resolve(&view, b"loop1/x", Links::All).unwrap_err();
        assert_eq!(
            error.to_string(),
            "follow loop1/x: more than 255 symbolic links"
        );
        assert!(resolve(&view, b"loop1", Links::AllButLast).is_ok());
        assert!(matches!(
            resolve(&view, b"a\0b", Links::All),
            Err(ResolveError::Invalid(_))
        ));
    }
}
