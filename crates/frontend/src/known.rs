//! Questions that lowering asks in its return value, and the answers that its caller found.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci::{Digest, ImageConfig, Platform, Reference};

/// Something about the world that lowering has to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Manifest and config of an image, for the best match of a platform.
    Image {
        /// The image.
        reference: Reference,
        /// The platform.
        platform: Platform,
    },
    /// The same of the image that a named context's OCI layout holds.
    Layout {
        /// Name of the context, as given.
        context: String,
        /// The platform.
        platform: Platform,
    },
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Need::Image {
                reference,
                platform,
            } => write!(f, "{reference} for {platform}"),
            Need::Layout { context, platform } => write!(f, "context {context} for {platform}"),
        }
    }
}

/// The answer to a [`Need`].
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// The image's name; for a layout whatever the caller calls it.
    pub reference: Reference,
    /// Digest of the platform's manifest.
    pub manifest: Digest,
    /// The config that this manifest names.
    pub config: Arc<ImageConfig>,
}

/// Why a [`Need`] could not be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotResolved {
    /// The cause in one line.
    pub message: String,
    /// What to do about it, if somebody knows.
    pub help: Option<String>,
}

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub struct Known {
    answers: BTreeMap<Need, Result<ResolvedImage, NotResolved>>,
}

impl Known {
    /// Nothing is known.
    pub fn new() -> Known {
        Known::default()
    }

    /// Remembers an answer; a later one replaces it.
    pub fn insert(&mut self, need: Need, answer: Result<ResolvedImage, NotResolved>) {
        self.answers.insert(need, answer);
    }

    /// The answer, if there is one.
    pub fn get(&self, need: &Need) -> Option<&Result<ResolvedImage, NotResolved>> {
        self.answers.get(need)
    }
}
