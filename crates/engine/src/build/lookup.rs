//! What a session looks up and keeps: the store first, then the caches it imports from. When to
//! is the solver's business.

use graph::{Op, Source};
use layer::Times;
use solver::{CacheKey, KeyParts, VertexIndex};
use store::{LayerId, ResultRecord};

use super::chores::Chore;
use super::explain;
use super::handle::Handle;
use super::session::{Session, store_key};
use crate::error::StepError;
use crate::lock::lock;
use crate::remote_cache::SeenResult;
use crate::step;

impl Session<'_> {
    pub(super) fn lookup_link(&self, link: CacheKey) -> Result<Option<CacheKey>, StepError> {
        let found = self
            .store
            .link(&store_key(link))
            .map_err(StepError::failed("look up a link in the cache"))?;
        let sum = match found {
            Some(key) => Some(CacheKey::from_bytes(*key.as_bytes())),
            None => {
                let imported = self.remote.link(link);
                if let Some(sum) = imported {
                    drop(self.store.save_link(&store_key(link), &store_key(sum)));
                }
                imported
            }
        };
        if let (Some(sum), Some(exports)) = (sum, self.exports) {
            exports.link(link, sum);
        }
        Ok(sum)
    }

    pub(super) fn lookup_result(
        &self,
        index: VertexIndex,
        key: CacheKey,
    ) -> Result<Option<Handle>, StepError> {
        if let Op::Source(Source::Image(image)) = &self.vertex(index).op {
            let layers = self.resolver.layers(&image.manifest);
            self.layers.belong_to(&layers, self.digest(index));
            let there = !self.is_read(index) || self.layers.present(&layers)?;
            return Ok(there.then(|| Handle::layers(layers)));
        }
        let found = match self.stored(key)? {
            Some(record) => {
                self.record(index, key, &record.layers, record.inputs);
                Some(Handle::layers(record.layers))
            }
            None => self.import(index, key)?,
        };
        if found.is_none() {
            // Said before anything is downloaded for a step that cannot run.
            if let Op::Exec(_) = &self.vertex(index).op {
                step::exec::possible(self)?;
            }
            lock(&self.learned.missed).insert(key);
        }
        Ok(found)
    }

    /// Whether the result of an input that is a step's can be had no more: its layers were to come
    /// from a cache that does not have them. What images lack, no step makes again.
    pub(super) fn is_lost(&self, index: VertexIndex, input: usize, of: &Handle) -> bool {
        let Some(from) = self.inputs(index).nth(input) else {
            return false;
        };
        let Handle::Layers(layers) = of else {
            return false;
        };
        !matches!(self.vertex(from).op, Op::Source(Source::Image(_)))
            && !self.cancel.is_cancelled()
            && !self.layers.present(layers).unwrap_or(false)
            && self.layers.ensure(layers).is_err()
    }

    /// The store's result under a key.
    fn stored(&self, key: CacheKey) -> Result<Option<ResultRecord>, StepError> {
        let found = self
            .store
            .result(&store_key(key))
            .map_err(StepError::failed("look up a result in the cache"))?;
        Ok(found.filter(|record| self.fits_times(&record.layers)))
    }

    /// An imported cache's result under a key, kept as the store's own from now on.
    fn import(&self, index: VertexIndex, key: CacheKey) -> Result<Option<Handle>, StepError> {
        let Some(imported) = self.remote.result(key)? else {
            return Ok(None);
        };
        self.record(index, key, &imported.layers, imported.inputs.clone());
        explain::remember(self, index, key, &imported.inputs);
        self.keep(index, key, &imported.layers, imported.inputs);
        Ok(Some(Handle::Layers(imported.layers)))
    }

    /// Layers out of an imported cache have the times of the build that exported them, for good.
    /// Only those of the default policy can be told from what was asked, so that they may be kept
    /// for, and taken by, builds of that policy alone.
    fn fits_times(&self, layers: &[LayerId]) -> bool {
        self.times == Times::Layer
            || layers
                .iter()
                .all(|&id| id.diff_id().is_none() || self.layers.is_of_image(id))
    }

    /// Writes a result into the store. The cache is a help: a build that cannot write to it still
    /// has its results.
    fn keep(
        &self,
        index: VertexIndex,
        key: CacheKey,
        layers: &[LayerId],
        inputs: Vec<(String, String)>,
    ) {
        if !self.fits_times(layers) {
            return;
        }
        let record = ResultRecord {
            layers: layers.to_vec(),
            inputs,
            description: self.vertex(index).meta.name.clone(),
            created: u64::try_from(self.now.seconds).unwrap_or(0),
        };
        drop(self.store.save_result(&store_key(key), &record));
    }

    fn record(
        &self,
        index: VertexIndex,
        key: CacheKey,
        layers: &[LayerId],
        inputs: Vec<(String, String)>,
    ) {
        let in_image = self.is_in_image(index);
        if let Some(ahead) = self.ahead.filter(|_| in_image) {
            ahead.note(layers);
        }
        if let Some(exports) = self.exports {
            let result = SeenResult {
                layers: layers.to_vec(),
                inputs,
                description: self.vertex(index).meta.name.clone(),
                in_image,
            };
            exports.result(key, result);
        }
    }

    /// Takes note of a result that only its key was needed of, for caches that are exported to.
    pub(super) fn note_keyed(&self, index: VertexIndex, key: CacheKey) {
        let is_step = matches!(self.vertex(index).op, Op::Exec(_) | Op::File(_));
        if self.exports.is_none() || !is_step {
            return;
        }
        match self.stored(key) {
            Ok(Some(record)) => self.record(index, key, &record.layers, record.inputs),
            // A cache that cannot be read has said so. Without it less is exported.
            _ => drop(self.import(index, key)),
        }
    }

    pub(super) fn save_link(&self, link: CacheKey, sum: CacheKey) {
        if let Some(exports) = self.exports {
            exports.link(link, sum);
        }
        drop(self.store.save_link(&store_key(link), &store_key(sum)));
    }

    pub(super) fn save_result(
        &self,
        index: VertexIndex,
        key: CacheKey,
        parts: &KeyParts,
        result: &Handle,
    ) {
        let vertex = self.vertex(index);
        let Handle::Layers(layers) = result else {
            return;
        };
        // What flew was saved before it landed; an image's layers have origins.
        if !matches!(vertex.op, Op::Merge | Op::Diff) {
            return;
        }
        let inputs = explain::key_inputs(self, index, parts);
        explain::remember(self, index, key, &inputs);
        self.record(index, key, layers, inputs.clone());
        self.keep(index, key, layers, inputs);
    }

    /// Does what a key stands for, unless somebody else just did.
    pub(super) fn in_flight(
        &self,
        index: VertexIndex,
        key: CacheKey,
        parts: Option<&KeyParts>,
        work: &dyn Fn() -> Result<Handle, StepError>,
    ) -> Result<Handle, StepError> {
        let name = format!("result {}", store_key(key));
        let attempt = format!("wait for another build's {}", self.vertex(index).meta.name);
        let flight = self
            .store
            .flight(&name, &|| self.cancel.is_cancelled())
            .map_err(StepError::failed_unless(&self.cancel, attempt))?;
        // Another build may have made it between the look-up and here.
        let was_missed = lock(&self.learned.missed).contains(&key);
        let theirs = match was_missed {
            true => self
                .stored(key)?
                .map(|record| Handle::layers(record.layers)),
            false => None,
        };
        let made = theirs.is_none();
        let result = theirs.map_or_else(|| self.room.retried(work), Ok)?;
        if let Handle::Layers(layers) = &result {
            let inputs = parts.map(|parts| explain::key_inputs(self, index, parts));
            let inputs = inputs.unwrap_or_default();
            // Saved before the flight ends, so that whoever waits finds it.
            if made {
                self.keep(index, key, layers, inputs.clone());
            }
            drop(flight);
            self.record(index, key, layers, inputs.clone());
            self.later(Chore::Remember {
                vertex: index,
                key,
                inputs,
            });
        }
        Ok(result)
    }
}
