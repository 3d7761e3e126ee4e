//! What a tree is mounted from, as plain values.

use std::path::PathBuf;

/// One read-only layer of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lower {
    /// A directory in overlayfs's own form (whiteouts are 0:0 devices or `overlay.whiteout`).
    Dir(PathBuf),
    /// A packed tree: an EROFS image of metadata whose data lie in the tar as second device.
    Erofs {
        /// The EROFS image.
        index: PathBuf,
        /// The tar that the image's extents point into.
        tar: PathBuf,
    },
}

/// What a root file system (or any other stack) is mounted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootMount {
    /// Layers with a writable directory on top.
    Overlay {
        /// Bottom layer first. Empty is an empty tree.
        lowers: Vec<Lower>,
        /// Receives every change.
        upper: PathBuf,
        /// An empty directory on the file system of `upper`, for the kernel's use.
        work: PathBuf,
        /// Keep overlay's marks in `user.overlay.*` instead of `trusted.overlay.*`: needed
        /// outside the initial user namespace, and then for the lower directories too.
        userxattr: bool,
    },
    /// Layers that nothing writes to.
    ReadOnly {
        /// Bottom layer first; at least one.
        lowers: Vec<Lower>,
        /// As in [`RootMount::Overlay`].
        userxattr: bool,
    },
    /// A directory of the machine as it is.
    Bind {
        /// The directory.
        source: PathBuf,
        /// Refuse writes.
        readonly: bool,
    },
}
