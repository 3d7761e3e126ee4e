//! The gate: one file that is locked shared for the instant in which something is pinned or
//! recorded, and exclusively for the instant in which things are taken away or a generation ends.
//!
//! So what was pinned and then seen to exist stays, and a record knows its generation for sure.
//! The file holds the current generation and the boot that it belongs to.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::disk::Disk;
use crate::error::{Attempt, StoreError};

#[derive(Debug)]
pub(crate) struct Gate {
    path: PathBuf,
}

/// Holds the gate until it is dropped.
#[derive(Debug)]
pub(crate) struct Passage {
    file: File,
    path: PathBuf,
}

/// Which boot of the machine is under way, and how far it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Counts up whenever the store begins to be settled; never the same in two boots.
    pub(crate) number: u64,
    /// The first generation of this boot.
    pub(crate) first: u64,
    pub(crate) boot: String,
}

impl Gate {
    pub(crate) fn new(path: PathBuf) -> Gate {
        Gate { path }
    }

    pub(crate) fn shared(&self) -> Result<Passage, StoreError> {
        let file = File::open(&self.path).attempt("open", &self.path)?;
        file.lock_shared().attempt("lock", &self.path)?;
        let path = self.path.clone();
        Ok(Passage { file, path })
    }

    /// Creates the file too, if it is not there.
    pub(crate) fn exclusive(&self, disk: &Disk) -> Result<Passage, StoreError> {
        let file = disk.open_lock(&self.path)?;
        file.lock().attempt("lock", &self.path)?;
        let path = self.path.clone();
        Ok(Passage { file, path })
    }
}

impl Passage {
    /// The current generation; `None` in a new store, or when the file is damaged.
    pub(crate) fn generation(&self) -> Result<Option<Generation>, StoreError> {
        let mut bytes = [0; 128];
        let len = self
            .file
            .read_at(&mut bytes, 0)
            .attempt("read", &self.path)?;
        let parse = || {
            let line = std::str::from_utf8(&bytes[..len])
                .ok()?
                .strip_suffix('\n')?;
            let mut fields = line.split_ascii_whitespace();
            let (number, first) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let boot = fields.next()?.to_owned();
            Some(Generation {
                number,
                first,
                boot,
            })
        };
        Ok(parse())
    }

    /// Begins a generation. The caller holds the gate exclusively.
    pub(crate) fn begin(&self, disk: &Disk, generation: &Generation) -> Result<(), StoreError> {
        let Generation {
            number,
            first,
            boot,
        } = generation;
        // Always of one length and in one piece, so that a process killed here leaves the old line
        // or the new one.
        let line = format!("{number:020} {first:020} {boot:<64}\n");
        disk.write(&self.file, &self.path, line.as_bytes())
            .attempt("write", &self.path)
    }

    /// Forces the current generation to the disk.
    pub(crate) fn sync(&self, disk: &Disk) -> Result<(), StoreError> {
        disk.sync(&self.file, &self.path)
    }
}
