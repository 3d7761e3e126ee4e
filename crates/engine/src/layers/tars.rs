//! Layers as bytes: the tars that are written of them, with the times that were asked for, and the
//! blobs that are shipped.

use std::fs::File;
use std::path::PathBuf;

use layer::compress::Compression;
use layer::{ChangeList, RelPath, Times};
use oci::{Descriptor, DiffId};
use store::{LayerId, TarIdentity};

use super::{Layers, tree};
use crate::beneath::Beneath;
use crate::error::StepError;

/// What a layer of a step became with the times of an image.
const RETIMED: &str = "retimed";

/// A layer's bytes, ready to be shipped.
#[derive(Clone, Debug)]
pub(crate) struct LayerBlob {
    /// Type, digest and length.
    pub(crate) descriptor: Descriptor,
    /// Where the bytes are; `None` when only `repositories` have them.
    pub(crate) path: Option<PathBuf>,
    /// Repositories that are known to have them.
    pub(crate) repositories: Vec<String>,
}

impl Layers<'_> {
    /// Makes one layer of several on top of each other, which does to the tree below what they do
    /// together.
    pub(crate) fn flatten(&self, layers: &[LayerId]) -> Result<LayerId, StepError> {
        let changes = layers.iter().map(|&id| self.changes(id));
        let changes = layer::flatten(changes.collect::<Result<Vec<_>, _>>()?);
        let draft = self
            .store
            .layer_draft()
            .map_err(StepError::failed("make a layer"))?;
        // Only mounted, never shipped: the times are to stay as they are.
        let mut nothing = Beneath::chain(self, &[], Times::Preserve);
        let tar = write_packed(&draft, &changes, Times::Preserve, &mut nothing)?;
        draft
            .commit_packed(tar)
            .map_err(StepError::failed("keep the layer"))
    }

    /// Writes changes to the tree of a chain as a new layer.
    pub(crate) fn write(
        &self,
        below: &[LayerId],
        changes: &(impl ChangeList + ?Sized),
    ) -> Result<LayerId, StepError> {
        let draft = self
            .store
            .layer_draft()
            .map_err(StepError::failed("make a layer"))?;
        let mut beneath = Beneath::chain(self, below, Times::Layer);
        let tar = write_packed(&draft, changes, Times::Layer, &mut beneath)?;
        self.compressor.trust(tar.diff_id);
        if beneath.mattered() {
            draft
                .stands_on(below)
                .map_err(StepError::failed("keep the layer"))?;
        }
        draft
            .commit_packed(tar)
            .map_err(StepError::failed("keep the layer"))
    }

    /// A layer with its tar, whose entries have these times. It is written once, by whoever asks
    /// first.
    pub(crate) fn packed(&self, id: LayerId, times: Times) -> Result<store::Packed, StepError> {
        let failed = || format!("write the tar of layer {id}");
        let _turn = self.packing.take((id, times));
        if let Some(packed) = self.packed_before(id, times)? {
            return Ok(packed);
        }
        let layer = self.get(id)?;
        if let Some(packed) = layer
            .packed
            .clone()
            .filter(|_| times == Times::Layer || is_foreign(id))
        {
            return Ok(packed);
        }
        let changes = tree(&layer, self.mounting.userxattr)
            .change_list()
            .map_err(StepError::failed(failed()))?;
        let draft = self
            .store
            .layer_draft()
            .map_err(StepError::failed(failed()))?;
        let tar = write_packed(
            &draft,
            &*changes,
            times,
            &mut Beneath::layer(self, id, times),
        )?;
        self.compressor.trust(tar.diff_id);
        let layer = match times {
            Times::Layer => self
                .store
                .attach_packed(id, draft, tar)
                .map_err(StepError::failed(failed()))
                .inspect(|layer| self.remember(layer))?,
            // With other times it is another layer, shared by whoever needs the same bytes.
            Times::Clamp(_) | Times::Preserve => {
                let shared = draft
                    .commit_shared(tar)
                    .map_err(StepError::failed(failed()))?;
                let subject = format!("{id} {times:?}");
                drop(self.store.save_note(RETIMED, &subject, &tar.diff_id));
                self.get(shared)?
            }
        };
        layer.packed.ok_or_else(|| {
            StepError::refused(format!(
                "layer {id} has no tar although it was just written"
            ))
        })
    }

    /// The tar that an earlier call wrote of a layer for other times, in this process or another.
    fn packed_before(&self, id: LayerId, times: Times) -> Result<Option<store::Packed>, StepError> {
        if times == Times::Layer || is_foreign(id) {
            return Ok(None);
        }
        let known = self
            .store
            .note::<DiffId>(RETIMED, &format!("{id} {times:?}"))
            .map_err(StepError::failed(format!("look up layer {id}")))?;
        match known {
            Some(diff_id) => Ok(self.find(LayerId::shared(diff_id))?.and_then(|l| l.packed)),
            None => Ok(None),
        }
    }

    /// The layer with these times, and what its tar hashes to. A layer that came with an image is
    /// neither changed nor downloaded.
    pub(crate) fn retimed(
        &self,
        id: LayerId,
        times: Times,
    ) -> Result<(LayerId, DiffId), StepError> {
        if let Some(diff_id) = id.diff_id() {
            return Ok((id, diff_id));
        }
        let diff_id = self.packed(id, times)?.diff_id;
        Ok((
            if times == Times::Layer {
                id
            } else {
                LayerId::shared(diff_id)
            },
            diff_id,
        ))
    }

    /// A layer as a blob. That of an image is the one it came with, wherever it is, unless
    /// `force`.
    pub(crate) fn blob(
        &self,
        id: LayerId,
        times: Times,
        compression: Compression,
        force: bool,
    ) -> Result<LayerBlob, StepError> {
        let failed = || format!("find the blob of layer {id}");
        let origin = self
            .store
            .origin(id)
            .map_err(StepError::failed(failed()))?
            // A cache keeps what steps made in one form; an image that asks for another gets it.
            .filter(|_| !force && (self.is_of_image(id) || compression == Compression::GZIP));
        let (descriptor, repositories) = match origin {
            Some(origin) => (origin.blob, origin.repositories),
            None => {
                self.ensure(&[id])?;
                let packed = self.packed(id, times)?;
                let descriptor = self.compressor.compressed(&packed, compression)?;
                (descriptor, Vec::new())
            }
        };
        let blob = self
            .store
            .blob(&descriptor.digest)
            .map_err(StepError::failed(failed()))?;
        Ok(LayerBlob {
            descriptor,
            path: blob.map(|blob| blob.path),
            repositories,
        })
    }

    /// Brings in a blob that only others have.
    pub(crate) fn download_blob(&self, blob: &LayerBlob) -> Result<PathBuf, StepError> {
        self.fetcher
            .fetch_blob(self.store, &blob.descriptor, &blob.repositories)
    }
}

/// Whether a layer came with an image: its bytes are not ours to change.
fn is_foreign(id: LayerId) -> bool {
    id.diff_id().is_some()
}

fn write_packed(
    draft: &store::LayerDraft,
    changes: &(impl ChangeList + ?Sized),
    times: Times,
    beneath: &mut Beneath<'_, '_>,
) -> Result<TarIdentity, StepError> {
    let failed = "write the layer";
    let tar = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(draft.tar())
        .map_err(StepError::failed(failed))?;
    let index = File::create_new(draft.index()).map_err(StepError::failed(failed))?;
    let mut below = |path: &RelPath| beneath.file(path).map_err(std::io::Error::other);
    let packed = layer::pack_indexed(changes, times, &mut below, &tar, &index)
        .map_err(StepError::failed(failed))?;
    Ok(TarIdentity {
        diff_id: packed.diff_id,
        len: packed.tar_len,
    })
}
