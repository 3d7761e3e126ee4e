//! Variable expansion: `$name`, `${name}` with its modifiers, quotes and escapes.
//!
//! One engine serves words, word lists (`EXPOSE`) and here-document bodies. It reports every
//! variable that it looked up. Work is bounded by the text and by [`MAX_STEPS`], nesting by
//! [`MAX_DEPTH`].

mod engine;
mod glob;

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::ast::Heredoc;
use crate::source::Span;
use crate::word::{Escape, Word};
pub(crate) use engine::split_raw;
use engine::{Engine, Failure, Lookup, Mode};

/// Most [`Expanded::steps`] of one expansion, and with it the longest result in bytes. A dozen
/// `ENV a=$a$a$a…` reach any size otherwise; the kernel takes no argument longer than 128 KiB.
pub(crate) const MAX_STEPS: usize = 4 << 20;

/// Deepest nesting of `${…}` in `${…}`.
pub(crate) const MAX_DEPTH: usize = 128;

/// What variables are set.
pub trait Scope {
    /// Returns the value of a variable, `None` when it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Scope for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

impl Scope for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        HashMap::get(self, name).map(String::as_str)
    }
}

/// Pairs in order; of equal names the last one counts.
impl Scope for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A variable that an expansion looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableUse {
    /// The name.
    pub name: String,
    /// The place of the whole `$name` or `${…}`.
    pub span: Span,
    /// The variable was set.
    pub set: bool,
    /// The text says what happens when it is not (`-`, `+`, `?`).
    pub guarded: bool,
}

/// The result of an expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// The text: variables replaced, quotes and escapes removed.
    pub text: String,
    /// The variables that were looked up, in order.
    pub uses: Vec<VariableUse>,
    /// The work that it took: bytes of text and of values, whether or not they came to be part of
    /// the result, and characters compared with patterns.
    pub steps: usize,
}

/// The result of an expansion that is split on white space outside quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpandedWords {
    /// The words, none of them empty.
    pub words: Vec<String>,
    /// The variables that were looked up, in order.
    pub uses: Vec<VariableUse>,
    /// The work that it took: bytes of text and of values, whether or not they came to be part of
    /// the result, and characters compared with patterns.
    pub steps: usize,
}

/// Why a text cannot be expanded, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct ExpandError {
    /// What is wrong.
    pub kind: ExpandErrorKind,
    /// The place of the `$…` or quote that is wrong.
    pub span: Span,
}

/// What is wrong with a text that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExpandErrorKind {
    /// `${}`, `${:}`, `${{`.
    #[error("bad substitution")]
    BadSubstitution,
    /// `${` without its end.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name/pattern` without its second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${name:=word}` and the like.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// A quote without its end.
    #[error("unexpected end of statement while looking for matching {0}")]
    UnterminatedQuote(char),
    /// `${name:?message}` of a variable without a value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text's own message, or what is not allowed.
        message: String,
    },
    /// A pattern that is too long, or has a backslash before a character that needs none.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More than `MAX_DEPTH` (128) levels.
    #[error("substitutions are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than `MAX_STEPS` (4 Mi) bytes, those counted that are not part of the result.
    #[error("the expanded text is longer than {MAX_STEPS} bytes")]
    TooLong,
}

impl Word {
    /// Expands the word's variables and removes its quotes and escapes.
    ///
    /// # Errors
    /// When the text is malformed, a `${name:?message}` fires, or a bound is exceeded.
    pub fn expand(&self, scope: &dyn Scope, escape: Escape) -> Result<Expanded, ExpandError> {
        let mode = Mode::word(escape);
        let (output, lookups, steps) = run(self, scope, mode)?;
        Ok(Expanded {
            text: output.text,
            uses: place(self, lookups),
            steps,
        })
    }

    /// Expands like [`Word::expand`], then splits on white space that was neither quoted nor
    /// escaped; white space from a variable's value splits too.
    ///
    /// # Errors
    /// As [`Word::expand`].
    pub fn expand_words(
        &self,
        scope: &dyn Scope,
        escape: Escape,
    ) -> Result<ExpandedWords, ExpandError> {
        let (output, lookups, steps) = run(self, scope, Mode::words(escape))?;
        Ok(ExpandedWords {
            words: output.words,
            uses: place(self, lookups),
            steps,
        })
    }
}

impl Heredoc {
    /// Returns what `COPY` and `ADD` write: the body, variables expanded if the delimiter was
    /// unquoted. The escape character is `\` whatever the file's is, and quotes are plain text.
    ///
    /// # Errors
    /// As [`Word::expand`].
    pub fn expand(&self, scope: &dyn Scope) -> Result<Expanded, ExpandError> {
        let text = self.content();
        if !self.expand {
            return Ok(Expanded {
                steps: text.len(),
                text,
                uses: Vec::new(),
            });
        }
        let word = match self.strip_tabs {
            true => Word::decoded(text, self.body.span),
            false => Word::contiguous(text, self.body.span.start),
        };
        let (output, lookups, steps) = run(&word, scope, Mode::heredoc_body())?;
        Ok(Expanded {
            text: output.text,
            uses: place(&word, lookups),
            steps,
        })
    }
}

fn run(
    word: &Word,
    scope: &dyn Scope,
    mode: Mode,
) -> Result<(engine::Output, Vec<Lookup>, usize), ExpandError> {
    let mut engine = Engine::new(word.text(), scope, mode);
    match engine.run() {
        Ok(output) => {
            let (lookups, steps) = engine.finish();
            Ok((output, lookups, steps))
        }
        Err(Failure { kind, range }) => Err(ExpandError {
            kind,
            span: word.span_of(range),
        }),
    }
}

fn place(word: &Word, lookups: Vec<Lookup>) -> Vec<VariableUse> {
    lookups
        .into_iter()
        .map(
            |Lookup {
                 name,
                 range,
                 set,
                 guarded,
             }| {
                let span = word.span_of(range);
                VariableUse {
                    name,
                    span,
                    set,
                    guarded,
                }
            },
        )
        .collect()
}
