//! The state directory: layers, blobs, cache tables, images, cache mounts, leases, collection.
//!
//! This is the only crate that knows the disk format (`docs/formats/store.md` draws it). It is
//! synchronous, knows no vertex and no registry, and starts nothing.
//!
//! Any number of processes share a store, and none of them is in charge:
//!
//! * Everything is made in a private directory below `tmp/` and renamed into place when it is
//!   complete; nothing that has a name changes.
//! * Data come before the record that names them. Records carry a checksum, the boot and the
//!   generation they were written in: after a crash of the machine, what was not settled by a
//!   `syncfs` is verified or dropped (`store`, `gate`). After `kill -9` all is well.
//! * What a process looks up or makes is pinned by its lease until it ends (`lease`).
//! * There is no database: a record is one small file, and its name is its key.
#![forbid(unsafe_code)]

mod blob;
mod blocks;
mod cache;
mod cache_mount;
mod disk;
mod doctor;
mod error;
mod flight;
mod gate;
mod image;
mod layer_id;
mod layers;
mod lease;
mod merge;
mod note;
mod origin;
mod prune;
mod record;
mod settled;
mod snapshot;
mod store;
mod usage;

pub use blob::{Blob, BlobWriter};
pub use blocks::{BlockName, BlockPlace};
pub use cache::{InputChange, Key, ResultRecord, StepRecord};
pub use cache_mount::{CacheMount, Sharing};
pub use disk::{Fault, Operation};
pub use doctor::{Finding, Health};
pub use error::{StoreError, WrongDigest};
pub use flight::FlightGuard;
pub use image::{Image, ImageLayer, ImageManifest};
pub use layer_id::{LayerId, ParseLayerIdError};
pub use layers::{Layer, LayerDraft, Packed, TarIdentity};
pub use origin::Origin;
pub use prune::{PrunePolicy, PruneReport};
pub use snapshot::{ActiveSnapshot, WorkDirectory};
pub use store::{Options, Store};
pub use usage::{Usage, UsageId, UsageKind};
