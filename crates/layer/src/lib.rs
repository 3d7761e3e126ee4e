//! File trees and the changesets between them.

mod model;

pub use model::*;
