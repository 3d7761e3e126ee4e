//! The nodes that a selection takes, as a list that may be longer than memory.

use crate::codec::{self, Fields};
use crate::spool::{Scratch, Spool, Spooler};
use crate::{ContentDigest, Node, RelPath};
use std::io;
use std::sync::Arc;

/// One node of a match.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Path in the view.
    pub(crate) path: RelPath,
    /// How many directories it is below the match; 0 for the match itself.
    pub(crate) depth: usize,
    pub(crate) node: Node,
    /// A directory that is not selected but has something selected below it.
    pub(crate) passage: bool,
    /// Known once the content key was computed.
    pub(crate) digest: Option<ContentDigest>,
}

/// Nodes in path order. Copies share the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    spool: Spool,
    len: usize,
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Reads the list from its beginning.
    pub(crate) fn iter(&self) -> EntryReader {
        EntryReader {
            spool: self.spool.clone(),
            block: 0,
            at: 0,
            bytes: None,
            previous: Vec::new(),
        }
    }
}

/// Writes a list of nodes.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    spooler: Spooler,
    previous: Vec<u8>,
    len: usize,
}

impl EntryWriter {
    pub(crate) fn new(scratch: &Scratch) -> EntryWriter {
        EntryWriter {
            spooler: Spooler::new(scratch),
            previous: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        self.len += 1;
        let previous = &mut self.previous;
        self.spooler.push(|out, begins| {
            if begins {
                previous.clear();
            }
            codec::put_path(out, entry.path.as_bytes(), previous);
            codec::put_number(out, entry.depth as u64);
            out.push(entry.passage.into());
            codec::put_node(out, &entry.node);
            codec::put_digest(out, entry.digest);
        })
    }

    pub(crate) fn finish(self) -> io::Result<Entries> {
        Ok(Entries {
            spool: self.spooler.finish()?,
            len: self.len,
        })
    }
}

/// Where a reader is in a list: all it takes to go on from there.
#[derive(Clone, Debug)]
pub(crate) struct EntryReader {
    spool: Spool,
    /// The block at hand, and how far it was read.
    block: usize,
    at: usize,
    /// Its bytes, once they were needed.
    bytes: Option<Arc<[u8]>>,
    previous: Vec<u8>,
}

impl EntryReader {
    /// Another reader at the same place, which holds none of the list in memory.
    pub(crate) fn rest(&self) -> EntryReader {
        EntryReader {
            spool: self.spool.clone(),
            bytes: None,
            previous: self.previous.clone(),
            ..*self
        }
    }

    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let bytes = match &self.bytes {
            Some(bytes) => bytes,
            None if self.block == self.spool.blocks() => return Ok(None),
            None => self.bytes.insert(self.spool.block(self.block)?),
        };
        let rest = bytes.get(self.at..).ok_or_else(codec::damaged)?;
        let mut fields = Fields::new(rest);
        let entry = Entry {
            path: fields.path(&mut self.previous)?,
            depth: fields.len()?,
            passage: fields.byte()? != 0,
            node: fields.node()?,
            digest: fields.digest()?,
        };
        self.at = bytes.len() - fields.rest().len();
        if fields.rest().is_empty() {
            self.bytes = None;
            self.block += 1;
            self.at = 0;
            self.previous.clear();
        }
        Ok(Some(entry))
    }
}

impl Iterator for EntryReader {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
