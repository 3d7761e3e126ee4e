//! The store through its public face, with real processes, a real disk and faults on demand.

mod blobs;
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
