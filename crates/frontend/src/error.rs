//! Why a file could not be lowered.

use dockerfile::Diagnostic;

/// A file that cannot be built as asked: every independent error that was found, and the warnings
/// up to there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lower the Dockerfile: {}", summary(diagnostics))]
pub struct LowerError {
    /// At least one of them is an error, unless the tree lacks something
    /// ([`dockerfile::ast::Loss`]), which the parser has reported; by place in the file.
    pub diagnostics: Vec<Diagnostic>,
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let mut errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error());
    let first = errors.next().map_or("", |error| error.message.as_str());
    match errors.count() {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    }
}
