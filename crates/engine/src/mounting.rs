//! How layers can be mounted on this machine, found out once.

use layer::unpack::{Deletions, Refused, UnpackOptions};
use layer::xattr::Marks;
use sys::mount::ErofsSupport;

use crate::Engine;

/// What the rung of the privilege ladder means for layers.
#[derive(Clone, Copy)]
pub(crate) struct Mounting<'e> {
    engine: &'e Engine,
    /// overlayfs keeps its marks in `user.overlay.*`.
    pub(crate) userxattr: bool,
    /// Owners are written down; see [`sys::fs::record_owner`].
    pub(crate) single_id: bool,
    /// How packed layers are written out where they cannot be mounted.
    pub(crate) unpack: UnpackOptions,
}

impl<'e> Mounting<'e> {
    /// For a process in the initial user namespace with all privileges, or in one of its own.
    pub(crate) fn new(
        engine: &'e Engine,
        initial_namespace: bool,
        single_id: bool,
    ) -> Mounting<'e> {
        let deletions = Deletions::Overlay(if initial_namespace {
            Marks::Trusted
        } else {
            Marks::User
        });
        let refused = match (initial_namespace, single_id) {
            (true, _) => Refused::Fail,
            // Device nodes of layers cannot be opened anyhow.
            (false, false) => Refused::NoDevices,
            (false, true) => Refused::Record,
        };
        Mounting {
            engine,
            userxattr: !initial_namespace,
            single_id,
            unpack: UnpackOptions { deletions, refused },
        }
    }

    /// Whether packed layers can be mounted as they are.
    pub(crate) fn erofs(&self) -> bool {
        !matches!(self.engine.erofs(), ErofsSupport::None(_))
    }

    /// How files are written that are no layer.
    pub(crate) fn plain_files(&self) -> UnpackOptions {
        UnpackOptions {
            deletions: Deletions::None,
            refused: match self.single_id {
                true => Refused::Report,
                false => Refused::Fail,
            },
        }
    }
}
