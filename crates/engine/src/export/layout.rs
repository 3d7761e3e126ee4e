//! OCI layouts and docker archives: the same files, in a directory or in a tar.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci::{Annotations, Descriptor, Digest, Document, Index, MediaType, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Store;

use super::archive::{self, Files, Origin};
use super::document;
use super::files::stream;
use super::shipment::Shipment;
use crate::error::BuildError;
use crate::host_platform;
use crate::layers::Layers;
use crate::request::{Annotation, AnnotationLevel, Destination};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// An archive that was written before and is still there.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    content: Digest,
    len: u64,
    inode: u64,
    modified: (i64, i64),
}

const NOTE: &str = "archive";

/// An image that is ready, and what it is called in the archive.
pub(crate) struct Named<'s> {
    /// Its documents and blobs.
    pub(crate) shipment: &'s Shipment,
    /// Its names; it may have none.
    pub(crate) names: &'s [Reference],
}

/// Writes an image as an OCI layout.
///
/// # Errors
/// When the destination cannot be written.
pub(crate) fn write_oci(
    store: &Store,
    layers: &Layers<'_>,
    image: &Named<'_>,
    annotations: &[Annotation],
    (dest, tar): (&Destination, bool),
    stdout: Option<&File>,
) -> Result<(), BuildError> {
    let files = files(layers, std::slice::from_ref(image), annotations)?;
    match dest {
        Destination::Path(path) if !tar => write_directory(path, &files),
        dest => write_archive(store, dest, &files, stdout),
    }
}

/// Writes images as an archive for `docker load`, which is an OCI layout too. Readers of layouts
/// find every platform of an image in it, docker this machine's or else the first.
///
/// # Errors
/// When the destination cannot be written.
pub(crate) fn write_docker(
    store: &Store,
    layers: &Layers<'_>,
    images: &[Named<'_>],
    dest: &Destination,
    stdout: Option<&File>,
) -> Result<(), BuildError> {
    let mut files = files(layers, images, &[])?;
    let mut manifest = Vec::new();
    // What docker before 1.10 reads, by repository and tag.
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Named { shipment, names } in images {
        let native = host_platform().choose(&shipment.images, |image| &image.platform);
        let Some(image) = native.or(shipment.images.first()) else {
            continue;
        };
        let names: Vec<String> = names
            .iter()
            .map(|name| name.familiar().to_string())
            .collect();
        let blobs = image.layers.iter().map(|blob| &blob.descriptor.digest);
        if let Some(top) = blobs.clone().next_back() {
            let tagged = names.iter().filter_map(|name| name.rsplit_once(':'));
            for (repository, tag) in tagged {
                let tags = repositories.entry(repository.into()).or_default();
                tags.insert(tag.into(), top.hex());
            }
        }
        manifest.push(json!({
            "Config": blob_path(&image.config.digest),
            "RepoTags": names,
            "Layers": blobs.map(blob_path).collect::<Vec<_>>(),
        }));
    }
    let mut add = |name: &str, document: Value| {
        let bytes = document.to_string().into_bytes();
        files.insert(name.into(), Origin::Bytes(bytes.into()));
    };
    add("manifest.json", Value::Array(manifest));
    if !repositories.is_empty() {
        add("repositories", json!(repositories));
    }
    write_archive(store, dest, &files, stdout)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn files(
    layers: &Layers<'_>,
    images: &[Named<'_>],
    annotations: &[Annotation],
) -> Result<Files, BuildError> {
    let mut files = Files::new();
    for image in images {
        add_blobs(layers, image.shipment, &mut files)?;
    }
    files.insert("oci-layout".into(), Origin::Bytes(LAYOUT.into()));
    let given = document::annotations(annotations, AnnotationLevel::IndexDescriptor, None);
    let entries = images.iter().flat_map(|image| entries(image, &given));
    let index = Document::new(Index::new(MediaType::OciIndex, entries.collect()));
    files.insert("index.json".into(), Origin::Bytes(index.bytes().clone()));
    Ok(files)
}

fn add_blobs(
    layers: &Layers<'_>,
    shipment: &Shipment,
    files: &mut Files,
) -> Result<(), BuildError> {
    let mut add = |digest: &Digest, origin| files.insert(blob_path(digest), origin);
    for image in &shipment.images {
        let manifest = Origin::Bytes(image.manifest.clone());
        add(&image.descriptor.digest, manifest);
        add(
            &image.config.digest,
            Origin::Bytes(image.config_bytes.clone()),
        );
        for blob in &image.layers {
            let path = match &blob.path {
                Some(path) => path.clone(),
                None => layers
                    .download_blob(blob)
                    .map_err(|error| BuildError::export("the layout", error))?,
            };
            add(&blob.descriptor.digest, Origin::File(path));
        }
    }
    if let Some((_, bytes)) = &shipment.index {
        add(&shipment.root.digest, Origin::Bytes(bytes.clone()));
    }
    Ok(())
}

/// What `index.json` says of an image: one descriptor for each of its names.
fn entries(image: &Named<'_>, given: &Annotations) -> Vec<Descriptor> {
    let named = |own: Annotations| {
        let mut descriptor = image.shipment.root.clone();
        descriptor.annotations.extend(given.clone());
        descriptor.annotations.extend(own);
        descriptor
    };
    if image.names.is_empty() {
        return vec![named(Annotations::new())];
    }
    let names = image.names.iter().map(|name| {
        let tag = name.tag().unwrap_or("latest").to_string();
        named(Annotations::from([
            (REF_NAME.into(), tag),
            (FULL_NAME.into(), name.to_string()),
        ]))
    });
    names.collect()
}

fn write_directory(path: &Path, files: &Files) -> Result<(), BuildError> {
    let failed = |error: io::Error| BuildError::export(path.display().to_string(), error);
    for (name, origin) in files {
        let target = path.join(name);
        if name.starts_with("blobs/") && target.exists() {
            continue;
        }
        if let Origin::Bytes(bytes) = origin
            && fs::read(&target).is_ok_and(|there| there[..] == bytes[..])
        {
            continue;
        }
        fs::create_dir_all(target.parent().unwrap_or(path)).map_err(failed)?;
        // Complete under another name first: a reader never sees a part.
        let partial = target.with_extension("partial");
        match origin {
            Origin::Bytes(bytes) => fs::write(&partial, bytes).map_err(failed)?,
            Origin::File(from) => drop(fs::copy(from, &partial).map_err(failed)?),
        }
        fs::rename(&partial, &target).map_err(failed)?;
    }
    Ok(())
}

fn write_archive(
    store: &Store,
    dest: &Destination,
    files: &Files,
    stdout: Option<&File>,
) -> Result<(), BuildError> {
    match dest {
        Destination::Stdout => {
            let failed = |error| BuildError::export("to standard output", error);
            archive::write(files, stream(dest, stdout)?).map_err(failed)
        }
        Destination::Path(path) => write_file(store, path, files),
    }
}

/// Writes the archive, unless it is there as it was written the last time.
fn write_file(store: &Store, path: &Path, files: &Files) -> Result<(), BuildError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        BuildError::export(path.display().to_string(), error)
    };
    let absolute = std::path::absolute(path).map_err(|error| failed(error.into()))?;
    let subject = absolute.display().to_string();
    let content = identity(files);
    let before: Option<Written> = store
        .note(NOTE, &subject)
        .map_err(|error| failed(error.into()))?;
    if before.is_some() && before == written(&absolute, content).ok() {
        return Ok(());
    }
    let mut partial = absolute.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let result = File::create(&partial)
        .and_then(|file| archive::write(files, &file))
        .and_then(|()| fs::rename(&partial, &absolute));
    if let Err(error) = result {
        drop(fs::remove_file(&partial));
        return Err(failed(error.into()));
    }
    if let Ok(now) = written(&absolute, content) {
        drop(store.save_note(NOTE, &subject, &now));
    }
    Ok(())
}

fn identity(files: &Files) -> Digest {
    let mut hasher = oci::Hasher::sha256();
    for (name, origin) in files {
        hasher.update(name.as_bytes());
        if let (Origin::Bytes(bytes), false) = (origin, name.starts_with("blobs/")) {
            hasher.update(bytes);
        }
        hasher.update(b"\n");
    }
    hasher.finish()
}

fn written(path: &Path, content: Digest) -> io::Result<Written> {
    let metadata = fs::metadata(path)?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    Ok(Written {
        content,
        len: metadata.len(),
        inode: metadata.ino(),
        modified,
    })
}
