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
    work: WorkDirectory,
}

/// A directory for overlayfs's own use. Dropped, it is removed, which takes longer than to commit
/// what was written: who is in a hurry keeps it for a while.
#[derive(Debug)]
pub struct WorkDirectory {
    store: Store,
    path: PathBuf,
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // What cannot be removed now goes with the lease.
        _ = self.store.inner.disk.remove_tree(&self.path);
    }
}

impl Store {
    /// Begins a writable tree over `parents`, the lowest first.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn active(&self, parents: &[LayerId]) -> Result<ActiveSnapshot, StoreError> {
        let draft = self.layer_draft()?;
        let upper = draft.directory()?;
        let work = WorkDirectory {
            store: self.clone(),
            path: self.scratch()?,
        };
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
        &self.work.path
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
            work: self.work.path.clone(),
            userxattr,
        })
    }

    /// Makes what was written a layer: one rename, whatever its size. Nothing may be mounted on
    /// it any more.
    ///
    /// # Errors
    /// When it cannot be put in place.
    pub fn commit(self) -> Result<LayerId, StoreError> {
        Ok(self.commit_first()?.0)
    }

    /// As [`ActiveSnapshot::commit`], and leaves the cleaning up to the caller.
    ///
    /// # Errors
    /// When it cannot be put in place.
    pub fn commit_first(self) -> Result<(LayerId, WorkDirectory), StoreError> {
        debug_assert_eq!(self.upper, self.draft.path.join(part::TREE));
        // Layers that came as bytes have the same times in images as for steps.
        if self.parents.iter().any(|id| id.diff_id().is_none()) {
            self.draft.stands_on(&self.parents)?;
        }
        Ok((self.draft.commit_directory()?, self.work))
    }
}
