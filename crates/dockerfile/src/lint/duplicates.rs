//! The check for a `RUN` that stores a `COPY`'s files a second time by changing their owner or
//! mode. It reads shell text by its words only: where quotes, variables or relative paths without
//! a known `WORKDIR` make the path uncertain, nothing is reported.

use super::Rule;
use crate::ast::{Instruction, InstructionKind, ShellOrExec, Stage, Transfer};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// Most `COPY`s of a stage that are remembered, the last ones: nobody changes the owner of a tree
/// after a hundred others, and every change looks at all of them.
const MAX_FILLED: usize = 100;

/// A directory that a `COPY` or `ADD` of the stage filled.
struct Filled {
    path: String,
    /// `COPY` or `ADD`.
    by: &'static str,
    span: Span,
}

/// A recursive `chown`, `chgrp` or `chmod` in shell text.
struct Change<'a> {
    /// The flag of `COPY` that does the same.
    flag: &'static str,
    /// The new owner or mode, as that flag takes it.
    value: String,
    paths: Vec<&'a str>,
}

/// Reports the changes of one stage.
pub(super) fn check(stage: &Stage, found: &mut Vec<Diagnostic>) {
    let mut workdir = None;
    let mut filled: Vec<Filled> = Vec::new();
    for instruction in &stage.instructions {
        match &instruction.value {
            InstructionKind::Workdir(path) => workdir = absolute(workdir.as_deref(), path.text()),
            InstructionKind::Copy(copy) => {
                filled.extend(fill(
                    workdir.as_deref(),
                    &copy.transfer,
                    "COPY",
                    instruction.span,
                ));
            }
            InstructionKind::Add(add) => {
                filled.extend(fill(
                    workdir.as_deref(),
                    &add.transfer,
                    "ADD",
                    instruction.span,
                ));
            }
            InstructionKind::Run(run) => {
                if let ShellOrExec::Shell(text) = &run.command {
                    let changes = text.text().split(['&', ';', '|', '\n']).filter_map(change);
                    for change in changes {
                        report(instruction, workdir.as_deref(), &change, &filled, found);
                    }
                }
            }
            _ => {}
        }
        if filled.len() > MAX_FILLED {
            filled.remove(0);
        }
    }
}

fn fill(
    workdir: Option<&str>,
    transfer: &Transfer,
    by: &'static str,
    span: Span,
) -> Option<Filled> {
    let path = absolute(workdir, transfer.destination.text())?;
    Some(Filled { path, by, span })
}

fn report(
    run: &Instruction,
    workdir: Option<&str>,
    change: &Change<'_>,
    filled: &[Filled],
    found: &mut Vec<Diagnostic>,
) {
    let paths = change
        .paths
        .iter()
        .filter_map(|path| absolute(workdir, path));
    for path in paths.filter(|path| path != "/") {
        // An unpacked archive takes `--chown`, but not `--chmod`.
        let takes = |copy: &&Filled| copy.by == "COPY" || change.flag == "--chown";
        let within = |copy: &&Filled| is_within(&copy.path, &path);
        let Some(copy) = filled.iter().filter(takes).rfind(within) else {
            continue;
        };
        let message = format!("this RUN stores the files below {path} a second time");
        found.push(
            Diagnostic::check(Rule::ChownDuplicatesCopy, run.span, message)
                .with_remark("changes every file, so its layer holds them all again")
                .with_label(copy.span, "stores them first")
                .with_help(format!(
                    "write `{} {}={} …` instead",
                    copy.by, change.flag, change.value
                )),
        );
        return;
    }
}

/// Reads one simple command.
fn change(command: &str) -> Option<Change<'_>> {
    if command.contains(['\'', '"', '`', '(', '<', '>']) {
        return None;
    }
    let mut words = command.split_whitespace();
    let flag = match words.next()? {
        "chown" | "chgrp" => "--chown",
        "chmod" => "--chmod",
        _ => return None,
    };
    let group = command.trim_start().starts_with("chgrp");
    let (options, mut operands): (Vec<&str>, Vec<&str>) =
        words.partition(|word| word.starts_with('-') && word.len() > 1);
    let recursive = |option: &&str| match option.strip_prefix("--") {
        Some(long) => long == "recursive",
        None => option.contains('R'),
    };
    if !options.iter().any(recursive) || operands.len() < 2 {
        return None;
    }
    let value = operands.remove(0);
    let value = if group {
        format!("<user>:{value}")
    } else {
        value.to_owned()
    };
    Some(Change {
        flag,
        value,
        paths: operands,
    })
}

/// Makes a path absolute and drops its last slash; `None` when it cannot be known.
fn absolute(workdir: Option<&str>, path: &str) -> Option<String> {
    if path.contains(['$', '\'', '"', '\\', '*', '?', '['])
        || path.split('/').any(|part| part == "..")
    {
        return None;
    }
    let base = if path.starts_with('/') { "" } else { workdir? };
    let parts = base.split('/').chain(path.split('/'));
    let kept: Vec<&str> = parts
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    Some(format!("/{}", kept.join("/")))
}

/// Tells whether `path` is `directory` or lies below it.
fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
