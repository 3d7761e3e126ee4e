//! The expansion engine: one pass over the text, recursing into `${…}`.
//!
//! It knows offsets into its text only; who calls it knows the file.

use std::ops::Range;

use super::glob::Glob;
use super::{ExpandErrorKind, MAX_DEPTH, MAX_STEPS, Scope};
use crate::word::Escape;

/// Most characters of a pattern that an error shows.
const MAX_SHOWN: usize = 100;

/// What the engine treats as special.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    escape: char,
    /// Quotes group and protect; otherwise they are plain characters.
    quotes: bool,
    /// Quotes stay in the output.
    keep_quotes: bool,
    /// Escape characters stay in the output.
    keep_escapes: bool,
    /// Unset variables stay as they are written.
    keep_unset: bool,
    /// Words are wanted besides the text.
    words: bool,
}

impl Mode {
    pub(super) fn word(escape: Escape) -> Mode {
        Mode {
            escape: escape.char(),
            quotes: true,
            keep_quotes: false,
            keep_escapes: false,
            keep_unset: false,
            words: false,
        }
    }

    pub(super) fn words(escape: Escape) -> Mode {
        Mode {
            words: true,
            ..Mode::word(escape)
        }
    }

    pub(super) fn heredoc_body() -> Mode {
        Mode {
            quotes: false,
            ..Mode::word(Escape::Backslash)
        }
    }

    fn splitting(keep: bool) -> Mode {
        Mode {
            keep_quotes: keep,
            keep_escapes: keep,
            keep_unset: true,
            ..Mode::words(Escape::Backslash)
        }
    }
}

/// No variable is set.
struct Empty;

impl Scope for Empty {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// Splits a text into shell words without expanding it, with quotes and escapes kept or removed.
/// `None` when quotes or braces are unbalanced.
pub(crate) fn split_raw(text: &str, keep: bool) -> Option<Vec<String>> {
    Engine::new(text, &Empty, Mode::splitting(keep))
        .run()
        .ok()
        .map(|output| output.words)
}

/// Text of an expansion, and its words if they are wanted.
pub(super) struct Output {
    pub(super) text: String,
    pub(super) words: Vec<String>,
    splits: bool,
    word: String,
}

impl Output {
    fn new(splits: bool) -> Output {
        Output {
            text: String::new(),
            words: Vec::new(),
            splits,
            word: String::new(),
        }
    }

    fn split(&mut self, ch: char) {
        if !ch.is_whitespace() {
            self.word.push(ch);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// Adds text that was quoted or escaped: it never splits.
    fn push_protected(&mut self, text: &str) {
        self.text.push_str(text);
        if self.splits {
            self.word.push_str(text);
        }
    }

    /// Adds plain text or a variable's value, in which white space is recognised.
    fn push_plain(&mut self, text: &str) {
        self.text.push_str(text);
        if self.splits {
            text.chars().for_each(|ch| self.split(ch));
        }
    }

    fn finish(mut self) -> Output {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self
    }
}

/// A look-up, by offsets into the engine's text.
pub(super) struct Lookup {
    pub(super) name: String,
    pub(super) range: Range<usize>,
    pub(super) set: bool,
    pub(super) guarded: bool,
}

/// What went wrong, by offsets into the engine's text.
pub(super) struct Failure {
    pub(super) kind: ExpandErrorKind,
    pub(super) range: Range<usize>,
}

pub(super) struct Engine<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    mode: Mode,
    scope: &'a dyn Scope,
    lookups: Vec<Lookup>,
    /// See [`super::Expanded::steps`].
    steps: usize,
}

/// A variable's value at the time of a substitution.
struct Value {
    text: String,
    set: bool,
}

impl<'a> Engine<'a> {
    pub(super) fn new(text: &'a str, scope: &'a dyn Scope, mode: Mode) -> Engine<'a> {
        Engine {
            text,
            at: 0,
            depth: 0,
            mode,
            scope,
            lookups: Vec::new(),
            steps: text.len(),
        }
    }

    pub(super) fn run(&mut self) -> Result<Output, Failure> {
        self.until(None)
    }

    pub(super) fn finish(self) -> (Vec<Lookup>, usize) {
        (self.lookups, self.steps)
    }

    /// Counts work before it is done.
    fn spend(&mut self, steps: usize, start: usize) -> Result<(), Failure> {
        self.steps = self.steps.saturating_add(steps);
        match self.steps > MAX_STEPS {
            true => Err(self.failure(ExpandErrorKind::TooLong, start)),
            false => Ok(()),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek()?;
        self.at += ch.len_utf8();
        Some(ch)
    }

    fn failure(&self, kind: ExpandErrorKind, start: usize) -> Failure {
        Failure {
            kind,
            range: start..self.at,
        }
    }

    /// Expands up to `stop`, which is consumed, or to the end of the text. Reaching the end
    /// while looking for `stop` gives no output but leaves `at` there; the caller names the error.
    fn until(&mut self, stop: Option<char>) -> Result<Output, Failure> {
        let start = self.at;
        // Of a part of a substitution only the text is wanted.
        let mut output = Output::new(self.mode.words && stop.is_none());
        while let Some(ch) = self.peek() {
            if Some(ch) == stop {
                self.next();
                return Ok(output.finish());
            }
            match ch {
                '$' => {
                    let value = self.dollar()?;
                    output.push_plain(&value);
                }
                '\'' if self.mode.quotes => output.push_protected(&self.single_quoted()?),
                '"' if self.mode.quotes => output.push_protected(&self.double_quoted()?),
                _ if ch == self.mode.escape => {
                    self.next();
                    self.escaped(&mut output, ch);
                }
                _ => output.push_plain(self.plain(stop)),
            }
        }
        match stop {
            Some(_) => Err(self.failure(ExpandErrorKind::MissingBrace, start)),
            None => Ok(output.finish()),
        }
    }

    /// Consumes the text up to the next character that may be special, but at least one.
    fn plain(&mut self, stop: Option<char>) -> &'a str {
        let rest = &self.text[self.at..];
        let escape = self.mode.escape;
        let special = |ch: char| matches!(ch, '$' | '\'' | '"') || ch == escape || Some(ch) == stop;
        let mut after_first = rest.char_indices().skip(1);
        let end = after_first.find(|&(_, ch)| special(ch));
        let end = end.map_or(rest.len(), |(at, _)| at);
        self.at += end;
        &rest[..end]
    }

    fn escaped(&mut self, output: &mut Output, escape: char) {
        let mut buffer = [0; 4];
        if self.mode.keep_escapes {
            output.push_protected(escape.encode_utf8(&mut buffer));
        }
        if let Some(ch) = self.next() {
            output.push_protected(ch.encode_utf8(&mut buffer));
        }
    }

    fn single_quoted(&mut self) -> Result<String, Failure> {
        let start = self.at;
        self.next();
        let Some(length) = self.text[self.at..].find('\'') else {
            self.at = self.text.len();
            return Err(self.failure(ExpandErrorKind::UnterminatedQuote('\''), start));
        };
        let inside = self.at..self.at + length;
        self.at = inside.end + 1;
        let kept = if self.mode.keep_quotes {
            start..self.at
        } else {
            inside
        };
        Ok(self.text[kept].to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, Failure> {
        let start = self.at;
        let mut text = String::new();
        self.next();
        if self.mode.keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    return Err(self.failure(ExpandErrorKind::UnterminatedQuote('"'), start));
                }
                Some('"') => {
                    self.next();
                    if self.mode.keep_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(ch) => {
                    self.next();
                    self.in_double_quotes(ch, &mut text);
                }
            }
        }
    }

    /// Inside double quotes the escape character protects only `"`, `$` and itself; before
    /// anything else it stays.
    fn in_double_quotes(&mut self, ch: char, text: &mut String) {
        if ch != self.mode.escape {
            text.push(ch);
            return;
        }
        if self.mode.keep_escapes {
            text.push(ch);
        }
        match self.peek() {
            None => {}
            Some(next) if next == '"' || next == '$' || next == ch => {
                self.next();
                text.push(next);
            }
            Some(_) => text.push(ch),
        }
    }

    fn dollar(&mut self) -> Result<String, Failure> {
        let start = self.at;
        self.next();
        if self.peek() == Some('{') {
            if self.depth == MAX_DEPTH {
                return Err(self.failure(ExpandErrorKind::TooDeep, start));
            }
            self.depth += 1;
            let value = self.braced(start);
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        self.look_up(name, start)
    }

    /// The rest of `${…}`, from the brace on.
    fn braced(&mut self, start: usize) -> Result<String, Failure> {
        self.next();
        match self.peek() {
            None => return Err(self.failure(ExpandErrorKind::MissingBrace, start)),
            Some('{' | '}' | ':') => {
                self.next();
                return Err(self.failure(ExpandErrorKind::BadSubstitution, start));
            }
            Some(_) => {}
        }
        let name = self.name();
        let modifier_at = self.at;
        let Some(first) = self.next() else {
            return Err(self.failure(ExpandErrorKind::MissingBrace, start));
        };
        if first == '}' {
            return self.look_up(name, start);
        }
        if first == '/' {
            return self.replace(name, start);
        }
        let empty_is_unset = first == ':';
        let operator = if empty_is_unset {
            self.next()
        } else {
            Some(first)
        };
        let modifier = &self.text[modifier_at..self.at];
        match operator {
            None => Err(self.failure(ExpandErrorKind::MissingBrace, start)),
            Some('-' | '+' | '?') => self.alternative(name, start, modifier),
            Some(operator @ ('#' | '%')) if !empty_is_unset => self.trim(name, start, operator),
            Some(_) => {
                let kind = ExpandErrorKind::UnsupportedModifier(modifier.to_owned());
                Err(self.failure(kind, start))
            }
        }
    }

    /// Expands the part of a substitution up to `stop`.
    fn part(&mut self, stop: char, keep_escapes: bool, start: usize) -> Result<String, Failure> {
        let before = std::mem::replace(&mut self.mode.keep_escapes, keep_escapes);
        let part = self.until(Some(stop));
        self.mode.keep_escapes = before;
        match part {
            Ok(output) => Ok(output.text),
            Err(Failure {
                kind: ExpandErrorKind::MissingBrace,
                ..
            }) => {
                let kind = match stop {
                    '/' => ExpandErrorKind::MissingSlash,
                    _ => ExpandErrorKind::MissingBrace,
                };
                Err(self.failure(kind, start))
            }
            Err(failure) => Err(failure),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?word}`, with or without the colon.
    fn alternative(
        &mut self,
        name: String,
        start: usize,
        modifier: &'a str,
    ) -> Result<String, Failure> {
        let word = self.part('}', false, start)?;
        let empty_is_unset = modifier.starts_with(':');
        let value = self.value(&name, start, true)?;
        if !value.set && self.mode.keep_unset {
            return Ok(self.text[start..self.at].to_owned());
        }
        let missing = !value.set || (empty_is_unset && value.text.is_empty());
        if modifier.ends_with('-') {
            return Ok(if missing { word } else { value.text });
        }
        if modifier.ends_with('+') {
            return Ok(if missing { String::new() } else { word });
        }
        if !missing {
            return Ok(value.text);
        }
        let message = match (word.is_empty(), value.set) {
            (false, _) => word,
            (true, false) => "is not allowed to be unset".to_owned(),
            (true, true) => "is not allowed to be empty".to_owned(),
        };
        Err(self.failure(ExpandErrorKind::Required { name, message }, start))
    }

    /// `${name#pattern}` and its kin: `#` and `%` shortest, doubled longest.
    fn trim(&mut self, name: String, start: usize, operator: char) -> Result<String, Failure> {
        let word = self.part('}', true, start)?;
        let value = self.value(&name, start, false)?;
        if !value.set && self.mode.keep_unset {
            return Ok(self.text[start..self.at].to_owned());
        }
        let (pattern, longest) = match word.strip_prefix(operator) {
            Some(rest) => (rest, true),
            None => (word.as_str(), false),
        };
        let glob = self.glob(pattern, &value.text, start)?;
        let kept = match operator {
            '#' => glob
                .prefix(&value.text, longest)
                .map(|end| &value.text[end..]),
            _ => glob
                .suffix(&value.text, longest)
                .map(|begin| &value.text[..begin]),
        };
        Ok(kept.map_or_else(|| value.text.clone(), str::to_owned))
    }

    /// `${name/pattern/replacement}`; a doubled first slash replaces all.
    fn replace(&mut self, name: String, start: usize) -> Result<String, Failure> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.part('/', true, start)?;
        let replacement = self.part('}', true, start)?;
        let value = self.value(&name, start, false)?;
        if !value.set && self.mode.keep_unset {
            return Ok(self.text[start..self.at].to_owned());
        }
        let glob = self.glob(&pattern, &value.text, start)?;
        let limit = MAX_STEPS.saturating_sub(self.steps);
        let replaced = glob.replace(&value.text, &replacement, all, limit);
        let replaced = replaced.ok_or_else(|| self.failure(ExpandErrorKind::TooLong, start))?;
        self.spend(replaced.len(), start)?;
        Ok(replaced)
    }

    /// Reads a pattern that is about to be matched against `text`.
    fn glob(&mut self, pattern: &str, text: &str, start: usize) -> Result<Glob, Failure> {
        let glob = Glob::parse(pattern).map_err(|reason| {
            let pattern = pattern.chars().take(MAX_SHOWN).collect();
            self.failure(ExpandErrorKind::InvalidPattern { pattern, reason }, start)
        })?;
        self.spend(glob.steps(text), start)?;
        Ok(glob)
    }

    fn value(&mut self, name: &str, start: usize, guarded: bool) -> Result<Value, Failure> {
        let scope = self.scope;
        let found = scope.get(name);
        self.spend(found.map_or(0, str::len), start)?;
        let range = start..self.at;
        let set = found.is_some();
        self.lookups.push(Lookup {
            name: name.to_owned(),
            range,
            set,
            guarded,
        });
        Ok(Value {
            text: found.unwrap_or_default().to_owned(),
            set,
        })
    }

    /// The value of a plain `$name` or `${name}` that was read completely.
    fn look_up(&mut self, name: String, start: usize) -> Result<String, Failure> {
        let value = self.value(&name, start, false)?;
        if !value.set && self.mode.keep_unset {
            return Ok(self.text[start..self.at].to_owned());
        }
        Ok(value.text)
    }

    /// Reads a name: letters, digits and underscores; or a run of digits; or one special
    /// character. Empty when there is none of these.
    fn name(&mut self) -> String {
        let rest = &self.text[self.at..];
        let length = match rest.chars().next() {
            Some(ch) if ch.is_numeric() => {
                rest.find(|ch: char| !ch.is_numeric()).unwrap_or(rest.len())
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            Some(_) => rest
                .find(|ch: char| !(ch.is_alphabetic() || ch.is_numeric() || ch == '_'))
                .unwrap_or(rest.len()),
            None => 0,
        };
        self.at += length;
        rest[..length].to_owned()
    }
}
