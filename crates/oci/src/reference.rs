//! Names of images, with Docker's rules for what a short one means.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, DigestError};

/// The registry that a name without one means.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The name that Docker Hub had before, still met in credentials and scripts.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// Where the images of Docker Hub without a user's name are.
const OFFICIAL: &str = "library/";
/// The tag that a name without tag and digest means.
const DEFAULT_TAG: &str = "latest";
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// An image by registry, repository, and tag or digest or both.
///
/// Displays in full (`docker.io/library/busybox:latest`); [`Reference::familiar`] is the short
/// form. Both read back as the same reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Version {
    Tag(String),
    Digest(Digest),
    TagAndDigest(String, Digest),
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is nothing, or nothing but a tag or digest.
    #[error("image name {text:?} has no repository")]
    NoRepository {
        /// The whole text.
        text: String,
    },
    /// The repository has capital letters.
    #[error("image name {text:?} has capital letters in its repository; only small ones may be")]
    UpperCase {
        /// The whole text.
        text: String,
    },
    /// The registry is no host name or address with an optional port.
    #[error("image name {text:?}: {registry:?} is no host name or address of a registry")]
    BadRegistry {
        /// The whole text.
        text: String,
        /// The part before the first slash.
        registry: String,
    },
    /// The repository breaks the rules of names.
    #[error(
        "image name {text:?}: {component:?} is no part of a repository (small letters and digits, \
         separated by single `.`, one or two `_`, or any number of `-`)"
    )]
    BadRepository {
        /// The whole text.
        text: String,
        /// The part that breaks them.
        component: String,
    },
    /// The repository has more than 255 characters.
    #[error("image name {text:?} has a repository of more than 255 characters")]
    TooLong {
        /// The whole text.
        text: String,
    },
    /// The tag breaks the rules of tags.
    #[error(
        "image name {text:?}: {tag:?} is no tag (1 to 128 letters, digits, `_`, `.`, `-`, not \
         beginning with `.` or `-`)"
    )]
    BadTag {
        /// The whole text.
        text: String,
        /// The tag.
        tag: String,
    },
    /// What follows `@` is no digest.
    #[error("image name {text:?} has a bad digest")]
    BadDigest {
        /// The whole text.
        text: String,
        /// Why.
        source: DigestError,
    },
    /// Sixty-four hexadecimal digits: an image's id, not its name.
    #[error("image name {text:?} is an image's id; write sha256:… after a name and `@`")]
    LooksLikeId {
        /// The whole text.
        text: String,
    },
}

impl Reference {
    /// Host name or address of the registry, with its port if any: `docker.io`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository on its registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if it has one. A reference with a digest may also have a tag, which then is for
    /// people: the digest decides.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) | Version::TagAndDigest(tag, _) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest, if it has one.
    pub fn digest(&self) -> Option<Digest> {
        match &self.version {
            Version::Digest(digest) | Version::TagAndDigest(_, digest) => Some(*digest),
            Version::Tag(_) => None,
        }
    }

    /// The same repository by `digest` alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            version: Version::Digest(digest),
            ..self.clone()
        }
    }

    /// The same repository by `tag` alone.
    ///
    /// # Errors
    /// When `tag` breaks the rules of tags.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        check_tag(tag, tag)?;
        Ok(Reference {
            version: Version::Tag(tag.into()),
            ..self.clone()
        })
    }

    /// Registry and repository without tag and digest: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Whether a text that parses says no version, so that parsing gave it the tag `latest`: the
    /// commands that take repositories mean all their tags by it.
    pub fn is_repository(text: &str) -> bool {
        let last = text.rsplit('/').next().unwrap_or(text);
        !last.contains([':', '@'])
    }

    /// The form that people write: `busybox:latest`.
    pub fn familiar(&self) -> Familiar<'_> {
        Familiar(self)
    }
}

/// Displays a [`Reference`] as people write it, Docker Hub's parts left out where they can be.
#[derive(Clone, Copy, Debug)]
pub struct Familiar<'a>(&'a Reference);

impl fmt::Display for Familiar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Familiar(reference) = self;
        if reference.registry != DEFAULT_REGISTRY {
            return reference.fmt(f);
        }
        let repository = reference.repository.as_str();
        let short = repository
            .strip_prefix(OFFICIAL)
            .filter(|rest| !rest.contains('/') && !is_id(rest))
            .unwrap_or(repository);
        // A user's name may look like a host; then the short form would mean another image.
        if short
            .split_once('/')
            .is_some_and(|(first, _)| is_registry(first))
        {
            return reference.fmt(f);
        }
        write!(f, "{short}{}", reference.version)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
            Version::TagAndDigest(tag, digest) => write!(f, ":{tag}@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        if is_id(text) {
            return Err(ReferenceError::LooksLikeId { text: text.into() });
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::BadDigest {
                    text: text.into(),
                    source,
                })?;
                (named, Some(digest))
            }
            None => (text, None),
        };
        let (registry, rest) = match named.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (DEFAULT_REGISTRY, named),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_registry(registry, text)?;
        if let Some(tag) = tag {
            check_tag(tag, text)?;
        }
        let registry = if registry == LEGACY_REGISTRY {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            check_repository(path, text)?;
            format!("{OFFICIAL}{path}")
        } else {
            path.into()
        };
        check_repository(&repository, text)?;
        let version = match (tag, digest) {
            (Some(tag), Some(digest)) => Version::TagAndDigest(tag.into(), digest),
            (Some(tag), None) => Version::Tag(tag.into()),
            (None, Some(digest)) => Version::Digest(digest),
            (None, None) => Version::Tag(DEFAULT_TAG.into()),
        };
        Ok(Reference {
            registry: registry.into(),
            repository,
            version,
        })
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Whether the part before the first slash is a registry rather than a user of Docker Hub.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Whether a text is what `docker images` shows as an image's full id.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_registry(registry: &str, text: &str) -> Result<(), ReferenceError> {
    let (host, port) = match registry
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, rest)) => {
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            (
                is_address,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':'))
                },
            )
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host.split('.').all(is_host_label), Some(Some(port))),
            None => (registry.split('.').all(is_host_label), None),
        },
    };
    let port_fits = match port {
        None => true,
        Some(Some(port)) => !port.starts_with('+') && port.parse::<u16>().is_ok(),
        Some(None) => false,
    };
    if host && port_fits {
        return Ok(());
    }
    Err(ReferenceError::BadRegistry {
        text: text.into(),
        registry: registry.into(),
    })
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn check_repository(path: &str, text: &str) -> Result<(), ReferenceError> {
    let text = text.to_string();
    if path.is_empty() {
        return Err(ReferenceError::NoRepository { text });
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase { text });
    }
    if path.len() > MAX_REPOSITORY {
        return Err(ReferenceError::TooLong { text });
    }
    match path
        .split('/')
        .find(|component| !is_path_component(component))
    {
        Some(component) => Err(ReferenceError::BadRepository {
            text,
            component: component.into(),
        }),
        None => Ok(()),
    }
}

/// Runs of small letters and digits with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = Vec::new();
    let mut inside = false;
    for byte in component.bytes() {
        if is_alphanumeric(byte) {
            let joins = matches!(separator[..], [] | [b'.'] | [b'_'] | [b'_', b'_'])
                || separator.iter().all(|b| *b == b'-');
            if !joins {
                return false;
            }
            separator.clear();
            inside = true;
        } else if inside && matches!(byte, b'.' | b'_' | b'-') {
            separator.push(byte);
        } else {
            return false;
        }
    }
    inside && separator.is_empty()
}

fn check_tag(tag: &str, text: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = (1..=MAX_TAG).contains(&tag.len())
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
        && tag.bytes().next().is_some_and(word);
    if fits {
        return Ok(());
    }
    Err(ReferenceError::BadTag {
        text: text.into(),
        tag: tag.into(),
    })
}
