//! What a build looked up and made, for the caches that it is exported to.

use std::collections::BTreeMap;

use solver::CacheKey;
use store::LayerId;

/// What was collected so far.
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
    /// An image of the build stands on it.
    pub(crate) in_image: bool,
}
