//! A short account of what a key was made of, kept beside it so that a later miss can be explained
//! ("package-lock.json changed").
//!
//! It has at most [`MAX_INPUTS`] lines: directories are opened level by level while there is room,
//! the rest are one line each, with a digest of all that is in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use sha2::{Digest, Sha256};

use super::joined;
use crate::entries::Entry;
use crate::hard_links::Names;
use crate::select::{Match, Record, relative};
use crate::{Kind, RelPath};

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
    /// Permissions of what is there alone, no link.
    pub mode: Option<u32>,
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

/// The directories of a match, as far as an account needs them: a few dozen bytes each.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// In order of the entries.
    directories: Vec<Directory>,
    /// Those that the last entry is in, with the digest of what came so far.
    open: Vec<(usize, Sha256)>,
}

#[derive(Debug)]
struct Directory {
    /// The directory that it is in; the first is its own.
    parent: usize,
    /// How many entries are directly in it.
    children: usize,
    /// Of its own record, and of the records of itself and everything below.
    digest: [u8; 8],
    whole: [u8; 8],
}

impl Outline {
    /// Takes the next entry.
    pub(crate) fn push(&mut self, entry: &Entry, record: &[u8; 32]) {
        self.close(entry.depth);
        for (_, below) in &mut self.open {
            below.update(record);
        }
        let parent = self.open.last().map_or(0, |(parent, _)| *parent);
        if let Some(parent) = self.directories.get_mut(parent) {
            parent.children += 1;
        }
        if entry.node.kind == Kind::Directory {
            self.open
                .push((self.directories.len(), Sha256::new_with_prefix(record)));
            self.directories.push(Directory {
                parent,
                children: 0,
                digest: short(record),
                whole: [0; 8],
            });
        }
    }

    /// There are no more.
    pub(crate) fn finish(mut self) -> Outline {
        self.close(0);
        self
    }

    /// Leaves the directories at this depth and below.
    fn close(&mut self, depth: usize) {
        for (number, below) in self.open.drain(depth.min(self.open.len())..) {
            self.directories[number].whole = short(&below.finalize().into());
        }
    }

    /// For each directory, the numbers of those directly in it.
    fn subdirectories(&self) -> Vec<Vec<usize>> {
        let mut below = vec![Vec::new(); self.directories.len()];
        for (number, directory) in self.directories.iter().enumerate().skip(1) {
            below[directory.parent].push(number);
        }
        below
    }
}

/// The account of `matches`, of whose entries `record` makes records.
pub(crate) fn summarise(matches: &[Match], record: &Record<'_>) -> io::Result<Inputs> {
    let mut lines = Vec::new();
    let mut names = Names::default();
    for (one, opened) in matches.iter().zip(opened(matches)) {
        let outline = one.sum.as_ref().map(|sum| &*sum.outline);
        // Whether entries at each depth have lines, and the number of the next directory.
        let (mut shown, mut next) = (vec![true], 0);
        for entry in one.entries.iter() {
            let entry = entry?;
            let earlier = names.take(&entry.node);
            shown.truncate(entry.depth + 1);
            let is_shown = shown.last() == Some(&true);
            let mut line = Input {
                path: entry.path.clone(),
                whole: false,
                digest: [0; 8],
                mode: None,
            };
            let directory = outline.and_then(|outline| outline.directories.get(next));
            match directory.filter(|_| entry.node.kind == Kind::Directory) {
                Some(directory) => {
                    line.whole = !opened[next] && directory.children > 0;
                    line.digest = match line.whole {
                        true => directory.whole,
                        false => directory.digest,
                    };
                    shown.push(is_shown && opened[next]);
                    next += 1;
                }
                None if is_shown => {
                    let is_link = matches!(entry.node.kind, Kind::Symlink { .. });
                    line.mode = (!is_link).then_some(entry.node.metadata.mode);
                    let record = record(&entry, relative(&one.path, &entry.path));
                    line.digest = short(&joined(record, earlier));
                }
                None => {}
            }
            if is_shown {
                lines.push(line);
            }
        }
    }
    lines.truncate(MAX_INPUTS);
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Inputs(lines))
}

/// For each directory of each match, whether it is opened: level by level, while there is room.
fn opened(matches: &[Match]) -> Vec<Vec<bool>> {
    let outlines: Vec<_> = matches
        .iter()
        .map(|one| one.sum.as_ref().map(|sum| &*sum.outline))
        .collect();
    let below: Vec<_> = outlines
        .iter()
        .map(|outline| outline.map_or_else(Vec::new, Outline::subdirectories))
        .collect();
    let mut opened: Vec<_> = below
        .iter()
        .map(|directories| vec![false; directories.len()])
        .collect();
    let mut lines = matches.len();
    let mut closed: VecDeque<(usize, usize)> = below
        .iter()
        .enumerate()
        .filter(|(_, directories)| !directories.is_empty())
        .map(|(one, _)| (one, 0))
        .collect();
    while let Some((one, number)) = closed.pop_front() {
        let Some(outline) = outlines[one] else {
            continue;
        };
        let children = outline.directories[number].children;
        if children <= MAX_INPUTS.saturating_sub(lines) {
            opened[one][number] = true;
            lines += children;
            closed.extend(below[one][number].iter().map(|&child| (one, child)));
        }
    }
    opened
}

fn short(digest: &[u8; 32]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&digest[..8]);
    short
}
