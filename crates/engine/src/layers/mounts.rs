//! Chains as something to run on: overlay mounts, over packed layers where the machine mounts
//! them, over directories elsewhere.

use store::{ActiveSnapshot, Layer, LayerId};
use sys::mount::{Lower, RootMount};

use super::{Layers, tree};
use crate::error::StepError;
use crate::merged;

impl Layers<'_> {
    /// A writable tree over a chain.
    pub(crate) fn active(&self, layers: &[LayerId]) -> Result<ActiveSnapshot, StepError> {
        self.store
            .active(layers)
            .map_err(StepError::failed("make a directory for the step"))
    }

    /// How a writable tree is mounted.
    pub(crate) fn root_mount(&self, snapshot: &ActiveSnapshot) -> Result<RootMount, StepError> {
        Ok(RootMount::Overlay {
            lowers: self.lowers(snapshot.parents())?,
            upper: snapshot.upper().to_path_buf(),
            work: snapshot.work().to_path_buf(),
            userxattr: self.mounting.userxattr,
        })
    }

    /// How a chain is mounted without a place to write.
    pub(crate) fn read_only(&self, layers: &[LayerId]) -> Result<RootMount, StepError> {
        Ok(RootMount::ReadOnly {
            lowers: self.lowers(layers)?,
            userxattr: self.mounting.userxattr,
        })
    }

    fn lowers(&self, layers: &[LayerId]) -> Result<Vec<Lower>, StepError> {
        let visible = match layers {
            [] => layers,
            layers => &layers[layers.len() - self.stack(layers)?.depth()..],
        };
        let few = merged::shortened(self, visible)?;
        few.iter().map(|&id| self.lower(id)).collect()
    }

    /// A layer in a form that this machine can mount.
    fn lower(&self, id: LayerId) -> Result<Lower, StepError> {
        let mut layer = self.get(id)?;
        if layer.directory.is_none() && !self.mounting.erofs() {
            layer = self.write_out(&layer)?;
        }
        layer
            .lower(self.mounting.erofs())
            .map_err(StepError::failed(format!("mount layer {id}")))
    }

    /// Gives a packed layer the form of a directory.
    fn write_out(&self, layer: &Layer) -> Result<Layer, StepError> {
        let failed = || format!("write layer {} out as a directory", layer.id);
        let changes = tree(layer, self.mounting.userxattr)
            .change_list()
            .map_err(StepError::failed(failed()))?;
        let draft = self
            .store
            .layer_draft()
            .map_err(StepError::failed(failed()))?;
        let root = draft.directory().map_err(StepError::failed(failed()))?;
        let root = layer::Root::open(&root).map_err(StepError::failed(failed()))?;
        layer::unpack::unpack(&*changes, &root, self.mounting.unpack)
            .map_err(StepError::failed(failed()))?;
        self.store
            .attach_directory(layer.id, draft)
            .map_err(StepError::failed(failed()))
            .inspect(|layer| self.remember(layer))
    }
}
