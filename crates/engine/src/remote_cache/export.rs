//! Writes a cache: the blobs that the place lacks, several at once, then the document, then the
//! manifest that names them all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use distribution::{BlobSource, RawManifest, Repository};
use layer::Times;
use layer::compress::Compression;
use oci::{Descriptor, DiffId, Document, Manifest, MediaType};
use rayon::prelude::*;
use store::LayerId;

use super::document::{
    ARTIFACT_TYPE, CONFIG_TYPE, CacheDocument, CachedLayer, CachedResult, VERSION,
};
use super::recorder::{Recorder, Seen};
use super::{name, times_name, version};
use crate::error::BuildError;
use crate::event::{EventKind, Events};
use crate::layers::{LayerBlob, Layers};
use crate::net::Net;
use crate::request::{CacheExport, CacheImport, CacheMode};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Blobs that are sent at once.
const AT_ONCE: usize = 4;

/// What exports need of the build that just ended.
pub(crate) struct Export<'x> {
    net: &'x Net,
    layers: &'x Layers<'x>,
    /// The layers of the result.
    result: HashSet<LayerId>,
    times: Times,
    seen: Seen,
    events: &'x Events,
}

/// A layer of a cache.
struct Part {
    diff_id: DiffId,
    blob: LayerBlob,
    /// A registry has it as part of a base image, which a build that hits has resolved.
    elsewhere: bool,
}

impl<'x> Export<'x> {
    pub(crate) fn new(
        net: &'x Net,
        layers: &'x Layers<'x>,
        chains: &[Vec<LayerId>],
        times: Times,
        recorder: Recorder,
        events: &'x Events,
    ) -> Export<'x> {
        Export {
            net,
            layers,
            result: chains.iter().flatten().copied().collect(),
            times,
            seen: recorder.into_seen(),
            events,
        }
    }

    /// Writes one cache.
    ///
    /// # Errors
    /// When a layer cannot be packed or the place does not take it, unless that is to be ignored.
    pub(crate) fn write(&self, to: &CacheExport) -> Result<(), BuildError> {
        let output = format!("the cache to {}", name(&to.to));
        match self.attempt(to) {
            Ok(()) => Ok(()),
            Err(error) if to.ignore_error => {
                let text = format!("cannot export {output}: {error} (ignored)");
                self.events.send(EventKind::Note(text));
                Ok(())
            }
            Err(error) => Err(BuildError::export(output, error)),
        }
    }

    fn attempt(&self, to: &CacheExport) -> Result<(), Cause> {
        let wanted = |layers: &[LayerId]| {
            to.mode == CacheMode::Max || layers.iter().all(|id| self.result.contains(id))
        };
        let results: BTreeMap<_, _> = self
            .seen
            .results
            .iter()
            .filter(|(_, result)| wanted(&result.layers))
            .collect();
        let ids: HashSet<LayerId> = results
            .values()
            .flat_map(|result| result.layers.iter().copied())
            .collect();
        let parts = self.parts(ids)?;
        let mut document = CacheDocument {
            version: VERSION,
            times: times_name(self.times),
            ..CacheDocument::default()
        };
        let mut positions = HashMap::new();
        let mut sorted: Vec<&Part> = parts.values().collect();
        sorted.sort_by_key(|part| part.diff_id.to_string());
        for part in &sorted {
            positions.entry(part.diff_id).or_insert_with(|| {
                document.layers.push(part.cached());
                document.layers.len() - 1
            });
        }
        for (key, result) in results {
            let layers = result.layers.iter().map(|id| positions[&parts[id].diff_id]);
            let result = CachedResult {
                layers: layers.collect(),
                inputs: result.inputs.clone(),
                description: result.description.clone(),
            };
            document.results.insert(key.to_string(), result);
        }
        let links = self.seen.links.iter();
        document.links = links
            .map(|(link, sum)| (link.to_string(), sum.to_string()))
            .collect();
        self.send(to, &document, &sorted)
    }

    /// Every layer as a blob.
    fn parts(&self, ids: HashSet<LayerId>) -> Result<HashMap<LayerId, Part>, Cause> {
        ids.into_par_iter()
            .map(|id| {
                let (shared, diff_id) = self.layers.retimed(id, self.times)?;
                let blob = self
                    .layers
                    .blob(shared, self.times, Compression::GZIP, false)?;
                let elsewhere = self.layers.is_of_image(id)
                    && blob
                        .repositories
                        .iter()
                        .any(|name| !crate::fetch::is_layout(name));
                let part = Part {
                    diff_id,
                    blob,
                    elsewhere,
                };
                Ok((id, part))
            })
            .collect()
    }

    fn send(
        &self,
        to: &CacheExport,
        document: &CacheDocument,
        parts: &[&Part],
    ) -> Result<(), Cause> {
        let repository = match &to.to {
            CacheImport::Registry(reference) => self.net.client().repository(reference)?,
            CacheImport::Local(path) => Repository::create_layout(path)?,
        };
        let mut own: Vec<&LayerBlob> = Vec::new();
        for part in parts.iter().filter(|part| !part.elsewhere) {
            if own.last().map(|last| last.descriptor.digest) != Some(part.blob.descriptor.digest) {
                own.push(&part.blob);
            }
        }
        for group in own.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let threads: Vec<_> = group
                    .iter()
                    .map(|blob| scope.spawn(|| self.send_blob(&repository, blob)))
                    .collect();
                threads.into_iter().try_for_each(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err("sending a layer ended in a panic".into()))
                })
            })?;
        }
        let bytes = serde_json::to_vec(document)?;
        let config = Descriptor::of(MediaType::Other(CONFIG_TYPE.into()), &bytes);
        let source = BlobSource::Bytes(Bytes::from(bytes));
        self.net
            .wait(repository.push_blob(&config, &source, None))?;
        let layers = own.iter().map(|blob| blob.descriptor.clone()).collect();
        let mut manifest = Manifest::new(MediaType::OciManifest, config, layers);
        manifest.artifact_type = Some(ARTIFACT_TYPE.into());
        let manifest = Document::new(manifest);
        let raw = RawManifest::new(MediaType::OciManifest, manifest.bytes().clone());
        self.net
            .wait(repository.push_manifest(&raw, &version(&to.to)))?;
        let (results, layers, place) = (document.results.len(), own.len(), name(&to.to));
        let text = format!("exported {results} results with {layers} layers to cache {place}");
        self.events.send(EventKind::Note(text));
        Ok(())
    }

    fn send_blob(&self, repository: &Repository, blob: &LayerBlob) -> Result<(), Cause> {
        if self
            .net
            .wait(repository.blob_exists(&blob.descriptor.digest))?
        {
            return Ok(());
        }
        let path = match &blob.path {
            Some(path) => path.clone(),
            None => self.layers.download_blob(blob)?,
        };
        let file = Arc::new(File::open(path)?);
        let source = BlobSource::File { file, offset: 0 };
        self.net
            .wait(repository.push_blob(&blob.descriptor, &source, None))?;
        Ok(())
    }
}

impl Part {
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
        }
    }
}
