//! Layers as the rest of the engine needs them: a view to read, a mount to run on, bytes to ship.
//! Each form is made when it is first asked for, and kept. Here are finding and reading; what is
//! mounted is in `mounts`, what is written and shipped in `tars`.
//!
//! Layers of images that were resolved but not downloaded have names already; [`Layers::ensure`]
//! brings them in.

mod mounts;
mod tars;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::{Arc, Mutex};

use layer::resolve::{Links, resolve};
use layer::xattr::Marks;
use layer::{
    Bring, Change, EmptyTree, Kind, Node, Outline, RelPath, Scratch, Stack, Times, Tree, View,
};
use oci::DiffId;
use store::{Layer, LayerId, Store};

pub(crate) use tars::LayerBlob;

use crate::cancel::Cancel;
use crate::compressor::Compressor;
use crate::error::StepError;
use crate::event::VertexDigest;
use crate::fetch::{Fetcher, RemoteLayer};
use crate::lock::lock;
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
    /// Chains whose layers are all here.
    stacks: Mutex<HashMap<Vec<LayerId>, Arc<Stack>>>,
    /// Chains whose layers come as they are read.
    lazy: Mutex<HashMap<Vec<LayerId>, Arc<Stack>>>,
    /// Layers whose tar is being written.
    packing: Turns<(LayerId, Times)>,
    compressor: Compressor<'e>,
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
            lazy: Mutex::default(),
        }
    }

    /// Raised when nobody wants anything of these layers any more.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.fetcher.cancel
    }

    /// Says which step brings layers in.
    pub(crate) fn belong_to(&self, layers: &[LayerId], step: VertexDigest) {
        let mut steps = lock(&self.steps);
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
        let steps = lock(&self.steps);
        Ok(RemoteLayer {
            diff_id,
            descriptor: origin.blob,
            repositories: origin.repositories,
            step: steps.get(&id).copied(),
        })
    }

    fn find(&self, id: LayerId) -> Result<Option<Layer>, StepError> {
        let known = lock(&self.found);
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
        let found = lock(&self.found);
        let known = found.contains_key(&id);
        drop(found);
        Ok(known || self.find(id)?.is_some())
    }

    fn remember(&self, layer: &Layer) {
        let mut found = lock(&self.found);
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
    /// for in them: the upper ones first, none below the one that has it, and none whose outline
    /// says that it cannot have it.
    pub(crate) fn lazy_view(
        &self,
        layers: &[LayerId],
        room: &Arc<Room>,
        outline: impl Fn(DiffId) -> Option<Outline>,
    ) -> Result<Arc<dyn View>, StepError> {
        if self.present(layers)? {
            return self.view(layers);
        }
        let mut lazy = lock(&self.lazy);
        if let Some(known) = lazy.get(layers) {
            return Ok(known.clone());
        }
        let bring = self.bring(layers, room)?;
        let from_the_top = layers.iter().rev();
        let outlines = from_the_top.map(|id| outline(id.diff_id()?)).collect();
        let stack = Arc::new(Stack::lazy(outlines, bring));
        lazy.insert(layers.to_vec(), stack.clone());
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
        Ok(Box::new(move |wanted: &[usize]| {
            let missing = wanted.iter().filter_map(|&layer| chain[layer].1.clone());
            let missing: Vec<RemoteLayer> = missing.collect();
            let there = |&layer: &usize| {
                let (id, _) = chain[layer];
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
        let mut stacks = lock(&self.stacks);
        if let Some(known) = stacks.get(layers) {
            return Ok(known.clone());
        }
        // A step's chain is that of the step before with a layer or two on top.
        let below = (1..layers.len())
            .rev()
            .take(MOST_ON_TOP)
            .find_map(|split| Some((split, stacks.get(&layers[..split])?)));
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

    /// How overlayfs marks what it does here.
    pub(crate) fn userxattr(&self) -> bool {
        self.mounting.userxattr
    }

    /// Whether a user namespace of one id is all there is: owners are written down.
    pub(crate) fn single_id(&self) -> bool {
        self.mounting.single_id
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

    /// Writes what is below `path` of a chain into an empty directory, which gets mode and owner
    /// of the one at `path`.
    pub(crate) fn write_subtree(
        &self,
        layers: &[LayerId],
        path: &str,
        root: &layer::Root,
    ) -> Result<(), StepError> {
        let failed = || format!("write out {path}");
        self.ensure(layers)?;
        let view = self.view(layers)?;
        let found = resolve(&*view, path.as_bytes(), Links::All);
        let found = found.map_err(StepError::failed(failed()))?.node;
        let changes = crate::export::files::tree(view, path, &self.scratch())
            .map_err(StepError::failed(failed()))?;
        layer::unpack::unpack(&changes, root, self.mounting.unpack)
            .map_err(StepError::failed(failed()))?;
        if let Some(Node {
            kind: Kind::Directory,
            metadata,
            ..
        }) = found
        {
            let top = RelPath::root();
            let set = root.set_owner(&top, metadata.uid, metadata.gid);
            set.and_then(|()| root.set_permissions(&top, metadata.mode))
                .map_err(StepError::failed(failed()))?;
        }
        Ok(())
    }

    /// In a few words, which part of a tree a layer has to do with; `None` for one that is not here.
    pub(crate) fn outline(&self, id: LayerId) -> Result<Option<Outline>, StepError> {
        let Some(layer) = self.find(id)? else {
            return Ok(None);
        };
        let outline = Outline::of(&tree(&layer, self.mounting.userxattr));
        outline
            .map(Some)
            .map_err(StepError::failed(format!("read layer {id}")))
    }

    /// What a layer that is here does to the tree below it, with the times that steps see.
    pub(crate) fn changes(&self, id: LayerId) -> Result<Vec<(RelPath, Change)>, StepError> {
        let layer = self.get(id)?;
        tree(&layer, self.mounting.userxattr)
            .changes()
            .map_err(StepError::failed(format!("read layer {id}")))
    }
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
