//! Pushes images: blobs that the registry lacks, several at once, then the documents.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use distribution::{BlobSource, RawManifest, Repository, Version};
use oci::{Descriptor, Digest, Reference};

use super::shipment::{Shipment, ShippedImage};
use crate::cancel::Cancel;
use crate::error::{BuildError, StepError};
use crate::event::{EventKind, Events};
use crate::layers::{LayerBlob, Layers};
use crate::net::Net;

type Cause = Box<dyn std::error::Error + Send + Sync>;

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
    let sent = send_blob(
        net,
        layers,
        layers.cancel(),
        repository,
        Some(reference),
        blob,
    )
    .map_err(|error| BuildError::export(format!("to {}", reference.familiar()), error))?;
    if sent {
        let digest = blob.descriptor.digest;
        events.send(EventKind::Note(format!("pushed layer {digest}")));
    }
    Ok(())
}

/// Sends a blob to a repository unless it is there; `place` is the repository's name if it is on a
/// registry. What is not here is not fetched to be sent if the registry can take it over from
/// another repository. Returns whether bytes had to be sent.
///
/// # Errors
/// When the repository does not take it, nobody has it, or `stop` was raised.
pub(crate) fn send_blob(
    net: &Net,
    layers: &Layers<'_>,
    stop: &Cancel,
    repository: &Repository,
    place: Option<&Reference>,
    blob: &LayerBlob,
) -> Result<bool, Cause> {
    let digest = blob.descriptor.digest;
    let stopped = || Cause::from(StepError::Cancelled);
    let there = net.wait_unless(stop, repository.blob_exists(&digest));
    if there.ok_or_else(stopped)?? {
        return Ok(false);
    }
    let mount_from = place.and_then(|place| mount_source(blob, place));
    if let (None, Some(from)) = (&blob.path, &mount_from) {
        let mounted = net.wait_unless(stop, repository.mount_blob(&digest, from));
        if mounted.ok_or_else(stopped)?? {
            return Ok(false);
        }
    }
    let path = match &blob.path {
        Some(path) => path.clone(),
        None => layers.download_blob(blob)?,
    };
    let file = Arc::new(File::open(&path)?);
    let source = BlobSource::File { file, offset: 0 };
    let pushed = repository.push_blob(&blob.descriptor, &source, mount_from.as_deref());
    net.wait_unless(stop, pushed).ok_or_else(stopped)??;
    Ok(true)
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
