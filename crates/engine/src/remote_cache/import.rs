//! Caches to look into when the store misses.

use std::sync::{Arc, OnceLock};

use distribution::FetchError;
use layer::{Outline, Times};
use oci::{DiffId, Document, Manifest};
use rayon::prelude::*;
use solver::CacheKey;
use store::{LayerId, Store};

use super::document::{CONFIG_TYPE, CacheDocument, MAX_DOCUMENT, VERSION};
use super::{name, origin, repository, times_name, version};
use crate::error::StepError;
use crate::event::{EventKind, Events};
use crate::net::Net;
use crate::request::CacheImport;

/// The caches of one build.
pub(crate) struct RemoteCaches<'e> {
    store: &'e Store,
    net: &'e Net,
    places: &'e [CacheImport],
    times: String,
    events: Events,
    documents: OnceLock<Vec<(String, CacheDocument)>>,
}

/// A result of another machine's.
pub(crate) struct Imported {
    /// The whole chain; what the store does not have can be fetched.
    pub(crate) layers: Arc<[LayerId]>,
    /// What its key is made of, for people.
    pub(crate) inputs: Vec<(String, String)>,
}

impl<'e> RemoteCaches<'e> {
    pub(crate) fn new(
        store: &'e Store,
        net: &'e Net,
        places: &'e [CacheImport],
        times: Times,
        events: Events,
    ) -> RemoteCaches<'e> {
        RemoteCaches {
            store,
            net,
            places,
            times: times_name(times),
            events,
            documents: OnceLock::new(),
        }
    }

    /// The checksum that a link leads to.
    pub(crate) fn link(&self, link: CacheKey) -> Option<CacheKey> {
        let link = link.to_string();
        self.documents()
            .iter()
            .find_map(|(_, document)| document.links.get(&link)?.parse().ok())
    }

    /// The result under a key. Where its layers can be had is written into the store.
    pub(crate) fn result(&self, key: CacheKey) -> Result<Option<Imported>, StepError> {
        let key = key.to_string();
        let mut documents = self.documents().iter();
        let Some((place, (result, layers))) =
            documents.find_map(|(place, document)| Some((place, document.result(&key)?)))
        else {
            return Ok(None);
        };
        let failed = || "remember where cached layers are";
        let mut ids = Vec::with_capacity(layers.len());
        for layer in layers {
            let id = LayerId::shared(layer.diff_id);
            ids.push(id);
            let own = [place.clone()];
            let places = if layer.repositories.is_empty() {
                &own[..]
            } else {
                &layer.repositories
            };
            let known = self.store.origin(id).map_err(StepError::failed(failed()))?;
            let asked =
                known.is_some_and(|known| places.iter().all(|p| known.repositories.contains(p)));
            for place in places.iter().rev().filter(|_| !asked) {
                self.store
                    .add_origin(id, &layer.blob, place)
                    .map_err(StepError::failed(failed()))?;
            }
        }
        Ok(Some(Imported {
            layers: ids.into(),
            inputs: result.inputs.clone(),
        }))
    }

    /// What a cache says of which part of a tree a layer has to do with.
    pub(crate) fn outline(&self, diff_id: DiffId) -> Option<Outline> {
        self.documents()
            .iter()
            .flat_map(|(_, document)| &document.layers)
            .filter(|layer| layer.diff_id == diff_id)
            .find_map(|layer| Outline::parse(layer.outline.as_ref()?))
    }

    /// The documents, read when they are first asked for. A cache that cannot be read is a
    /// warning: the build is slower without it, not wrong.
    fn documents(&self) -> &[(String, CacheDocument)] {
        self.documents.get_or_init(|| {
            let read = |place: &CacheImport| match self.read(place) {
                Ok(document) => Some((origin(place), document)),
                Err(why) => {
                    let text = format!("nothing is imported from cache {}: {why}", name(place));
                    self.events.send(EventKind::Note(text));
                    None
                }
            };
            self.places.par_iter().filter_map(read).collect()
        })
    }

    fn read(&self, place: &CacheImport) -> Result<CacheDocument, String> {
        let repository = repository(self.net, place).map_err(|error| chain(&error))?;
        let raw = match self.net.wait(repository.fetch_manifest(&version(place))) {
            Ok(raw) => raw,
            Err(error) if error.is_not_found() => return Err("there is none yet".into()),
            Err(error) => return Err(chain(&error)),
        };
        let manifest = Document::<Manifest>::parse(raw.bytes).map_err(|error| chain(&error))?;
        let config = &manifest.value().config;
        if config.media_type.as_str() != CONFIG_TYPE {
            return Err(format!(
                "it holds {}, not a cache of kiln's",
                config.media_type
            ));
        }
        let bytes = self
            .net
            .wait(repository.fetch_bytes(config, MAX_DOCUMENT))
            .map_err(|error: FetchError| chain(&error))?;
        let document: CacheDocument =
            serde_json::from_slice(&bytes).map_err(|error| chain(&error))?;
        if document.version != VERSION {
            return Err(format!(
                "it is of version {}, not {VERSION}",
                document.version
            ));
        }
        if document.times != self.times {
            let (theirs, ours) = (&document.times, &self.times);
            return Err(format!(
                "its layers have other times ({theirs}, not {ours})"
            ));
        }
        Ok(document)
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
