//! What a build looked up and made, for the caches that it is exported to.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use solver::CacheKey;
use store::LayerId;

/// Collects results and links while a build runs.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
}

/// What was collected.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) results: BTreeMap<CacheKey, SeenResult>,
    pub(super) links: BTreeMap<CacheKey, CacheKey>,
}

/// A result that the build used, made, or only knew the key of.
#[derive(Clone, Debug)]
pub(crate) struct SeenResult {
    pub(crate) layers: Vec<LayerId>,
    pub(crate) inputs: Vec<(String, String)>,
    pub(crate) description: String,
}

impl Recorder {
    pub(crate) fn link(&self, link: CacheKey, sum: CacheKey) {
        self.lock().links.insert(link, sum);
    }

    pub(crate) fn result(&self, key: CacheKey, result: SeenResult) {
        self.lock().results.insert(key, result);
    }

    pub(super) fn into_seen(self) -> Seen {
        self.seen
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
