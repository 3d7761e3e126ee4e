//! Caches outside the store (`--cache-from`, `--cache-to`): results and links of steps in one
//! document, in a registry or an OCI layout, beside the blobs of their layers.
//!
//! The document is read when the store misses for the first time; layers that a hit needs are
//! registered as to be had from there, and come when something reads them. Layers are sent while
//! the build still runs, and the document when it is over. The form is described
//! in docs/formats/cache.md.

mod document;
mod export;
mod import;
mod seen;

use distribution::{Repository, Version};
use layer::Times;

pub(crate) use export::{ExportParts, Exports};
pub(crate) use import::RemoteCaches;
pub(crate) use seen::SeenResult;

use crate::error::StepError;
use crate::fetch::{layout_origin, registry_origin};
use crate::net::Net;
use crate::request::CacheImport;

/// Which manifest of a place is the cache.
fn version(place: &CacheImport) -> Version {
    match place {
        CacheImport::Registry(reference) => Version::of(reference),
        CacheImport::Local(_) => Version::Tag("latest".into()),
    }
}

/// How the store writes down that a place has a layer.
fn origin(place: &CacheImport) -> String {
    match place {
        CacheImport::Registry(reference) => registry_origin(reference),
        CacheImport::Local(path) => layout_origin(path),
    }
}

/// The place for people.
fn name(place: &CacheImport) -> String {
    match place {
        CacheImport::Registry(reference) => reference.familiar().to_string(),
        CacheImport::Local(path) => path.display().to_string(),
    }
}

/// The place to read from.
fn repository(net: &Net, place: &CacheImport) -> Result<Repository, StepError> {
    let failed = || format!("open the cache {}", name(place));
    match place {
        CacheImport::Registry(reference) => net
            .client()
            .repository(reference)
            .map_err(StepError::failed(failed())),
        CacheImport::Local(path) => Repository::layout(path).map_err(StepError::failed(failed())),
    }
}

/// The policy of layer times as the document names it: layers of one policy are of no use to a
/// build of another.
fn times_name(times: Times) -> String {
    match times {
        Times::Layer => "layer".into(),
        Times::Clamp(seconds) => format!("clamp {seconds}"),
        Times::Preserve => "preserve".into(),
    }
}
