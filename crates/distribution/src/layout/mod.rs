//! OCI layouts (image-spec, image-layout.md) as repositories: folders, which can be written, and
//! tar archives of them, which are read in place. Archives of `docker save` are read as layouts.
//!
//! ```text
//! oci-layout                  {"imageLayoutVersion":"1.0.0"}
//! index.json                  names of manifests, as annotations of their descriptors
//! blobs/ALGORITHM/HEX         manifests, configs, layers
//! ```

mod archive;
mod folder;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oci::{Descriptor, Digest, Document, DocumentError, Hasher, Index, MediaType};

use crate::error::DigestMismatch;
use crate::registry::{BlobSource, Pushed, read_range};
use crate::repository::{MAX_MANIFEST, RawManifest, Version};
use archive::Archive;
use folder::Folder;

/// Annotation with the name of a manifest (image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same, as BuildKit and containerd write it beside: the full reference.
const IMAGE_NAME: &str = "io.containerd.image.name";
const LATEST: &str = "latest";
const CHUNK: u64 = 256 * 1024;

/// Why a layout could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no layout there.
    #[error("open {}: {problem}", path.display())]
    NotALayout {
        /// The folder or archive.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// A document of the layout cannot be read.
    #[error("read {name} in {}", path.display())]
    Document {
        /// The folder or archive.
        path: PathBuf,
        /// Which document.
        name: String,
        /// Why.
        source: DocumentError,
    },
    /// It has no manifest of that tag or digest.
    #[error("find {version} in {}; it has {}", path.display(), list(tags))]
    NoVersion {
        /// The folder or archive.
        path: PathBuf,
        /// What was asked for.
        version: Version,
        /// The tags that it has.
        tags: Vec<String>,
    },
    /// It has no such blob.
    #[error("find the blob {digest} in {}", path.display())]
    NoBlob {
        /// The folder or archive.
        path: PathBuf,
        /// What was asked for.
        digest: Digest,
    },
    /// A blob hashes to something else than its name says.
    #[error("read a blob in {}: it {mismatch}", path.display())]
    WrongDigest {
        /// The folder or archive.
        path: PathBuf,
        /// What was asked for and what is there.
        mismatch: Box<DigestMismatch>,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("read the blob {digest} in {}: it has {got} bytes, expected {expected}", path.display())]
    WrongSize {
        /// The folder or archive.
        path: PathBuf,
        /// What was asked for.
        digest: Digest,
        /// What the descriptor says.
        expected: u64,
        /// What is there.
        got: u64,
    },
    /// Archives are only read.
    #[error("write to {}: it is an archive, only folders can be written to", path.display())]
    ReadOnly {
        /// The archive.
        path: PathBuf,
    },
}

fn list(tags: &[String]) -> String {
    if tags.is_empty() {
        "no tags".into()
    } else {
        format!("the tags {}", tags.join(", "))
    }
}

/// An OCI layout.
#[derive(Debug)]
pub(crate) struct Layout {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(Folder),
    Archive(Box<Archive>),
}

/// Where a blob's bytes are.
#[derive(Clone, Debug)]
enum Content {
    Memory(Bytes),
    Range {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Range { length, .. } => *length,
        }
    }
}

impl Layout {
    pub(crate) fn open(path: &Path) -> Result<Layout, LayoutError> {
        let place = if path.is_dir() {
            Place::Folder(Folder::open(path)?)
        } else {
            Place::Archive(Box::new(Archive::open(path)?))
        };
        Ok(Layout {
            path: path.into(),
            place,
        })
    }

    /// Makes an empty layout in a folder that may exist; one that is a layout stays as it is.
    pub(crate) fn create(path: &Path) -> Result<Layout, LayoutError> {
        Ok(Layout {
            path: path.into(),
            place: Place::Folder(Folder::create(path)?),
        })
    }

    pub(crate) fn resolve(&self, version: &Version) -> Result<Descriptor, LayoutError> {
        let index = self.index()?;
        let found = match version {
            Version::Digest(digest) => index
                .manifests
                .iter()
                .find(|manifest| manifest.digest == *digest)
                .cloned(),
            Version::Tag(tag) => named(&index, tag).cloned(),
        };
        match (found, version) {
            (Some(descriptor), _) => Ok(descriptor),
            (None, Version::Digest(digest)) if self.has_blob(digest) => self.inner(digest),
            _ => Err(LayoutError::NoVersion {
                path: self.path.clone(),
                version: version.clone(),
                tags: self.tags()?,
            }),
        }
    }

    pub(crate) async fn manifest(&self, version: &Version) -> Result<RawManifest, LayoutError> {
        let descriptor = self.resolve(version)?;
        let (digest, size) = (descriptor.digest, descriptor.size);
        let limit = MAX_MANIFEST as u64;
        if size > limit {
            let path = self.path.clone();
            return Err(LayoutError::WrongSize {
                path,
                digest,
                expected: limit,
                got: size,
            });
        }
        let mut blob = self.fetch_blob(&descriptor);
        let mut bytes = Vec::new();
        while let Some(chunk) = blob.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(RawManifest {
            descriptor,
            bytes: Arc::from(bytes),
        })
    }

    pub(crate) fn fetch_blob(&self, descriptor: &Descriptor) -> LayoutBlob {
        LayoutBlob {
            path: self.path.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            content: self.content(&descriptor.digest),
            offset: 0,
            hasher: Hasher::like(&descriptor.digest),
        }
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.content(digest).is_ok()
    }

    pub(crate) async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: &BlobSource,
    ) -> Result<Pushed, LayoutError> {
        let folder = self.writable()?;
        if self.has_blob(&descriptor.digest) {
            return Ok(Pushed::Existed);
        }
        let content = match source {
            BlobSource::Bytes(bytes) => Content::Memory(bytes.clone()),
            BlobSource::File { file, offset } => Content::Range {
                file: file.clone(),
                offset: *offset,
                length: descriptor.size,
            },
        };
        let mut blob = LayoutBlob {
            content: Ok(content),
            ..self.fetch_blob(descriptor)
        };
        let mut writer = folder.writer(&descriptor.digest)?;
        while let Some(chunk) = blob.next().await? {
            writer = blocking(move || writer.write(&chunk).map(|()| writer)).await?;
        }
        writer.commit()?;
        Ok(Pushed::Uploaded)
    }

    pub(crate) async fn push_manifest(
        &self,
        manifest: &RawManifest,
        version: &Version,
    ) -> Result<(), LayoutError> {
        let folder = self.writable()?.clone();
        let (manifest, version) = (manifest.clone(), version.clone());
        // Waits for whoever else changes the index.
        blocking(move || {
            let mut writer = folder.writer(&manifest.descriptor.digest)?;
            writer.write(&manifest.bytes)?;
            writer.commit()?;
            folder.change_index(|index| add(index, &manifest.descriptor, &version))
        })
        .await
    }

    pub(crate) fn check_push(&self) -> Result<(), LayoutError> {
        self.writable().map(|_| ())
    }

    pub(crate) fn tags(&self) -> Result<Vec<String>, LayoutError> {
        let names = |manifest: &Descriptor| manifest.annotations.get(REF_NAME).cloned();
        Ok(self.index()?.manifests.iter().filter_map(names).collect())
    }

    /// What the index lists, each with its full name as far as the index says one. Docker's
    /// archives name a tag and a repository, layouts often only a tag.
    pub(crate) fn images(&self) -> Result<Vec<(Descriptor, Option<String>)>, LayoutError> {
        let name = |manifest: &Descriptor| {
            let reference = manifest.annotations.get(REF_NAME);
            let whole = reference.filter(|name| name.contains(['/', ':']));
            manifest.annotations.get(IMAGE_NAME).or(whole).cloned()
        };
        let index = self.index()?;
        let manifests = index.manifests.iter();
        Ok(manifests
            .map(|manifest| (manifest.clone(), name(manifest)))
            .collect())
    }

    fn writable(&self) -> Result<&Folder, LayoutError> {
        match &self.place {
            Place::Folder(folder) => Ok(folder),
            Place::Archive(_) => Err(LayoutError::ReadOnly {
                path: self.path.clone(),
            }),
        }
    }

    fn index(&self) -> Result<Document<Index>, LayoutError> {
        match &self.place {
            Place::Folder(folder) => folder.index(),
            Place::Archive(archive) => Ok(archive.index()),
        }
    }

    fn content(&self, digest: &Digest) -> Result<Content, LayoutError> {
        match &self.place {
            Place::Folder(folder) => folder.content(digest),
            Place::Archive(archive) => archive.content(digest),
        }
    }

    /// The descriptor of a manifest that only an index below the root names.
    fn inner(&self, digest: &Digest) -> Result<Descriptor, LayoutError> {
        let missing = || LayoutError::NoBlob {
            path: self.path.clone(),
            digest: *digest,
        };
        let mut indexes: Vec<Document<Index>> = vec![self.index()?];
        // Indexes may hold indexes; a file of ours ends the walk, so a depth is enough.
        for _ in 0..4 {
            let mut below = Vec::new();
            for manifest in indexes.iter().flat_map(|index| &index.manifests) {
                if manifest.digest == *digest {
                    return Ok(manifest.clone());
                }
                if manifest.media_type.is_index() && manifest.size <= MAX_MANIFEST as u64 {
                    below.push(self.read_index(&manifest.digest)?);
                }
            }
            indexes = below;
        }
        Err(missing())
    }

    fn read_index(&self, digest: &Digest) -> Result<Document<Index>, LayoutError> {
        let bytes = read_content(&self.content(digest)?).map_err(|source| LayoutError::Io {
            action: "read a blob in",
            path: self.path.clone(),
            source,
        })?;
        Document::parse(bytes).map_err(|source| LayoutError::Document {
            path: self.path.clone(),
            name: digest.to_string(),
            source,
        })
    }
}

/// Does what may take a while on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The manifest that a tag names. Where nobody gave names, `latest` is the only one there is.
fn named<'a>(index: &'a Index, tag: &str) -> Option<&'a Descriptor> {
    let full = format!(":{tag}");
    let by = |key: &str, fits: &dyn Fn(&str) -> bool| {
        let mut manifests = index.manifests.iter();
        manifests.find(|manifest| manifest.annotations.get(key).is_some_and(|name| fits(name)))
    };
    by(REF_NAME, &|name| name == tag)
        .or_else(|| by(REF_NAME, &|name| name.ends_with(&full)))
        .or_else(|| by(IMAGE_NAME, &|name| name.ends_with(&full)))
        .or_else(|| match &index.manifests[..] {
            [only] if tag == LATEST => Some(only),
            _ => None,
        })
}

/// Names a manifest in an index; what had the name before loses it.
fn add(index: &mut Index, descriptor: &Descriptor, version: &Version) {
    let mut entry = descriptor.clone();
    match version {
        Version::Tag(tag) => {
            let holds = |other: &Descriptor| other.annotations.get(REF_NAME) == Some(tag);
            index.manifests.retain(|other| !holds(other));
            entry.annotations.insert(REF_NAME.into(), tag.clone());
        }
        Version::Digest(digest) => {
            if index.manifests.iter().any(|other| other.digest == *digest) {
                return;
            }
        }
    }
    index.manifests.push(entry);
}

fn read_content(content: &Content) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    match content {
        Content::Memory(bytes) => Ok(bytes.to_vec()),
        Content::Range {
            file,
            offset,
            length,
        } => {
            let length = usize::try_from(*length).map_err(io::Error::other)?;
            let mut bytes = vec![0; length.min(MAX_MANIFEST)];
            file.read_exact_at(&mut bytes, *offset)?;
            Ok(bytes)
        }
    }
}

/// The index of a layout that holds nothing.
fn empty_index() -> Index {
    Index {
        media_type: Some(MediaType::OciIndex),
        ..Index::new(MediaType::OciIndex, Vec::new())
    }
}

/// A blob of a layout on its way, verified as it comes.
#[derive(Debug)]
pub(crate) struct LayoutBlob {
    path: PathBuf,
    digest: Digest,
    size: u64,
    content: Result<Content, LayoutError>,
    offset: u64,
    hasher: Hasher,
}

impl LayoutBlob {
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LayoutError> {
        let content = match &self.content {
            Ok(content) => content.clone(),
            Err(_) => {
                let again = LayoutError::NoBlob {
                    path: self.path.clone(),
                    digest: self.digest,
                };
                return std::mem::replace(&mut self.content, Err(again)).map(|_| None);
            }
        };
        if content.length() != self.size {
            return Err(LayoutError::WrongSize {
                path: self.path.clone(),
                digest: self.digest,
                expected: self.size,
                got: content.length(),
            });
        }
        // At most CHUNK, which fits.
        let length = CHUNK.min(self.size - self.offset) as usize;
        if length == 0 {
            return self.verify().map(|()| None);
        }
        let chunk = match content {
            Content::Memory(bytes) => {
                let from = self.offset as usize;
                bytes.slice(from..from + length)
            }
            Content::Range { file, offset, .. } => {
                let read = read_range(file, offset + self.offset, length).await;
                let path = &self.path;
                read.map_err(|source| LayoutError::Io {
                    action: "read a blob in",
                    path: path.clone(),
                    source,
                })?
            }
        };
        self.hasher.update(&chunk);
        self.offset += length as u64;
        Ok(Some(chunk))
    }

    fn verify(&self) -> Result<(), LayoutError> {
        let got = self.hasher.clone().finish();
        if got == self.digest {
            return Ok(());
        }
        let path = self.path.clone();
        let mismatch = Box::new(DigestMismatch {
            expected: self.digest,
            got,
        });
        Err(LayoutError::WrongDigest { path, mismatch })
    }
}
