//! File trees and the changesets between them.

#![forbid(unsafe_code)]

mod changes;
pub mod checksum;
pub mod chmod;
mod codec;
pub mod compress;
pub mod copy;
mod empty;
mod entries;
mod filter;
mod flatten;
mod hard_links;
#[cfg(test)]
mod mem;
mod mismatch;
mod model;
mod nearest;

pub mod apply;
pub mod erofs;
mod host;
pub mod made;
mod ordered;
mod outline;
pub mod owner;
mod pack;
pub mod pattern;
mod pyc;
pub mod resolve;
mod root;
mod runs;
mod scan;
pub mod select;
mod spool;
mod stack;
mod stat_index;
pub mod tar;
mod times;
mod tree;
pub mod unpack;
mod walk;
pub mod xattr;

pub use changes::{ChangeList, Changes, ReadChanges};
pub use empty::EmptyTree;
pub use filter::Filter;
pub use flatten::flatten;
pub use host::HostView;
pub use mismatch::Mismatch;
pub use model::*;
pub use outline::Outline;
pub use pack::{PackError, Packed, pack, pack_indexed};
pub use pyc::{Below, FileBelow, nothing_below};
pub use root::{PathError, Root};
pub use scan::{Digests, Directory, Name};
pub use spool::Scratch;
pub use stack::{Bring, Stack};
pub use stat_index::StatIndex;
pub use times::Times;
pub use tree::Tree;
pub use walk::{digest_all, walk};
pub use xattr::Marks;
