//! An image made ready to be shipped: every document written, every layer a blob.

use std::sync::Arc;

use layer::Times;
use oci::{Annotations, Descriptor, Document, Manifest, MediaType, Platform};
use store::{Image, ImageManifest, Store};

use super::document;
use crate::error::BuildError;
use crate::layers::{LayerBlob, Layers};
use crate::request::{Annotation, AnnotationLevel, Compression, Encoding};
use crate::resolve;

/// Documents and blobs of an image.
pub(crate) struct Shipment {
    /// One image for each platform.
    pub(crate) images: Vec<ShippedImage>,
    /// The index, for several platforms.
    pub(crate) index: Option<(MediaType, Arc<[u8]>)>,
    /// What a tag is to point to.
    pub(crate) root: Descriptor,
}

/// An image of one platform, ready to be shipped.
pub(crate) struct ShippedImage {
    /// Descriptor of the manifest.
    pub(crate) descriptor: Descriptor,
    /// The manifest's bytes.
    pub(crate) manifest: Arc<[u8]>,
    /// Descriptor of the config.
    pub(crate) config: Descriptor,
    /// The config's bytes.
    pub(crate) config_bytes: Arc<[u8]>,
    /// The layers, the lowest first.
    pub(crate) layers: Vec<LayerBlob>,
    /// What it is for.
    pub(crate) platform: Platform,
}

/// How an image is shipped.
#[derive(Clone, Debug)]
pub(crate) struct Shipping<'r> {
    /// Compression and media types.
    pub(crate) encoding: Encoding,
    /// Annotations beside the image's own.
    pub(crate) annotations: &'r [Annotation],
    /// Times of files in layers that were made here.
    pub(crate) times: Times,
    /// The documents that the image came with, or was shipped with before, are sent again.
    pub(crate) as_it_came: bool,
}

impl Shipping<'static> {
    /// As an image of the store is sent when nobody says how.
    pub(crate) fn of_stored() -> Shipping<'static> {
        Shipping {
            encoding: Encoding::default(),
            annotations: &[],
            times: Times::Layer,
            as_it_came: true,
        }
    }
}

impl Shipping<'_> {
    /// Whether an image is shipped as it is when nobody says how.
    fn is_usual(&self) -> bool {
        self.encoding == Encoding::default() && self.annotations.is_empty()
    }

    fn annotations_of(&self, level: AnnotationLevel, platform: Option<&Platform>) -> Annotations {
        document::annotations(self.annotations, level, platform)
    }
}

/// Makes an image ready, and remembers its documents in the store.
///
/// # Errors
/// When a layer cannot be packed or compressed, or the store cannot be used.
pub(crate) fn prepare(
    store: &Store,
    layers: &Layers<'_>,
    image: &mut Image,
    shipping: &Shipping<'_>,
) -> Result<Shipment, BuildError> {
    let mut images = Vec::with_capacity(image.manifests.len());
    for manifest in &mut image.manifests {
        let shipped = match as_it_came(store, layers, manifest, shipping)? {
            Some(shipped) => shipped,
            None => assemble(store, layers, manifest, shipping)?,
        };
        // The store knows an image by its usual form, not by the last that was asked for.
        if shipping.is_usual() {
            manifest.manifest = Some(shipped.descriptor.clone());
            for (layer, blob) in manifest.layers.iter_mut().zip(&shipped.layers) {
                layer.blob = Some(blob.descriptor.clone());
            }
        }
        images.push(shipped);
    }
    let failed = |error| BuildError::store("keep the image's documents", error);
    let (index, root) = match images.as_slice() {
        [single] => (None, single.descriptor.clone()),
        several => {
            let parts = several
                .iter()
                .map(|image| (image.descriptor.clone(), image.platform.clone()))
                .collect();
            let mut annotations = image.annotations.clone();
            annotations.extend(shipping.annotations_of(AnnotationLevel::Index, None));
            let docker = shipping.encoding.docker_media_types;
            let document = document::index(parts, docker, annotations);
            let media_type = document.value().media_type();
            store.put_blob(document.bytes()).map_err(failed)?;
            let root = document.descriptor(media_type.clone());
            if shipping.is_usual() {
                image.index = Some(root.clone());
            }
            (Some((media_type, document.bytes().clone())), root)
        }
    };
    Ok(Shipment {
        images,
        index,
        root,
    })
}

/// An image that came with a manifest, or was shipped before, in the same form.
fn as_it_came(
    store: &Store,
    layers: &Layers<'_>,
    image: &ImageManifest,
    shipping: &Shipping<'_>,
) -> Result<Option<ShippedImage>, BuildError> {
    let Some(descriptor) = image.manifest.clone().filter(|_| shipping.as_it_came) else {
        return Ok(None);
    };
    let failed = |error| BuildError::store("read the image's manifest", error);
    let Some(bytes) = store.document(&descriptor.digest).map_err(failed)? else {
        return Ok(None);
    };
    let Ok(manifest) = Document::<Manifest>::parse(bytes) else {
        return Ok(None);
    };
    let mut blobs = Vec::with_capacity(image.layers.len());
    for (layer, wanted) in image.layers.iter().zip(&manifest.value().layers) {
        let blob = layers
            .blob(layer.id, shipping.times, writer(shipping.encoding), false)
            .map_err(|error| BuildError::export("the image", error))?;
        if blob.descriptor.digest != wanted.digest {
            return Ok(None);
        }
        blobs.push(blob);
    }
    let config = resolve::config(store, image, "the image")
        .map_err(|error| BuildError::export("the image", error))?;
    Ok(Some(ShippedImage {
        descriptor,
        manifest: manifest.bytes().clone(),
        config: manifest.value().config.clone(),
        config_bytes: config.bytes().clone(),
        layers: blobs,
        platform: image.platform.clone(),
    }))
}

fn assemble(
    store: &Store,
    layers: &Layers<'_>,
    image: &ImageManifest,
    shipping: &Shipping<'_>,
) -> Result<ShippedImage, BuildError> {
    let encoding = shipping.encoding;
    let blobs = image
        .layers
        .iter()
        .map(|layer| layers.blob(layer.id, shipping.times, writer(encoding), encoding.force))
        .collect::<Result<Vec<LayerBlob>, _>>()
        .map_err(|error| BuildError::export("the image", error))?;
    let config = resolve::config(store, image, "the image")
        .map_err(|error| BuildError::export("the image", error))?;
    let descriptors = blobs.iter().map(|blob| blob.descriptor.clone()).collect();
    let platform = Some(&image.platform);
    let mut annotations = image.annotations.clone();
    annotations.extend(shipping.annotations_of(AnnotationLevel::Manifest, platform));
    let mut of_descriptor = image.descriptor_annotations.clone();
    of_descriptor.extend(shipping.annotations_of(AnnotationLevel::ManifestDescriptor, platform));
    let manifest = document::manifest(
        &config,
        descriptors,
        encoding.docker_media_types,
        annotations,
    );
    store
        .put_blob(manifest.bytes())
        .map_err(|error| BuildError::store("keep the image's manifest", error))?;
    Ok(ShippedImage {
        descriptor: Descriptor {
            annotations: of_descriptor,
            ..manifest.descriptor(manifest.value().media_type())
        },
        config: manifest.value().config.clone(),
        manifest: manifest.bytes().clone(),
        config_bytes: config.bytes().clone(),
        layers: blobs,
        platform: image.platform.clone(),
    })
}

/// How layers are compressed for an output.
pub(crate) fn writer(encoding: Encoding) -> layer::compress::Compression {
    use layer::compress::Compression as Writer;
    match (encoding.compression, encoding.level) {
        (Compression::Gzip, None) => Writer::GZIP,
        (Compression::Gzip, Some(level)) => Writer::Gzip { level },
        (Compression::Zstd, None) => Writer::ZSTD,
        (Compression::Zstd, Some(level)) => Writer::Zstd {
            level: i32::try_from(level).unwrap_or(i32::MAX),
        },
        (Compression::Uncompressed, _) => Writer::None,
    }
}
