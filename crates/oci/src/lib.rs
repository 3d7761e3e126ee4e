//! The image vocabulary: digests, references, platforms, descriptors, manifests, indexes, image
//! configs, and the JSON that they are written in.
//!
//! Values only: nothing here opens a file, a socket, the clock or the environment. Texts become
//! values through `FromStr`, documents through [`Document::parse`]; a [`Document`] keeps the exact
//! bytes that were hashed, so what was fetched is never written anew.

#![forbid(unsafe_code)]

mod config;
mod digest;
mod document;
mod json;
mod manifest;
mod media_type;
pub mod path;
mod platform;
mod reference;
mod timestamp;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher};
pub use document::{Document, DocumentError, Encoding, ImageDocument};
pub use json::to_go_json;
pub use manifest::{Annotations, Descriptor, Index, Manifest};
pub use media_type::{Compression, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{Familiar, Reference, ReferenceError};
pub use timestamp::{Timestamp, TimestampError};
