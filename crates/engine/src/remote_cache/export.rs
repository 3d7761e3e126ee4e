//! Exports results while the build makes them: a layer is compressed and sent as soon as a step
//! has it. What the cache *is*, a manifest and its document, is written when the build is over and
//! all that they name is there, so nobody ever reads half a cache.
//!
//! ```text
//! Session::record ─► making: layer ─► blob (few at once) ─► sending: blob ─► each place (few at once)
//!                                     build over ─► publish: document ─► manifest
//! ```
//!
//! A place that does not take something stops nothing but its own export.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, OnceLock};
use std::thread::Scope;

use bytes::Bytes;
use distribution::{BlobSource, RawManifest, Repository};
use layer::compress::Compression;
use layer::{Outline, Times};
use oci::{Descriptor, DiffId, Digest, Document, Manifest, MediaType, Reference};
use solver::CacheKey;
use store::LayerId;

use super::document::{
    ARTIFACT_TYPE, CONFIG_TYPE, CacheDocument, CachedLayer, CachedResult, VERSION,
};
use super::import::RemoteCaches;
use super::seen::{Seen, SeenResult};
use super::{name, times_name, version};
use crate::cancel::{Cancel, OnCancel};
use crate::error::{BuildError, StepError};
use crate::event::{EventKind, Events};
use crate::export::push;
use crate::lane::Lane;
use crate::layers::{LayerBlob, Layers};
use crate::lock::lock;
use crate::net::Net;
use crate::request::{CacheExport, CacheImport, CacheMode};
use crate::room::Room;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Layers that are made into blobs at once, beside the steps that run.
const MAKERS: usize = 2;
/// Blobs that are sent at once.
const SENDERS: usize = 4;

/// What exports need of a build.
pub(crate) struct ExportParts<'x> {
    pub(crate) net: &'x Net,
    pub(crate) layers: &'x Layers<'x>,
    /// What is known of layers that are not here.
    pub(crate) imports: &'x RemoteCaches<'x>,
    pub(crate) room: &'x Room,
    /// Policy of the times in the layers.
    pub(crate) times: Times,
    pub(crate) events: &'x Events,
    pub(crate) to: &'x [CacheExport],
}

/// The caches that a build is exported to.
pub(crate) struct Exports<'x> {
    parts: ExportParts<'x>,
    places: Vec<Place<'x>>,
    seen: Mutex<Seen>,
    /// Layers that were asked for, and whether an image of the build stands on them.
    asked: Mutex<HashMap<LayerId, bool>>,
    made: Mutex<HashMap<LayerId, Made>>,
    making: Lane<LayerId>,
    sending: Lane<(usize, LayerBlob)>,
    /// Raised when there is nothing to be sent for any more.
    stop: Cancel,
}

/// One cache.
struct Place<'x> {
    to: &'x CacheExport,
    repository: OnceLock<Repository>,
    /// Blobs that were sent, or are about to be.
    sent: Mutex<HashSet<Digest>>,
    /// Why it cannot be written.
    failure: Mutex<Option<Cause>>,
}

/// A layer as a cache has it.
#[derive(Clone)]
struct Made {
    diff_id: DiffId,
    blob: LayerBlob,
    /// A registry has it as part of a base image, which a build that hits has resolved.
    elsewhere: bool,
    /// Which part of a tree it has to do with.
    outline: Option<Outline>,
}

/// Threads are at work for an export; they stop when this is dropped.
pub(crate) struct AtWork<'x> {
    exports: &'x Exports<'x>,
    _stops: OnCancel,
}

impl<'x> Exports<'x> {
    pub(crate) fn new(parts: ExportParts<'x>) -> Exports<'x> {
        let place = |to| Place {
            to,
            repository: OnceLock::new(),
            sent: Mutex::default(),
            failure: Mutex::default(),
        };
        Exports {
            places: parts.to.iter().map(place).collect(),
            parts,
            seen: Mutex::default(),
            asked: Mutex::default(),
            made: Mutex::default(),
            making: Lane::new(),
            sending: Lane::new(),
            stop: Cancel::new(),
        }
    }

    /// Begins to work on what is recorded. A cancelled build sends no more.
    pub(crate) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        cancel: &Cancel,
    ) -> AtWork<'scope> {
        for _ in 0..MAKERS {
            scope.spawn(|| {
                // What cannot be made now is tried once more, and told, in the end.
                self.making.work(|id| drop(self.make(id)));
            });
        }
        for _ in 0..SENDERS {
            scope.spawn(|| {
                self.sending.work(|(place, blob)| {
                    let place = &self.places[place];
                    if let Err(why) = self.send(place, &blob) {
                        lock(&place.failure).get_or_insert(why);
                    }
                });
            });
        }
        let stop = self.stop.clone();
        AtWork {
            exports: self,
            _stops: cancel.on_cancel(move || stop.cancel()),
        }
    }

    /// Takes note of the checksum that a link leads to.
    pub(crate) fn link(&self, link: CacheKey, sum: CacheKey) {
        lock(&self.seen).links.insert(link, sum);
    }

    /// Takes note of a result, and begins to export its layers.
    pub(crate) fn result(&self, key: CacheKey, result: SeenResult) {
        if result.in_image || self.places.iter().any(Place::takes_all) {
            let mut asked = lock(&self.asked);
            for &id in &result.layers {
                let known = asked.get(&id);
                if known.is_none_or(|&in_image| result.in_image && !in_image) {
                    asked.insert(id, result.in_image);
                    self.making.push(id);
                }
            }
        }
        lock(&self.seen).results.insert(key, result);
    }

    /// Waits until no layer is being made into a blob: from then on others may make blobs of the
    /// same layers without doing the same work at the same time.
    pub(crate) fn wait_for_blobs(&self) {
        self.making.wait_until_idle();
    }

    /// Writes what is left to be written, when the build is over and `chains` are its images.
    ///
    /// # Errors
    /// When a layer cannot be packed or a place did not take something, unless that is to be
    /// ignored. The other places are written first.
    pub(crate) fn finish(&self, chains: &[Vec<LayerId>]) -> Result<(), BuildError> {
        let image: HashSet<LayerId> = chains.iter().flatten().copied().collect();
        self.making.wait_until_idle();
        self.sending.wait_until_idle();
        let mut ended = Ok(());
        for place in &self.places {
            let output = format!("the cache to {}", name(&place.to.to));
            match self.publish(place, &image) {
                Ok(()) => {}
                Err(error) if place.to.ignore_error => {
                    let text = format!("cannot export {output}: {error} (ignored)");
                    self.parts.events.send(EventKind::Note(text));
                }
                Err(error) => ended = ended.and(Err(BuildError::export(output, error))),
            }
        }
        ended
    }

    /// Makes a layer a blob, once, and queues it for everyone who wants it.
    fn make(&self, id: LayerId) -> Result<Made, StepError> {
        let known = lock(&self.made).get(&id).cloned();
        let made = match known {
            Some(made) => made,
            None => self.parts.room.retried(|| self.blob(id))?,
        };
        lock(&self.made).insert(id, made.clone());
        let in_image = lock(&self.asked).get(&id).copied().unwrap_or_default();
        for (position, place) in self.places.iter().enumerate() {
            if (in_image || place.takes_all()) && !made.elsewhere && place.is_new(&made.blob) {
                self.sending.push((position, made.blob.clone()));
            }
        }
        Ok(made)
    }

    fn blob(&self, id: LayerId) -> Result<Made, StepError> {
        let ExportParts {
            layers,
            imports,
            times,
            ..
        } = self.parts;
        let (shared, diff_id) = layers.retimed(id, times)?;
        let blob = layers.blob(shared, times, Compression::GZIP, false)?;
        let remote = |name: &String| !crate::fetch::is_layout(name);
        let elsewhere = layers.is_of_image(id) && blob.repositories.iter().any(remote);
        let outline = layers.outline(id)?.or_else(|| imports.outline(diff_id));
        Ok(Made {
            diff_id,
            blob,
            elsewhere,
            outline,
        })
    }

    fn send(&self, place: &Place<'_>, blob: &LayerBlob) -> Result<(), Cause> {
        if lock(&place.failure).is_some() {
            return Ok(());
        }
        let ExportParts { net, layers, .. } = self.parts;
        let repository = place.repository(net)?;
        push::send_blob(net, layers, &self.stop, repository, place.reference(), blob).map(drop)
    }

    /// Writes the document and the manifest, after whatever is still missing of what they name.
    fn publish(&self, place: &Place<'_>, image: &HashSet<LayerId>) -> Result<(), Cause> {
        let seen = lock(&self.seen);
        let takes = |result: &SeenResult| {
            place.takes_all() || result.layers.iter().all(|id| image.contains(id))
        };
        let results = seen.results.iter().filter(|(_, result)| takes(result));
        let results: BTreeMap<&CacheKey, &SeenResult> = results.collect();
        let ids: HashSet<LayerId> = results
            .values()
            .flat_map(|result| result.layers.iter().copied())
            .collect();
        let parts = ids
            .into_iter()
            .map(|id| Ok((id, self.make(id)?)))
            .collect::<Result<HashMap<LayerId, Made>, StepError>>()?;
        let own: BTreeMap<&Digest, &LayerBlob> = parts
            .values()
            .filter(|part| !part.elsewhere)
            .map(|part| (&part.blob.descriptor.digest, &part.blob))
            .collect();
        for blob in own.values().filter(|blob| place.is_new(blob)) {
            self.send(place, blob)?;
        }
        self.sending.wait_until_idle();
        if let Some(failure) = lock(&place.failure).take() {
            return Err(failure);
        }
        let document = self.document(&results, &seen.links, &parts);
        self.send_documents(place, &document, own.values().copied())
    }

    fn document(
        &self,
        results: &BTreeMap<&CacheKey, &SeenResult>,
        links: &BTreeMap<CacheKey, CacheKey>,
        parts: &HashMap<LayerId, Made>,
    ) -> CacheDocument {
        let mut sorted: Vec<&Made> = parts.values().collect();
        sorted.sort_by_cached_key(|part| part.diff_id.to_string());
        sorted.dedup_by_key(|part| part.diff_id);
        let positions: HashMap<DiffId, usize> = sorted
            .iter()
            .enumerate()
            .map(|(position, part)| (part.diff_id, position))
            .collect();
        let cached = |result: &SeenResult| CachedResult {
            layers: result
                .layers
                .iter()
                .map(|id| positions[&parts[id].diff_id])
                .collect(),
            inputs: result.inputs.clone(),
            description: result.description.clone(),
        };
        CacheDocument {
            version: VERSION,
            times: times_name(self.parts.times),
            layers: sorted.iter().map(|part| part.cached()).collect(),
            results: results
                .iter()
                .map(|(key, result)| (key.to_string(), cached(result)))
                .collect(),
            links: links
                .iter()
                .map(|(link, sum)| (link.to_string(), sum.to_string()))
                .collect(),
        }
    }

    fn send_documents<'b>(
        &self,
        place: &Place<'_>,
        document: &CacheDocument,
        own: impl Iterator<Item = &'b LayerBlob>,
    ) -> Result<(), Cause> {
        let net = self.parts.net;
        let repository = place.repository(net)?;
        let bytes = serde_json::to_vec(document)?;
        let config = Descriptor::of(MediaType::Other(CONFIG_TYPE.into()), &bytes);
        let source = BlobSource::Bytes(Bytes::from(bytes));
        net.wait(repository.push_blob(&config, &source, None))?;
        let layers: Vec<Descriptor> = own.map(|blob| blob.descriptor.clone()).collect();
        let count = layers.len();
        let mut manifest = Manifest::new(MediaType::OciManifest, config, layers);
        manifest.artifact_type = Some(ARTIFACT_TYPE.into());
        let manifest = Document::new(manifest);
        let raw = RawManifest::new(MediaType::OciManifest, manifest.bytes().clone());
        net.wait(repository.push_manifest(&raw, &version(&place.to.to)))?;
        let (results, place) = (document.results.len(), name(&place.to.to));
        let text = format!("exported {results} results with {count} layers to cache {place}");
        self.parts.events.send(EventKind::Note(text));
        Ok(())
    }
}

impl Place<'_> {
    fn takes_all(&self) -> bool {
        self.to.mode == CacheMode::Max
    }

    /// Whether nobody sent the blob there so far; from now on somebody did.
    fn is_new(&self, blob: &LayerBlob) -> bool {
        lock(&self.sent).insert(blob.descriptor.digest)
    }

    fn reference(&self) -> Option<&Reference> {
        match &self.to.to {
            CacheImport::Registry(reference) => Some(reference),
            CacheImport::Local(_) => None,
        }
    }

    fn repository(&self, net: &Net) -> Result<&Repository, Cause> {
        if let Some(open) = self.repository.get() {
            return Ok(open);
        }
        let repository = match &self.to.to {
            CacheImport::Registry(reference) => net.client().repository(reference)?,
            CacheImport::Local(path) => Repository::create_layout(path)?,
        };
        Ok(self.repository.get_or_init(|| repository))
    }
}

impl Made {
    fn cached(&self) -> CachedLayer {
        let repositories = if self.elsewhere {
            self.blob.repositories.clone()
        } else {
            Vec::new()
        };
        CachedLayer {
            diff_id: self.diff_id,
            blob: self.blob.descriptor.clone(),
            repositories,
            outline: self.outline.as_ref().map(Outline::texts),
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.exports.stop.cancel();
        self.exports.making.close();
        self.exports.sending.close();
    }
}
