//! Descriptors, manifests and indexes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::null_as_default;
use crate::{Digest, MediaType, Platform};

/// Free texts by name (image-spec, annotations.md).
pub type Annotations = BTreeMap<String, String>;

/// What a blob or manifest is, how long, and what it hashes to (image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: MediaType,
    /// What its bytes hash to.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// Other places that have it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Free texts.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
    /// The bytes themselves, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The platform it is for, when it is a manifest in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Kind of artifact, when it is an artifact's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Keys that are not listed above.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Descriptor {
    /// A descriptor of `size` bytes that hash to `digest`.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: Annotations::new(),
            data: None,
            platform: None,
            artifact_type: None,
            extra: BTreeMap::new(),
        }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }
}

/// An image's config and layers (image-spec, manifest.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// Kind of artifact, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free texts.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
    /// Keys that are not listed above.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Manifest {
    /// An image manifest of type `media_type`.
    pub fn new(media_type: MediaType, config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: Annotations::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Its own type, the OCI's when it does not say.
    pub fn media_type(&self) -> MediaType {
        self.media_type.clone().unwrap_or(MediaType::OciManifest)
    }
}

/// Manifests of one image for several platforms (image-spec, image-index.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// Kind of artifact, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free texts.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: Annotations,
    /// Keys that are not listed above.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Index {
    /// An index of type `media_type`.
    pub fn new(media_type: MediaType, manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: Some(media_type),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Annotations::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Its own type, the OCI's when it does not say.
    pub fn media_type(&self) -> MediaType {
        self.media_type.clone().unwrap_or(MediaType::OciIndex)
    }

    /// The manifest to use where `wanted` is asked for: the best ranked one that names its
    /// platform, the first of equals; without any, the first that names none.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let ranked = |descriptor: &&Descriptor| {
            descriptor
                .platform
                .as_ref()
                .and_then(|platform| wanted.rank(platform))
        };
        self.manifests
            .iter()
            .filter(|descriptor| ranked(descriptor).is_some())
            .min_by_key(ranked)
            .or_else(|| {
                let images = self.manifests.iter().filter(|d| d.media_type.is_manifest());
                images
                    .into_iter()
                    .find(|descriptor| descriptor.platform.is_none())
            })
    }

    /// The platforms that its manifests name, in order; `unknown/unknown`, which marks
    /// attestations, left out.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.manifests
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
    }
}
