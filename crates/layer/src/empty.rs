//! The tree of `FROM scratch`: a root and nothing in it.

use std::io;

use crate::{Content, ContentDigest, Kind, Metadata, Node, RelPath, View};

/// A tree without layers: its root is a directory, 0755 and 0:0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptyTree;

impl View for EmptyTree {
    fn lookup(&self, path: &RelPath) -> io::Result<Option<Node>> {
        let metadata = Metadata {
            mode: 0o755,
            ..Metadata::default()
        };
        let root = Node {
            kind: Kind::Directory,
            metadata,
            links: None,
        };
        Ok(path.is_root().then_some(root))
    }

    fn read_dir(&self, path: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        match path.is_root() {
            true => Ok(Vec::new()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(&self, path: &RelPath) -> io::Result<Content> {
        Err(not_a_file(path))
    }

    fn digest(&self, path: &RelPath, _node: &Node) -> io::Result<ContentDigest> {
        Err(not_a_file(path))
    }
}

fn not_a_file(path: &RelPath) -> io::Error {
    match path.is_root() {
        true => io::ErrorKind::IsADirectory.into(),
        false => io::ErrorKind::NotFound.into(),
    }
}
