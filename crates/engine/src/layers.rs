//! Layers as the rest of the engine needs them: a view to read, a mount to run on, bytes to ship.
//! Each form is made when it is first asked for, and kept.
//!
//! Layers of images that were resolved but not downloaded have names already; [`Layers::ensure`]
//! brings them in.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use layer::compress::Compression;
use layer::xattr::Marks;
use layer::{Bring, Change, ChangeList, EmptyTree, RelPath, Scratch, Stack, Times, Tree, View};
use oci::{Descriptor, DiffId};
use store::{ActiveSnapshot, Layer, LayerId, Store, TarIdentity};
use sys::mount::{Lower, RootMount};

use crate::beneath::Beneath;
use crate::cancel::Cancel;
use crate::compressor::Compressor;
use crate::error::StepError;
use crate::event::VertexDigest;
use crate::fetch::{Fetcher, RemoteLayer};
use crate::merged;
use crate::mounting::Mounting;
use crate::room::Room;
use crate::turns::Turns;

/// Layers that at most lie between a chain and one that was opened before.
const MOST_ON_TOP: usize = 16;

/// Access to layers on behalf of one call of the engine.
pub(crate) struct Layers<'e> {
    pub(crate) store: &'e Store,
    mounting: Mounting<'e>,
    fetcher: Fetcher,
    /// The steps that bring layers in, to show progress under.
    steps: Mutex<HashMap<LayerId, VertexDigest>>,
    /// Layers of images that a build stands on; without a build, all that have layer bytes.
    images: Option<HashSet<LayerId>>,
    /// Layers that were found: the store keeps them as long as it is open.
    found: Mutex<HashMap<LayerId, Layer>>,
    stacks: Mutex<HashMap<Vec<LayerId>, Arc<Stack>>>,
    /// Layers whose tar is being written.
    packing: Turns<(LayerId, Times)>,
    compressor: Compressor<'e>,
}

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

impl<'e> Layers<'e> {
    pub(crate) fn new(store: &'e Store, mounting: Mounting<'e>, fetcher: Fetcher) -> Layers<'e> {
        Layers {
            compressor: Compressor::new(store, fetcher.cancel.clone()),
            packing: Turns::default(),
            store,
            mounting,
            fetcher,
            steps: Mutex::default(),
            images: None,
            found: Mutex::default(),
            stacks: Mutex::default(),
        }
    }

    /// Raised when nobody wants anything of these layers any more.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.fetcher.cancel
    }

    /// Says which step brings layers in.
    pub(crate) fn belong_to(&self, layers: &[LayerId], step: VertexDigest) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.extend(layers.iter().map(|&id| (id, step)));
    }

    /// Says which layers came with images. The others are steps' results, be they made here or
    /// imported from a cache.
    pub(crate) fn know_images(&mut self, layers: HashSet<LayerId>) {
        self.images = Some(layers);
    }

    /// Whether a layer came with an image.
    pub(crate) fn is_of_image(&self, id: LayerId) -> bool {
        match &self.images {
            Some(images) => images.contains(&id),
            None => id.diff_id().is_some(),
        }
    }

    /// Whether every layer is in the store.
    pub(crate) fn present(&self, layers: &[LayerId]) -> Result<bool, StepError> {
        for &id in layers {
            if !self.has(id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings in what the store does not have.
    pub(crate) fn ensure(&self, layers: &[LayerId]) -> Result<(), StepError> {
        let mut missing = Vec::new();
        for &id in layers {
            if !self.has(id)? {
                missing.push(self.remote(id)?);
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            self.fetcher.fetch(self.store, &missing)
        }
    }

    fn remote(&self, id: LayerId) -> Result<RemoteLayer, StepError> {
        let origin = self
            .store
            .origin(id)
            .map_err(StepError::failed(format!("look up layer {id}")))?;
        let (Some(origin), Some(diff_id)) = (origin, id.diff_id()) else {
            return Err(gone(id));
        };
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(RemoteLayer {
            diff_id,
            descriptor: origin.blob,
            repositories: origin.repositories,
            step: steps.get(&id).copied(),
        })
    }

    fn find(&self, id: LayerId) -> Result<Option<Layer>, StepError> {
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = known.get(&id) {
            return Ok(Some(layer.clone()));
        }
        drop(known);
        let layer = self
            .store
            .layer(id)
            .map_err(StepError::failed(format!("look up layer {id}")))?;
        Ok(layer.inspect(|layer| self.remember(layer)))
    }

    fn has(&self, id: LayerId) -> Result<bool, StepError> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let known = found.contains_key(&id);
        drop(found);
        Ok(known || self.find(id)?.is_some())
    }

    fn remember(&self, layer: &Layer) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(layer.id, layer.clone());
    }

    fn get(&self, id: LayerId) -> Result<Layer, StepError> {
        self.find(id)?.ok_or_else(|| gone(id))
    }

    /// The tree of a chain, to be read in user space.
    pub(crate) fn view(&self, layers: &[LayerId]) -> Result<Arc<dyn View>, StepError> {
        match layers {
            [] => Ok(Arc::new(EmptyTree)),
            layers => Ok(self.stack(layers)?),
        }
    }

    /// As [`Layers::view`], and layers that are not here are brought in when something is looked
    /// for in them: the upper ones first, and none below the one that has it.
    pub(crate) fn lazy_view(
        &self,
        layers: &[LayerId],
        room: &Arc<Room>,
    ) -> Result<Arc<dyn View>, StepError> {
        if self.present(layers)? {
            return self.view(layers);
        }
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = stacks.get(layers) {
            return Ok(known.clone());
        }
        let bring = self.bring(layers, room)?;
        let stack = Arc::new(Stack::lazy(layers.len(), bring));
        stacks.insert(layers.to_vec(), stack.clone());
        Ok(stack)
    }

    /// Brings in layers of a chain by their positions from the top.
    fn bring(&self, layers: &[LayerId], room: &Arc<Room>) -> Result<Bring, StepError> {
        let mut chain = Vec::with_capacity(layers.len());
        for &id in layers.iter().rev() {
            let missing = self.find(id)?.is_none();
            chain.push((id, missing.then(|| self.remote(id)).transpose()?));
        }
        let (store, fetcher, room) = (self.store.clone(), self.fetcher.clone(), room.clone());
        let userxattr = self.mounting.userxattr;
        Ok(Box::new(move |range| {
            let wanted = &chain[range];
            let missing = wanted.iter().filter_map(|(_, remote)| remote.clone());
            let missing: Vec<RemoteLayer> = missing.collect();
            let there = |&(id, _): &(LayerId, _)| {
                let layer = store.layer(id);
                let layer = layer.map_err(StepError::failed(format!("look up layer {id}")))?;
                layer.map_or_else(|| Err(gone(id)), |layer| Ok(tree(&layer, userxattr)))
            };
            let brought = room.retried(|| fetcher.fetch(&store, &missing));
            let trees = brought.and_then(|()| wanted.iter().map(there).collect());
            trees.map_err(std::io::Error::other)
        }))
    }

    pub(crate) fn stack(&self, layers: &[LayerId]) -> Result<Arc<Stack>, StepError> {
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = stacks.get(layers) {
            return Ok(known.clone());
        }
        // A step's chain is that of the step before with a layer or two on top.
        let below = (1..layers.len())
            .rev()
            .take(MOST_ON_TOP)
            .filter_map(|split| Some((split, stacks.get(&layers[..split])?)))
            .find(|(_, below)| below.is_open());
        let open = |layers: &[LayerId]| {
            let trees = layers
                .iter()
                .map(|&id| Ok(tree(&self.get(id)?, self.mounting.userxattr)));
            trees.collect::<Result<Vec<_>, StepError>>()
        };
        let stack = match below {
            Some((split, below)) => Stack::over(below, &open(&layers[split..])?),
            None => Stack::open(&open(layers)?),
        };
        let stack = Arc::new(stack.map_err(StepError::failed("read the layers"))?);
        stacks.insert(layers.to_vec(), stack.clone());
        Ok(stack)
    }

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

    /// How overlayfs marks what it does here.
    pub(crate) fn userxattr(&self) -> bool {
        self.mounting.userxattr
    }

    /// Where long lists go.
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch::new(self.store.root())
    }

    /// A file without a name, for as long as it is open.
    pub(crate) fn scratch_file(&self) -> Result<Arc<File>, StepError> {
        let failed = "make a temporary file";
        let path = self
            .store
            .scratch()
            .map_err(StepError::failed(failed))?
            .join("file");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(StepError::failed(failed))?;
        Ok(Arc::new(file))
    }

    /// Writes what is below `path` of a chain into an empty directory.
    pub(crate) fn write_subtree(
        &self,
        layers: &[LayerId],
        path: &str,
        root: &layer::Root,
    ) -> Result<(), StepError> {
        let failed = || format!("write out {path}");
        self.ensure(layers)?;
        let view = self.view(layers)?;
        let changes = crate::export::files::tree(view, path, &self.scratch())
            .map_err(StepError::failed(failed()))?;
        layer::unpack::unpack(&changes, root, self.mounting.unpack)
            .map_err(StepError::failed(failed()))?;
        Ok(())
    }

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

    /// What a layer that is here does to the tree below it, with the times that steps see.
    pub(crate) fn changes(&self, id: LayerId) -> Result<Vec<(RelPath, Change)>, StepError> {
        let layer = self.get(id)?;
        tree(&layer, self.mounting.userxattr)
            .changes()
            .map_err(StepError::failed(format!("read layer {id}")))
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

fn gone(id: LayerId) -> StepError {
    StepError::refused(format!(
        "layer {id} is not in the store any more: build again"
    ))
}

fn tree(layer: &Layer, userxattr: bool) -> Tree {
    match (&layer.packed, &layer.directory) {
        (Some(packed), _) => Tree::Packed {
            tar: packed.tar.clone(),
            index: packed.index.clone(),
        },
        (None, Some(path)) => {
            let marks = if userxattr {
                Marks::User
            } else {
                Marks::Trusted
            };
            Tree::Dir {
                path: path.clone(),
                marks,
            }
        }
        (None, None) => unreachable!("the store gives no layer without a form"),
    }
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
