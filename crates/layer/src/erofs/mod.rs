//! The index of a packed tree: a metadata-only EROFS image.
//!
//! It holds the inodes, names, times and attributes of one layer, overlay whiteouts (character
//! device 0:0) and opaque marks (`trusted.overlay.opaque`) included. File contents are not in it:
//! every regular file is one chunk (or a few, above 1 TiB) that points into the layer's
//! uncompressed tar, which is the image's device 1. The kernel mounts the pair:
//! `mount -t erofs -o device=layer.tar index /mnt`.
//!
//! ```text
//!     0 ┌──────────────────────────┐
//!       │ zeros                    │
//!  1024 ├──────────────────────────┤
//!       │ superblock (128)         │  blocks of 512 bytes, as in a tar
//!  1152 │ device slot (128): tar   │
//!  1536 ├──────────────────────────┤
//!       │ inode · xattrs · tail    │  32-byte slots; inode number = position / 32
//!       │ inode · xattrs · chunks  │  in path order, the root first; a tail is the end of a
//!       │ …                        │  link target, within one block
//!       │ names of a directory     │  in blocks of their own, behind its contents
//!       │ …                        │
//!       └──────────────────────────┘
//! ```
//!
//! On-disk format: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux. The bytes
//! are a function of the entries and the length of the tar. This is no general EROFS reader: it
//! reads what [`write_index`] wrote.

mod dirent;
mod format;
mod inode;
mod out;
mod pieces;
mod read;
mod write;

pub(crate) use read::{Dirent, Index, Inode};
pub(crate) use write::IndexWriter;
pub use write::write_index;

use crate::{Node, RelPath};

/// One path of a layer, as it goes into the index.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    /// Where.
    pub path: RelPath,
    /// What the layer has there.
    pub change: IndexChange,
}

/// What a layer has at one path.
#[derive(Clone, Debug)]
pub enum IndexChange {
    /// An inode. A character device 0:0 is what overlayfs takes for a whiteout, and becomes one.
    Put {
        /// Its metadata, with its true time. `links` is ignored.
        node: Node,
        /// Hides what the layers below have in this directory.
        opaque: bool,
        /// Where in the tar the bytes of a regular file begin: a multiple of 512. Needed unless
        /// the file is empty.
        data_offset: Option<u64>,
    },
    /// One more name of the inode that an earlier path put.
    Link {
        /// That path.
        to: RelPath,
    },
    /// The path is gone.
    Whiteout,
}

/// An inode, as it goes into the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put<'a> {
    pub(crate) node: &'a Node,
    pub(crate) opaque: bool,
    pub(crate) data_offset: Option<u64>,
}

/// Why an index could not be written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The entries are not sorted, or a path comes twice.
    #[error("index {path}: it does not come after {previous}")]
    Order {
        /// The path that comes too late.
        path: RelPath,
        /// The path before it.
        previous: RelPath,
    },
    /// A path lies below one that is no directory.
    #[error("index {path}: its parent is no directory")]
    Parent {
        /// The path.
        path: RelPath,
    },
    /// The root is something else than a directory.
    #[error("index the root: it is no directory")]
    Root,
    /// A hard link names no earlier inode, or a directory.
    #[error("index hard link {path} to {to}, which is no earlier file")]
    Link {
        /// The link.
        path: RelPath,
        /// What it names.
        to: RelPath,
    },
    /// A file with bytes has no place in the tar, or one that is not on a block or past its end.
    #[error("index {path}: {size} bytes at {offset:?} of a tar of {tar_len} bytes")]
    Data {
        /// The file.
        path: RelPath,
        /// Its length.
        size: u64,
        /// Where it should begin.
        offset: Option<u64>,
        /// The length of the tar.
        tar_len: u64,
    },
    /// Something that the format has no room for.
    #[error("index {path}: {what} is too large")]
    TooLarge {
        /// Where.
        path: RelPath,
        /// What: a name (255 bytes), a link target (4,095), a device number (12 + 20 bits), the
        /// attributes (64 KiB each, 256 KiB together), the tar (2 TiB).
        what: &'static str,
    },
    /// The index could not be written out.
    #[error("write an index")]
    Write(#[source] std::io::Error),
}
