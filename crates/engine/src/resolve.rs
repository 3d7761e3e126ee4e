//! From references to images: the store first, then registries and layouts. What was found is
//! remembered in the store, so that the next build asks nobody.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use distribution::{FetchError, FetchedImage, Repository, Version};
use frontend::{Need, NotResolved, ResolvedImage};
use oci::{ChainId, Descriptor, Digest, Document, ImageConfig, Platform, Reference};
use store::{Image, ImageLayer, ImageManifest, LayerId, Store, StoreError};

use crate::error::registry_hint;
use crate::fetch::{layout_origin, registry_origin};
use crate::lock::lock;
use crate::net::Net;

/// Answers what lowering asks, and remembers the layers of what it found.
pub(crate) struct Resolver<'e> {
    store: &'e Store,
    net: &'e Net,
    /// Ask the registry even when the store has the tag.
    pull: bool,
    layouts: &'e BTreeMap<String, (PathBuf, Option<String>)>,
    found: Mutex<HashMap<Digest, Vec<ImageLayer>>>,
}

/// Why an image is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// Nobody has it, or nobody answers.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The registry's name makes no sense.
    #[error(transparent)]
    Address(#[from] distribution::BadAddress),
    /// The layout cannot be read.
    #[error(transparent)]
    Layout(#[from] distribution::LayoutError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image contradicts itself.
    #[error("{reference} has {layers} layers but its config names {diff_ids}")]
    Layers {
        /// The image.
        reference: String,
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// A document of the store is gone or damaged.
    #[error("the config of {reference} is not in the store any more: pull it again")]
    Config {
        /// The image.
        reference: String,
    },
}

impl<'e> Resolver<'e> {
    pub(crate) fn new(
        store: &'e Store,
        net: &'e Net,
        pull: bool,
        layouts: &'e BTreeMap<String, (PathBuf, Option<String>)>,
    ) -> Resolver<'e> {
        Resolver {
            store,
            net,
            pull,
            layouts,
            found: Mutex::default(),
        }
    }

    /// The network.
    pub(crate) fn net(&self) -> &'e Net {
        self.net
    }

    /// Answers several needs at once, in their order.
    pub(crate) fn answer(&self, needs: &[Need]) -> Vec<Result<ResolvedImage, NotResolved>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = needs
                .iter()
                .map(|need| scope.spawn(move || self.answer_one(need)))
                .collect();
            let unanswered = || NotResolved {
                message: "resolving it ended in a panic".into(),
                help: None,
            };
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(unanswered())))
                .collect()
        })
    }

    fn answer_one(&self, need: &Need) -> Result<ResolvedImage, NotResolved> {
        let found = match need {
            Need::Image {
                reference,
                platform,
            } => self.image(reference, platform),
            Need::Layout { context, platform } => self.layout(context, platform),
        };
        found.map_err(|error| not_resolved(&error))
    }

    fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, ResolveError> {
        if !self.pull
            && let Some(found) = self.stored(reference, platform)?
        {
            return Ok(found);
        }
        let image = fetch(self.store, self.net, reference, platform)?;
        self.remember(reference.clone(), &image)
    }

    /// The image of the store, if it has one for the platform.
    fn stored(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<ResolvedImage>, ResolveError> {
        let image = self.store.image(reference)?;
        let Some(manifest) = image.and_then(|image| select(image, platform)) else {
            return Ok(None);
        };
        self.renew_origins(reference, &manifest)?;
        self.remember(reference.clone(), &manifest).map(Some)
    }

    /// Notes a use of where a pulled image's layers can be had, and says it again if that was
    /// given up: without it they would be shipped in another form than the one they came in.
    fn renew_origins(
        &self,
        reference: &Reference,
        image: &ImageManifest,
    ) -> Result<(), ResolveError> {
        let was_built = |layer: &ImageLayer| layer.id.diff_id().is_none();
        if image.manifest.is_none() || image.layers.iter().any(was_built) {
            return Ok(());
        }
        for layer in &image.layers {
            if let Some(blob) = &layer.blob
                && self.store.origin(layer.id)?.is_none()
            {
                let origin = registry_origin(reference);
                self.store.add_origin(layer.id, blob, &origin)?;
            }
        }
        Ok(())
    }

    fn layout(&self, context: &str, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        let (path, version) = self
            .layouts
            .get(context)
            .ok_or_else(|| ResolveError::Config {
                reference: context.into(),
            })?;
        let repository = Repository::layout(path)?;
        let version = match version.as_deref() {
            Some(text) => match text.parse() {
                Ok(digest) => Version::Digest(digest),
                Err(_) => Version::Tag(text.into()),
            },
            None => only_tag(self.net, &repository)?,
        };
        let image = self.net.wait(repository.fetch_image(&version, platform))?;
        let manifest = keep(self.store, &image, context, &layout_origin(Path::new(path)))?;
        let name = format!("layout/{}", context.to_lowercase().replace([':', '@'], "-"));
        let reference = name.parse().map_err(|_| ResolveError::Config {
            reference: context.into(),
        })?;
        self.remember(reference, &manifest)
    }

    /// Takes an image for lowering, and its layers for the build.
    fn remember(
        &self,
        reference: Reference,
        image: &ImageManifest,
    ) -> Result<ResolvedImage, ResolveError> {
        let config = config(self.store, image, &reference)?;
        // An image that was built here has no manifest until somebody ships it.
        let manifest = image
            .manifest
            .as_ref()
            .map_or(image.config.digest, |manifest| manifest.digest);
        lock(&self.found).insert(manifest, image.layers.clone());
        Ok(ResolvedImage {
            reference,
            manifest,
            config: Arc::new(config.into_value()),
        })
    }

    fn image_layers(&self, manifest: &Digest) -> Vec<ImageLayer> {
        lock(&self.found).get(manifest).cloned().unwrap_or_default()
    }

    /// Names of the layers of an image that was resolved.
    pub(crate) fn layers(&self, manifest: &Digest) -> Vec<LayerId> {
        self.image_layers(manifest)
            .iter()
            .map(|layer| layer.id)
            .collect()
    }

    /// Names of the layers of all images that were resolved.
    pub(crate) fn all_layers(&self) -> HashSet<LayerId> {
        let found = lock(&self.found);
        found.values().flatten().map(|layer| layer.id).collect()
    }

    /// Digest of an image's whole tree; `None` for one without layers.
    pub(crate) fn chain_id(&self, manifest: &Digest) -> Option<ChainId> {
        ChainId::of(
            self.image_layers(manifest)
                .iter()
                .map(|layer| layer.diff_id),
        )
    }
}

/// The image of a platform.
pub(crate) fn select(image: Image, platform: &Platform) -> Option<ImageManifest> {
    platform.choose(image.manifests, |manifest| &manifest.platform)
}

/// The config of an image of the store.
pub(crate) fn config(
    store: &Store,
    image: &ImageManifest,
    reference: impl std::fmt::Display,
) -> Result<Document<ImageConfig>, ResolveError> {
    let missing = || ResolveError::Config {
        reference: reference.to_string(),
    };
    let bytes = store.document(&image.config.digest)?.ok_or_else(missing)?;
    Document::parse(bytes).map_err(|_| missing())
}

/// Fetches an image's documents from its registry and tags it in the store. Its layers are not
/// downloaded.
pub(crate) fn fetch(
    store: &Store,
    net: &Net,
    reference: &Reference,
    platform: &Platform,
) -> Result<ImageManifest, ResolveError> {
    let repository = net.client().repository(reference)?;
    let fetched = net.wait(repository.fetch_image(&Version::of(reference), platform))?;
    let manifest = keep(
        store,
        &fetched,
        &reference.to_string(),
        &registry_origin(reference),
    )?;
    tag(store, &fetched, &manifest, Some(reference))?;
    Ok(manifest)
}

/// Takes an image out of the layout or archive at `path` under a name, if it has one. Its layers stay there.
pub(crate) fn load(
    store: &Store,
    net: &Net,
    repository: &Repository,
    path: &Path,
    found: &Descriptor,
    platform: &Platform,
    reference: Option<&Reference>,
) -> Result<(Image, ImageManifest), ResolveError> {
    let version = Version::Digest(found.digest);
    let fetched = net.wait(repository.fetch_image(&version, platform))?;
    let name = || found.digest.to_string();
    let name = reference.map_or_else(name, ToString::to_string);
    let manifest = keep(store, &fetched, &name, &layout_origin(path))?;
    let image = tag(store, &fetched, &manifest, reference)?;
    Ok((image, manifest))
}

/// Makes what was fetched an image of the store.
fn tag(
    store: &Store,
    fetched: &FetchedImage,
    manifest: &ImageManifest,
    reference: Option<&Reference>,
) -> Result<Image, ResolveError> {
    let index = fetched
        .index
        .as_ref()
        .map(|_| fetched.root.descriptor.clone());
    if index.is_some() {
        store.put_blob(&fetched.root.bytes)?;
    }
    let mut image = Image {
        manifests: vec![manifest.clone()],
        index: index.clone(),
        annotations: oci::Annotations::new(),
        created: crate::unix_now(),
    };
    // The other platforms of the same index stay.
    let known = match reference {
        Some(reference) => store.image(reference)?,
        None => None,
    };
    if let Some(known) = known.filter(|known| index.is_some() && known.index == index) {
        image.manifests.extend(
            known
                .manifests
                .into_iter()
                .filter(|other| other.platform != manifest.platform),
        );
    }
    store.tag(&image, reference)?;
    Ok(image)
}

/// Keeps an image's documents, and where its layers can be had.
fn keep(
    store: &Store,
    image: &FetchedImage,
    name: &str,
    origin: &str,
) -> Result<ImageManifest, ResolveError> {
    let layers = &image.manifest.value().layers;
    let diff_ids = &image.config.value().rootfs.diff_ids;
    if layers.len() != diff_ids.len() {
        let (layers, diff_ids) = (layers.len(), diff_ids.len());
        return Err(ResolveError::Layers {
            reference: name.into(),
            layers,
            diff_ids,
        });
    }
    store.put_blob(image.config.bytes())?;
    store.put_blob(image.manifest.bytes())?;
    let mut kept = Vec::with_capacity(layers.len());
    for (descriptor, &diff_id) in layers.iter().zip(diff_ids) {
        let id = LayerId::shared(diff_id);
        store.add_origin(id, descriptor, origin)?;
        kept.push(ImageLayer {
            diff_id,
            id,
            blob: Some(descriptor.clone()),
        });
    }
    Ok(ImageManifest {
        platform: image.config.value().platform(),
        config: image.manifest.value().config.clone(),
        manifest: Some(image.descriptor.clone()),
        layers: kept,
        annotations: oci::Annotations::new(),
        descriptor_annotations: oci::Annotations::new(),
    })
}

fn only_tag(net: &Net, repository: &Repository) -> Result<Version, ResolveError> {
    let tags = net.wait(repository.tags())?;
    Ok(Version::Tag(
        tags.into_iter().next().unwrap_or_else(|| "latest".into()),
    ))
}

fn not_resolved(error: &ResolveError) -> NotResolved {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    NotResolved {
        message,
        help: registry_hint(error),
    }
}
