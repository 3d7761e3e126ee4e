//! The document of a cache: what it says, not where it is.

use std::collections::BTreeMap;

use oci::{Descriptor, DiffId};
use serde::{Deserialize, Serialize};

/// Media type of the document, which is the config of the cache's manifest.
pub(super) const CONFIG_TYPE: &str = "application/vnd.kiln.cache.config.v1+json";
/// What the manifest is.
pub(super) const ARTIFACT_TYPE: &str = "application/vnd.kiln.cache.v1+json";
/// Bytes of the longest document that is read: some 100,000 steps.
pub(super) const MAX_DOCUMENT: u64 = 64 << 20;
/// The version that this kiln writes and reads.
pub(super) const VERSION: u32 = 1;

/// All that a cache knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CacheDocument {
    /// [`VERSION`].
    pub(super) version: u32,
    /// The policy of the times in its layers.
    pub(super) times: String,
    /// Layers, which results name by position.
    pub(super) layers: Vec<CachedLayer>,
    /// Results by key.
    pub(super) results: BTreeMap<String, CachedResult>,
    /// Checksums by link.
    pub(super) links: BTreeMap<String, String>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CachedLayer {
    /// Digest of its tar.
    pub(super) diff_id: DiffId,
    /// Its blob.
    pub(super) blob: Descriptor,
    /// Repositories that have the blob, for layers of base images; the cache has the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) repositories: Vec<String>,
    /// The paths that it has to do with, as [`layer::Outline`] writes them, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outline: Option<Vec<String>>,
}

/// A result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CachedResult {
    /// The whole chain, the lowest first, as positions in the document's layers.
    pub(super) layers: Vec<usize>,
    /// What the key is made of, for people.
    pub(super) inputs: Vec<(String, String)>,
    /// The step, for people.
    pub(super) description: String,
}

impl CacheDocument {
    /// The layers of a result; `None` when it is not there or names a layer that is not.
    pub(super) fn result(&self, key: &str) -> Option<(&CachedResult, Vec<&CachedLayer>)> {
        let result = self.results.get(key)?;
        let layers = result
            .layers
            .iter()
            .map(|&position| self.layers.get(position));
        Some((result, layers.collect::<Option<Vec<_>>>()?))
    }
}

#[cfg(test)]
mod tests {
    use oci::{Digest, MediaType};

    use super::*;

    fn document() -> CacheDocument {
        let bytes = b"tar";
        let layer = CachedLayer {
            diff_id: DiffId::new(Digest::sha256(bytes)),
            blob: Descriptor::of(MediaType::OciLayer(oci::Compression::Gzip), bytes),
            repositories: Vec::new(),
            outline: Some(vec!["/out".into()]),
        };
        let result = |layers| CachedResult {
            layers,
            inputs: vec![("command".into(), "true".into())],
            description: "RUN true".into(),
        };
        CacheDocument {
            version: VERSION,
            times: "layer".into(),
            layers: vec![layer],
            results: [
                ("aa".into(), result(vec![0])),
                ("bb".into(), result(vec![0, 1])),
            ]
            .into(),
            links: BTreeMap::new(),
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let text = serde_json::to_string(&document()).unwrap();
        let read: CacheDocument = serde_json::from_str(&text).unwrap();
        assert_eq!(read, document());
    }

    #[test]
    fn a_result_without_its_layers_is_none() {
        let document = document();
        assert_eq!(document.result("aa").unwrap().1.len(), 1);
        assert!(document.result("bb").is_none(), "there is no layer 1");
        assert!(document.result("cc").is_none());
    }
}
