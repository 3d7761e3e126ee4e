//! Where the blocks of compressed layers lie: what was compressed once is copied from there.
//!
//! One file, rewritten as a whole, the latest entries last:
//!
//! ```text
//! kiln blocks 2\n │ key (32) │ SHA-256 of a blob (32) │ offset (8) │ length (4) │ CRC-32 (4) │
//!                 │ length of the slots (4) │ slots │ key …
//! ```
//!
//! The slots are what else the block's maker wants to know of it.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// The blob that has it, which may be gone by now. Only those named by SHA-256 are remembered.
    pub blob: Digest,
    /// Bytes of the blob before it.
    pub offset: u64,
    /// Its own bytes.
    pub len: u32,
    /// CRC-32 of them and of the slots.
    pub checksum: u32,
    /// Where in it something can be filled in, in words of who compressed it.
    pub slots: Box<[u8]>,
}

pub(crate) const FOLDER: &str = "blocks";
const FILE: &str = "blocks/places";
const HEAD: &[u8] = b"kiln blocks 2\n";

/// Bytes of an entry without its slots.
const ENTRY: usize = 84;

/// Bytes of all entries that are remembered: those of some 50 GB of large files, or 8 GB of small
/// ones.
const MOST: usize = 8 << 20;

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
        let mut all = inner.blocks()?;
        all.extend_from_slice(new);
        let mut room = MOST;
        let mut fits = |place: &BlockPlace| {
            let left = room.checked_sub(ENTRY + place.slots.len());
            left.inspect(|&left| room = left).is_some()
        };
        let mut kept: Vec<_> = all
            .iter()
            .rev()
            .filter(|(name, _)| seen.insert(*name))
            .take_while(|(_, place)| fits(place))
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
        let mut entries = bytes.strip_prefix(HEAD).unwrap_or_default();
        Ok(std::iter::from_fn(|| decode(&mut entries)).collect())
    }
}

fn encode(name: &BlockName, place: &BlockPlace, bytes: &mut Vec<u8>) {
    if let (Digest::Sha256(blob), Ok(slots)) = (place.blob, u32::try_from(place.slots.len())) {
        bytes.extend(name);
        bytes.extend(blob);
        bytes.extend(place.offset.to_le_bytes());
        bytes.extend(place.len.to_le_bytes());
        bytes.extend(place.checksum.to_le_bytes());
        bytes.extend(slots.to_le_bytes());
        bytes.extend(&place.slots);
    }
}

/// The first of these entries, which is taken off them; `None` if it is not whole.
fn decode(entries: &mut &[u8]) -> Option<(BlockName, BlockPlace)> {
    let (name, rest) = entries.split_first_chunk()?;
    let (blob, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let (slots, rest) = rest.split_first_chunk()?;
    let (slots, rest) = rest.split_at_checked(u32::from_le_bytes(*slots) as usize)?;
    *entries = rest;
    let place = BlockPlace {
        blob: Digest::Sha256(*blob),
        offset: u64::from_le_bytes(*offset),
        len: u32::from_le_bytes(*len),
        checksum: u32::from_le_bytes(*checksum),
        slots: slots.into(),
    };
    Some((*name, place))
}
