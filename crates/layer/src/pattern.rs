//! Path patterns of `COPY` and `ADD` sources: Go's `filepath.Match`, and the same with `**` for
//! `--parents`.
//!
//! A pattern is a small automaton: matching is linear in the length of the path, and it can say
//! of a directory whether anything below it could match, so that a walk enters no other. Patterns
//! of ignore files are another language and live elsewhere.
//!
//! ```text
//! *       any run of characters but /        ?       one character but /
//! [a-z]   one of a class, [^a-z] none of it  \c      c itself
//! **/     any number of directories, also none; ** at the end: everything (with Wildcards::Deep)
//! ```
//!
//! As in Go a class may match `/`. A byte that is not UTF-8 is one character.

/// Which wildcards a pattern has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcards {
    /// Those of Go's `filepath.Match`.
    Plain,
    /// Those and `**`.
    Deep,
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// Leading components that hold no special character at all.
    literal: Vec<Vec<u8>>,
    /// There is nothing behind `literal`.
    is_literal: bool,
}

/// A pattern with an unclosed or empty class, or a trailing backslash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?} has a class that is empty or not closed, or ends in a backslash")]
pub struct InvalidPattern {
    /// The pattern, lossily decoded.
    pub pattern: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(Unit),
    /// `?`
    One,
    /// `*`
    Run,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**/`: empty, or anything that ends in `/`.
    Directories,
    /// `**` at the end or before literal text: anything.
    Anything,
}

/// A character, or a byte that belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Char(char),
    Byte(u8),
}

impl Unit {
    /// What a class compares: Go decodes stray bytes to the replacement character.
    fn in_class(self) -> char {
        match self {
            Unit::Char(c) => c,
            Unit::Byte(_) => char::REPLACEMENT_CHARACTER,
        }
    }
}

/// Whether a component of a source makes it a pattern: an unescaped `*`, `?` or `[`.
pub fn has_wildcards(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

impl Pattern {
    /// Parses a clean relative pattern (no empty, `.` or `..` components).
    ///
    /// # Errors
    /// When it is malformed, even where no path would ever get to the malformed part.
    pub fn parse(pattern: &[u8], wildcards: Wildcards) -> Result<Pattern, InvalidPattern> {
        let invalid = || InvalidPattern {
            pattern: String::from_utf8_lossy(pattern).into_owned(),
        };
        let units: Vec<Unit> = units(pattern).collect();
        let tokens = Parser {
            units: &units,
            at: 0,
            wildcards,
        }
        .tokens()
        .ok_or_else(invalid)?;
        let plain = |c: &&[u8]| !c.iter().any(|b| br"*?[\".contains(b));
        let components = || pattern.split(|&b| b == b'/').filter(|c| !c.is_empty());
        let literal: Vec<Vec<u8>> = components().take_while(plain).map(<[u8]>::to_vec).collect();
        let is_literal = literal.len() == components().count();
        Ok(Pattern {
            tokens,
            literal,
            is_literal,
        })
    }

    /// The leading components of every match: a walk can go there directly.
    pub fn literal_prefix(&self) -> &[Vec<u8>] {
        &self.literal
    }

    /// Whether the pattern is a plain path, equal to its [`Pattern::literal_prefix`].
    pub fn is_literal(&self) -> bool {
        self.is_literal
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut states = self.start();
        for unit in units(path) {
            if !self.step(&mut states, unit) {
                return false;
            }
        }
        states[self.tokens.len()]
    }

    /// Whether something below the directory `dir` could match.
    pub fn may_match_below(&self, dir: &[u8]) -> bool {
        let mut states = self.start();
        for unit in units(dir).chain((!dir.is_empty()).then_some(Unit::Char('/'))) {
            if !self.step(&mut states, unit) {
                return false;
            }
        }
        // Being at the very end is no way on.
        states[..self.tokens.len()].contains(&true)
    }

    /// States before the first character: `states[i]` means tokens up to `i` have matched.
    fn start(&self) -> Vec<bool> {
        let mut states = vec![false; self.tokens.len() + 1];
        self.enter(&mut states, 0);
        states
    }

    /// Sets state `i` and those reachable without a character.
    fn enter(&self, states: &mut [bool], mut i: usize) {
        loop {
            states[i] = true;
            match self.tokens.get(i) {
                Some(Token::Run | Token::Directories | Token::Anything) => i += 1,
                _ => return,
            }
        }
    }

    /// Advances all states over one character; false when none is left.
    fn step(&self, states: &mut Vec<bool>, unit: Unit) -> bool {
        let mut next = vec![false; states.len()];
        let slash = unit == Unit::Char('/');
        let mut alive = false;
        for (i, token) in self.tokens.iter().enumerate().filter(|&(i, _)| states[i]) {
            let (stays, advances) = match token {
                Token::Char(c) => (false, *c == unit),
                Token::One => (false, !slash),
                Token::Run => (!slash, false),
                Token::Class { negated, ranges } => {
                    let c = unit.in_class();
                    let inside = ranges.iter().any(|&(low, high)| low <= c && c <= high);
                    (false, inside != *negated)
                }
                Token::Directories => (true, slash),
                Token::Anything => (true, false),
            };
            alive |= stays || advances;
            if advances {
                self.enter(&mut next, i + 1);
            }
            if stays {
                match token {
                    // Not entered: once begun, it can only end in a slash.
                    Token::Directories => next[i] = true,
                    _ => self.enter(&mut next, i),
                }
            }
        }
        *states = next;
        alive
    }
}

struct Parser<'a> {
    units: &'a [Unit],
    at: usize,
    wildcards: Wildcards,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Unit> {
        let unit = self.units.get(self.at).copied();
        self.at += 1;
        unit
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.units.get(self.at) == Some(&Unit::Char(c));
        self.at += usize::from(found);
        found
    }

    fn tokens(mut self) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        while let Some(unit) = self.next() {
            tokens.push(match unit {
                Unit::Char('*') if self.wildcards == Wildcards::Deep && self.eat('*') => {
                    self.deep(tokens.is_empty())
                }
                Unit::Char('*') => {
                    while self.wildcards == Wildcards::Plain && self.eat('*') {}
                    Token::Run
                }
                Unit::Char('?') => Token::One,
                Unit::Char('[') => self.class()?,
                Unit::Char('\\') => Token::Char(self.next()?),
                literal => Token::Char(literal),
            });
        }
        Some(tokens)
    }

    /// Behind `**`. It swallows a following slash. At the end it is everything; at the beginning,
    /// with nothing but literal text behind it and no slash between, a bare suffix; else a number
    /// of directories.
    fn deep(&mut self, first: bool) -> Token {
        let slash = self.eat('/');
        let rest = &self.units[self.at.min(self.units.len())..];
        let special = |u: &Unit| matches!(u, Unit::Char('*' | '?' | '[' | '\\'));
        if rest.is_empty() || first && !slash && !rest.iter().any(special) {
            Token::Anything
        } else {
            Token::Directories
        }
    }

    fn class(&mut self) -> Option<Token> {
        let negated = self.eat('^');
        let mut ranges = Vec::new();
        while ranges.is_empty() || !self.eat(']') {
            let low = self.class_char()?;
            let high = if self.eat('-') {
                self.class_char()?
            } else {
                low
            };
            ranges.push((low, high));
        }
        Some(Token::Class { negated, ranges })
    }

    fn class_char(&mut self) -> Option<char> {
        match self.next()? {
            Unit::Char('-' | ']') | Unit::Byte(_) => None,
            Unit::Char('\\') => match self.next()? {
                Unit::Char(c) => Some(c),
                Unit::Byte(_) => None,
            },
            Unit::Char(c) => Some(c),
        }
    }
}

fn units(bytes: &[u8]) -> impl Iterator<Item = Unit> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let chars = chunk.valid().chars().map(Unit::Char);
        chars.chain(chunk.invalid().iter().copied().map(Unit::Byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(wildcards: Wildcards, pattern: &str, path: &str, expect: Option<bool>) {
        let parsed = Pattern::parse(pattern.as_bytes(), wildcards);
        let got = parsed.ok().map(|p| p.matches(path.as_bytes()));
        assert_eq!(got, expect, "{pattern} on {path}");
    }

    #[test]
    fn go_match() {
        for (pattern, path, expect) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("*[a-ζ]", "A", Some(false)),
            ("a?b", "a/b", Some(false)),
            ("a*b", "a/b", Some(false)),
            ("a[^x]b", "a/b", Some(true)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-]", "-", Some(true)),
            ("[x\\-]", "z", Some(false)),
            ("[[]0]", "[0]", Some(true)),
            ("*x", "xxx", Some(true)),
            ("**", "a/b", Some(false)),
            ("**", "ab", Some(true)),
            ("", "", Some(true)),
            ("", "a", Some(false)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[-x]", "x", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[^bc", "a", None),
            ("a[", "ab", None),
            ("z[", "ab", None),
            ("\\", "a", None),
        ] {
            check(Wildcards::Plain, pattern, path, expect);
        }
    }

    #[test]
    fn deep_match() {
        for (pattern, path, expect) in [
            ("**", "a/b/c", true),
            ("**/c", "c", true),
            ("**/c", "a/b/c", true),
            ("**/c", "a/b/xc", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/x/y/c", true),
            ("a/**/c", "a/xc", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/*.txt", "x.txt", true),
            ("**/*.txt", "a/b/x.txt", true),
            ("**/*.txt", "a/b/x.txt/y", false),
            ("src/**/*.txt", "src/a.txt", true),
            ("src/**/*.txt", "src/x/y/b.txt", true),
            ("**.md", "a/b.md", true),
            ("*/x", "a/x", true),
            ("*/x", "a/b/x", false),
        ] {
            check(Wildcards::Deep, pattern, path, Some(expect));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_characters() {
        let pattern = |text: &[u8]| Pattern::parse(text, Wildcards::Plain).unwrap();
        assert!(pattern(b"a?c").matches(b"a\xffc"));
        assert!(pattern(b"\xff*").matches(b"\xff\xfe"));
        assert!(!pattern(b"\xff").matches(b"\xfe"));
    }

    #[test]
    fn walks_enter_only_what_can_match() {
        for (wildcards, pattern, dir, expect) in [
            (Wildcards::Plain, "a/*/c", "", true),
            (Wildcards::Plain, "a/*/c", "a", true),
            (Wildcards::Plain, "a/*/c", "b", false),
            (Wildcards::Plain, "a/*/c", "a/x", true),
            (Wildcards::Plain, "a/*/c", "a/x/c", false),
            (Wildcards::Plain, "*.txt", "a.txt", false),
            (Wildcards::Plain, "[^.]*", "a", false),
            (Wildcards::Deep, "a/**/c", "a/x/y/z", true),
            (Wildcards::Deep, "a/**/c", "b", false),
            (Wildcards::Deep, "**/c", "any", true),
        ] {
            let pattern = Pattern::parse(pattern.as_bytes(), wildcards).unwrap();
            assert_eq!(
                pattern.may_match_below(dir.as_bytes()),
                expect,
                "{pattern:?} in {dir}"
            );
        }
    }

    #[test]
    fn literal_prefixes() {
        let prefix = |text: &str| {
            let pattern = Pattern::parse(text.as_bytes(), Wildcards::Deep).unwrap();
            (pattern.literal_prefix().join(&b'/'), pattern.is_literal())
        };
        assert_eq!(prefix("a/b/*.c/d"), (b"a/b".to_vec(), false));
        assert_eq!(prefix("a/b"), (b"a/b".to_vec(), true));
        assert_eq!(prefix("**/x"), (b"".to_vec(), false));
    }

    proptest! {
        /// Whatever matches lies in directories that the walk would have entered.
        #[test]
        fn pruning_never_hides_a_match(
            pattern in "[ab*?/]{0,8}|(a|b|\\*|\\*\\*|/|[ab]){0,6}",
            path in "[ab]{1,3}(/[ab]{1,3}){0,3}",
        ) {
            for wildcards in [Wildcards::Plain, Wildcards::Deep] {
                let Ok(parsed) = Pattern::parse(pattern.as_bytes(), wildcards) else { continue };
                if parsed.matches(path.as_bytes()) {
                    for (i, _) in path.match_indices('/') {
                        prop_assert!(parsed.may_match_below(&path.as_bytes()[..i]));
                    }
                }
            }
        }
    }
}
