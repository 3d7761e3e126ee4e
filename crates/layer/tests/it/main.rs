//! Layers and trees through the crate's public face: against a pure specification, and with the
//! kernel as oracle where there is one.

#![expect(clippy::unwrap_used, reason = "how a test states what it relies on")]

mod apply;
mod compiled;
mod compress;
mod copy;
mod host;
mod index;
mod kernel;
mod layers;
mod overlay;
mod pack;
mod racy;
mod root;
mod spec;
mod stack;
mod tar_read;
mod tar_write;
mod trees;
mod unpack;
