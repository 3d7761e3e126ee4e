//! What it costs when a `RUN` stores the files of a `COPY` a second time: the size of what that
//! `COPY` takes from the context. Only `--check` looks, since it takes a walk through the sources.

use std::path::Path;

use dockerfile::ast::{Instruction, InstructionKind, Transfer};
use dockerfile::ignore::{Directory, IgnoreFile};
use dockerfile::lint::Rule;
use dockerfile::{Code, Diagnostic, Dockerfile};

use super::context::ContextTree;

/// Entries that are looked at for one finding; a larger tree is counted so far.
const MOST_ENTRIES: usize = 200_000;

/// Notes the cost at each finding whose `COPY` names its sources without wildcards and variables.
pub(super) fn note_costs(file: &Dockerfile, tree: &ContextTree, found: &mut [Diagnostic]) {
    for finding in found {
        let Some(copy) = copy_of(file, finding) else {
            continue;
        };
        if let Some(note) = cost(copy, tree) {
            finding.notes.push(note);
        }
    }
}

/// The `COPY` or `ADD` from the context that a finding says is stored twice.
fn copy_of<'f>(file: &'f Dockerfile, finding: &Diagnostic) -> Option<&'f Transfer> {
    let place = match finding.code {
        Code::Check(Rule::ChownDuplicatesCopy) => finding.labels.get(1)?.span,
        _ => return None,
    };
    let all = file.stages.iter().flat_map(|stage| &stage.instructions);
    let written = |instruction: &&Instruction| instruction.span == place;
    match &all.into_iter().find(written)?.value {
        InstructionKind::Copy(copy) if copy.from.is_none() => Some(&copy.transfer),
        InstructionKind::Add(add) => Some(&add.transfer),
        _ => None,
    }
}

fn cost(copy: &Transfer, tree: &ContextTree) -> Option<String> {
    let nothing = IgnoreFile::default();
    let rules = tree
        .ignore
        .as_ref()
        .map_or(&nothing, |source| &source.rules);
    let mut sum = Sum {
        rules,
        files: 0,
        bytes: 0,
        left: MOST_ENTRIES,
    };
    for source in &copy.sources {
        let text = source.text();
        let odd = |ch: char| "*?[\\$'\"".contains(ch);
        if text.contains(odd) || text.contains("://") || text.split('/').any(|part| part == "..") {
            return None;
        }
        let path = tree.root.join(text.trim_start_matches('/'));
        let verdict = rules.decide(text);
        if verdict.is_ignored() && !rules.has_inclusions() {
            continue;
        }
        sum.entry(&path, verdict.is_ignored(), &verdict.enter(rules));
    }
    (sum.files > 0).then(|| sum.to_string())
}

struct Sum<'r> {
    rules: &'r IgnoreFile,
    files: usize,
    bytes: u64,
    left: usize,
}

impl Sum<'_> {
    fn entry(&mut self, path: &Path, ignored: bool, below: &Directory) {
        // What cannot be read costs nothing that a build could see.
        let Ok(metadata) = std::fs::symlink_metadata(path) else {
            return;
        };
        if !metadata.is_dir() {
            if !ignored {
                self.files += 1;
                self.bytes += metadata.len();
            }
            return;
        }
        let Ok(entries) = std::fs::read_dir(path) else {
            return;
        };
        for entry in entries.flatten() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let name = entry.file_name();
            let verdict = self.rules.entry(below, &name.to_string_lossy());
            let below = verdict.enter(self.rules);
            if verdict.is_ignored() && !self.rules.may_include_below(&below) {
                continue;
            }
            self.entry(&path.join(name), verdict.is_ignored(), &below);
        }
    }
}

impl std::fmt::Display for Sum<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (files, bytes) = (self.files, self.bytes);
        let plural = if files == 1 { "file" } else { "files" };
        let more = if self.left == 0 { "more than " } else { "" };
        write!(
            f,
            "that is {more}{files} {plural}, {bytes} bytes, once more in the image"
        )
    }
}
