//! Images: what a tag or an id leads to.
//!
//! An image keeps its layers and documents from being collected. Its compressed layers need not
//! exist: they are made, or fetched, when somebody ships it.

use std::collections::HashSet;

use oci::{Annotations, Descriptor, DiffId, Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::lease::Pin;
use crate::record::Kind;
use crate::store::{Inner, Store, Table, text_key};
use crate::{LayerId, StoreError};

/// An image of one platform or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// One for each platform; at least one.
    pub manifests: Vec<ImageManifest>,
    /// The index document, a blob, if the image came or was shipped with one.
    pub index: Option<Descriptor>,
    /// What an index that is yet to be written is annotated with.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// When it came into the store, in seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
}

/// An image of one platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// The platform.
    pub platform: Platform,
    /// The config document, a blob.
    pub config: Descriptor,
    /// The manifest document, a blob, if the image came or was shipped with one.
    pub manifest: Option<Descriptor>,
    /// The layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// What a manifest that is yet to be written is annotated with.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// What its descriptor is annotated with then.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub descriptor_annotations: Annotations,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageLayer {
    /// What its tar hashes to.
    pub diff_id: DiffId,
    /// Its name in the store, where it may not be yet: see [`Store::origin`].
    pub id: LayerId,
    /// Its compressed form, if it came or was shipped in one.
    pub blob: Option<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) reference: Reference,
    pub(crate) id: Digest,
}

pub(crate) const IMAGES: Table = Table {
    kind: Kind {
        name: "image",
        version: 1,
    },
    folder: "images/ids",
};
pub(crate) const TAGS: Table = Table {
    kind: Kind {
        name: "tag",
        version: 1,
    },
    folder: "images/tags",
};

/// The shortest abbreviation of an id that is looked for, in digits.
const SHORTEST_ID: usize = 4;

impl Image {
    /// The image's id: the digest of the config of a single platform, else of the index, else of
    /// the list of configs.
    pub fn id(&self) -> Digest {
        match (&self.manifests[..], &self.index) {
            ([single], _) => single.config.digest,
            (_, Some(index)) => index.digest,
            (several, None) => {
                let lines = several.iter().map(|m| format!("{}\n", m.config.digest));
                Digest::sha256(lines.collect::<String>())
            }
        }
    }

    /// Every layer of every platform.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &ImageLayer> {
        self.manifests.iter().flat_map(|manifest| &manifest.layers)
    }

    /// Everything that the image keeps alive.
    pub(crate) fn pins(&self) -> HashSet<Pin> {
        let documents = self
            .manifests
            .iter()
            .flat_map(|m| [Some(&m.config), m.manifest.as_ref()]);
        let documents = documents.chain([self.index.as_ref()]).flatten();
        let blobs = documents.chain(self.layers().filter_map(|layer| layer.blob.as_ref()));
        let blobs = blobs.map(|descriptor| Pin::Blob(descriptor.digest));
        blobs
            .chain(self.layers().map(|layer| Pin::Layer(layer.id)))
            .collect()
    }
}

impl Store {
    /// Puts an image into the store, under a name if there is one. The name is taken away from
    /// the image that had it. What is there already is left as it is, its time too: nothing is
    /// written then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tag(&self, image: &Image, reference: Option<&Reference>) -> Result<Digest, StoreError> {
        let id = image.id();
        let same = |known: &Image| {
            known.manifests == image.manifests
                && known.index == image.index
                && known.annotations == image.annotations
        };
        if !self.inner.holds(IMAGES, &id.hex(), same)? {
            self.inner.put(IMAGES, &id.hex(), image)?;
        }
        if let Some(reference) = reference {
            let record = TagRecord {
                reference: reference.clone(),
                id,
            };
            let key = tag_key(reference);
            if !self
                .inner
                .holds(TAGS, &key, |known: &TagRecord| *known == record)?
            {
                self.inner.put(TAGS, &key, &record)?;
            }
        }
        Ok(id)
    }

    /// Takes a name away; true when it was there. The image stays until it is removed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn untag(&self, reference: &Reference) -> Result<bool, StoreError> {
        let key = tag_key(reference);
        let known = self.inner.get::<TagRecord>(TAGS, &key)?.is_some();
        self.inner.remove(TAGS, &key)?;
        Ok(known)
    }

    /// Removes an image and all its names, which are returned. What it is made of stays in the
    /// cache until it is pruned.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_image(&self, id: &Digest) -> Result<Vec<Reference>, StoreError> {
        let names = self.inner.tags()?.into_iter().filter(|tag| tag.id == *id);
        let names: Vec<Reference> = names.map(|tag| tag.reference).collect();
        for reference in &names {
            self.untag(reference)?;
        }
        self.inner.remove(IMAGES, &id.hex())?;
        Ok(names)
    }

    /// The image with this name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn image(&self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        match self.inner.get::<TagRecord>(TAGS, &tag_key(reference))? {
            Some((tag, _)) => self.image_by_id(&tag.id),
            None => Ok(None),
        }
    }

    /// The image with this id. Its layers and documents stay while the store is open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn image_by_id(&self, id: &Digest) -> Result<Option<Image>, StoreError> {
        let (inner, key) = (&*self.inner, id.hex());
        let Some((image, stamp)) = inner.get::<Image>(IMAGES, &key)? else {
            return Ok(None);
        };
        let pins: Vec<Pin> = image.pins().into_iter().collect();
        inner.pinned(&pins, |_| Ok(()))?;
        if !inner.trusts(&stamp) {
            if !self.is_whole(&image)? {
                inner.remove(IMAGES, &key)?;
                return Ok(None);
            }
            inner.put(IMAGES, &key, &image)?;
        }
        Ok(Some(image))
    }

    /// The image that somebody calls so: by a name as it is written, or by an id or the beginning
    /// of one.
    ///
    /// # Errors
    /// When an abbreviation fits several images, or the store cannot be read.
    pub fn resolve(&self, name: &str) -> Result<Option<Image>, StoreError> {
        if let Ok(reference) = name.parse::<Reference>()
            && let Some(image) = self.image(&reference)?
        {
            return Ok(Some(image));
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.len() < SHORTEST_ID {
            return Ok(None);
        }
        let keys = self.inner.keys(IMAGES)?;
        let fitting: Vec<&String> = keys.iter().filter(|key| key.starts_with(digits)).collect();
        match fitting[..] {
            [] => Ok(None),
            [key] => match format!("sha256:{key}").parse() {
                Ok(id) => self.image_by_id(&id),
                Err(_) => Ok(None),
            },
            [..] => {
                let (name, count) = (name.to_owned(), fitting.len());
                Err(StoreError::AmbiguousImage { name, count })
            }
        }
    }

    /// All images with their names, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<(Image, Vec<Reference>)>, StoreError> {
        let tags = self.inner.tags()?;
        let names = |image: Image| {
            let id = image.id();
            let names = tags
                .iter()
                .filter(|tag| tag.id == id)
                .map(|tag| tag.reference.clone());
            let names = names.collect();
            (image, names)
        };
        Ok(self.inner.images()?.into_iter().map(names).collect())
    }

    /// Whether everything is there that cannot be fetched again, after a crash.
    pub(crate) fn is_whole(&self, image: &Image) -> Result<bool, StoreError> {
        for manifest in &image.manifests {
            if self.document(&manifest.config.digest)?.is_none() {
                return Ok(false);
            }
        }
        let layers: Vec<LayerId> = image.layers().map(|layer| layer.id).collect();
        self.inner.verify_layers(&layers)
    }
}

impl Inner {
    /// All images, by id.
    pub(crate) fn images(&self) -> Result<Vec<Image>, StoreError> {
        let mut images = Vec::new();
        for key in self.keys(IMAGES)? {
            images.extend(self.peek(IMAGES, &key)?);
        }
        Ok(images)
    }

    pub(crate) fn tags(&self) -> Result<Vec<TagRecord>, StoreError> {
        let mut tags = Vec::new();
        for key in self.keys(TAGS)? {
            tags.extend(self.peek(TAGS, &key)?);
        }
        Ok(tags)
    }
}

fn tag_key(reference: &Reference) -> String {
    text_key(&reference.to_string())
}
