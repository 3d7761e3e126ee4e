//! Pushes images: blobs that the registry lacks, several at once, then the documents.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use distribution::{BlobSource, RawManifest, Repository, Version};
use oci::{Descriptor, Digest, Reference};

use super::shipment::{Shipment, ShippedImage};
use crate::error::BuildError;
use crate::event::{EventKind, Events};
use crate::layers::{LayerBlob, Layers};
use crate::net::Net;

/// Blobs that are sent at once.
const AT_ONCE: usize = 4;

/// Pushes a shipment under a name.
///
/// # Errors
/// When the registry does not take it, naming the registry and what it said.
pub(crate) fn push(
    net: &Net,
    layers: &Layers<'_>,
    shipment: &Shipment,
    reference: &Reference,
    events: &Events,
) -> Result<(), BuildError> {
    let output = || format!("to {}", reference.familiar());
    let repository = net
        .client()
        .repository(reference)
        .map_err(|error| BuildError::export(output(), error))?;
    let (repository, output) = (&repository, &output);
    // Whoever has the document has what it names.
    let there = net.wait(repository.resolve(&Version::of(reference)));
    if there.is_ok_and(|descriptor| descriptor.digest == shipment.root.digest) {
        let name = reference.familiar();
        events.send(EventKind::Note(format!("{name} is there already")));
        return Ok(());
    }
    // Platforms may share layers.
    let blobs: BTreeMap<&Digest, &LayerBlob> = shipment
        .images
        .iter()
        .flat_map(|image| &image.layers)
        .map(|blob| (&blob.descriptor.digest, blob))
        .collect();
    let blobs: Vec<&LayerBlob> = blobs.into_values().collect();
    for group in blobs.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = group
                .iter()
                .map(|blob| {
                    scope.spawn(move || push_blob(net, layers, repository, reference, blob, events))
                })
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(BuildError::request("a push ended in a panic")))
            })
        })?;
    }
    for image in &shipment.images {
        push_documents(
            net,
            repository,
            image,
            shipment.index.is_none().then_some(reference),
        )
        .map_err(|error| BuildError::export(output(), error))?;
    }
    if let Some((media_type, bytes)) = &shipment.index {
        let raw = RawManifest::new(media_type.clone(), bytes.clone());
        net.wait(repository.push_manifest(&raw, &Version::of(reference)))
            .map_err(|error| BuildError::export(output(), error))?;
    }
    events.send(EventKind::Note(format!("pushed {}", reference.familiar())));
    Ok(())
}

fn push_blob(
    net: &Net,
    layers: &Layers<'_>,
    repository: &Repository,
    reference: &Reference,
    blob: &LayerBlob,
    events: &Events,
) -> Result<(), BuildError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        BuildError::export(format!("to {}", reference.familiar()), error)
    };
    let digest = blob.descriptor.digest;
    if net
        .wait(repository.blob_exists(&digest))
        .map_err(|error| failed(error.into()))?
    {
        return Ok(());
    }
    let mount_from = mount_source(blob, reference);
    // What is not here is not fetched to be sent if the registry can take it over itself.
    if let (None, Some(from)) = (&blob.path, &mount_from)
        && net
            .wait(repository.mount_blob(&digest, from))
            .map_err(|error| failed(error.into()))?
    {
        return Ok(());
    }
    let path = match &blob.path {
        Some(path) => path.clone(),
        None => layers
            .download_blob(blob)
            .map_err(|error| failed(error.into()))?,
    };
    let file = Arc::new(File::open(&path).map_err(|error| failed(error.into()))?);
    let source = BlobSource::File { file, offset: 0 };
    net.wait(repository.push_blob(&blob.descriptor, &source, mount_from.as_deref()))
        .map_err(|error| failed(error.into()))?;
    events.send(EventKind::Note(format!("pushed layer {digest}")));
    Ok(())
}

/// A repository of the same registry that has the blob.
fn mount_source(blob: &LayerBlob, reference: &Reference) -> Option<String> {
    let names = blob
        .repositories
        .iter()
        .filter_map(|name| name.parse::<Reference>().ok());
    let mut same = names.filter(|other| other.registry() == reference.registry());
    same.find(|other| other.repository() != reference.repository())
        .map(|other| other.repository().to_string())
}

fn push_documents(
    net: &Net,
    repository: &Repository,
    image: &ShippedImage,
    tag: Option<&Reference>,
) -> Result<(), distribution::PushError> {
    let config = BlobSource::Bytes(Bytes::copy_from_slice(&image.config_bytes));
    net.wait(repository.push_blob(&image.config, &config, None))?;
    let Descriptor {
        media_type, digest, ..
    } = image.descriptor.clone();
    let version = tag.map_or(Version::Digest(digest), Version::of);
    net.wait(repository.push_manifest(
        &RawManifest::new(media_type, image.manifest.clone()),
        &version,
    ))
}
