//! Patterns of `${name#…}`, `${name%…}` and `${name/…}`: `*` and `?`, which stop at newlines.
//!
//! A pattern is simulated as a bit set of positions, all moved at once by shifts and masks, so
//! that a match costs text times pattern/64 and never more: there is no backtracking.

use std::collections::HashMap;

/// Most tokens of a pattern: bounds the masks and the time per character.
const MAX_TOKENS: usize = 4096;

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
    /// Parses a pattern. The error says what is wrong with it.
    pub(super) fn parse(pattern: &str) -> Result<Glob, String> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                // Two stars match what one does.
                '*' if tokens.last() == Some(&Token::Many) => continue,
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    Some(other) => return Err(format!("invalid escape '\\{other}'")),
                    None => return Err("a backslash at the end".to_owned()),
                },
                _ => Token::Literal(ch),
            });
        }
        if tokens.len() > MAX_TOKENS {
            return Err(format!("longer than {MAX_TOKENS} characters"));
        }
        Ok(Glob { tokens })
    }

    /// Returns how many words of masks it takes to match the pattern against `text`.
    pub(super) fn steps(&self, text: &str) -> usize {
        text.len().saturating_mul(self.tokens.len() / 64 + 1)
    }

    /// Returns the end of the shortest or longest prefix of `text` that matches.
    pub(super) fn prefix(&self, text: &str, longest: bool) -> Option<usize> {
        let automaton = Automaton::new(self.tokens.iter().copied());
        let chars = text.char_indices().map(|(at, ch)| (at + ch.len_utf8(), ch));
        automaton.first_or_last(0, chars, longest)
    }

    /// Returns the start of the shortest or longest suffix of `text` that matches.
    pub(super) fn suffix(&self, text: &str, longest: bool) -> Option<usize> {
        let automaton = Automaton::new(self.tokens.iter().rev().copied());
        automaton.first_or_last(text.len(), text.char_indices().rev(), longest)
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
        let automaton = Automaton::new(self.tokens.iter().copied());
        let mut output = String::new();
        let mut copied = 0;
        let mut last_end = None;
        for at in self.match_starts(text) {
            if at < copied {
                continue;
            }
            let chars = text[at..]
                .char_indices()
                .map(|(offset, ch)| (at + offset + ch.len_utf8(), ch));
            let Some(end) = automaton.first_or_last(at, chars, true) else {
                continue;
            };
            if end == at && last_end == Some(at) {
                continue;
            }
            output.push_str(&text[copied..at]);
            output.push_str(replacement);
            if output.len() > limit {
                return None;
            }
            copied = end;
            last_end = Some(end);
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
        let automaton = Automaton::new(self.tokens.iter().rev().copied());
        let mut states = automaton.start();
        let mut starts = Vec::new();
        if automaton.accepts(&states) {
            starts.push(text.len());
        }
        for (at, ch) in text.char_indices().rev() {
            automaton.step(&mut states, ch);
            automaton.begin(&mut states);
            if automaton.accepts(&states) {
                starts.push(at);
            }
        }
        starts.reverse();
        starts
    }
}

/// A pattern as bit masks; bit `n` is position `n`, before token `n`.
struct Automaton {
    length: usize,
    /// Positions before each literal.
    literals: HashMap<char, Vec<u64>>,
    /// Positions before `?`.
    one: Vec<u64>,
    /// Positions before `*`.
    many: Vec<u64>,
    /// No position.
    none: Vec<u64>,
}

impl Automaton {
    fn new(tokens: impl ExactSizeIterator<Item = Token>) -> Automaton {
        let length = tokens.len();
        let none = vec![0; length / 64 + 1];
        let mut automaton = Automaton {
            length,
            literals: HashMap::new(),
            one: none.clone(),
            many: none.clone(),
            none,
        };
        for (position, token) in tokens.enumerate() {
            let mask = match token {
                Token::Literal(ch) => automaton
                    .literals
                    .entry(ch)
                    .or_insert_with(|| automaton.none.clone()),
                Token::One => &mut automaton.one,
                Token::Many => &mut automaton.many,
            };
            mask[position / 64] |= 1 << (position % 64);
        }
        automaton
    }

    fn start(&self) -> Vec<u64> {
        let mut states = self.none.clone();
        self.begin(&mut states);
        states
    }

    /// Adds the first position.
    fn begin(&self, states: &mut [u64]) {
        states[0] |= 1;
        self.skip_stars(states);
    }

    /// A star may match nothing: adds the position behind each star reached. Stars never stand
    /// side by side, so once is enough.
    fn skip_stars(&self, states: &mut [u64]) {
        let mut carry = 0;
        for (states, many) in states.iter_mut().zip(&self.many) {
            let behind = *states & many;
            *states |= behind << 1 | carry;
            carry = behind >> 63;
        }
    }

    fn step(&self, states: &mut [u64], ch: char) {
        let literal = self.literals.get(&ch).unwrap_or(&self.none);
        let (one, many) = match ch {
            '\n' => (&self.none, &self.none),
            _ => (&self.one, &self.many),
        };
        let mut carry = 0;
        for (index, states) in states.iter_mut().enumerate() {
            let moving = *states & (literal[index] | one[index]);
            *states = moving << 1 | carry | *states & many[index];
            carry = moving >> 63;
        }
        self.skip_stars(states);
    }

    fn accepts(&self, states: &[u64]) -> bool {
        states[self.length / 64] & (1 << (self.length % 64)) != 0
    }

    /// Reads characters until the first match, or as long as any is possible for the last one,
    /// and returns the offset that goes with it; `origin` goes with the empty match.
    fn first_or_last(
        &self,
        origin: usize,
        chars: impl Iterator<Item = (usize, char)>,
        last: bool,
    ) -> Option<usize> {
        let mut states = self.start();
        let mut found = self.accepts(&states).then_some(origin);
        for (offset, ch) in chars {
            if (found.is_some() && !last) || states.iter().all(|word| *word == 0) {
                break;
            }
            self.step(&mut states, ch);
            if self.accepts(&states) {
                found = Some(offset);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Matches by trying everything.
    fn matches(tokens: &[Token], text: &[char]) -> bool {
        match (tokens.split_first(), text.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((Token::Many, tokens)), rest) => {
                matches(tokens, text)
                    || rest.is_some_and(|(ch, _)| *ch != '\n')
                        && matches(&[&[Token::Many], tokens].concat(), &text[1..])
            }
            (Some(_), None) => false,
            (Some((Token::One, tokens)), Some((ch, text))) => *ch != '\n' && matches(tokens, text),
            (Some((Token::Literal(literal), tokens)), Some((ch, text))) => {
                literal == ch && matches(tokens, text)
            }
        }
    }

    fn naive_replace_all(glob: &Glob, text: &str, replacement: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let (mut output, mut at, mut last_end) = (String::new(), 0, None);
        while at <= chars.len() {
            let end = (at..=chars.len())
                .rev()
                .find(|end| matches(&glob.tokens, &chars[at..*end]));
            match end {
                Some(end) if !(end == at && last_end == Some(at)) => {
                    output.push_str(replacement);
                    last_end = Some(end);
                    if end > at {
                        at = end;
                        continue;
                    }
                }
                _ => {}
            }
            output.extend(chars.get(at));
            at += 1;
        }
        output
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(pattern in "[ab*?é]{0,6}", text in "[abé\n]{0,8}") {
            let glob = Glob::parse(&pattern).expect("no escapes");
            let chars: Vec<char> = text.chars().collect();
            let offset = |count: usize| chars[..count].iter().map(|ch| ch.len_utf8()).sum::<usize>();
            let ends: Vec<usize> =
                (0..=chars.len()).filter(|end| matches(&glob.tokens, &chars[..*end])).collect();
            prop_assert_eq!(glob.prefix(&text, false), ends.first().map(|end| offset(*end)));
            prop_assert_eq!(glob.prefix(&text, true), ends.last().map(|end| offset(*end)));
            let begins: Vec<usize> =
                (0..=chars.len()).filter(|from| matches(&glob.tokens, &chars[*from..])).collect();
            prop_assert_eq!(glob.suffix(&text, false), begins.last().map(|from| offset(*from)));
            prop_assert_eq!(glob.suffix(&text, true), begins.first().map(|from| offset(*from)));
            let replaced = glob.replace(&text, "-", true, 100).expect("short");
            prop_assert_eq!(replaced, naive_replace_all(&glob, &text, "-"));
        }
    }
}
