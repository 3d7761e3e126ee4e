//! Which checks are on: the value of `# check=`, and skip comments above instructions.

use thiserror::Error;

use super::{Level, Rule, RuleSet};
use crate::ast::Dockerfile;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::source::Span;

/// What a file (or `BUILDKIT_DOCKERFILE_CHECK` instead of it) says about build checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Checks that are off.
    pub skip: RuleSet,
    /// Experimental checks that are on.
    pub experimental: RuleSet,
    /// A finding stops the build.
    pub error: bool,
    /// Names that no check has, as written.
    pub unknown: Vec<String>,
}

/// Why the value of `# check=` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChecksError {
    /// A part without an equals sign.
    #[error("read check option `{0}`: it has no value")]
    NoValue(String),
    /// A part whose key is neither `skip`, `error` nor `experimental`.
    #[error("read check option `{0}`: there are `skip`, `error` and `experimental`")]
    UnknownKey(String),
    /// A value of `error` that is no boolean.
    #[error("read check option `error={0}`: the value is neither true nor false")]
    NotBoolean(String),
}

impl Checks {
    /// Reads `skip=A,B|all;error=true;experimental=A|all`, in any order, each part at most once
    /// effective. Names that no check has are kept in [`Checks::unknown`].
    ///
    /// # Errors
    /// When a part has no value or a key that does not exist.
    pub fn parse(value: &str) -> Result<Checks, ChecksError> {
        let mut checks = Checks::default();
        if value.trim().is_empty() {
            return Ok(checks);
        }
        for part in value.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(ChecksError::NoValue(part.trim().to_owned()));
            };
            let value = value.trim();
            match key.trim() {
                "skip" => checks.skip = read_names(value, &mut checks.unknown),
                "experimental" => checks.experimental = read_names(value, &mut checks.unknown),
                "error" => {
                    checks.error = parse_bool(value)
                        .ok_or_else(|| ChecksError::NotBoolean(value.to_owned()))?;
                }
                key => return Err(ChecksError::UnknownKey(key.to_owned())),
            }
        }
        Ok(checks)
    }

    /// Tells whether findings of a rule are reported at all: an experimental one exactly if it was
    /// asked for, another unless it is skipped.
    pub fn is_on(&self, rule: Rule) -> bool {
        match rule.info().level {
            Level::Warning => !self.skip.contains(rule),
            Level::Experimental => self.experimental.contains(rule),
        }
    }

    /// Drops findings of checks that are off, here or by a comment above their instruction, and
    /// makes the others errors if the file says so. What is not a check passes unchanged.
    pub fn apply(&self, file: &Dockerfile, diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        if diagnostics.is_empty() {
            return diagnostics;
        }
        let skips = skip_comments(file);
        diagnostics
            .into_iter()
            .filter_map(|mut diagnostic| {
                let Code::Check(rule) = diagnostic.code else {
                    return Some(diagnostic);
                };
                let skipped = diagnostic
                    .span()
                    .and_then(|span| enclosing(&skips, span.start))
                    .is_some_and(|skip| skip.rules.contains(rule));
                if skipped || !self.is_on(rule) {
                    return None;
                }
                if self.error {
                    diagnostic.severity = Severity::Error;
                }
                Some(diagnostic)
            })
            .collect()
    }
}

/// What `# check=skip=…` comments directly above an instruction say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkipComment {
    /// Checks that are off for the instruction.
    pub rules: RuleSet,
}

impl SkipComment {
    /// Reads a comment's text; `None` when it is no skip comment.
    pub(crate) fn parse(comment: &str) -> Option<SkipComment> {
        let value = comment
            .strip_prefix("check")?
            .trim_start()
            .strip_prefix('=')?;
        let checks = Checks::parse(value).ok()?;
        (!checks.skip.is_empty()).then_some(SkipComment { rules: checks.skip })
    }
}

/// Spans of the instructions that have skip comments, in the order of the file.
fn skip_comments(file: &Dockerfile) -> Vec<(Span, SkipComment)> {
    let globals = file.global_args.iter().map(|node| (node.span, node.skip));
    let stages = file.stages.iter().flat_map(|stage| {
        let instructions = stage.instructions.iter().map(|node| (node.span, node.skip));
        std::iter::once((stage.from.span, stage.from.skip)).chain(instructions)
    });
    globals
        .chain(stages)
        .filter(|(_, skip)| !skip.rules.is_empty())
        .collect()
}

fn enclosing(skips: &[(Span, SkipComment)], offset: usize) -> Option<SkipComment> {
    let next = skips.partition_point(|(span, _)| span.start <= offset);
    let (span, skip) = skips.get(next.checked_sub(1)?)?;
    span.touches(offset).then_some(*skip)
}

fn read_names(list: &str, unknown: &mut Vec<String>) -> RuleSet {
    if list == "all" {
        return RuleSet::ALL;
    }
    let mut rules = RuleSet::default();
    for name in list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        match Rule::by_name(name) {
            Some(rule) => rules.insert(rule),
            None => unknown.push(name.to_owned()),
        }
    }
    rules
}

/// The spellings of Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Result<(&str, &str, bool), &str>) {
        let read = Checks::parse(value);
        let shown = read.as_ref().map(|checks| {
            (
                format!("{:?}", checks.skip),
                format!("{:?}", checks.experimental),
                checks.error,
            )
        });
        match (shown, expected) {
            (Ok((skip, experimental, error)), Ok(expected)) => {
                assert_eq!((skip.as_str(), experimental.as_str(), error), expected);
            }
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (shown, expected) => panic!("{shown:?} is not {expected:?}"),
        }
    }

    #[test]
    fn reads_check_values() {
        check("", Ok(("{}", "{}", false)));
        check(
            " skip= JSONArgsRecommended , stagenamecasing ; error = true",
            Ok(("{StageNameCasing, JSONArgsRecommended}", "{}", true)),
        );
        check(
            "experimental=InvalidDefinitionDescription;error=0",
            Ok(("{}", "{InvalidDefinitionDescription}", false)),
        );
        check("skip", Err("read check option `skip`: it has no value"));
        check(
            "skip=a;b=c",
            Err("read check option `b`: there are `skip`, `error` and `experimental`"),
        );
        check(
            "error=maybe",
            Err("read check option `error=maybe`: the value is neither true nor false"),
        );
        assert_eq!(
            Checks::parse("skip=all").map(|checks| checks.skip),
            Ok(RuleSet::ALL)
        );
        assert_eq!(
            Checks::parse("skip=Nope").map(|c| c.unknown),
            Ok(vec!["Nope".to_owned()])
        );
    }
}
