//! What a walk leaves out: the question that ignore files and `--exclude` answer. The patterns
//! themselves are parsed elsewhere; this crate only asks.

use crate::RelPath;

/// Decides which paths of a tree are not there for its user.
pub trait Filter: Send + Sync {
    /// Whether `path` is left out. Something below an excluded directory may be included again.
    fn excludes(&self, path: &RelPath, is_dir: bool) -> bool;

    /// Whether nothing below the directory `dir` can be included, so that it need not be entered.
    /// Asked only for excluded directories.
    fn prunes(&self, dir: &RelPath) -> bool;
}
