//! Patterns of `${name#…}`, `${name%…}` and `${name/…}`: `*` and `?`, which stop at newlines.
//!
//! A pattern is simulated as a bit set of positions, all at once, so that a match costs text
//! times pattern/64 and never more: there is no backtracking.

/// A parsed pattern.
pub(super) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Many,
}

impl Glob {
    /// Parses a pattern. The error is what follows the backslash that protects nothing.
    pub(super) fn parse(pattern: &str) -> Result<Glob, String> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                // Two stars match what one does.
                '*' if tokens.last() == Some(&Token::Many) => continue,
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    other => return Err(other.map(String::from).unwrap_or_default()),
                },
                _ => Token::Literal(ch),
            });
        }
        Ok(Glob { tokens })
    }

    /// Returns the end of the shortest or longest prefix of `text` that matches.
    pub(super) fn prefix(&self, text: &str, longest: bool) -> Option<usize> {
        let mut states = States::start(&self.tokens);
        let mut end = states.accepts().then_some(0);
        for (at, ch) in text.char_indices() {
            if (end.is_some() && !longest) || states.is_empty() {
                break;
            }
            states.step(&self.tokens, ch);
            if states.accepts() {
                end = Some(at + ch.len_utf8());
            }
        }
        end
    }

    /// Returns the start of the shortest or longest suffix of `text` that matches.
    pub(super) fn suffix(&self, text: &str, longest: bool) -> Option<usize> {
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let mut states = States::start(&tokens);
        let mut begin = states.accepts().then_some(text.len());
        for (at, ch) in text.char_indices().rev() {
            if (begin.is_some() && !longest) || states.is_empty() {
                break;
            }
            states.step(&tokens, ch);
            if states.accepts() {
                begin = Some(at);
            }
        }
        begin
    }

    /// Replaces the first match, or all of them, leftmost and longest first. An empty match
    /// directly behind another match does not count. `None` when the result would be longer
    /// than `limit` bytes.
    pub(super) fn replace(
        &self,
        text: &str,
        replacement: &str,
        all: bool,
        limit: usize,
    ) -> Option<String> {
        let starts = self.match_starts(text);
        let mut output = String::new();
        let mut copied = 0;
        let mut last_end = None;
        for at in starts {
            if at < copied {
                continue;
            }
            let Some(length) = self.prefix(&text[at..], true) else {
                continue;
            };
            if length == 0 && last_end == Some(at) {
                continue;
            }
            output.push_str(&text[copied..at]);
            output.push_str(replacement);
            if output.len() > limit {
                return None;
            }
            copied = at + length;
            last_end = Some(copied);
            if !all {
                break;
            }
        }
        output.push_str(&text[copied..]);
        (output.len() <= limit).then_some(output)
    }

    /// Every offset where some match starts, ascending: one pass backwards with the reversed
    /// pattern, so that no start is tried in vain.
    fn match_starts(&self, text: &str) -> Vec<usize> {
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let initial = States::start(&tokens);
        let mut states = States::start(&tokens);
        let mut starts = Vec::new();
        if states.accepts() {
            starts.push(text.len());
        }
        for (at, ch) in text.char_indices().rev() {
            states.step(&tokens, ch);
            states.add(&initial);
            if states.accepts() {
                starts.push(at);
            }
        }
        starts.reverse();
        starts
    }
}

/// The positions in a pattern that are reached; position `n` is before token `n`.
struct States {
    bits: Vec<u64>,
    /// Number of tokens: the accepting position.
    length: usize,
}

impl States {
    fn start(tokens: &[Token]) -> States {
        let length = tokens.len();
        let mut states = States {
            bits: vec![0; length / 64 + 1],
            length,
        };
        states.set(0, tokens);
        states
    }

    /// Adds a position, and the next one where a star may match nothing. Stars never stand side
    /// by side, so one step suffices.
    fn set(&mut self, position: usize, tokens: &[Token]) {
        self.bits[position / 64] |= 1 << (position % 64);
        if tokens.get(position) == Some(&Token::Many) {
            self.bits[(position + 1) / 64] |= 1 << ((position + 1) % 64);
        }
    }

    fn add(&mut self, other: &States) {
        for (mine, theirs) in self.bits.iter_mut().zip(&other.bits) {
            *mine |= theirs;
        }
    }

    fn accepts(&self) -> bool {
        self.bits[self.length / 64] & (1 << (self.length % 64)) != 0
    }

    fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
    }

    fn step(&mut self, tokens: &[Token], ch: char) {
        let before = std::mem::take(&mut self.bits);
        self.bits = vec![0; before.len()];
        for (index, mut word) in before.into_iter().enumerate() {
            while word != 0 {
                let position = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                match tokens.get(position) {
                    Some(Token::Literal(literal)) if *literal == ch => {
                        self.set(position + 1, tokens);
                    }
                    Some(Token::One) if ch != '\n' => self.set(position + 1, tokens),
                    Some(Token::Many) if ch != '\n' => self.set(position, tokens),
                    _ => {}
                }
            }
        }
    }
}
