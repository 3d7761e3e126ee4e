//! A repository: a place of manifests and blobs, whatever it is made of.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use oci::{
    Descriptor, Digest, Document, DocumentError, ImageConfig, Index, Manifest, MediaType, Platform,
    Reference,
};

use crate::error::RequestError;
use crate::layout::{Layout, LayoutBlob, LayoutError};
use crate::registry::{BlobSource, Pushed, Registry, RegistryBlob};

/// Bytes of the longest manifest or index that is read. Registries take 4 MiB at most.
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// Bytes of the longest image config that is read.
pub const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// Which manifest of a repository: displays as `:tag` or `@digest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that a tag names now.
    Tag(String),
    /// The one of this digest.
    Digest(Digest),
}

impl Version {
    /// What a reference asks for: its digest if it has one, else its tag.
    pub fn of(reference: &Reference) -> Version {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Version::Digest(digest),
            (None, tag) => Version::Tag(tag.unwrap_or("latest").into()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// A manifest or index as it was fetched: verified, not parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct RawManifest {
    /// Its type, digest and length.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl RawManifest {
    /// A manifest of ours.
    pub fn new(media_type: MediaType, bytes: Arc<[u8]>) -> RawManifest {
        RawManifest {
            descriptor: Descriptor::of(media_type, &bytes),
            bytes,
        }
    }
}

/// An image for one platform, without its layers.
#[derive(Clone, Debug)]
pub struct FetchedImage {
    /// What the version named: an index or a manifest.
    pub root: RawManifest,
    /// The index, if it named one.
    pub index: Option<Document<Index>>,
    /// Descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Document<Manifest>,
    /// The image config.
    pub config: Document<ImageConfig>,
}

/// A place of manifests and blobs.
#[derive(Clone, Debug)]
pub enum Repository {
    /// On a registry.
    Registry(RegistryRepository),
    /// An OCI layout: a folder, or an archive.
    Layout(LayoutRepository),
}

/// A repository on a registry. Made by [`crate::Client::repository`].
#[derive(Clone, Debug)]
pub struct RegistryRepository(pub(crate) Registry);

/// A repository in an OCI layout.
#[derive(Clone, Debug)]
pub struct LayoutRepository(Arc<Layout>);

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RequestError),
    /// The layout or archive did not give it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It came, but is not what it should be.
    #[error("read {digest}")]
    Document {
        /// Digest of what came.
        digest: Digest,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// The image is not for the platform.
    #[error("find an image for {wanted}; there are images for {}", list(offered))]
    NoPlatform {
        /// What was asked for.
        wanted: Box<Platform>,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// A manifest of another kind than an image needs.
    #[error("read {digest}: {media_type} is neither an image manifest nor an index")]
    NotAnImage {
        /// Digest of what came.
        digest: Digest,
        /// Its type.
        media_type: MediaType,
    },
    /// Longer than anything of its kind.
    #[error("fetch {digest}: it has {size} bytes, more than {limit}")]
    TooLong {
        /// What was asked for.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// Whoever was to get the bytes could not take them.
    #[error("store {digest}")]
    Sink {
        /// What was fetched.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
}

/// Why something could not be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry did not take it.
    #[error(transparent)]
    Registry(#[from] RequestError),
    /// The layout did not take it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl FetchError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            FetchError::Registry(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether there is no such thing, as opposed to: it could not be found out.
    pub fn is_not_found(&self) -> bool {
        match self {
            FetchError::Registry(error) => error.is_not_found(),
            FetchError::Layout(error) => {
                matches!(
                    error,
                    LayoutError::NoVersion { .. } | LayoutError::NoBlob { .. }
                )
            }
            _ => false,
        }
    }
}

impl PushError {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            PushError::Registry(error) => error.hint(),
            PushError::Layout(_) => None,
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        "no platform".into()
    } else {
        names.join(", ")
    }
}

impl Repository {
    /// An OCI layout: a folder, or a tar archive of one; archives of `docker save` too.
    ///
    /// # Errors
    /// When there is none at `path`.
    pub fn layout(path: &Path) -> Result<Repository, LayoutError> {
        Ok(Repository::Layout(LayoutRepository(Arc::new(
            Layout::open(path)?,
        ))))
    }

    /// What a layout has, each with its full name, where it says one. Nothing of a registry.
    ///
    /// # Errors
    /// When its index cannot be read.
    pub fn images(&self) -> Result<Vec<(Descriptor, Option<String>)>, LayoutError> {
        match self {
            Repository::Registry(_) => Ok(Vec::new()),
            Repository::Layout(layout) => layout.0.images(),
        }
    }

    /// An OCI layout in the folder `path`, made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn create_layout(path: &Path) -> Result<Repository, LayoutError> {
        Ok(Repository::Layout(LayoutRepository(Arc::new(
            Layout::create(path)?,
        ))))
    }

    /// Finds out what a version is now, with as little traffic as possible: the descriptor may
    /// be what the registry claims. [`Repository::fetch_manifest`] verifies it.
    ///
    /// # Errors
    /// When there is no such version, or the place does not answer.
    pub async fn resolve(&self, version: &Version) -> Result<Descriptor, FetchError> {
        match self {
            Repository::Registry(registry) => Ok(registry.0.resolve(version).await?),
            Repository::Layout(layout) => Ok(layout.0.resolve(version)?),
        }
    }

    /// Fetches a manifest or index, at most [`MAX_MANIFEST`] bytes. By digest it is verified;
    /// by tag it is compared with the digest that the registry claims, if it does.
    ///
    /// # Errors
    /// When there is no such version, the place does not answer, or the content is wrong.
    pub async fn fetch_manifest(&self, version: &Version) -> Result<RawManifest, FetchError> {
        match self {
            Repository::Registry(registry) => Ok(registry.0.fetch_manifest(version).await?),
            Repository::Layout(layout) => Ok(layout.0.manifest(version).await?),
        }
    }

    /// Fetches everything of an image but its layers.
    ///
    /// # Errors
    /// As [`Repository::fetch_manifest`]; when there is nothing for `platform`; when a document
    /// is not what it should be.
    pub async fn fetch_image(
        &self,
        version: &Version,
        platform: &Platform,
    ) -> Result<FetchedImage, FetchError> {
        let root = self.fetch_manifest(version).await?;
        let (index, raw) = if root.descriptor.media_type.is_index() {
            let index = document::<Index>(&root)?;
            let chosen = index
                .select(platform)
                .ok_or_else(|| FetchError::NoPlatform {
                    wanted: Box::new(platform.clone()),
                    offered: index.platforms().cloned().collect(),
                })?;
            let raw = self.fetch_manifest(&Version::Digest(chosen.digest)).await?;
            (Some(index), raw)
        } else {
            (None, root.clone())
        };
        if !raw.descriptor.media_type.is_manifest() {
            let Descriptor {
                digest, media_type, ..
            } = raw.descriptor;
            return Err(FetchError::NotAnImage { digest, media_type });
        }
        let manifest = document::<Manifest>(&raw)?;
        let digest = manifest.config.digest;
        let config = self.fetch_bytes(&manifest.config, MAX_CONFIG).await?;
        let config =
            Document::parse(config).map_err(|source| FetchError::Document { digest, source })?;
        Ok(FetchedImage {
            root,
            index,
            descriptor: raw.descriptor,
            manifest,
            config,
        })
    }

    /// Begins to fetch a blob. Nothing is asked for until [`BlobReader::next`] is.
    pub fn fetch_blob(&self, descriptor: &Descriptor) -> BlobReader {
        BlobReader(match self {
            Repository::Registry(registry) => {
                Source::Registry(Box::new(registry.0.fetch_blob(descriptor)))
            }
            Repository::Layout(layout) => Source::Layout(Box::new(layout.0.fetch_blob(descriptor))),
        })
    }

    /// Fetches a blob piece by piece into `sink`. Only when this returns `Ok` are the pieces
    /// together what `descriptor` describes: nothing may be published before.
    ///
    /// `sink` is called on an async thread and must not block for long.
    ///
    /// # Errors
    /// When the blob cannot be had, is not what it should be, or `sink` fails.
    pub async fn fetch_blob_to(
        &self,
        descriptor: &Descriptor,
        sink: &mut (dyn FnMut(Bytes) -> std::io::Result<()> + Send),
    ) -> Result<(), FetchError> {
        let digest = descriptor.digest;
        let mut blob = self.fetch_blob(descriptor);
        while let Some(bytes) = blob.next().await? {
            sink(bytes).map_err(|source| FetchError::Sink { digest, source })?;
        }
        Ok(())
    }

    /// Fetches a blob of at most `limit` bytes into memory.
    ///
    /// # Errors
    /// When the blob cannot be had, is not what it should be, or is longer than `limit`.
    pub async fn fetch_bytes(
        &self,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let Descriptor { digest, size, .. } = *descriptor;
        if size > limit {
            return Err(FetchError::TooLong {
                digest,
                size,
                limit,
            });
        }
        let mut whole = Vec::new();
        let mut blob = self.fetch_blob(descriptor);
        while let Some(bytes) = blob.next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// Whether a blob is there (mirrors are not asked).
    ///
    /// # Errors
    /// When the place does not answer.
    pub async fn blob_exists(&self, digest: &Digest) -> Result<bool, PushError> {
        match self {
            Repository::Registry(registry) => Ok(registry.0.blob_exists(digest).await?),
            Repository::Layout(layout) => Ok(layout.0.has_blob(digest)),
        }
    }

    /// Pushes a blob unless it is there. `mount_from` is another repository of the same registry
    /// that has it.
    ///
    /// # Errors
    /// When it is not taken, or `source` cannot be read.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&str>,
    ) -> Result<Pushed, PushError> {
        match self {
            Repository::Registry(registry) => {
                Ok(registry.0.push_blob(descriptor, source, mount_from).await?)
            }
            Repository::Layout(layout) => Ok(layout.0.push_blob(descriptor, source).await?),
        }
    }

    /// Takes a blob over from another repository of the same registry, without any bytes of it
    /// at hand. `false` when the place does not do that.
    ///
    /// # Errors
    /// When the place does not answer, or the repository may not be written.
    pub async fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, PushError> {
        match self {
            Repository::Registry(registry) => Ok(registry.0.mount_blob(digest, from).await?),
            Repository::Layout(_) => Ok(false),
        }
    }

    /// Pushes a manifest or index under a tag or its digest. What it names must be there.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn push_manifest(
        &self,
        manifest: &RawManifest,
        version: &Version,
    ) -> Result<(), PushError> {
        match self {
            Repository::Registry(registry) => {
                Ok(registry.0.push_manifest(manifest, version).await?)
            }
            Repository::Layout(layout) => Ok(layout.0.push_manifest(manifest, version).await?),
        }
    }

    /// Finds out early whether pushing will be allowed, by beginning an upload and giving it up.
    ///
    /// # Errors
    /// When it will not be, or the place does not answer.
    pub async fn check_push(&self) -> Result<(), PushError> {
        match self {
            Repository::Registry(registry) => Ok(registry.0.check_push().await?),
            Repository::Layout(layout) => Ok(layout.0.check_push()?),
        }
    }

    /// The tags that there are, in the place's own order.
    ///
    /// # Errors
    /// When the place does not answer.
    pub async fn tags(&self) -> Result<Vec<String>, FetchError> {
        match self {
            Repository::Registry(registry) => Ok(registry.0.tags().await?),
            Repository::Layout(layout) => Ok(layout.0.tags()?),
        }
    }
}

fn document<T: oci::ImageDocument>(raw: &RawManifest) -> Result<Document<T>, FetchError> {
    let digest = raw.descriptor.digest;
    Document::parse(raw.bytes.clone()).map_err(|source| FetchError::Document { digest, source })
}

/// A blob on its way, verified as it comes.
#[derive(Debug)]
pub struct BlobReader(Source);

#[derive(Debug)]
enum Source {
    Registry(Box<RegistryBlob>),
    Layout(Box<LayoutBlob>),
}

impl BlobReader {
    /// The next bytes, never empty. `None` comes only after every byte has come and the digest
    /// was right; until then nothing that was read may be published.
    ///
    /// # Errors
    /// When the rest cannot be had, or the content is not what it should be. Breaks of the
    /// connection are mended within.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        match &mut self.0 {
            Source::Registry(blob) => Ok(blob.next().await?),
            Source::Layout(blob) => Ok(blob.next().await?),
        }
    }
}
