//! A short account of what a key was made of, kept beside it so that a later miss can be explained
//! ("package-lock.json changed").
//!
//! It has at most [`MAX_INPUTS`] lines: directories are opened level by level while there is room,
//! the rest are one line each, with a digest of all that is in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sha2::{Digest, Sha256};

use crate::RelPath;
use crate::select::Match;

/// Most lines of an account: about 16 KiB for paths of 50 bytes.
pub const MAX_INPUTS: usize = 256;

/// The lines, sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs(pub Vec<Input>);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The path in the source's tree.
    pub path: RelPath,
    /// The line stands for everything at and below `path`.
    pub whole: bool,
    /// Beginning of the digest of what is there; enough to tell that it changed.
    pub digest: [u8; 8],
}

/// How a path differs between two accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// Only the new one has it.
    Added,
    /// Only the old one has it.
    Removed,
    /// Its content or metadata is another.
    Changed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// What differs, or the directory that it is in.
    pub path: RelPath,
    /// How.
    pub nature: Nature,
}

/// What made the new key another than the old one, sorted by path.
pub fn explain(old: &Inputs, new: &Inputs) -> Vec<Difference> {
    let mut found = BTreeSet::new();
    let (old_lines, new_lines) = (by_path(old), by_path(new));
    for (path, line) in &new_lines {
        match old_lines.get(path) {
            Some(before) if before == line => {}
            Some(_) => drop(found.insert(changed(path))),
            None => drop(found.insert(only(path, &old_lines, Nature::Added))),
        }
    }
    for path in old_lines.keys().filter(|p| !new_lines.contains_key(*p)) {
        found.insert(only(path, &new_lines, Nature::Removed));
    }
    found.into_iter().collect()
}

fn changed(path: &RelPath) -> Difference {
    Difference {
        path: path.clone(),
        nature: Nature::Changed,
    }
}

/// A path that the other account lacks is no addition or removal when a directory above it is one
/// line there.
fn only(path: &RelPath, other: &BTreeMap<&RelPath, (bool, [u8; 8])>, nature: Nature) -> Difference {
    let mut above = path.parent();
    while let Some(dir) = above {
        if other.get(&dir).is_some_and(|(whole, _)| *whole) {
            return changed(&dir);
        }
        above = dir.parent();
    }
    Difference {
        path: path.clone(),
        nature,
    }
}

fn by_path(inputs: &Inputs) -> BTreeMap<&RelPath, (bool, [u8; 8])> {
    inputs
        .0
        .iter()
        .map(|i| (&i.path, (i.whole, i.digest)))
        .collect()
}

/// The account of `matches`, whose entries' records in order have these digests.
pub(crate) fn summarise(matches: &[Match], records: &[[u8; 32]]) -> Inputs {
    let mut rest = records;
    // Entries to be opened: match, index of the entry, index behind the last one below it.
    let mut closed: VecDeque<(&Match, &[[u8; 32]], usize, usize)> = VecDeque::new();
    for one in matches {
        let (own, later) = rest.split_at(one.entries.len());
        closed.push_back((one, own, 0, own.len()));
        rest = later;
    }
    let mut lines = Vec::new();
    while let Some((one, own, at, end)) = closed.pop_front() {
        let children = children(one, at, end);
        let room = MAX_INPUTS.saturating_sub(lines.len() + closed.len() + 1);
        let whole = !children.is_empty() && children.len() > room;
        let digest = if whole {
            merkle(&own[at..end])
        } else {
            own[at]
        };
        let path = one.entries[at].path.clone();
        lines.push(Input {
            path,
            whole,
            digest: short(&digest),
        });
        if !whole {
            closed.extend(children.into_iter().map(|(from, to)| (one, own, from, to)));
        }
    }
    lines.truncate(MAX_INPUTS);
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    Inputs(lines)
}

/// Entries directly below entry `at`, each with where its own subtree ends.
fn children(one: &Match, at: usize, end: usize) -> Vec<(usize, usize)> {
    let depth = one.entries[at].depth + 1;
    let starts: Vec<usize> = (at + 1..end)
        .filter(|&i| one.entries[i].depth == depth)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([end]);
    starts.iter().copied().zip(ends).collect()
}

fn merkle(records: &[[u8; 32]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for record in records {
        digest.update(record);
    }
    digest.finalize().into()
}

fn short(digest: &[u8; 32]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&digest[..8]);
    short
}
