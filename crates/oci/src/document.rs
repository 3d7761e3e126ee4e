//! A parsed document together with the exact bytes that its digest is of.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::to_go_json;
use crate::{Descriptor, Digest, ImageConfig, Index, Manifest, MediaType};

/// How a kind of document is written by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Without any space.
    Compact,
    /// Indented by two spaces.
    Indented,
}

/// A kind of document that images are made of.
pub trait ImageDocument: Serialize + DeserializeOwned {
    /// What it is called in messages.
    const NAME: &'static str;
    /// How it is written; BuildKit's way, so that digests can agree.
    const ENCODING: Encoding;

    /// Checks what the shape of the type does not.
    ///
    /// # Errors
    /// When the document is of another kind than it was read as.
    fn check(&self) -> Result<(), DocumentError>;
}

/// A value and its bytes. Two documents are equal when their bytes are.
#[derive(Clone, Debug)]
pub struct Document<T> {
    value: T,
    bytes: Arc<[u8]>,
    digest: Digest,
}

/// Bytes that are no such document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON, or a key is missing or of the wrong type.
    #[error("read the {kind}")]
    Json {
        /// What it was read as.
        kind: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The version is not 2.
    #[error("read the {kind}: its schemaVersion is {version}, only 2 is supported")]
    SchemaVersion {
        /// What it was read as.
        kind: &'static str,
        /// What it says.
        version: u32,
    },
    /// It says that it is something else.
    #[error("read the {kind}: it says that it is {media_type}")]
    MediaType {
        /// What it was read as.
        kind: &'static str,
        /// What it says.
        media_type: MediaType,
    },
    /// It has a key that only another kind of document has, so readers could disagree about it.
    #[error("read the {kind}: it has the key {key:?}, which no {kind} has")]
    Ambiguous {
        /// What it was read as.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The config is not made of layers.
    #[error("read the {kind}: its root file system is of type {found:?}, only \"layers\" is known")]
    RootFsType {
        /// What it was read as.
        kind: &'static str,
        /// What it says.
        found: String,
    },
}

impl<T: ImageDocument> Document<T> {
    /// Reads a document, keeping its bytes.
    ///
    /// # Errors
    /// When the bytes are no such document.
    pub fn parse(bytes: impl Into<Arc<[u8]>>) -> Result<Document<T>, DocumentError> {
        let bytes = bytes.into();
        let value: T = serde_json::from_slice(&bytes).map_err(|source| DocumentError::Json {
            kind: T::NAME,
            source,
        })?;
        value.check()?;
        let digest = Digest::sha256(&bytes);
        Ok(Document {
            value,
            bytes,
            digest,
        })
    }

    /// Writes a document from a value.
    pub fn new(value: T) -> Document<T> {
        let bytes: Arc<[u8]> = to_go_json(&value, T::ENCODING == Encoding::Indented)
            .expect("every key of an image document is text, and nothing else can fail")
            .into();
        let digest = Digest::sha256(&bytes);
        Document {
            value,
            bytes,
            digest,
        }
    }

    /// The descriptor of the bytes.
    pub fn descriptor(&self, media_type: MediaType) -> Descriptor {
        Descriptor::new(media_type, self.digest, self.bytes.len() as u64)
    }
}

impl<T> Document<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The value alone.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl<T> PartialEq for Document<T> {
    fn eq(&self, other: &Document<T>) -> bool {
        self.digest == other.digest
    }
}

impl<T> Eq for Document<T> {}

impl<T> std::ops::Deref for Document<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl ImageDocument for Manifest {
    const NAME: &'static str = "manifest";
    const ENCODING: Encoding = Encoding::Indented;

    fn check(&self) -> Result<(), DocumentError> {
        check_version::<Self>(self.schema_version)?;
        check_media_type::<Self>(self.media_type.as_ref(), MediaType::is_manifest)?;
        check_absent::<Self>(&self.extra, &["manifests", "fsLayers"])
    }
}

impl ImageDocument for Index {
    const NAME: &'static str = "index";
    const ENCODING: Encoding = Encoding::Indented;

    fn check(&self) -> Result<(), DocumentError> {
        check_version::<Self>(self.schema_version)?;
        check_media_type::<Self>(self.media_type.as_ref(), MediaType::is_index)?;
        check_absent::<Self>(&self.extra, &["config", "layers", "fsLayers"])
    }
}

impl ImageDocument for ImageConfig {
    const NAME: &'static str = "image config";
    const ENCODING: Encoding = Encoding::Compact;

    fn check(&self) -> Result<(), DocumentError> {
        if self.rootfs.kind != "layers" {
            return Err(DocumentError::RootFsType {
                kind: Self::NAME,
                found: self.rootfs.kind.clone(),
            });
        }
        Ok(())
    }
}

fn check_version<T: ImageDocument>(version: u32) -> Result<(), DocumentError> {
    match version {
        2 => Ok(()),
        version => Err(DocumentError::SchemaVersion {
            kind: T::NAME,
            version,
        }),
    }
}

fn check_media_type<T: ImageDocument>(
    media_type: Option<&MediaType>,
    fits: fn(&MediaType) -> bool,
) -> Result<(), DocumentError> {
    match media_type {
        Some(media_type) if !fits(media_type) => Err(DocumentError::MediaType {
            kind: T::NAME,
            media_type: media_type.clone(),
        }),
        _ => Ok(()),
    }
}

fn check_absent<T: ImageDocument>(
    extra: &std::collections::BTreeMap<String, Value>,
    keys: &[&'static str],
) -> Result<(), DocumentError> {
    match keys.iter().find(|key| extra.contains_key(**key)) {
        Some(key) => Err(DocumentError::Ambiguous { kind: T::NAME, key }),
        None => Ok(()),
    }
}
