//! File trees and the changesets between them.

pub mod checksum;
pub mod chmod;
pub mod copy;
mod filter;
#[cfg(test)]
mod mem;
pub mod compress;
mod model;
mod nearest;

pub mod erofs;
mod root;
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
mod pack;
mod runs;

pub use filter::Filter;
pub use model::*;
pub use pack::{PackError, Packed, pack};
pub use times::Times;
