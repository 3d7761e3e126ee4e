//! Layers and trees through the crate's public face: against a pure specification, and with the
//! kernel as oracle where there is one.

mod index;
mod kernel;
mod layers;
mod spec;
mod stack;
mod trees;
