//! Findings about a Dockerfile together with the text they point into.

use std::sync::Arc;

pub use dockerfile::{Code, Diagnostic, Label, LineIndex, Position, Severity, Span};

/// Diagnostics of one file.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file's name as the user gave it.
    pub name: String,
    /// Its text.
    pub text: Arc<str>,
    /// What was found, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Whether one of them stops the build.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// A place in a file, for errors that are not diagnostics of the language.
#[derive(Clone, Debug)]
pub struct Excerpt {
    /// The file's name as the user gave it.
    pub name: String,
    /// Its text.
    pub text: Arc<str>,
    /// The place.
    pub span: Span,
}
