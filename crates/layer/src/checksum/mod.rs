//! Content keys: two selections with the same effect on their consumer have the same key,
//! wherever they lie and however they came to be.
//!
//! | in the key | not in the key |
//! |---|---|
//! | names and kinds below each source | modification times, inode and device numbers |
//! | permission bits, owner, group, unless replaced | names of users and groups |
//! | bytes of files, targets of links, device numbers | which paths are hard links of each other |
//! | extended attributes that belong to an image | where in the tree the sources lie |
//! | the name of a source that is no directory | name and metadata of a source directory |
//!
//! Every node has a record, and the key is the SHA-256 of a stream that holds the SHA-256 of each.
//! Both are typed fields, variable ones behind their length as 64 bits little endian:
//!
//! ```text
//! key:        "kiln content 1" naming(u8) matches(u64)
//! per match:  name(bytes; empty for a directory or a mount) entries(u64) {digest of record(32)}
//! record:     path(bytes) kind(u8) [mode(u32) uid(u32) gid(u32) xattrs(u64 {name value})]
//!             file: size(u64) digest(32)   link: target(bytes)   device: major(u32) minor(u32)
//! ```
//!
//! The bracket is left out for a source directory of `COPY`, whose metadata goes nowhere.

mod inputs;

use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

pub use inputs::{Difference, Input, Inputs, MAX_INPUTS, Nature, explain};

use crate::chmod::ModeChange;
use crate::select::{Entry, Naming, SelectError, Selection, Selector, select};
use crate::{ContentDigest, Kind, LinkId, View};

/// Changes whenever equal trees would get other keys.
const VERSION: &[u8] = b"kiln content 1";

/// Files are digested in runs of at least this many, so that neighbours share a thread.
const RUN: usize = 8;

/// Records are made in runs of at least this many: each takes well under a microsecond.
const RECORDS: usize = 512;

/// Digest of the effect of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentKey(pub [u8; 32]);

/// What the consumer does to metadata: what it replaces does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Owners are replaced, by `--chown` or the context's 0:0.
    pub ignore_owner: bool,
    /// `--chmod`: what counts is the outcome.
    pub mode: Option<ModeChange>,
}

/// A selection whose contents are known.
#[derive(Clone, Debug)]
pub struct Checksum {
    /// Its key.
    pub key: ContentKey,
    /// The selection with the digests of its files: files placed from it must still have them.
    pub selection: Selection,
    /// What the key was made of, to explain a later miss.
    pub inputs: Inputs,
}

/// Selects and hashes.
///
/// # Errors
/// As [`select`], and when a file cannot be read.
pub fn checksum(
    view: &dyn View,
    selector: &Selector,
    effect: &Effect,
) -> Result<Checksum, SelectError> {
    let mut selection = select(view, selector)?;
    digest_files(view, &mut selection)?;
    let (key, inputs) = selection.key(effect);
    Ok(Checksum {
        key,
        selection,
        inputs,
    })
}

/// Fills in the digests of all files, on all processors. Hard links are read once; what is empty
/// is not, which spares sockets that count as empty files from being opened.
fn digest_files(view: &dyn View, selection: &mut Selection) -> Result<(), SelectError> {
    let mut wanted: Vec<&Entry> = Vec::new();
    let mut names: HashMap<LinkId, usize> = HashMap::new();
    // For each file in order, which of `wanted` has its digest.
    let mut sources: Vec<usize> = Vec::new();
    let all = selection.matches.iter().flat_map(|m| &m.entries);
    for entry in all.filter(|e| has_bytes(e)) {
        let source = entry.node.links.and_then(|id| names.get(&id).copied());
        sources.push(source.unwrap_or_else(|| {
            wanted.push(entry);
            let at = wanted.len() - 1;
            names.extend(entry.node.links.map(|id| (id, at)));
            at
        }));
    }
    let digests: Vec<ContentDigest> = wanted
        .into_par_iter()
        .with_min_len(RUN)
        .map(|entry| {
            let digest = view.digest(&entry.path, &entry.node);
            digest.map_err(|source| SelectError::Read {
                path: entry.path.clone(),
                source,
            })
        })
        .collect::<Result<_, _>>()?;
    let mut sources = sources.into_iter();
    let empty = ContentDigest(Sha256::digest(b"").into());
    for entry in selection.matches.iter_mut().flat_map(|m| &mut m.entries) {
        if has_bytes(entry) {
            entry.digest = sources.next().map(|source| digests[source]);
        } else if matches!(entry.node.kind, Kind::File { .. }) {
            entry.digest = Some(empty);
        }
    }
    Ok(())
}

fn has_bytes(entry: &Entry) -> bool {
    matches!(entry.node.kind, Kind::File { size } if size > 0)
}

impl Selection {
    /// The key of a selection whose files are digested.
    fn key(&self, effect: &Effect) -> (ContentKey, Inputs) {
        let mut key = Fields::default();
        key.raw(VERSION);
        key.raw(&[match self.naming {
            Naming::Mount => 0,
            Naming::Contents => 1,
            Naming::Parents => 2,
        }]);
        key.number(self.matches.len() as u64);
        let mut records = Vec::with_capacity(self.len());
        for one in &self.matches {
            let is_dir = one.node().kind == Kind::Directory;
            let named = self.naming != Naming::Mount && !is_dir;
            key.bytes(if named { &one.name } else { b"" });
            key.number(one.entries.len() as u64);
            let record = |entry: &Entry| -> [u8; 32] {
                let bare = entry.depth == 0 && is_dir && self.naming != Naming::Mount;
                let mut fields = Fields::default();
                fields.entry(one.below(entry), entry, bare, effect);
                Sha256::digest(&fields.0).into()
            };
            let from = records.len();
            records.par_extend(one.entries.par_iter().with_min_len(RECORDS).map(record));
            records[from..].iter().for_each(|record| key.raw(record));
        }
        let inputs = inputs::summarise(&self.matches, &records);
        (ContentKey(Sha256::digest(&key.0).into()), inputs)
    }
}

/// A stream of typed fields.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    fn small(&mut self, number: u32) {
        self.raw(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn entry(&mut self, path: &[u8], entry: &Entry, bare: bool, effect: &Effect) {
        self.bytes(path);
        self.raw(&[match entry.node.kind {
            Kind::Directory => b'd',
            Kind::File { .. } => b'f',
            Kind::Symlink { .. } => b'l',
            Kind::CharDevice { .. } => b'c',
            Kind::BlockDevice { .. } => b'b',
            Kind::Fifo => b'p',
            Kind::Socket => b's',
        }]);
        if !bare {
            self.metadata(entry, effect);
        }
        match &entry.node.kind {
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
            Kind::File { size } => {
                self.number(*size);
                let digest = entry
                    .digest
                    .expect("keys are made of digested selections only");
                self.raw(&digest.0);
            }
            Kind::Symlink { target } => self.bytes(target),
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                self.small(*major);
                self.small(*minor);
            }
        }
    }

    fn metadata(&mut self, entry: &Entry, effect: &Effect) {
        let metadata = &entry.node.metadata;
        let mode = match (&entry.node.kind, &effect.mode) {
            // The kernel has no modes of links; what a host file system says is noise.
            (Kind::Symlink { .. }, _) => 0o777,
            (_, None) => metadata.mode,
            (kind, Some(change)) => change.apply(metadata.mode, *kind == Kind::Directory),
        };
        self.small(mode);
        let replaced = effect.ignore_owner;
        self.small(if replaced { 0 } else { metadata.uid });
        self.small(if replaced { 0 } else { metadata.gid });
        self.number(metadata.xattrs.len() as u64);
        for (name, value) in &metadata.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }
}

#[cfg(test)]
mod tests;
