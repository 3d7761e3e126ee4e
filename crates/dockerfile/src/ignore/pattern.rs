//! One pattern of an ignore file, matched without backtracking.
//!
//! A pattern is a row of tokens; a match in progress is the set of positions reached in the row.
//! One character moves all positions at once, so time is text times pattern at worst, and a
//! match can be interrupted at a slash and resumed for each entry of a directory.

use thiserror::Error;

/// Why a line is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// `!` and nothing else.
    #[error("an exclamation mark needs a pattern")]
    LoneExclamation,
    /// `[` without its end, or with nothing in it.
    #[error("a character class is not closed or has an empty or reversed range")]
    BadClass,
    /// A backslash at the end.
    #[error("a backslash at the end escapes nothing")]
    TrailingBackslash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character, no slash.
    One,
    /// `*`: any characters, no slash.
    Many,
    /// `**` at the end, and at the start of a pattern that is plain otherwise.
    Anything,
    /// `**/`: no characters, or what [`Token::Directories`] matches.
    MaybeDirectories,
    /// Any characters up to and including a slash. Follows each [`Token::MaybeDirectories`].
    Directories,
    /// `[…]`; may match a slash, as in moby's matcher.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// Positions reached in a pattern, one bit each, in [`Pattern::words`] words; position `n` is
/// before token `n`.
struct Positions<'a>(&'a mut [u64]);

impl Positions<'_> {
    fn contains(&self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }

    fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }
}

fn positions(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(index, word)| {
        let mut word = *word;
        std::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
            word &= word - 1;
            Some(index * 64 + bit)
        })
    })
}

impl Pattern {
    pub(super) fn compile(pattern: &str) -> Result<Pattern, PatternError> {
        // moby's matcher takes `**x` without other wildcards as "ends in x".
        if let Some(rest) = pattern.strip_prefix("**")
            && !rest.starts_with('/')
            && !rest.contains(['*', '?', '\\', '[', ']'])
        {
            let literals = rest.chars().map(Token::Literal);
            let tokens = std::iter::once(Token::Anything).chain(literals).collect();
            return Ok(Pattern { tokens });
        }
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some(ch) = rest.chars().next() {
            rest = &rest[ch.len_utf8()..];
            match ch {
                '*' if rest.starts_with('*') => {
                    rest = &rest[1..];
                    rest = rest.strip_prefix('/').unwrap_or(rest);
                    if rest.is_empty() {
                        tokens.push(Token::Anything);
                    } else {
                        tokens.extend([Token::MaybeDirectories, Token::Directories]);
                    }
                }
                '*' => tokens.push(Token::Many),
                '?' => tokens.push(Token::One),
                '[' => {
                    let (class, after) = class(rest)?;
                    tokens.push(class);
                    rest = after;
                }
                '\\' => {
                    let (escaped, after) = first(rest).ok_or(PatternError::TrailingBackslash)?;
                    tokens.push(Token::Literal(escaped));
                    rest = after;
                }
                _ => tokens.push(Token::Literal(ch)),
            }
        }
        Ok(Pattern { tokens })
    }

    /// Returns how many words the positions of this pattern take.
    pub(super) fn words(&self) -> usize {
        self.tokens.len() / 64 + 1
    }

    /// Sets the positions before the first character in empty `words`.
    pub(super) fn start(&self, words: &mut [u64]) {
        self.reach(&mut Positions(words), 0);
    }

    /// Moves on by `text`. `scratch` has as many words.
    pub(super) fn advance(&self, words: &mut [u64], text: &str, scratch: &mut [u64]) {
        for ch in text.chars() {
            if words.iter().all(|word| *word == 0) {
                return;
            }
            scratch.fill(0);
            let mut next = Positions(scratch);
            for position in positions(words) {
                self.step(position, ch, &mut next);
            }
            words.copy_from_slice(scratch);
        }
    }

    /// Adds to `next` where one position leads by `ch`.
    fn step(&self, position: usize, ch: char, next: &mut Positions<'_>) {
        match self.tokens.get(position) {
            Some(Token::Literal(literal)) if *literal == ch => self.reach(next, position + 1),
            Some(Token::One) if ch != '/' => self.reach(next, position + 1),
            Some(Token::Many) if ch != '/' => self.reach(next, position),
            Some(Token::Anything) => self.reach(next, position),
            Some(Token::Directories) => {
                next.insert(position);
                if ch == '/' {
                    self.reach(next, position + 1);
                }
            }
            Some(Token::Class { negated, ranges }) => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&ch));
                if inside != *negated {
                    self.reach(next, position + 1);
                }
            }
            _ => {}
        }
    }

    /// Tells whether what was read so far matches as a whole.
    pub(super) fn accepts(&self, words: &[u64]) -> bool {
        let position = self.tokens.len();
        words[position / 64] & (1 << (position % 64)) != 0
    }

    /// Adds a position and those that follow from it without a character.
    fn reach(&self, reached: &mut Positions<'_>, mut position: usize) {
        loop {
            reached.insert(position);
            position = match self.tokens.get(position) {
                Some(Token::Many | Token::Anything) => position + 1,
                Some(Token::MaybeDirectories) => {
                    reached.insert(position + 1);
                    position + 2
                }
                _ => return,
            };
            if reached.contains(position) {
                return;
            }
        }
    }
}

fn first(text: &str) -> Option<(char, &str)> {
    let ch = text.chars().next()?;
    Some((ch, &text[ch.len_utf8()..]))
}

/// Reads a class after its `[`, by the rules of Go's `path.Match`.
fn class(text: &str) -> Result<(Token, &str), PatternError> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']')
            && !ranges.is_empty()
        {
            return Ok((Token::Class { negated, ranges }, after));
        }
        let (low, after) = class_char(rest)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(after) => class_char(after)?,
            None => (low, after),
        };
        if low > high {
            return Err(PatternError::BadClass);
        }
        ranges.push((low, high));
        rest = after;
    }
}

fn class_char(text: &str) -> Result<(char, &str), PatternError> {
    match first(text) {
        None | Some(('-' | ']', _)) => Err(PatternError::BadClass),
        Some(('\\', rest)) => first(rest).ok_or(PatternError::BadClass),
        Some(found) => Ok(found),
    }
}
