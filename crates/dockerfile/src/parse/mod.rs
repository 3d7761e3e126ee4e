//! From text to tree.
//!
//! [`lines`] makes logical lines, [`instruction`] and its siblings read one each, and this
//! module puts them together to stages. An instruction that cannot be read is left out of the
//! tree and reported; the next one is read as if nothing had happened.

mod directive;
mod flags;
mod fragment;
mod healthcheck;
mod heredoc;
mod instruction;
mod json;
mod lines;
mod run;
mod stages;
mod transfer;

use crate::ast::{Comment, Dockerfile, Instruction};
use crate::diagnostic::Diagnostic;
use crate::lint::{SkipComment, check_tree};
use crate::source::{Source, Span};
use crate::word::Escape;
use instruction::{Statement, shell_or_exec};
use lines::{Item, Lines};
use stages::Stages;

/// What a part of an instruction is, or why it cannot be read. A diagnostic is large and rare.
type Parsed<T> = Result<T, Box<Diagnostic>>;

/// A parsed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse {
    /// The tree. When there are errors, the instructions they are about are missing in it.
    pub dockerfile: Dockerfile,
    /// Errors and checks in the order of the file, `# check=` not applied yet
    /// ([`crate::lint::Checks::apply`]).
    pub diagnostics: Vec<Diagnostic>,
}

/// A parsed `ONBUILD` trigger of an image config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedTrigger {
    /// The trigger's text, which the spans point into.
    pub source: Source,
    /// The instruction, if there is no error.
    pub instruction: Option<Instruction>,
    /// Errors; places are in [`ParsedTrigger::source`].
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a Dockerfile. Never fails: what is wrong is in the diagnostics.
pub fn parse(bytes: &[u8]) -> Parse {
    let source = Source::new(bytes);
    let mut lines = Lines::new(&source);
    let directives = directive::read(&mut lines);
    let mut stages = Stages::default();
    let mut comments = Vec::new();
    while let Some(item) = lines.next_item() {
        match item {
            Item::Comment(comment) if comment.text.is_empty() => comments.clear(),
            Item::Comment(comment) => comments.push(comment),
            Item::Blank => comments.clear(),
            Item::Instruction(line) => {
                let mut node = instruction::read(&mut lines, &line, directives.escape);
                node.comments = std::mem::take(&mut comments);
                node.skip = skip_comment(&node.comments);
                stages.add(node, &mut lines.diagnostics);
            }
        }
    }
    let Lines {
        tokens,
        mut diagnostics,
        ..
    } = lines;
    stages.finish(&mut diagnostics);
    let dockerfile = Dockerfile {
        directives: directives.list,
        escape: directives.escape,
        syntax: directive::syntax(&source),
        checks: directive::checks_after_shebang(&source).unwrap_or(directives.checks),
        global_args: stages.global_args,
        stages: stages.stages,
        loss: stages.loss,
        tokens,
        source,
    };
    diagnostics.extend(check_tree(&dockerfile));
    diagnostics.sort_by_key(|diagnostic| diagnostic.span().unwrap_or_default().start);
    Parse {
        dockerfile,
        diagnostics,
    }
}

/// Parses one trigger as it stands in an image config, under the default escape character.
pub fn parse_trigger(text: &str) -> ParsedTrigger {
    let source = Source::new(text.as_bytes());
    let mut lines = Lines::new(&source);
    let mut instruction = None;
    let mut refused = None;
    while let Some(item) = lines.next_item() {
        let Item::Instruction(line) = item else {
            continue;
        };
        let node = instruction::read(&mut lines, &line, Escape::Backslash);
        let place = node.keyword.span;
        let refusal = instruction::refused_as_trigger(&node.keyword.value);
        let (frame, statement) = node.split();
        if instruction.is_some() {
            refused = Some((place, "a trigger is one instruction".to_owned()));
        } else if let Some(reason) = refusal {
            refused = Some((place, reason));
        } else if let Statement::Instruction(kind) = statement {
            instruction = Some(frame.with(kind));
        }
    }
    let mut diagnostics = lines.diagnostics;
    if let Some((place, reason)) = refused {
        diagnostics.push(Diagnostic::error("invalid-trigger", place, reason));
    }
    if instruction.is_none() && diagnostics.is_empty() {
        let place = Span::new(0, text.len());
        let message = "the trigger holds no instruction";
        diagnostics.push(Diagnostic::error("invalid-trigger", place, message));
    }
    let failed = diagnostics.iter().any(Diagnostic::is_error);
    ParsedTrigger {
        instruction: instruction.filter(|_| !failed),
        diagnostics,
        source,
    }
}

/// Reads the skip comments among the comments above an instruction.
fn skip_comment(comments: &[Comment]) -> SkipComment {
    let skips = comments
        .iter()
        .filter_map(|comment| SkipComment::parse(&comment.text));
    skips.fold(SkipComment::default(), |all, skip| SkipComment {
        rules: all.rules.union(skip.rules),
    })
}
