//! Where the blocks of compressed layers lie: what was compressed once is copied from there.
//!
//! One file, rewritten as a whole, the latest entries last:
//!
//! ```text
//! kiln blocks 1\n │ key (32) │ SHA-256 of a blob (32) │ offset (8) │ length (4) │ CRC-32 (4) │ key …
//! ```
//!
//! It may be lost at any time, and what two processes add at once may be lost in part: then
//! something is compressed again. Nothing in it is believed: whoever reads a block compares it
//! with its checksum.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;

use oci::Digest;

use crate::error::{Attempt, StoreError};
use crate::store::{Inner, Store};

/// Identity of a block: what was compressed, and how.
pub type BlockName = [u8; 32];

/// Where a compressed block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// The blob that has it, which may be gone by now. Only those named by SHA-256 are remembered.
    pub blob: Digest,
    /// Bytes of the blob before it.
    pub offset: u64,
    /// Its own bytes.
    pub len: u32,
    /// Their CRC-32.
    pub checksum: u32,
}

pub(crate) const FOLDER: &str = "blocks";
const FILE: &str = "blocks/places";
const HEAD: &[u8] = b"kiln blocks 1\n";
const ENTRY: usize = 80;

/// How many places are remembered: those of some 30 GB of layers, in 5 MB.
const MOST: usize = 1 << 16;

impl Store {
    /// All places that are remembered.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn blocks(&self) -> Result<HashMap<BlockName, BlockPlace>, StoreError> {
        Ok(self.inner.blocks()?.into_iter().collect())
    }

    /// Remembers places; the oldest are forgotten when there are too many.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn add_blocks(&self, new: &[(BlockName, BlockPlace)]) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let mut seen = HashSet::new();
        // From the latest to the oldest, each block once.
        let all = inner.blocks()?.into_iter().chain(new.iter().copied());
        let all: Vec<_> = all.collect();
        let mut kept: Vec<_> = all
            .iter()
            .rev()
            .filter(|(name, _)| seen.insert(*name))
            .take(MOST)
            .collect();
        kept.reverse();
        let mut bytes = HEAD.to_vec();
        for (name, place) in kept {
            encode(name, place, &mut bytes);
        }
        let scratch = inner.lease()?.scratch();
        inner.disk.write_new(&scratch, &bytes)?;
        inner.disk.rename(&scratch, &inner.path(FILE))
    }
}

impl Inner {
    fn blocks(&self) -> Result<Vec<(BlockName, BlockPlace)>, StoreError> {
        let path = self.path(FILE);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.attempt("read", &path)?,
        };
        let entries = bytes.strip_prefix(HEAD).unwrap_or_default();
        Ok(entries.chunks_exact(ENTRY).filter_map(decode).collect())
    }
}

fn encode(name: &BlockName, place: &BlockPlace, bytes: &mut Vec<u8>) {
    if let Digest::Sha256(blob) = place.blob {
        bytes.extend(name);
        bytes.extend(blob);
        bytes.extend(place.offset.to_le_bytes());
        bytes.extend(place.len.to_le_bytes());
        bytes.extend(place.checksum.to_le_bytes());
    }
}

fn decode(entry: &[u8]) -> Option<(BlockName, BlockPlace)> {
    let (name, rest) = entry.split_first_chunk()?;
    let (blob, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (checksum, _) = rest.split_first_chunk()?;
    let place = BlockPlace {
        blob: Digest::Sha256(*blob),
        offset: u64::from_le_bytes(*offset),
        len: u32::from_le_bytes(*len),
        checksum: u32::from_le_bytes(*checksum),
    };
    Some((*name, place))
}
