//! Mounts: the plain values that describe a tree, and the calls that make and attach mounts.
//!
//! The values carry no descriptors: `store` makes them, `runtime` mounts them inside the
//! container's own mount namespace. The calls attach to an open directory or file ("at"), never to a path, and
//! use the descriptor-based interface (`fsopen`, `open_tree`), falling back to `mount(2)` where the
//! kernel or a filter of the surrounding container lacks it.

mod attach;
mod erofs;
mod filesystem;
mod overlay;
mod value;

pub use attach::{
    bind, clone_tree, detach, make_dependent, make_private, move_mount, move_tree, open_part,
    pivot_into, protect, set_attributes, share_working_directory,
};
pub use erofs::{ErofsSupport, erofs_support, mount_erofs, mount_erofs_through_loops};
pub use filesystem::{FsOption, mount_filesystem, mount_new};
pub use overlay::{Overlay, mount_overlay};
pub use rustix::mount::MountAttrFlags as Attributes;
pub use value::{Lower, RootMount};

use std::io;

/// A mount that was refused.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel would not make a file system.
    #[error("mount {filesystem}{}", Said(.message))]
    Filesystem {
        /// Its type.
        filesystem: String,
        /// What the kernel had to say beside the errno; often empty.
        message: String,
        /// The errno.
        source: io::Error,
    },
    /// The kernel would not clone or attach a mount.
    #[error("{operation}")]
    Attach {
        /// What was attempted.
        operation: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// A directory or file that takes part in a mount cannot be opened.
    #[error("open {path} for mounting")]
    Open {
        /// The path.
        path: String,
        /// The errno.
        source: io::Error,
    },
    /// Packed layers cannot be mounted on this machine; write them out as directories.
    #[error("mount a packed layer: {reason}")]
    ErofsUnsupported {
        /// What is missing.
        reason: &'static str,
    },
}

impl MountError {
    /// The errno behind it; 0 when there is none.
    pub fn errno(&self) -> i32 {
        match self {
            MountError::Filesystem { source, .. }
            | MountError::Attach { source, .. }
            | MountError::Open { source, .. } => source.raw_os_error().unwrap_or(0),
            MountError::ErofsUnsupported { .. } => libc::EOPNOTSUPP,
        }
    }
}

/// Shows a kernel message in parentheses, if there is one.
struct Said<'a>(&'a str);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            "" => Ok(()),
            message => write!(f, " ({message})"),
        }
    }
}
