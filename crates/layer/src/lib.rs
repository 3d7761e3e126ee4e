//! File trees and the changesets between them.

#![forbid(unsafe_code)]

pub mod checksum;
pub mod chmod;
pub mod copy;
mod empty;
mod filter;
#[cfg(test)]
mod mem;
pub mod compress;
mod mismatch;
mod model;
mod nearest;

pub mod erofs;
mod host;
mod root;
mod stack;
mod stat_index;
mod tree;
mod walk;
pub mod xattr;
pub mod owner;
pub mod pattern;
pub mod resolve;
pub mod select;
mod times;
pub mod tar;
mod pyc;
pub mod apply;
mod ordered;
pub mod unpack;
mod pack;
mod runs;

pub use empty::EmptyTree;
pub use filter::Filter;
pub use host::HostView;
pub use mismatch::Mismatch;
pub use model::*;
pub use pack::{PackError, Packed, pack};
pub use root::{PathError, Root};
pub use stack::Stack;
pub use stat_index::StatIndex;
pub use times::Times;
pub use tree::Tree;
pub use walk::{digest_all, walk};
pub use xattr::Marks;
