//! Content keys: two selections with the same effect on their consumer have the same key,
//! wherever they lie and however they came to be.
//!
//! | in the key | not in the key |
//! |---|---|
//! | names and kinds below each source | modification times, inode and device numbers |
//! | permission bits, owner, group, unless replaced | names of users and groups |
//! | bytes of files, targets of links, device numbers | hard links to what is not selected |
//! | which names are hard links of each other | where in the tree the sources lie |
//! | extended attributes that belong to an image | |
//! | the name of a source that is no directory | name and metadata of a source directory |
//!
//! Every node has a record, every match the SHA-256 of the SHA-256 of each, and the key is the
//! SHA-256 of a stream that holds those. All are typed fields, variable ones behind their length as
//! 64 bits little endian:
//!
//! ```text
//! key:        "kiln content 3" naming(u8) matches(u64)
//! per match:  name(bytes; empty for a directory or a mount) entries(u64) digest of digests(32)
//! record:     path(bytes) kind(u8) [mode(u32) uid(u32) gid(u32) xattrs(u64 {name value})]
//!             file: size(u64) digest(32)   link: target(bytes)   device: major(u32) minor(u32)
//! ```
//!
//! The bracket is left out for a source directory of `COPY`, whose metadata goes nowhere. A further
//! name of a file has, in place of its record's digest, the SHA-256 of `"hard link"`, the number of
//! the file's first name among all that is selected, and that digest.

mod inputs;

use std::io;

use sha2::{Digest, Sha256};

pub(crate) use inputs::Outline;
pub use inputs::{Difference, Input, Inputs, MAX_INPUTS, Nature, explain};

use crate::chmod::ModeChange;
use crate::entries::Entry;
use crate::select::{Naming, SelectError, Selection, Selector, select_with};
use crate::spool::Scratch;
use crate::{Kind, View};

/// Changes whenever equal trees would get other keys.
const VERSION: &[u8] = b"kiln content 3";

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
    effect: Effect,
}

/// Selects and hashes: the tree is read once, by all processors. Hard links are read once; what is
/// empty is not, which spares sockets that count as empty files from being opened. Long lists go to
/// `scratch`.
///
/// # Errors
/// As [`select`](crate::select::select), and when a file cannot be read.
pub fn checksum(
    view: &dyn View,
    selector: &Selector,
    effect: &Effect,
    scratch: &Scratch,
) -> Result<Checksum, SelectError> {
    let naming = selector.naming;
    let record = |entry: &Entry, below: &[u8]| record(entry, below, naming, effect);
    let selection = select_with(view, selector, scratch, Some(&record))?;
    Ok(Checksum {
        key: selection.key(),
        selection,
        effect: effect.clone(),
    })
}

impl Checksum {
    /// What the key was made of, to explain a later miss.
    ///
    /// # Errors
    /// When the list of what was selected is in a temporary file that cannot be read.
    pub fn inputs(&self) -> io::Result<Inputs> {
        let naming = self.selection.naming;
        let record = |entry: &Entry, below: &[u8]| record(entry, below, naming, &self.effect);
        inputs::summarise(&self.selection.matches, &record)
    }
}

/// The digest of an entry's record.
fn record(entry: &Entry, below: &[u8], naming: Naming, effect: &Effect) -> [u8; 32] {
    let is_dir = entry.node.kind == Kind::Directory;
    let bare = entry.depth == 0 && is_dir && naming != Naming::Mount;
    let mut fields = Fields::default();
    fields.entry(below, entry, bare, effect);
    Sha256::digest(&fields.0).into()
}

/// What counts for a name whose record this is; `earlier` is the first name of its inode, if there
/// is one before it.
pub(crate) fn joined(record: [u8; 32], earlier: Option<u64>) -> [u8; 32] {
    let Some(earlier) = earlier else {
        return record;
    };
    let mut fields = Fields::default();
    fields.raw(b"hard link");
    fields.number(earlier);
    fields.raw(&record);
    Sha256::digest(&fields.0).into()
}

impl Selection {
    /// The key of a selection whose files are digested.
    fn key(&self) -> ContentKey {
        let mut key = Fields::default();
        key.raw(VERSION);
        key.raw(&[match self.naming {
            Naming::Mount => 0,
            Naming::Contents => 1,
            Naming::Parents => 2,
        }]);
        key.number(self.matches.len() as u64);
        for one in &self.matches {
            let is_dir = one.node().kind == Kind::Directory;
            let named = self.naming != Naming::Mount && !is_dir;
            key.bytes(if named { &one.name } else { b"" });
            key.number(one.entries.len() as u64);
            let sum = one
                .sum
                .as_ref()
                .expect("keys are made of digested selections only");
            key.raw(&sum.digest);
        }
        ContentKey(Sha256::digest(&key.0).into())
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
