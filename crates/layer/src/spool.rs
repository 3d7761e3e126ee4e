//! A list of records that is written once and read from front to back, any number of times, by any
//! number of readers. Short ones are in memory; of a long one only the beginning is, the rest is in
//! a file without a name. So a list may be as long as the disk allows.
//!
//! Records are bytes, gathered in blocks. A writer is told when a block begins: what it writes
//! there must not depend on earlier records, so that a reader may begin with any block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A block is closed when it is this long.
const BLOCK: usize = 64 * 1024;

/// Bytes of a list that stay in memory.
const IN_MEMORY: u64 = 8 << 20;

/// Where long lists go: a directory on a disk. Its files have no names, so nothing is left behind.
#[derive(Clone, Debug)]
pub struct Scratch(Arc<Path>);

impl Scratch {
    /// Files in `directory`, which exists when the first list is long.
    pub fn new(directory: &Path) -> Scratch {
        Scratch(directory.into())
    }
}

/// A list that can be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spool(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    blocks: Vec<Block>,
    overflow: Option<File>,
}

#[derive(Debug)]
enum Block {
    Memory(Arc<[u8]>),
    /// In `overflow`.
    File {
        offset: u64,
        len: usize,
    },
}

impl Spool {
    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> usize {
        self.0.blocks.len()
    }

    /// The bytes of one block.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn block(&self, number: usize) -> io::Result<Arc<[u8]>> {
        match (&self.0.blocks[number], &self.0.overflow) {
            (Block::Memory(bytes), _) => Ok(Arc::clone(bytes)),
            (&Block::File { offset, len }, Some(file)) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes.into())
            }
            (Block::File { .. }, None) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Writes a list.
#[derive(Debug)]
pub(crate) struct Spooler {
    scratch: Scratch,
    inner: Inner,
    /// The block that is being filled.
    open: Vec<u8>,
    /// Bytes in memory, and bytes in the file.
    kept: u64,
    spilled: u64,
}

impl Spooler {
    pub(crate) fn new(scratch: &Scratch) -> Spooler {
        Spooler {
            scratch: scratch.clone(),
            inner: Inner::default(),
            open: Vec::new(),
            kept: 0,
            spilled: 0,
        }
    }

    /// Appends what `write` writes. It is told whether a block begins.
    ///
    /// # Errors
    /// When the list is long and the file cannot be made or written.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>, bool)) -> io::Result<()> {
        if self.open.len() >= BLOCK {
            self.close_block()?;
        }
        let begins = self.open.is_empty();
        write(&mut self.open, begins);
        Ok(())
    }

    /// Number of the block that the next record goes into.
    #[cfg(test)]
    fn position(&self) -> usize {
        self.inner.blocks.len()
    }

    /// The list is complete.
    ///
    /// # Errors
    /// As for [`Spooler::push`].
    pub(crate) fn finish(mut self) -> io::Result<Spool> {
        if !self.open.is_empty() {
            self.close_block()?;
        }
        Ok(Spool(Arc::new(self.inner)))
    }

    fn close_block(&mut self) -> io::Result<()> {
        let len = self.open.len();
        let fits = self.inner.overflow.is_none() && self.kept + len as u64 <= IN_MEMORY;
        let block = if fits {
            self.kept += len as u64;
            Block::Memory(self.open.as_slice().into())
        } else {
            let file = match self.inner.overflow.take() {
                Some(file) => file,
                None => sys::fs::unnamed_file(&self.scratch.0)?,
            };
            let offset = self.spilled;
            file.write_all_at(&self.open, offset)?;
            self.inner.overflow = Some(file);
            self.spilled += len as u64;
            Block::File { offset, len }
        };
        self.inner.blocks.push(block);
        self.open.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(records: u32, len: usize) {
        let directory = tempfile::tempdir().unwrap();
        let mut spooler = Spooler::new(&Scratch::new(directory.path()));
        let mut begins = Vec::new();
        for number in 0..records {
            let push = spooler.push(|out, first| {
                if first {
                    begins.push(number);
                }
                out.extend_from_slice(&number.to_le_bytes());
                out.resize(out.len() + len, number as u8);
            });
            push.unwrap();
        }
        let blocks = spooler.position() + usize::from(records > 0);
        let spool = spooler.finish().unwrap();
        assert_eq!((spool.blocks(), begins.len()), (blocks, blocks));
        for _ in 0..2 {
            let mut number = 0;
            for (block, &begin) in begins.iter().enumerate() {
                assert_eq!(number, begin);
                for record in spool.block(block).unwrap().chunks(4 + len) {
                    assert_eq!(record[..4], number.to_le_bytes());
                    assert!(record[4..].iter().all(|&byte| byte == number as u8));
                    number += 1;
                }
            }
            assert_eq!(number, records);
        }
    }

    #[test]
    fn records_come_back_in_order() {
        check(0, 10);
        check(1, 10);
        check(100_000, 10);
        check(3, 2 * BLOCK);
    }

    #[test]
    fn long_lists_are_not_in_memory() {
        // Records that fill blocks exactly, and that do not.
        check(300_000, 60);
        check(300_000, 57);
    }
}
