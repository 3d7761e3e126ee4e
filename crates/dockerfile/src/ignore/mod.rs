//! `.dockerignore`: which paths of a context are hidden, and which line hides them.
//!
//! The rules are those of moby's `patternmatcher` as BuildKit's context walk applies them, not
//! those of git: patterns are anchored at the root, `*` and `?` stop at slashes, `**` does not,
//! a pattern that matches a directory covers what is below, `!` takes paths back, and the last
//! matching line wins. The same rules serve `COPY --exclude`.
//!
//! A walk goes down with [`IgnoreFile::root`], [`IgnoreFile::entry`] and [`Verdict::enter`]; a
//! directory's state remembers how far every pattern has come, so an entry costs the length of
//! its name. This module reads no file system.

mod pattern;

use thiserror::Error;

use crate::source::Span;
use pattern::Pattern;
pub use pattern::PatternError;

/// A parsed ignore file, or a list of patterns under its rules.
#[derive(Clone, Debug, Default)]
pub struct IgnoreFile {
    rules: Vec<IgnoreRule>,
}

/// One line of an ignore file that is neither blank nor a comment.
#[derive(Clone, Debug)]
pub struct IgnoreRule {
    /// The pattern, cleaned, without the `!`.
    pub pattern: String,
    /// The line starts with `!`: matching paths are taken back.
    pub includes: bool,
    /// Line number, counted from 1; for a list of patterns the position in it.
    pub line: usize,
    /// The line's text in the file, without surrounding white space.
    pub span: Span,
    compiled: Pattern,
}

/// A line that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read pattern `{pattern}` of line {line}")]
pub struct IgnoreError {
    /// Line number, counted from 1; for a list of patterns the position in it.
    pub line: usize,
    /// The line's text in the file, without surrounding white space.
    pub span: Span,
    /// The line as written.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub problem: PatternError,
}

/// How far the rules have come at a directory: what a walk keeps per level.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Rules that matched this directory or one above it.
    matched: Vec<bool>,
    /// The positions of every pattern after the directory's path and a slash, rule by rule.
    positions: Vec<u64>,
}

/// What the rules say about one path.
#[derive(Clone, Debug)]
pub struct Verdict {
    ignored: bool,
    decided_by: Option<usize>,
    /// Each pattern after the path, without a slash.
    directory: Directory,
    /// Rules whose pattern matches this very path.
    hits: Vec<usize>,
}

impl IgnoreFile {
    /// Reads an ignore file: one pattern a line, `#` in the first column for comments, a byte
    /// order mark and white space around a line dropped. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// One error for each line that is no pattern.
    pub fn parse(bytes: &[u8]) -> Result<IgnoreFile, Vec<IgnoreError>> {
        let mut file = IgnoreFile::default();
        let mut errors = Vec::new();
        let mut start = 0;
        for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line_start = start;
            start += raw.len() + 1;
            let (raw, line_start) = match raw.strip_prefix("\u{feff}".as_bytes()) {
                Some(rest) if index == 0 => (rest, line_start + 3),
                _ => (raw, line_start),
            };
            let line = String::from_utf8_lossy(raw);
            let text = line.trim();
            if line.starts_with('#') || text.is_empty() {
                continue;
            }
            let begin = line_start + (line.len() - line.trim_start().len());
            let span = Span::new(begin, begin + text.len());
            match IgnoreRule::parse(text, &normalise_line(text), index + 1, span) {
                Ok(rule) => file.rules.extend(rule),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(file)
        } else {
            Err(errors)
        }
    }

    /// Takes a list of patterns (`--exclude`, or [`IgnoreFile::patterns`] of another file).
    /// Blank ones are dropped; `#` starts no comment here, and a leading slash stays, so that
    /// the pattern matches nothing.
    ///
    /// # Errors
    /// The first entry that is no pattern.
    pub fn from_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<IgnoreFile, IgnoreError> {
        let rules = patterns
            .into_iter()
            .enumerate()
            .map(|(at, text)| IgnoreRule::parse(text, text, at + 1, Span::new(0, text.len())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(IgnoreFile {
            rules: rules.into_iter().flatten().collect(),
        })
    }

    /// Returns the rules in the order of the file.
    pub fn rules(&self) -> &[IgnoreRule] {
        &self.rules
    }

    /// Returns the cleaned patterns in the order of the file, `!` included.
    pub fn patterns(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }

    /// Tells whether some line takes paths back.
    pub fn has_inclusions(&self) -> bool {
        self.rules.iter().any(|rule| rule.includes)
    }

    /// Returns the state at the root, which is never ignored itself.
    pub fn root(&self) -> Directory {
        let words = self.rules.iter().map(|rule| rule.compiled.words()).sum();
        let mut positions = vec![0; words];
        for (rule, words) in self.split(&mut positions) {
            rule.compiled.start(words);
        }
        Directory {
            matched: vec![false; self.rules.len()],
            positions,
        }
    }

    /// Deals out the words of all rules' positions.
    fn split<'a>(
        &'a self,
        mut positions: &'a mut [u64],
    ) -> impl Iterator<Item = (&'a IgnoreRule, &'a mut [u64])> {
        self.rules.iter().map(move |rule| {
            let (words, rest) = std::mem::take(&mut positions).split_at_mut(rule.compiled.words());
            positions = rest;
            (rule, words)
        })
    }

    /// Moves every pattern on by `text`.
    fn advance(&self, positions: &mut [u64], text: &str) {
        let mut scratch = [0];
        for (rule, words) in self.split(positions) {
            match words.len() {
                1 => rule.compiled.advance(words, text, &mut scratch),
                long => rule.compiled.advance(words, text, &mut vec![0; long]),
            }
        }
    }

    /// Judges the entry `name` of a directory. `name` holds no slash.
    pub fn entry(&self, parent: &Directory, name: &str) -> Verdict {
        let Directory {
            mut matched,
            mut positions,
        } = parent.clone();
        self.advance(&mut positions, name);
        let mut ignored = false;
        let mut decided_by = None;
        let mut hits = Vec::new();
        for (index, (rule, words)) in self.split(&mut positions).enumerate() {
            let hit = rule.compiled.accepts(words);
            if hit {
                hits.push(index);
            }
            // A rule that could not change the verdict is not remembered for what is below.
            matched[index] |= hit && rule.includes == ignored;
            if matched[index] {
                ignored = !rule.includes;
                decided_by = Some(index);
            }
        }
        Verdict {
            ignored,
            decided_by,
            directory: Directory { matched, positions },
            hits,
        }
    }

    /// Judges a path relative to the root, separated by slashes. Empty and `.` components are
    /// skipped; the root itself is not ignored.
    pub fn decide(&self, path: &str) -> Verdict {
        let root = Verdict {
            ignored: false,
            decided_by: None,
            directory: self.root(),
            hits: Vec::new(),
        };
        let mut components = path
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".");
        let Some(first) = components.next() else {
            return root;
        };
        components.fold(self.entry(&root.directory, first), |verdict, name| {
            self.entry(&verdict.enter(self), name)
        })
    }

    /// Tells whether something below an ignored directory may still be taken back; if not, a
    /// walk need not enter it.
    pub fn may_include_below(&self, directory: &Directory) -> bool {
        let mut possible = false;
        let mut words = directory.positions.as_slice();
        for (rule, matched) in self.rules.iter().zip(&directory.matched) {
            let (own, rest) = words.split_at(rule.compiled.words());
            words = rest;
            if rule.includes {
                possible |= own.iter().any(|word| *word != 0);
            } else if *matched {
                // Whatever an earlier line takes back, this one covers again.
                possible = false;
            }
        }
        possible
    }
}

impl IgnoreRule {
    /// Makes a rule of a pattern; `None` when it is blank. Errors show it `as_written`.
    fn parse(
        as_written: &str,
        pattern: &str,
        line: usize,
        span: Span,
    ) -> Result<Option<IgnoreRule>, IgnoreError> {
        let error = |problem| IgnoreError {
            line,
            span,
            pattern: as_written.to_owned(),
            problem,
        };
        let read = match pattern.trim() {
            "" => return Ok(None),
            pattern => clean(pattern),
        };
        let (includes, pattern) = match read.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, read.as_str()),
        };
        if pattern.is_empty() {
            return if includes {
                Err(error(PatternError::LoneExclamation))
            } else {
                Ok(None)
            };
        }
        let compiled = Pattern::compile(pattern).map_err(error)?;
        Ok(Some(IgnoreRule {
            pattern: pattern.to_owned(),
            includes,
            line,
            span,
            compiled,
        }))
    }

    /// Returns the pattern that matches at any depth what this one matches only at the root, for
    /// a pattern of a single component (`node_modules` → `**/node_modules`).
    pub fn at_any_depth(&self) -> Option<String> {
        let single = !self.pattern.contains('/') && !self.pattern.starts_with("**");
        single.then(|| {
            format!(
                "{}**/{}",
                if self.includes { "!" } else { "" },
                self.pattern
            )
        })
    }
}

/// The cleaned line.
impl std::fmt::Display for IgnoreRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}{}",
            if self.includes { "!" } else { "" },
            self.pattern
        )
    }
}

impl Verdict {
    /// Tells whether the path is hidden.
    pub fn is_ignored(&self) -> bool {
        self.ignored
    }

    /// Returns the rule that decided, if any matched: the one to name in a message.
    pub fn decided_by<'a>(&self, file: &'a IgnoreFile) -> Option<&'a IgnoreRule> {
        file.rules.get(self.decided_by?)
    }

    /// Returns the positions in [`IgnoreFile::rules`] of the rules whose pattern matches this
    /// very path, whether or not they decide.
    pub fn hits(&self) -> &[usize] {
        &self.hits
    }

    /// Returns the state below the path, which is a directory of a walk of `file`.
    pub fn enter(&self, file: &IgnoreFile) -> Directory {
        let mut directory = self.directory.clone();
        file.advance(&mut directory.positions, "/");
        directory
    }
}

/// Brings a line of an ignore file into the form of a pattern: the leading slash goes. moby
/// cleans a pattern once more when it makes the matcher, so `/!x` takes back and `!/` is none.
fn normalise_line(text: &str) -> String {
    let (sign, body) = match text.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", text),
    };
    let body = if body.is_empty() {
        String::new()
    } else {
        clean(body)
    };
    match body.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => format!("{sign}{rest}"),
        _ => format!("{sign}{body}"),
    }
}

/// Shortens a path lexically as Go's `path.Clean` does: no empty, `.` or inner `..` component.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        match (part, kept.last()) {
            ("..", Some(last)) if *last != ".." => {
                kept.pop();
            }
            ("..", None) if rooted => {}
            _ => kept.push(part),
        }
    }
    match (rooted, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

#[cfg(test)]
mod tests;
