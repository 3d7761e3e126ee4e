//! Template text as pieces: plain text, and the tokens of actions.

use super::ParseError;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// A word of an action, and where it is: the number of characters before it, plus one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// `.A.B`; `.` alone has no names. It may follow `$x` or `)` without a space.
    Fields(Vec<String>),
    /// `$x`; the root is called the empty text.
    Variable(String),
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    /// The end of the action.
    End,
}

/// Cuts a template into pieces, white space trimmed where `{{-` and `-}}` ask for it.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, ParseError> {
    let characters: Vec<char> = template.chars().collect();
    let mut scanner = Scanner {
        characters: &characters,
        next: 0,
    };
    let mut pieces = Vec::new();
    let mut trim = false;
    while scanner.next < characters.len() {
        let mut text = scanner.text();
        if trim {
            text = text.trim_start().to_string();
            trim = false;
        }
        let opened = scanner.next;
        if scanner.take("{{") {
            if scanner.peek(0) == Some('-') && scanner.peek(1).is_some_and(char::is_whitespace) {
                scanner.next += 1;
                text.truncate(text.trim_end().len());
            }
            let (tokens, trims) = scanner.action(opened)?;
            trim = trims;
            pieces.push(Piece::Text(text));
            pieces.extend(tokens.map(Piece::Action));
        } else {
            pieces.push(Piece::Text(text));
        }
    }
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    Ok(pieces)
}

struct Scanner<'a> {
    characters: &'a [char],
    next: usize,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.next + ahead).copied()
    }

    fn take(&mut self, text: &str) -> bool {
        let found = text
            .chars()
            .enumerate()
            .all(|(ahead, character)| self.peek(ahead) == Some(character));
        if found {
            self.next += text.chars().count();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let rest = &self.characters[self.next..];
        let taken: String = rest
            .iter()
            .take_while(|&&character| wanted(character))
            .collect();
        self.next += taken.chars().count();
        taken
    }

    /// What stands before the next action.
    fn text(&mut self) -> String {
        let start = self.next;
        while self.next < self.characters.len()
            && !(self.peek(0) == Some('{') && self.peek(1) == Some('{'))
        {
            self.next += 1;
        }
        self.characters[start..self.next].iter().collect()
    }

    /// The tokens of an action, none for a comment, and whether the text behind it is to be trimmed.
    fn action(&mut self, opened: usize) -> Result<(Option<Vec<Token>>, bool), ParseError> {
        self.take_while(char::is_whitespace);
        let comment = self.take("/*");
        if comment {
            while !self.take("*/") {
                self.next += 1;
                if self.next >= self.characters.len() {
                    return Err(ParseError::new(opened + 1, "the comment does not end"));
                }
            }
        }
        let mut tokens = Vec::new();
        loop {
            let spaced = !self.take_while(char::is_whitespace).is_empty();
            let at = self.next + 1;
            let trims = spaced && self.take("-}}");
            if trims || self.take("}}") {
                tokens.push(Token {
                    at,
                    kind: TokenKind::End,
                });
                return Ok(((!comment).then_some(tokens), trims));
            }
            let Some(first) = self.peek(0) else {
                return Err(ParseError::new(opened + 1, "{{ without }}"));
            };
            let kind = self.token(first, at)?;
            tokens.push(Token { at, kind });
        }
    }

    fn token(&mut self, first: char, at: usize) -> Result<TokenKind, ParseError> {
        let name = |character: char| character.is_alphanumeric() || character == '_';
        let signed =
            matches!(first, '-' | '+') && self.peek(1).is_some_and(|next| next.is_ascii_digit());
        Ok(match first {
            '"' => TokenKind::Text(self.quoted(at)?),
            '`' => {
                self.next += 1;
                let text = self.take_while(|character| character != '`');
                if !self.take("`") {
                    return Err(ParseError::new(at, "the text does not end"));
                }
                TokenKind::Text(text)
            }
            '.' => {
                let mut names = Vec::new();
                while self.take(".") {
                    let field = self.take_while(name);
                    if field.is_empty() {
                        break;
                    }
                    names.push(field);
                }
                TokenKind::Fields(names)
            }
            '$' => {
                self.next += 1;
                TokenKind::Variable(self.take_while(name))
            }
            digit if digit.is_ascii_digit() || signed => {
                self.next += 1;
                let rest = self
                    .take_while(|character| character.is_ascii_alphanumeric() || character == '.');
                let number = format!("{digit}{rest}");
                let value = number.trim_start_matches('+').parse();
                TokenKind::Number(
                    value.map_err(|_| ParseError::new(at, format!("{number} is no number")))?,
                )
            }
            '(' | ')' | '|' | ',' => {
                self.next += 1;
                match first {
                    '(' => TokenKind::Open,
                    ')' => TokenKind::Close,
                    '|' => TokenKind::Pipe,
                    _ => TokenKind::Comma,
                }
            }
            ':' if self.take(":=") => TokenKind::Declare,
            first if name(first) => TokenKind::Word(self.take_while(name)),
            other => return Err(ParseError::new(at, format!("{other} has no meaning here"))),
        })
    }

    /// A text in double quotes, with the escapes that it shares with JSON.
    fn quoted(&mut self, at: usize) -> Result<String, ParseError> {
        let start = self.next;
        self.next += 1;
        loop {
            match self.peek(0) {
                None | Some('\n') => return Err(ParseError::new(at, "the text does not end")),
                Some('\\') => self.next += 2,
                Some('"') => break,
                Some(_) => self.next += 1,
            }
        }
        self.next += 1;
        let text: String = self.characters[start..self.next].iter().collect();
        let value = serde_json::from_str(&text.replace('\t', "\\t"));
        value.map_err(|_| ParseError::new(at, format!("{text} has an escape that is not known")))
    }
}
