//! A layout in a tar archive, read in place: the archive is walked once, its blobs stay where
//! they are.
//!
//! Archives of `docker save` before Docker 25 are no layouts: a `manifest.json` names a config
//! and uncompressed layers by path. For each of its images a manifest is made here.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci::path::clamp;
use oci::{Compression, Descriptor, Digest, Document, ImageConfig, Index, Manifest, MediaType};
use serde::Deserialize;

use super::{Content, LayoutError, REF_NAME, empty_index};
use crate::repository::MAX_CONFIG;

/// More than any `index.json` or `manifest.json` needs.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;
/// More than any archive of images has.
const MAX_MEMBERS: usize = 100_000;

#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: Arc<File>,
    blobs: HashMap<Digest, Member>,
    index: Document<Index>,
}

/// Where a blob of the archive is.
#[derive(Clone, Debug)]
enum Member {
    At(Extent),
    /// Made here.
    Made(Bytes),
}

/// A range of the archive.
#[derive(Clone, Copy, Debug)]
struct Extent {
    offset: u64,
    length: u64,
}

/// An image of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Archive, LayoutError> {
        let failed = |action, source| LayoutError::Io {
            action,
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(|source| failed("open", source))?;
        let mut magic = [0; 4];
        let read = file
            .read_at(&mut magic, 0)
            .map_err(|source| failed("read", source))?;
        if magic[..read].starts_with(&[0x1f, 0x8b])
            || magic[..read].starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        {
            return Err(not_a_layout(path, "it is compressed; decompress it first"));
        }
        let members = walk(&file).map_err(|source| failed("read", source))?;
        let mut archive = Archive {
            path: path.into(),
            file: Arc::new(file),
            blobs: HashMap::new(),
            index: Document::new(empty_index()),
        };
        archive
            .blobs
            .extend(members.iter().filter_map(|(name, extent)| {
                let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
                Some((
                    format!("{algorithm}:{hex}").parse().ok()?,
                    Member::At(*extent),
                ))
            }));
        if let Some(extent) = members.get("index.json") {
            let bytes = archive.read("index.json", *extent, MAX_DOCUMENT)?;
            archive.index = archive.document("index.json", bytes)?;
        } else if let Some(extent) = members.get("manifest.json") {
            archive.adopt_saved(*extent, &members)?;
        } else {
            return Err(not_a_layout(
                path,
                "it has neither index.json nor manifest.json",
            ));
        }
        Ok(archive)
    }

    pub(super) fn index(&self) -> Document<Index> {
        self.index.clone()
    }

    pub(super) fn content(&self, digest: &Digest) -> Result<Content, LayoutError> {
        match self.blobs.get(digest) {
            Some(Member::At(extent)) => Ok(Content::Range {
                file: self.file.clone(),
                offset: extent.offset,
                length: extent.length,
            }),
            Some(Member::Made(bytes)) => Ok(Content::Memory(bytes.clone())),
            None => Err(LayoutError::NoBlob {
                path: self.path.clone(),
                digest: *digest,
            }),
        }
    }

    /// Makes a layout of what `docker save` wrote.
    fn adopt_saved(
        &mut self,
        extent: Extent,
        members: &HashMap<String, Extent>,
    ) -> Result<(), LayoutError> {
        let bytes = self.read("manifest.json", extent, MAX_DOCUMENT)?;
        let images: Vec<Saved> = serde_json::from_slice(&bytes).map_err(|error| {
            not_a_layout(
                &self.path,
                &format!("its manifest.json is not docker's: {error}"),
            )
        })?;
        let mut index = empty_index();
        for image in images {
            let descriptor = self.adopt_image(&image, members)?;
            let names = image.repo_tags.unwrap_or_default();
            if names.is_empty() {
                index.manifests.push(descriptor.clone());
            }
            for name in names {
                let mut named = descriptor.clone();
                let tag = name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag);
                named.annotations.insert(REF_NAME.into(), tag.into());
                named
                    .annotations
                    .insert(super::IMAGE_NAME.into(), name.clone());
                index.manifests.push(named);
            }
        }
        self.index = Document::new(index);
        Ok(())
    }

    fn adopt_image(
        &mut self,
        image: &Saved,
        members: &HashMap<String, Extent>,
    ) -> Result<Descriptor, LayoutError> {
        let find = |name: &str| {
            let problem = format!("it has no {name:?}, which its manifest.json names");
            members
                .get(name)
                .copied()
                .ok_or_else(|| not_a_layout(&self.path, &problem))
        };
        let bytes = self.read(&image.config, find(&image.config)?, MAX_CONFIG)?;
        let config: Document<ImageConfig> = self.document(&image.config, bytes.clone())?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            let problem = "its manifest.json and its image config differ in the number of layers";
            return Err(not_a_layout(&self.path, problem));
        }
        let mut layers = Vec::new();
        let mut found = Vec::new();
        for (diff_id, name) in diff_ids.iter().zip(&image.layers) {
            let extent = find(name)?;
            let media_type = MediaType::DockerLayer(Compression::None);
            layers.push(Descriptor::new(media_type, diff_id.digest(), extent.length));
            found.push((diff_id.digest(), Member::At(extent)));
        }
        let config = config.descriptor(MediaType::DockerConfig);
        found.push((config.digest, Member::Made(bytes.into())));
        let manifest = Manifest::new(MediaType::DockerManifest, config, layers);
        let manifest = Document::new(manifest);
        found.push((
            manifest.digest(),
            Member::Made(manifest.bytes().to_vec().into()),
        ));
        self.blobs.extend(found);
        Ok(manifest.descriptor(MediaType::DockerManifest))
    }

    fn read(&self, name: &str, extent: Extent, limit: u64) -> Result<Vec<u8>, LayoutError> {
        if extent.length > limit {
            return Err(not_a_layout(
                &self.path,
                &format!("its {name} is unreasonably long"),
            ));
        }
        // At most `limit`, which fits.
        let mut bytes = vec![0; extent.length as usize];
        match self.file.read_exact_at(&mut bytes, extent.offset) {
            Ok(()) => Ok(bytes),
            Err(source) => Err(LayoutError::Io {
                action: "read",
                path: self.path.clone(),
                source,
            }),
        }
    }

    fn document<T: oci::ImageDocument>(
        &self,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<Document<T>, LayoutError> {
        Document::parse(bytes).map_err(|source| LayoutError::Document {
            path: self.path.clone(),
            name: name.into(),
            source,
        })
    }
}

/// Every regular file of the archive by its path, links followed.
fn walk(file: &File) -> std::io::Result<HashMap<String, Extent>> {
    let mut members = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(file);
    for (count, entry) in archive.entries_with_seek()?.enumerate() {
        let entry = entry?;
        if count >= MAX_MEMBERS {
            return Err(std::io::Error::other("the archive has too many members"));
        }
        let path = clamp(&entry.path()?.to_string_lossy());
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let extent = Extent {
                    offset: entry.raw_file_position(),
                    length: entry.size(),
                };
                members.insert(path, extent);
            }
            kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                let target = entry.link_name()?.unwrap_or_default();
                let target = target.to_string_lossy();
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = match kind {
                    tar::EntryType::Symlink => clamp(&format!("{folder}/{target}")),
                    _ => clamp(&target),
                };
                links.push((path, target));
            }
            _ => {}
        }
    }
    // Docker's links lead to files at once, never to links.
    for (path, target) in links {
        if let Some(extent) = members.get(&target).copied() {
            members.insert(path, extent);
        }
    }
    Ok(members)
}

fn not_a_layout(path: &Path, problem: &str) -> LayoutError {
    LayoutError::NotALayout {
        path: path.into(),
        problem: problem.into(),
    }
}
