//! Places: spans in the file, line numbers, and the way from a logical line back to the file.

use std::ops::Range;
use std::sync::Arc;

/// A range of bytes of the file, end exclusive.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// Makes a span from `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// Returns the length in bytes.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Tells whether the span holds no byte.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Tells whether `offset` lies in the span or at its end.
    pub fn touches(self, offset: usize) -> bool {
        self.start <= offset && offset <= self.end
    }

    /// Returns the span as a range for slicing.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// The text of a file. Byte offsets into [`Source::text`] and [`Source::bytes`] are the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    text: Arc<str>,
    /// The file's own bytes, kept apart only when they are not UTF-8.
    original: Option<Arc<[u8]>>,
}

impl Source {
    /// Takes over a file's bytes. Every byte that is not UTF-8 stands as `?` in the text, so
    /// offsets stay what they are.
    pub fn new(bytes: &[u8]) -> Source {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Source {
                text: text.into(),
                original: None,
            };
        }
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
        Source {
            text: text.into(),
            original: Some(bytes.into()),
        }
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.original.as_deref().unwrap_or(self.text.as_bytes())
    }

    /// Returns the text at a span; empty when the span does not fit the text.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    /// Returns the offset of the first byte in `span` that is not UTF-8.
    pub(crate) fn first_invalid(&self, span: Span) -> Option<usize> {
        let bytes = self.original.as_ref()?.get(span.range())?;
        std::str::from_utf8(bytes)
            .err()
            .map(|error| span.start + error.valid_up_to())
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({} bytes)", self.text.len())
    }
}

/// A line and a column, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line number.
    pub line: usize,
    /// Column number.
    pub column: usize,
}

/// Finds line and column of an offset.
#[derive(Clone, Debug)]
pub struct LineIndex {
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl LineIndex {
    /// Indexes a text. Costs one pass over it.
    pub fn new(text: &str) -> LineIndex {
        let after_newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        LineIndex {
            starts: std::iter::once(0)
                .chain(after_newlines.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    /// Returns the number of the line, counted from 1, that holds `offset`.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// Returns line and column of `offset` in the indexed `text`.
    pub fn position(&self, text: &str, offset: usize) -> Position {
        let line = self.line(offset);
        let start = self.starts[line - 1];
        let offset = offset.min(text.len());
        let column = text
            .get(start..offset)
            .map_or(1, |before| before.chars().count() + 1);
        Position { line, column }
    }
}

/// Leads from offsets in a logical line (continuations joined, comments removed) to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceMap {
    /// A piece reaches up to the next one's `logical`. Most lines have only this one.
    first: Option<Piece>,
    /// The others, in order.
    rest: Vec<Piece>,
}

/// A stretch that is contiguous both in the logical line and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    logical: usize,
    file: usize,
}

impl SourceMap {
    /// Adds the stretch that starts at `logical` of the line and at `file` of the file.
    pub(crate) fn push(&mut self, logical: usize, file: usize) {
        let piece = Piece { logical, file };
        match self.first {
            None => self.first = Some(piece),
            Some(_) => self.rest.push(piece),
        }
    }

    /// Returns the file offset of the byte at `logical`.
    pub(crate) fn offset(&self, logical: usize) -> usize {
        let next = self.rest.partition_point(|piece| piece.logical <= logical);
        let last = next.checked_sub(1).map(|at| self.rest[at]);
        match last.or(self.first) {
            Some(piece) if piece.logical <= logical => piece.file + (logical - piece.logical),
            _ => logical,
        }
    }

    /// Returns the place of a range of the logical line, from its first to its last byte.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let start = self.offset(range.start);
        match range.end.checked_sub(1) {
            Some(last) if last >= range.start => Span::new(start, self.offset(last) + 1),
            _ => Span::new(start, start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, offset: usize, line: usize, column: usize) {
        let position = LineIndex::new(text).position(text, offset);
        assert_eq!(position, Position { line, column }, "{offset} of {text:?}");
    }

    #[test]
    fn offsets_have_lines_and_columns() {
        check("", 0, 1, 1);
        check("ab\n\ncd", 0, 1, 1);
        check("ab\n\ncd", 2, 1, 3);
        check("ab\n\ncd", 3, 2, 1);
        check("ab\n\ncd", 5, 3, 2);
        check("é\u{1f600}x\n", 6, 1, 3);
        check("ab", 9, 1, 3);
    }

    #[test]
    fn bytes_that_are_not_text_keep_their_place() {
        let source = Source::new(b"a\xff\xfeb\xc3");
        assert_eq!(source.text(), "a??b?");
        assert_eq!(source.bytes(), b"a\xff\xfeb\xc3");
        assert_eq!(source.first_invalid(Span::new(0, 5)), Some(1));
        assert_eq!(source.first_invalid(Span::new(3, 4)), None);
    }
}
