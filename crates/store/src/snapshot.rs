//! Writable trees on top of layers: what a step runs in, and what becomes its layer.

use std::path::{Path, PathBuf};

use sys::mount::RootMount;

use crate::layers::{LayerDraft, part};
use crate::{LayerId, Store, StoreError};

/// A writable tree over a chain of layers. [`ActiveSnapshot::commit`] makes what was written a
/// layer; dropped, it is discarded.
#[derive(Debug)]
pub struct ActiveSnapshot {
    draft: LayerDraft,
    parents: Vec<LayerId>,
    upper: PathBuf,
    work: PathBuf,
}

impl Store {
    /// Begins a writable tree over `parents`, the lowest first.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn active(&self, parents: &[LayerId]) -> Result<ActiveSnapshot, StoreError> {
        let draft = self.layer_draft()?;
        let upper = draft.directory()?;
        let work = draft.path.join("work");
        self.inner.disk.create_directory(&work)?;
        let parents = parents.to_vec();
        Ok(ActiveSnapshot {
            draft,
            parents,
            upper,
            work,
        })
    }
}

impl ActiveSnapshot {
    /// The layers below, the lowest first.
    pub fn parents(&self) -> &[LayerId] {
        &self.parents
    }

    /// The directory that receives every change, in overlayfs's form. Its own mode and owner are
    /// those of the mounted root: 0755 and the creator's until somebody sets others.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// A directory for overlayfs's own use.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// What to mount. `erofs` says whether packed layers can be mounted here, `userxattr` how
    /// overlayfs marks what it does (see [`RootMount::Overlay`]).
    ///
    /// # Errors
    /// When a parent is gone, or has no form that can be mounted here.
    pub fn root_mount(&self, erofs: bool, userxattr: bool) -> Result<RootMount, StoreError> {
        let lower = |&id: &LayerId| {
            let missing = StoreError::MissingLayer {
                layer: id,
                form: "files",
            };
            self.draft.store.layer(id)?.ok_or(missing)?.lower(erofs)
        };
        Ok(RootMount::Overlay {
            lowers: self.parents.iter().map(lower).collect::<Result<_, _>>()?,
            upper: self.upper.clone(),
            work: self.work.clone(),
            userxattr,
        })
    }

    /// Makes what was written a layer: one rename, whatever its size. Nothing may be mounted on
    /// it any more.
    ///
    /// # Errors
    /// When it cannot be put in place.
    pub fn commit(self) -> Result<LayerId, StoreError> {
        let disk = &self.draft.store.inner.disk;
        disk.remove_tree(&self.work)?;
        debug_assert_eq!(self.upper, self.draft.path.join(part::TREE));
        self.draft.commit_directory()
    }
}
