//! One layer on disk: packed, or a directory.
//!
//! Both say the same things: what the layer puts, links, removes and hides. Reading a layer by
//! itself is [`Tree::changes`]; reading layers on top of each other is
//! [`Stack`](crate::Stack).

mod packed;
mod upper;

use crate::xattr::Marks;
use crate::{Change, ChangeList, Content, Node, RelPath};
use packed::Packed;
use std::io;
use std::path::PathBuf;
use upper::Upper;

/// Where one layer is, whiteouts and opaque directories and all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tree {
    /// An uncompressed tar and its index (see [`erofs`](crate::erofs)).
    Packed {
        /// The tar, which holds the bytes of the files.
        tar: PathBuf,
        /// The index, which holds everything else.
        index: PathBuf,
    },
    /// A directory in the form of an overlay upper directory.
    Dir {
        /// The directory.
        path: PathBuf,
        /// How its whiteouts and opaque directories are marked.
        marks: Marks,
    },
}

impl Tree {
    /// What the layer does to the tree below it, sorted by path. The root itself is not among it:
    /// see [`Tree::root`].
    ///
    /// Of the names of a hard-linked inode, the first by path is a `Put` and the others link to
    /// it. Attributes are those that belong to an image.
    ///
    /// # Errors
    /// When the layer cannot be read, or its index is damaged.
    pub fn changes(&self) -> io::Result<Vec<(RelPath, Change)>> {
        self.change_list()?.read().collect()
    }

    /// [`Tree::changes`], to be gone through: those of a packed layer are read as they are asked
    /// for.
    ///
    /// # Errors
    /// When the layer cannot be opened, or is a directory that cannot be read.
    pub fn change_list(&self) -> io::Result<Box<dyn ChangeList>> {
        Ok(match OpenTree::open(self)? {
            OpenTree::Packed(packed) => Box::new(packed),
            OpenTree::Upper(upper) => Box::new(upper.changes()?),
        })
    }

    /// The root directory of the layer, and whether it hides everything below.
    ///
    /// The kernel pays no heed to an opaque mark on the root of a lower layer: whoever mounts
    /// layers leaves out those below it. [`Stack`](crate::Stack) does.
    ///
    /// # Errors
    /// As for [`Tree::changes`].
    pub fn root(&self) -> io::Result<(Node, bool)> {
        let tree = OpenTree::open(self)?;
        let (place, opaque) = tree.root()?;
        Ok((tree.node(0, &RelPath::root(), place)?, opaque))
    }
}

/// A layer opened for looking things up in it.
#[derive(Debug)]
pub(crate) enum OpenTree {
    Packed(Packed),
    Upper(Upper),
}

/// An inode of one layer. Only layers make these, and only for themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its number in an index; unused in directories, where the path says all.
    nid: u64,
    /// A directory that may hold whiteouts which are files with an attribute.
    xattr_whiteouts: bool,
}

/// What a layer has under a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    Whiteout,
    Directory { place: Place, opaque: bool },
    Other(Place),
}

/// A name in a directory of one layer.
#[derive(Debug)]
pub(crate) struct LayerName {
    pub(crate) name: Vec<u8>,
    pub(crate) whiteout: bool,
}

impl OpenTree {
    pub(crate) fn open(tree: &Tree) -> io::Result<OpenTree> {
        Ok(match tree {
            Tree::Packed { tar, index } => OpenTree::Packed(Packed::open(tar, index)?),
            Tree::Dir { path, marks } => OpenTree::Upper(Upper::open(path, *marks)?),
        })
    }

    /// The root directory, and whether it is opaque.
    pub(crate) fn root(&self) -> io::Result<(Place, bool)> {
        match self {
            OpenTree::Packed(packed) => packed.root(),
            OpenTree::Upper(upper) => upper.root(),
        }
    }

    /// What is at `path`, whose parent is the directory at `parent`.
    pub(crate) fn find(&self, parent: Place, path: &RelPath) -> io::Result<Option<Found>> {
        match self {
            OpenTree::Packed(packed) => packed.find(parent, path),
            OpenTree::Upper(upper) => upper.find(parent, path),
        }
    }

    /// The names in the directory at `place`, sorted.
    pub(crate) fn names(&self, place: Place, path: &RelPath) -> io::Result<Vec<LayerName>> {
        match self {
            OpenTree::Packed(packed) => packed.names(place),
            OpenTree::Upper(upper) => upper.names(place, path),
        }
    }

    /// The inode at `place`. `layer` tells its links from those of other layers.
    pub(crate) fn node(&self, layer: u64, path: &RelPath, place: Place) -> io::Result<Node> {
        match self {
            OpenTree::Packed(packed) => packed.node(layer, place),
            OpenTree::Upper(upper) => upper.node(layer, path),
        }
    }

    /// The bytes of the regular file at `place`.
    pub(crate) fn content(&self, path: &RelPath, place: Place) -> io::Result<Content> {
        match self {
            OpenTree::Packed(packed) => packed.content(path, place),
            OpenTree::Upper(upper) => upper.content(path),
        }
    }
}
