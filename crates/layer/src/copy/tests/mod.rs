//! The rules of `COPY` and `ADD` as cases: a tree, a source, an instruction, the tree that results.

mod archives;
mod layers;
mod property;
mod rules;

use std::sync::Arc;

use super::*;
use crate::mem::{MemView, scratch};
use crate::owner::OwnerSpec;
use crate::pattern::{Pattern, Wildcards};
use crate::select::{Naming, Origin, SelectError, Selector, select};
use crate::{Data, Filter};

const NOW: Time = Time {
    seconds: 99,
    nanos: 0,
};

/// `--exclude` patterns; the last one that matches a path or a directory above it decides.
struct Excludes(Vec<(bool, Pattern)>);

impl Filter for Excludes {
    fn excludes(&self, path: &RelPath, _is_dir: bool) -> bool {
        let mut excluded = false;
        for (again, pattern) in &self.0 {
            let mut at = Some(path.clone());
            while let Some(path) = at.filter(|p| !p.is_root()) {
                if pattern.matches(path.as_bytes()) {
                    excluded = !again;
                    break;
                }
                at = path.parent();
            }
        }
        excluded
    }

    fn prunes(&self, _dir: &RelPath) -> bool {
        self.0.iter().all(|(again, _)| !again)
    }
}

/// An instruction as text: `[--from] [--link] [--parents] [--git] [--chown=] [--chmod=]
/// [--exclude=]… source… destination`. Without `--from` the source is a context.
struct Instruction {
    selector: Selector,
    target: Target,
    chown: Option<Ids>,
    reset_owner: bool,
}

#[track_caller]
fn instruction(text: &str) -> Instruction {
    let (flags, words): (Vec<&str>, Vec<&str>) =
        text.split_whitespace().partition(|w| w.starts_with("--"));
    let has = |flag: &str| flags.contains(&flag);
    let values = |flag: &'static str| flags.iter().filter_map(move |f| f.strip_prefix(flag));
    let excludes = values("--exclude=").map(|text| {
        let (again, text) = text
            .strip_prefix('!')
            .map_or((false, text), |text| (true, text));
        (
            again,
            Pattern::parse(text.as_bytes(), Wildcards::Deep).unwrap(),
        )
    });
    let excludes: Vec<_> = excludes.collect();
    let (dest, sources) = words.split_last().unwrap();
    let exclude = (!excludes.is_empty()).then(|| Arc::new(Excludes(excludes)) as Arc<dyn Filter>);
    Instruction {
        selector: Selector {
            paths: sources.iter().map(|s| s.as_bytes().to_vec()).collect(),
            exclude,
            naming: if has("--parents") {
                Naming::Parents
            } else {
                Naming::Contents
            },
            origin: match has("--from") {
                true => Origin::Tree,
                false => Origin::Context {
                    git_modes: has("--git"),
                },
            },
        },
        target: Target {
            dest: dest.as_bytes().to_vec(),
            dest_is_dir: dest.ends_with('/') || dest.ends_with("/."),
            mode: values("--chmod=")
                .next()
                .map(|m| ModeChange::parse(m).unwrap()),
            follow_links: !has("--link"),
        },
        chown: values("--chown=")
            .next()
            .map(|o| OwnerSpec::parse(o).ids().unwrap()),
        reset_owner: !has("--from"),
    }
}

fn select_in(source: &MemView, instruction: &Instruction) -> Result<Selection, SelectError> {
    select(source, &instruction.selector, &scratch())
}

fn action(source: &Arc<MemView>, text: &str) -> Result<Action, SelectError> {
    let instruction = instruction(text);
    let selection = select_in(source, &instruction)?;
    let Instruction {
        target,
        chown,
        reset_owner,
        ..
    } = instruction;
    let view: Arc<dyn View> = Arc::clone(source) as _;
    Ok(Action::Copy(Copy {
        view,
        selection,
        target,
        chown,
        reset_owner,
        archives: Vec::new(),
    }))
}

#[track_caller]
fn layer(base: &str, actions: Vec<Action>) -> Result<Vec<(RelPath, Change)>, CopyError> {
    let base: Arc<dyn View> = Arc::new(MemView::parse(base));
    let changes = plan(Some(&base), actions, NOW, &scratch())?
        .to_vec()
        .unwrap();
    assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "{changes:?}");
    Ok(changes)
}

/// The tree after `changes`, times left out.
#[track_caller]
fn outcome(base: &str, changes: &[(RelPath, Change)]) -> String {
    let mut tree = MemView::parse(base);
    tree.apply(changes);
    without_times(&tree.dump())
}

fn without_times(dump: &str) -> String {
    let words = |line: &str| {
        line.split(' ')
            .filter(|w| !w.starts_with('@'))
            .collect::<Vec<_>>()
            .join(" ")
    };
    dump.lines().map(|line| words(line) + "\n").collect()
}

/// What an instruction makes of a tree, or the text of its error.
#[track_caller]
fn check(base: &str, source: &str, text: &str, expect: &str) {
    let source = Arc::new(MemView::parse(source));
    let result = action(&source, text)
        .map_err(|e| e.to_string())
        .and_then(|action| {
            let changes = layer(base, vec![action]).map_err(|e| e.to_string())?;
            Ok(outcome(base, &changes))
        });
    match (result, expect.strip_prefix("error: ")) {
        (Err(error), Some(expect)) => assert_eq!(error, expect, "{text}"),
        (Ok(tree), None) => {
            assert_eq!(
                tree,
                without_times(&MemView::parse(expect).dump()),
                "{text}"
            );
        }
        (result, _) => panic!("{text}: {result:?} instead of {expect}"),
    }
}
