//! File trees and the changesets between them.

pub mod chmod;
mod filter;
#[cfg(test)]
mod mem;
mod model;
pub mod owner;
pub mod pattern;
pub mod resolve;
mod times;
pub mod tar;
mod pyc;
mod ordered;

pub use filter::Filter;
pub use model::*;
pub use times::Times;
