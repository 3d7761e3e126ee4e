//! File trees and the changesets between them.

mod model;
mod times;
pub mod tar;
mod pyc;
mod ordered;

pub use model::*;
pub use times::Times;
