//! The checks that the tree alone decides.

use crate::ast::Dockerfile;
use crate::diagnostic::Diagnostic;

/// Reports what the tree alone tells; the file's `# check=` is not applied yet.
pub(crate) fn check_tree(_file: &Dockerfile) -> Vec<Diagnostic> {
    Vec::new()
}
