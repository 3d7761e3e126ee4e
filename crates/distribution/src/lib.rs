//! Repositories of images: on a registry, or in an OCI layout.
//!
//! A [`Client`] knows registries, credentials and patience; [`Client::repository`] and
//! [`Repository::layout`] give a [`Repository`], and everything else is asked of that. What is
//! fetched is bounded and verified: a [`BlobReader`] ends well only if length and digest are
//! right. What breaks is mended within [`RetryPolicy::deadline`].
//!
//! Reads no environment and looks for no files but those it is told of. Keeps no global state.

#![forbid(unsafe_code)]

mod auth;
mod challenge;
mod client;
mod config;
mod credentials;
mod endpoint;
mod error;
mod exchange;
mod http;
mod layout;
mod registry;
mod repository;
mod retry;

pub use client::{CheckError, Client};
pub use config::{ClientOptions, KeyPair, Registries, RegistryConfig, RetryNotice, RetryPolicy};
pub use credentials::{
    Credential, Credentials, CredentialsError, DockerConfig, DockerConfigEdit, Secret,
};
pub use endpoint::BadAddress;
pub use error::{DigestMismatch, RegistryFailure, RegistryMessage, RequestError};
pub use http::trusting;
pub use layout::LayoutError;
pub use registry::{BlobSource, Pushed};
pub use repository::{
    BlobReader, FetchError, FetchedImage, LayoutRepository, MAX_CONFIG, MAX_MANIFEST, PushError,
    RawManifest, RegistryRepository, Repository, Version,
};
