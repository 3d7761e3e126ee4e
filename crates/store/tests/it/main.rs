//! The store through its public face, with real processes, a real disk and faults on demand.

#![expect(clippy::unwrap_used, reason = "how a test states what it relies on")]

mod blobs;
mod blocks;
mod boots;
mod cache;
mod faults;
mod fixture;
mod flights;
mod images;
mod kills;
mod layers;
mod mounts;
mod prune;
