//! What is below a layer that is being written, for the compiled Python files in it: they name the
//! time of a source that an earlier step may have brought.
//!
//! Only what is asked for is looked up. A layer without such files costs nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;

use layer::resolve::{Links, ResolveError, resolve};
use layer::tar::{Limits, Reader};
use layer::{FileBelow, Kind, RelPath, Time, Times};
use store::LayerId;

use crate::error::StepError;
use crate::layers::Layers;

/// The tree below a layer, with the times that steps see and those of an image.
pub(crate) struct Beneath<'l, 'e> {
    layers: &'l Layers<'e>,
    chain: Chain,
    /// Policy of the times in the image.
    times: Times,
    layer_times: HashMap<LayerId, Time>,
    mattered: bool,
}

/// The layers below, the lowest first.
enum Chain {
    /// Those of this layer, to be looked up.
    Below(LayerId),
    Known(Vec<LayerId>),
}

impl<'l, 'e> Beneath<'l, 'e> {
    /// What is below a layer that a step made, in an image with these times.
    pub(crate) fn layer(layers: &'l Layers<'e>, id: LayerId, times: Times) -> Beneath<'l, 'e> {
        Beneath::new(layers, Chain::Below(id), times)
    }

    /// The tree of a chain whose layers are here, in an image with these times.
    pub(crate) fn chain(
        layers: &'l Layers<'e>,
        chain: &[LayerId],
        times: Times,
    ) -> Beneath<'l, 'e> {
        Beneath::new(layers, Chain::Known(chain.to_vec()), times)
    }

    fn new(layers: &'l Layers<'e>, chain: Chain, times: Times) -> Beneath<'l, 'e> {
        Beneath {
            layers,
            chain,
            times,
            layer_times: HashMap::new(),
            mattered: false,
        }
    }

    /// Whether something was found there.
    pub(crate) fn mattered(&self) -> bool {
        self.mattered
    }

    /// The regular file that `path` leads to.
    pub(crate) fn file(&mut self, path: &RelPath) -> Result<Option<FileBelow>, StepError> {
        let chain = match &self.chain {
            Chain::Known(chain) => chain,
            &Chain::Below(id) => {
                let chain = self.layers.store.below(id);
                let chain = chain.map_err(StepError::failed(format!("look up layer {id}")))?;
                self.layers.ensure(&chain)?;
                self.chain = Chain::Known(chain);
                return self.file(path);
            }
        };
        if chain.is_empty() {
            return Ok(None);
        }
        let stack = self.layers.stack(chain)?;
        let failed = || format!("read {path}");
        let found = match resolve(&*stack, path.as_bytes(), Links::All) {
            // Python follows no such path either.
            Err(ResolveError::TooManyLinks { .. } | ResolveError::Invalid(_)) => return Ok(None),
            found => found.map_err(StepError::failed(failed()))?,
        };
        let Some((&Kind::File { size }, metadata)) =
            found.node.as_ref().map(|node| (&node.kind, &node.metadata))
        else {
            return Ok(None);
        };
        let position = stack
            .layer_of(&found.path)
            .map_err(StepError::failed(failed()))?;
        let Some(&id) = position.and_then(|position| chain.iter().rev().nth(position)) else {
            return Ok(None);
        };
        self.mattered = true;
        Ok(Some(FileBelow {
            mtime: metadata.mtime,
            size,
            shipped: self.shipped(id, metadata.mtime)?,
        }))
    }

    /// The time that a file of a layer has in the image.
    fn shipped(&mut self, id: LayerId, mtime: Time) -> Result<Time, StepError> {
        if id.diff_id().is_some() {
            // It came as bytes, whose times steps see.
            return Ok(mtime);
        }
        match self.times {
            Times::Clamp(_) | Times::Preserve if !self.layers.is_of_image(id) => {
                Ok(self.times.of(mtime, Time::default()))
            }
            _ => self.layer_time(id),
        }
    }

    /// The time that all entries of a layer have in its tar, which is written for it if need be.
    fn layer_time(&mut self, id: LayerId) -> Result<Time, StepError> {
        if let Some(&time) = self.layer_times.get(&id) {
            return Ok(time);
        }
        let packed = self.layers.packed(id, Times::Layer)?;
        let failed = || format!("read layer {id}");
        let tar = File::open(&packed.tar).map_err(StepError::failed(failed()))?;
        let mut entries = Reader::new(BufReader::new(tar), Limits::default());
        let first = entries.next_entry().map_err(StepError::failed(failed()))?;
        let time = first.map_or_else(Time::default, |entry| entry.metadata.mtime);
        self.layer_times.insert(id, time);
        Ok(time)
    }
}
