//! The build check for patterns of an ignore file that match nothing: typing mistakes, and leftovers
//! of files that are gone. Builds do not look, since it takes a walk through all that is ignored.

use std::ffi::OsStr;
use std::path::Path;

use dockerfile::ignore::{Directory, IgnoreFile};
use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Span};

use super::context::ContextTree;

/// Entries that are looked at; a larger tree gets no verdict.
const MOST_ENTRIES: usize = 200_000;

/// One warning for each pattern that matches no path of the context.
pub(super) fn check(tree: &ContextTree) -> Vec<Diagnostic> {
    let Some(source) = &tree.ignore else {
        return Vec::new();
    };
    let mut search = Search {
        rules: &source.rules,
        hit: vec![false; source.rules.rules().len()],
        left: MOST_ENTRIES,
    };
    search.directory(&tree.root, &source.rules.root());
    if search.left == 0 {
        return Vec::new();
    }
    let unmatched = source.rules.rules().iter().zip(search.hit);
    unmatched
        .filter(|(_, hit)| !hit)
        .map(|(rule, _)| {
            let message = format!("{}:{}: `{rule}` matches no file", source.name, rule.line);
            let rule_name = Rule::IgnorePatternMatchesNothing;
            let mut finding = Diagnostic::check(rule_name, Span::new(0, 0), message).with_help_if(
                rule.at_any_depth().map(|deep| {
                    format!("patterns begin at the context's root: `{deep}` matches at any depth")
                }),
            );
            // It is about another file than the Dockerfile.
            finding.labels.clear();
            finding
        })
        .collect()
}

struct Search<'s> {
    rules: &'s IgnoreFile,
    hit: Vec<bool>,
    left: usize,
}

impl Search<'_> {
    fn directory(&mut self, path: &Path, state: &Directory) {
        // What cannot be read matches nothing that a build could see.
        let Ok(entries) = std::fs::read_dir(path) else {
            return;
        };
        for entry in entries.flatten() {
            if self.left == 0 || self.hit.iter().all(|hit| *hit) {
                return;
            }
            self.left -= 1;
            let name: &OsStr = &entry.file_name();
            let verdict = self.rules.entry(state, &name.to_string_lossy());
            for &rule in verdict.hits() {
                self.hit[rule] = true;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.directory(&path.join(name), &verdict.enter(self.rules));
            }
        }
    }
}
