//! A word of an instruction: unexpanded text that knows where it came from.

use std::ops::Range;
use std::sync::Arc;

use crate::source::{SourceMap, Span};

/// The escape character of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escape {
    /// `\`, the default.
    #[default]
    Backslash,
    /// `` ` ``.
    Backtick,
}

impl Escape {
    /// Returns the character.
    pub fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// Unexpanded text: quotes, escapes and variables are still in it.
///
/// Two words are equal when both their text and their place are.
#[derive(Clone, PartialEq, Eq)]
pub struct Word {
    text: String,
    origin: Origin,
}

/// How a range of a word's text is found in the file.
#[derive(Clone, PartialEq, Eq)]
enum Origin {
    /// The text is a part of a logical line, starting at this offset of it.
    Line { map: Arc<SourceMap>, start: usize },
    /// The text was decoded (JSON, CSV, quotes of a flag): only its whole place is known.
    Whole(Span),
}

impl Word {
    /// Makes a word from a part of a logical line.
    pub(crate) fn from_line(text: &str, map: &Arc<SourceMap>, start: usize) -> Word {
        Word {
            text: text.to_owned(),
            origin: Origin::Line {
                map: Arc::clone(map),
                start,
            },
        }
    }

    /// Makes a word whose text does not stand in the file letter by letter.
    pub fn decoded(text: String, span: Span) -> Word {
        Word {
            text,
            origin: Origin::Whole(span),
        }
    }

    /// Makes a word whose text stands in the file letter by letter from `start` on.
    pub(crate) fn contiguous(text: String, start: usize) -> Word {
        let mut map = SourceMap::default();
        map.push(0, start);
        Word {
            text,
            origin: Origin::Line {
                map: Arc::new(map),
                start: 0,
            },
        }
    }

    /// Returns a part of the word as a word of its own.
    pub(crate) fn slice(&self, range: Range<usize>) -> Word {
        let text = self.text[range.clone()].to_owned();
        let origin = match &self.origin {
            Origin::Line { map, start } => Origin::Line {
                map: Arc::clone(map),
                start: start + range.start,
            },
            Origin::Whole(span) => Origin::Whole(*span),
        };
        Word { text, origin }
    }

    /// Returns the unexpanded text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the place of the whole word in the file.
    pub fn span(&self) -> Span {
        self.span_of(0..self.text.len())
    }

    /// Returns the place of a byte range of [`Word::text`] in the file; of the whole word where
    /// its text was decoded.
    pub fn span_of(&self, range: Range<usize>) -> Span {
        match &self.origin {
            Origin::Line { map, start } => map.span(start + range.start..start + range.end),
            Origin::Whole(span) => *span,
        }
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}@{:?}", self.text, self.span())
    }
}
