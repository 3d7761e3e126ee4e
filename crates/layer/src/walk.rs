//! Listing whole trees: in path order, directories in parallel, nothing recursive.
//!
//! A level of the tree at a time is read by all threads, each holding one directory open while it
//! reads it; then the levels are put in order. So neither deep nor wide trees run into a limit.

use crate::{ContentDigest, Kind, Node, RelPath, View};
use rayon::prelude::*;
use std::io;

/// Files are digested in runs of at least this many, so that neighbours share a parent.
const RUN: usize = 16;

/// Lists what is below the directory `top` of any view, without `top` itself, in path order.
///
/// Views that know better override [`View::walk`], which calls this.
///
/// # Errors
/// When `top` is no directory, or something below it cannot be read.
pub fn walk<V: View + ?Sized>(view: &V, top: &RelPath) -> io::Result<Vec<(RelPath, Node)>> {
    preorder(top, |directory| {
        let mut listed = Vec::new();
        for name in view.read_dir(directory)? {
            let path = directory.join(&name).map_err(io::Error::other)?;
            // What went away since it was listed was never there.
            if let Some(node) = view.lookup(&path)? {
                let descend = Descend::into_directory(node.kind == Kind::Directory);
                listed.push(Listed {
                    path,
                    item: node,
                    descend,
                });
            }
        }
        Ok(listed)
    })
}

/// Digests of all regular files among `files`, by all threads; `None` for what is no regular file.
/// The order is that of `files`.
///
/// # Errors
/// When a file cannot be read, or changes while it is.
pub fn digest_all<V: View + ?Sized>(
    view: &V,
    files: &[(RelPath, Node)],
) -> io::Result<Vec<Option<ContentDigest>>> {
    let digest = |(path, node): &(RelPath, Node)| match node.kind {
        Kind::File { .. } => view.digest(path, node).map(Some),
        _ => Ok(None),
    };
    files.par_iter().with_min_len(RUN).map(digest).collect()
}

/// An entry of a directory as a lister shows it.
pub(crate) struct Listed<T> {
    pub(crate) path: RelPath,
    pub(crate) item: T,
    pub(crate) descend: Descend,
}

/// What a walk does below an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descend {
    /// Nothing: it is no directory.
    No,
    /// Lists what is in it.
    Yes,
    /// Lists what is in it, and forgets the directory itself when that is nothing.
    IfFilled,
}

impl Descend {
    pub(crate) fn into_directory(is_directory: bool) -> Descend {
        match is_directory {
            true => Descend::Yes,
            false => Descend::No,
        }
    }
}

/// Lists what is below `top`, without `top`, in path order. `list` gives the entries of one
/// directory, sorted by name.
pub(crate) fn preorder<T: Send>(
    top: &RelPath,
    list: impl Fn(&RelPath) -> io::Result<Vec<Listed<T>>> + Sync,
) -> io::Result<Vec<(RelPath, T)>> {
    let mut directories: Vec<Vec<Listed<T>>> = vec![list(top)?];
    // For each directory, the number of its first subdirectory. Numbers are given breadth first,
    // so those of one directory follow each other.
    let mut first_child = Vec::new();
    while first_child.len() < directories.len() {
        let level: Vec<&RelPath> = directories[first_child.len()..]
            .iter()
            .flat_map(|entries| subdirectories(entries))
            .collect();
        let listings: Vec<_> = level
            .into_par_iter()
            .map(&list)
            .collect::<io::Result<_>>()?;
        let mut next = directories.len();
        for entries in &directories[first_child.len()..] {
            first_child.push(next);
            next += subdirectories(entries).count();
        }
        directories.extend(listings);
    }
    Ok(in_path_order(directories, first_child))
}

fn subdirectories<T>(entries: &[Listed<T>]) -> impl Iterator<Item = &RelPath> {
    entries
        .iter()
        .filter(|entry| entry.descend != Descend::No)
        .map(|entry| &entry.path)
}

/// Depth first through what was read breadth first.
fn in_path_order<T>(
    directories: Vec<Vec<Listed<T>>>,
    mut next_child: Vec<usize>,
) -> Vec<(RelPath, T)> {
    let total = directories.iter().map(Vec::len).sum();
    let mut ordered: Vec<(RelPath, T)> = Vec::with_capacity(total);
    let mut directories: Vec<_> = directories.into_iter().map(Vec::into_iter).collect();
    // The directories from the top to the one at hand; with each, where in `ordered` it stands
    // when it is to be forgotten if nothing follows it.
    let mut open: Vec<(usize, Option<usize>)> = vec![(0, None)];
    while let Some(&(directory, forget)) = open.last() {
        let Some(entry) = directories[directory].next() else {
            open.pop();
            if forget.is_some_and(|at| ordered.len() == at + 1) {
                ordered.pop();
            }
            continue;
        };
        if entry.descend != Descend::No {
            let forget = (entry.descend == Descend::IfFilled).then_some(ordered.len());
            open.push((next_child[directory], forget));
            next_child[directory] += 1;
        }
        ordered.push((entry.path, entry.item));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `dirs` end with `/`, or with `?` when they are to be kept only if filled.
    #[track_caller]
    fn check(paths: &[&str], expect: &[&str]) {
        let list = |directory: &RelPath| {
            let mut listed = Vec::new();
            for &text in paths {
                let path = RelPath::new(text.trim_end_matches(['/', '?'])).unwrap();
                if path.parent().as_ref() == Some(directory) {
                    let descend = match text.as_bytes().last() {
                        Some(b'/') => Descend::Yes,
                        Some(b'?') => Descend::IfFilled,
                        _ => Descend::No,
                    };
                    let item = ();
                    listed.push(Listed {
                        path,
                        item,
                        descend,
                    });
                }
            }
            listed.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(listed)
        };
        let walked = preorder(&RelPath::root(), list).unwrap();
        let walked: Vec<_> = walked
            .iter()
            .map(|(path, ())| str::from_utf8(path.as_bytes()).unwrap())
            .collect();
        assert_eq!(walked, expect);
        assert!(walked.is_sorted_by_key(|path| RelPath::new(*path).unwrap()));
    }

    #[test]
    fn path_order_is_by_components() {
        check(
            &["b/", "a.txt", "a/", "a/c", "a/b/", "a/b/x", "b/y"],
            &["a", "a/b", "a/b/x", "a/c", "a.txt", "b", "b/y"],
        );
    }

    #[test]
    fn directories_kept_only_when_filled() {
        check(
            &[
                "a?", "a/b?", "c?", "c/d?", "c/d/e", "f/", "g?", "g/h?", "g/i?", "g/i/j/",
            ],
            &["c", "c/d", "c/d/e", "f", "g", "g/i", "g/i/j"],
        );
    }

    #[test]
    fn nothing_and_deep() {
        check(&[], &[]);
        let deep: Vec<String> = (1..400)
            .map(|depth| vec!["d"; depth].join("/") + "/")
            .collect();
        let deep: Vec<&str> = deep.iter().map(String::as_str).collect();
        let expect: Vec<&str> = deep.iter().map(|path| path.trim_end_matches('/')).collect();
        check(&deep, &expect);
    }
}
