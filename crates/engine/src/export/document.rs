//! Manifests, indexes and layouts as documents. Pure: descriptors in, documents out.

use oci::{Annotations, Descriptor, Document, ImageConfig, Index, Manifest, MediaType, Platform};

use crate::request::{Annotation, AnnotationLevel};

/// The annotations of one level, by name, as far as they are for this platform.
pub(crate) fn annotations(
    all: &[Annotation],
    level: AnnotationLevel,
    platform: Option<&Platform>,
) -> Annotations {
    let meant = |annotation: &&Annotation| {
        annotation.level == level
            && (annotation.platform.is_none() || annotation.platform.as_ref() == platform)
    };
    all.iter()
        .filter(meant)
        .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
        .collect()
}

/// The manifest of one image. Media types of base layers follow the family that is asked for;
/// their bytes do not change with it.
pub(crate) fn manifest(
    config: &Document<ImageConfig>,
    layers: Vec<Descriptor>,
    docker: bool,
    annotations: Annotations,
) -> Document<Manifest> {
    let family = |media_type: MediaType| {
        if docker {
            media_type.to_docker()
        } else {
            media_type.to_oci()
        }
    };
    let layers = layers
        .into_iter()
        .map(|layer| Descriptor {
            media_type: family(layer.media_type.clone()),
            ..layer
        })
        .collect();
    let config = config.descriptor(family(MediaType::OciConfig));
    let mut manifest = Manifest::new(family(MediaType::OciManifest), config, layers);
    manifest.annotations = annotations;
    Document::new(manifest)
}

/// The index of several images, in the order of the request.
pub(crate) fn index(
    images: Vec<(Descriptor, Platform)>,
    docker: bool,
    annotations: Annotations,
) -> Document<Index> {
    let manifests = images
        .into_iter()
        .map(|(descriptor, platform)| Descriptor {
            platform: Some(platform),
            ..descriptor
        })
        .collect();
    let media_type = if docker {
        MediaType::OciIndex.to_docker()
    } else {
        MediaType::OciIndex
    };
    let mut index = Index::new(media_type, manifests);
    index.annotations = annotations;
    Document::new(index)
}
