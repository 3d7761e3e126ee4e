//! The Dockerfile language: text in, a typed tree with spans and diagnostics out.
//!
//! This crate knows the language and nothing else: no image, no registry, no file system, no
//! clock. [`parse`] never fails; what is wrong with the text is in [`Parse::diagnostics`].
//! Words stay unexpanded in the tree, because what a variable means depends on where the
//! instruction stands; [`Word::expand`] expands one when its scope is known.
//!
//! ```text
//! bytes ──► scan: logical lines, comments, here-documents ──► instruction ──► Dockerfile (ast)
//!               └── SourceMap: logical offset → file offset ──► spans ──► Diagnostic
//! Word ──► expand(Scope) ──► text + the variables it used
//! .dockerignore ──► ignore::IgnoreFile ──► which rule hides a path
//! ```
#![forbid(unsafe_code)]

pub mod ast;
mod diagnostic;
mod expand;
pub mod ignore;
pub mod lint;
mod parse;
mod source;
mod suggest;
mod word;

pub use ast::Dockerfile;
pub use diagnostic::{Code, Diagnostic, Label, Severity};
pub use expand::{ExpandError, ExpandErrorKind, Expanded, ExpandedWords, Scope, VariableUse};
pub use parse::{Parse, ParsedTrigger, parse, parse_trigger};
pub use source::{LineIndex, Position, Source, Span};
pub use suggest::nearest;
pub use word::{Escape, Word};
