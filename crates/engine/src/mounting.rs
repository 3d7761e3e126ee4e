//! How layers can be mounted on this machine, found out once.

use layer::unpack::{Deletions, Refused, UnpackOptions};
use layer::xattr::Marks;

/// What the rung of the privilege ladder means for layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mounting {
    /// Packed layers can be mounted as they are.
    pub(crate) erofs: bool,
    /// overlayfs keeps its marks in `user.overlay.*`.
    pub(crate) userxattr: bool,
    /// How packed layers are written out where they cannot be mounted.
    pub(crate) unpack: UnpackOptions,
}

impl Mounting {
    /// For a process in the initial user namespace with all privileges, or in one of its own.
    pub(crate) fn new(initial_namespace: bool, erofs: bool, single_id: bool) -> Mounting {
        let deletions = Deletions::Overlay(if initial_namespace {
            Marks::Trusted
        } else {
            Marks::User
        });
        let refused = if single_id {
            Refused::Report
        } else {
            Refused::Fail
        };
        Mounting {
            erofs,
            userxattr: !initial_namespace,
            unpack: UnpackOptions { deletions, refused },
        }
    }

    /// How files are written that are no layer.
    pub(crate) fn plain_files(&self) -> UnpackOptions {
        UnpackOptions {
            deletions: Deletions::None,
            refused: self.unpack.refused,
        }
    }
}
