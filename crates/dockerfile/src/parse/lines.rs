//! Physical lines to logical lines: comments, blank lines, continuations, here-document bodies.
//!
//! Every byte that goes through here is noted as a token, so that the tree can be printed back.

use std::sync::Arc;

use crate::ast::{Comment, Heredoc, Spanned, Token, TokenKind};
use crate::diagnostic::Diagnostic;
use crate::lint::Rule;
use crate::source::{Source, SourceMap, Span};

/// Longest physical line, in bytes without its end; longer ones are an error in the language.
const MAX_LINE: usize = 65_535;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// A reader of a file's lines.
pub(super) struct Lines<'a> {
    source: &'a Source,
    at: usize,
    pub(super) escape: char,
    pub(super) tokens: Vec<Token>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// One line of the file.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// The text without its end.
    pub(super) text: &'a str,
    /// Offset of the text.
    pub(super) start: usize,
    /// Offset after the line's end.
    next: usize,
}

/// An instruction's lines, joined.
pub(super) struct LogicalLine {
    pub(super) text: String,
    pub(super) map: Arc<SourceMap>,
}

/// What stands next in a file.
pub(super) enum Item {
    Comment(Comment),
    Blank,
    Instruction(LogicalLine),
}

impl<'a> Line<'a> {
    fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }

    fn is_blank(&self) -> bool {
        self.text.trim_start().is_empty()
    }

    /// The line without leading white space.
    fn trimmed(&self) -> Line<'a> {
        let text = self.text.trim_start();
        Line {
            text,
            start: self.start + (self.text.len() - text.len()),
            next: self.next,
        }
    }

    pub(super) fn span(&self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }

    /// Cuts off the escape character that continues the line, if there is one. A doubled one
    /// does not.
    fn continued(&self, escape: char) -> Option<&'a str> {
        let before = self
            .text
            .trim_end_matches([' ', '\t'])
            .strip_suffix(escape)?;
        (!before.ends_with(escape)).then_some(before)
    }
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a Source) -> Lines<'a> {
        let mut lines = Lines {
            source,
            at: 0,
            escape: '\\',
            tokens: Vec::new(),
            diagnostics: Vec::new(),
        };
        if source.text().starts_with(BYTE_ORDER_MARK) {
            lines.token(TokenKind::ByteOrderMark, BYTE_ORDER_MARK.len_utf8());
        }
        lines
    }

    /// Returns the next line without consuming it.
    pub(super) fn peek(&self) -> Option<Line<'a>> {
        let rest = &self.source.text()[self.at..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let text = rest[..length].trim_end_matches(['\r', '\n']);
        Some(Line {
            text,
            start: self.at,
            next: self.at + length,
        })
    }

    /// Consumes a line that was peeked at as one token.
    pub(super) fn take(&mut self, line: Line<'a>, kind: TokenKind) {
        if line.text.len() > MAX_LINE {
            let message =
                format!("dockerfile line greater than max allowed size of {MAX_LINE} bytes");
            let start = Span::new(line.start, line.start);
            self.diagnostics.push(
                Diagnostic::error("line-too-long", start, message)
                    .with_remark(format!("this line has {} bytes", line.text.len()))
                    .with_help(
                        "break the line with an escape character, or COPY the data from a file",
                    ),
            );
        }
        if !matches!(kind, TokenKind::Comment | TokenKind::Directive)
            && let Some(at) = self.source.first_invalid(line.span())
        {
            let span = Span::new(at, at + 1);
            self.diagnostics.push(
                Diagnostic::error("invalid-utf8", span, "this line is not UTF-8")
                    .with_remark("not a character")
                    .with_help("save the file as UTF-8; only comments may hold other bytes"),
            );
        }
        self.token(kind, line.next);
    }

    /// Passes over a line that was peeked at.
    pub(super) fn skip(&mut self, line: Line<'a>) {
        self.at = line.next;
    }

    fn token(&mut self, kind: TokenKind, end: usize) {
        if end > self.at {
            self.tokens.push(Token {
                kind,
                span: Span::new(self.at, end),
            });
            self.at = end;
        }
    }

    /// Reads the next comment, blank line or instruction.
    pub(super) fn next_item(&mut self) -> Option<Item> {
        let line = self.peek()?.trimmed();
        if line.text.is_empty() {
            self.take(line, TokenKind::Blank);
            return Some(Item::Blank);
        }
        if let Some(text) = line.text.strip_prefix('#') {
            self.take(line, TokenKind::Comment);
            return Some(Item::Comment(Comment {
                text: text.trim().to_owned(),
                span: line.span(),
            }));
        }
        Some(Item::Instruction(self.logical_line(line)))
    }

    fn logical_line(&mut self, first: Line<'a>) -> LogicalLine {
        let mut text = String::new();
        let mut map = SourceMap::default();
        let mut blanks = Vec::new();
        let mut continued = self.instruction_line(first, &mut text, &mut map);
        while continued && let Some(line) = self.peek() {
            if line.is_comment() {
                self.take(line, TokenKind::Comment);
            } else if line.is_blank() {
                blanks.push(line.start);
                self.take(line, TokenKind::Blank);
            } else {
                continued = self.instruction_line(line, &mut text, &mut map);
            }
        }
        if let Some(first) = blanks.first() {
            let span = Span::new(*first, *first);
            self.diagnostics.push(
                Diagnostic::check(Rule::NoEmptyContinuation, span, "empty continuation line")
                    .with_remark(match blanks.len() {
                        1 => "this line is empty".to_owned(),
                        count => format!("the first of {count} empty lines"),
                    })
                    .with_help("remove the empty line, or put a comment in it"),
            );
        }
        LogicalLine {
            text,
            map: Arc::new(map),
        }
    }

    /// Adds a physical line to a logical one; tells whether it is continued.
    fn instruction_line(&mut self, line: Line<'a>, text: &mut String, map: &mut SourceMap) -> bool {
        map.push(text.len(), line.start);
        let Some(kept) = line.continued(self.escape) else {
            text.push_str(line.text);
            self.take(line, TokenKind::Instruction);
            return false;
        };
        text.push_str(kept);
        let head = Line {
            text: kept,
            next: line.start + kept.len(),
            ..line
        };
        self.take(head, TokenKind::Instruction);
        self.token(TokenKind::Continuation, line.next);
        true
    }

    /// Reads the body of a here-document up to its terminator. The error is the place of the
    /// body that has none.
    pub(super) fn heredoc_body(&mut self, heredoc: &mut Heredoc) -> Result<(), Span> {
        let start = self.at;
        while let Some(line) = self.peek() {
            let text = match heredoc.strip_tabs {
                true => line.text.trim_start_matches('\t'),
                false => line.text,
            };
            if text == heredoc.name {
                let span = Span::new(start, self.at);
                heredoc.body = Spanned {
                    value: self.source.slice(span).to_owned(),
                    span,
                };
                self.take(line, TokenKind::HeredocEnd);
                return Ok(());
            }
            self.take(line, TokenKind::HeredocBody);
        }
        Err(Span::new(start, self.at))
    }

    /// Offset after the text of the last line that was taken.
    pub(super) fn end_of_last_line(&self) -> usize {
        self.source.text()[..self.at]
            .trim_end_matches(['\r', '\n'])
            .len()
    }
}
