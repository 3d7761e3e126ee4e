//! Images of the store: pulling, pushing, naming, showing.

use oci::{Descriptor, Digest, ImageConfig, Platform, Reference};
use store::{Image, ImageManifest};

use crate::cancel::Cancel;
use crate::error::BuildError;
use crate::event::Events;
use crate::export::{push, shipment};
use crate::fetch::Fetcher;
use crate::layers::Layers;
use crate::{Engine, host_platform, resolve};

/// An image in a list.
#[derive(Clone, Debug)]
pub struct ImageSummary {
    /// Its id.
    pub id: Digest,
    /// One of its names; an image with several is listed once for each.
    pub name: Option<Reference>,
    /// What tags point to, if it came or was shipped.
    pub manifest: Option<Digest>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Bytes of its layers, uncompressed where that is known.
    pub size: u64,
}

/// An image in full.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// Its id.
    pub id: Digest,
    /// All its names.
    pub names: Vec<Reference>,
    /// What tags point to, if it came or was shipped.
    pub manifest: Option<Digest>,
    /// The config of this machine's platform, or the first one.
    pub config: ImageConfig,
    /// Bytes of each layer, uncompressed where that is known.
    pub layer_sizes: Vec<u64>,
    /// Their sum.
    pub size: u64,
}

fn failed(error: store::StoreError) -> BuildError {
    BuildError::store("use the store", error)
}

fn no_such(name: &str) -> BuildError {
    BuildError::request(format!("there is no image {name} in the store"))
}

impl Engine {
    pub(crate) fn new_layers(&self, events: &Events) -> Layers<'_> {
        let fetcher = Fetcher {
            net: self.net.clone(),
            events: events.clone(),
            cancel: Cancel::new(),
        };
        Layers::new(&self.store, self.mounting(), fetcher)
    }

    /// Whether the store has an image of this name or id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_image(&self, name: &str) -> Result<bool, BuildError> {
        Ok(self.store.resolve(name).map_err(failed)?.is_some())
    }

    pub(crate) fn find_image(&self, name: &str) -> Result<Image, BuildError> {
        self.store
            .resolve(name)
            .map_err(failed)?
            .ok_or_else(|| no_such(name))
    }

    /// Downloads an image for a platform, this machine's if none is given.
    ///
    /// # Errors
    /// When the registry does not have it or does not answer.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        events: &Events,
    ) -> Result<ImageSummary, BuildError> {
        let platform = platform.cloned().unwrap_or_else(host_platform);
        let unresolved = |source: Box<dyn std::error::Error + Send + Sync>| BuildError::Resolve {
            reference: reference.to_string(),
            excerpt: None,
            source,
        };
        let manifest = resolve::fetch(&self.store, &self.net, reference, &platform)
            .map_err(|error| unresolved(error.into()))?;
        let chain: Vec<_> = manifest.layers.iter().map(|layer| layer.id).collect();
        self.new_layers(events)
            .ensure(&chain)
            .map_err(|error| unresolved(error.into()))?;
        self.settle_later();
        let image = self
            .store
            .image(reference)
            .map_err(failed)?
            .ok_or_else(|| no_such(&reference.to_string()))?;
        self.summary(&image, Some(reference.clone()))
    }

    /// Uploads an image under one of its names.
    ///
    /// # Errors
    /// When the store does not have it, or the registry does not take it.
    pub fn push(&self, reference: &Reference, events: &Events) -> Result<Descriptor, BuildError> {
        let mut image = self
            .store
            .image(reference)
            .map_err(failed)?
            .ok_or_else(|| no_such(&reference.to_string()))?;
        let before = image.clone();
        let layers = self.new_layers(events);
        let shipping = shipment::Shipping::of_stored();
        let shipment = shipment::prepare(&self.store, &layers, &mut image, &shipping)?;
        push::push(&self.net, &layers, &shipment, reference, events)?;
        if image != before {
            self.store.tag(&image, Some(reference)).map_err(failed)?;
        }
        Ok(shipment.root)
    }

    /// All images, the newest first, once for each name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<ImageSummary>, BuildError> {
        let mut list = Vec::new();
        for (image, names) in self.store.images().map_err(failed)? {
            if names.is_empty() {
                list.push((image.created, self.summary(&image, None)?));
            }
            for name in names {
                list.push((image.created, self.summary(&image, Some(name))?));
            }
        }
        list.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.name.cmp(&other.name)));
        Ok(list.into_iter().map(|(_, image)| image).collect())
    }

    fn summary(&self, image: &Image, name: Option<Reference>) -> Result<ImageSummary, BuildError> {
        let manifest = native(image);
        let config = resolve::config(&self.store, manifest, image.id())
            .map_err(|error| BuildError::store("read the image's config", error))?;
        Ok(ImageSummary {
            id: image.id(),
            name,
            manifest: image
                .index
                .as_ref()
                .or(manifest.manifest.as_ref())
                .map(|descriptor| descriptor.digest),
            created: config.value().created.map_or(0, |created| created.unix()),
            size: self.layer_sizes(manifest)?.iter().sum(),
        })
    }

    fn layer_sizes(&self, manifest: &ImageManifest) -> Result<Vec<u64>, BuildError> {
        let size = |layer: &store::ImageLayer| {
            let stored = self.store.layer(layer.id).map_err(failed)?;
            let unpacked = stored
                .and_then(|stored| stored.packed)
                .map(|packed| packed.tar_len);
            Ok(unpacked
                .or(layer.blob.as_ref().map(|blob| blob.size))
                .unwrap_or(0))
        };
        manifest.layers.iter().map(size).collect()
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<(), BuildError> {
        let image = self.find_image(source)?;
        self.store.tag(&image, Some(target)).map_err(failed)?;
        Ok(())
    }

    /// Takes a name away, or removes an image that is given by its id. Returns what happened, one
    /// line each, in docker's words.
    ///
    /// # Errors
    /// When there is no such image, or an id has several names and `force` is not given.
    pub fn untag(&self, name: &str, force: bool) -> Result<Vec<String>, BuildError> {
        let image = self.find_image(name)?;
        let by_name = match name.parse::<Reference>() {
            Ok(reference) => self
                .store
                .untag(&reference)
                .map_err(failed)?
                .then_some(reference),
            Err(_) => None,
        };
        let rest: Vec<Reference> = self.names_of(&image)?;
        let mut lines = Vec::new();
        match by_name {
            Some(reference) => {
                lines.push(format!("Untagged: {}", reference.familiar()));
                if !rest.is_empty() {
                    return Ok(lines);
                }
            }
            None if rest.len() > 1 && !force => {
                return Err(BuildError::request(format!(
                    "image {name} has several names ({}): remove them one by one, or use --force",
                    rest.iter()
                        .map(|name| name.familiar().to_string())
                        .collect::<Vec<_>>()
                        .join(", ")
                )));
            }
            None => lines.extend(
                rest.iter()
                    .map(|name| format!("Untagged: {}", name.familiar())),
            ),
        }
        self.store.remove_image(&image.id()).map_err(failed)?;
        lines.push(format!("Deleted: {}", image.id()));
        Ok(lines)
    }

    fn names_of(&self, image: &Image) -> Result<Vec<Reference>, BuildError> {
        let images = self.store.images().map_err(failed)?;
        let found = images
            .into_iter()
            .find(|(other, _)| other.id() == image.id());
        Ok(found.map(|(_, names)| names).unwrap_or_default())
    }

    /// Everything about an image.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn inspect(&self, name: &str) -> Result<ImageDetails, BuildError> {
        let image = self.find_image(name)?;
        let manifest = native(&image);
        let config = resolve::config(&self.store, manifest, name)
            .map_err(|error| BuildError::store("read the image's config", error))?;
        let layer_sizes = self.layer_sizes(manifest)?;
        Ok(ImageDetails {
            id: image.id(),
            names: self.names_of(&image)?,
            manifest: image
                .index
                .as_ref()
                .or(manifest.manifest.as_ref())
                .map(|descriptor| descriptor.digest),
            config: config.into_value(),
            size: layer_sizes.iter().sum(),
            layer_sizes,
        })
    }
}

/// The image of this machine's platform, or the first one.
pub(crate) fn native(image: &Image) -> &ImageManifest {
    host_platform()
        .choose(&image.manifests, |manifest| &manifest.platform)
        .unwrap_or(&image.manifests[0])
}
