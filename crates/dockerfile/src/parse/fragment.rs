//! A part of a logical line that knows its place in it, and the ways to cut it up.

use std::ops::Range;
use std::sync::Arc;

use crate::ast::Spanned;
use crate::source::{SourceMap, Span};
use crate::word::Word;

/// A slice of a logical line.
#[derive(Clone, Copy)]
pub(super) struct Fragment<'a> {
    pub(super) text: &'a str,
    /// Offset of the slice in the logical line.
    start: usize,
    map: &'a Arc<SourceMap>,
}

/// The blanks that separate words of a line; a no-break space, say, does not.
pub(super) fn is_blank(ch: char) -> bool {
    matches!(ch, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

impl<'a> Fragment<'a> {
    pub(super) fn new(line: &'a str, map: &'a Arc<SourceMap>) -> Fragment<'a> {
        Fragment {
            text: line,
            start: 0,
            map,
        }
    }

    pub(super) fn slice(&self, range: Range<usize>) -> Fragment<'a> {
        Fragment {
            text: &self.text[range.clone()],
            start: self.start + range.start,
            ..*self
        }
    }

    pub(super) fn trim(&self) -> Fragment<'a> {
        let begin = self.text.len() - self.text.trim_start().len();
        self.slice(begin..begin + self.text.trim().len())
    }

    pub(super) fn span(&self) -> Span {
        self.map.span(self.start..self.start + self.text.len())
    }

    pub(super) fn word(&self) -> Word {
        Word::from_line(self.text, self.map, self.start)
    }

    pub(super) fn spanned(&self) -> Spanned<String> {
        Spanned {
            value: self.text.to_owned(),
            span: self.span(),
        }
    }

    /// Cuts at the first run of blanks: what is before it and, if there is one, what is after.
    pub(super) fn split_first(&self) -> (Fragment<'a>, Option<Fragment<'a>>) {
        let Some(end) = self.text.find(is_blank) else {
            return (*self, None);
        };
        let after = self.text[end..].trim_start_matches(is_blank);
        let begin = self.text.len() - after.len();
        (self.slice(0..end), Some(self.slice(begin..self.text.len())))
    }

    /// Cuts at every run of blanks; quotes and escapes mean nothing.
    pub(super) fn split_blanks(&self) -> Vec<Fragment<'a>> {
        let mut parts = Vec::new();
        let mut begin = None;
        for (at, ch) in self.text.char_indices() {
            match (is_blank(ch), begin) {
                (false, None) => begin = Some(at),
                (true, Some(from)) => {
                    parts.push(self.slice(from..at));
                    begin = None;
                }
                _ => {}
            }
        }
        parts.extend(begin.map(|from| self.slice(from..self.text.len())));
        parts
    }

    /// Cuts at white space outside quotes and not escaped. Quotes and escapes stay; an escape
    /// character at the very end is dropped, and an open quote reaches to the end.
    pub(super) fn split_quoted(&self, escape: char) -> Vec<Fragment<'a>> {
        let mut parts = Vec::new();
        let mut begin = None;
        let mut quote = None;
        let mut end = self.text.len();
        let mut chars = self.text.char_indices().peekable();
        while let Some((at, ch)) = chars.next() {
            if quote.is_none() && ch.is_whitespace() {
                parts.extend(begin.take().map(|from| self.slice(from..at)));
                continue;
            }
            begin.get_or_insert(at);
            if ch == escape && quote != Some('\'') {
                if chars.next().is_none() {
                    end = at;
                }
            } else if quote == Some(ch) {
                quote = None;
            } else if quote.is_none() && matches!(ch, '\'' | '"') {
                quote = Some(ch);
            }
        }
        let last = begin
            .filter(|from| *from < end)
            .map(|from| self.slice(from..end));
        parts.extend(last);
        parts
    }
}
