//! The file of a stat index, searched as it was read: nothing is unpacked, so that half a million
//! entries cost their own bytes and one slot each.

use super::{Known, Stamp};
use crate::{ContentDigest, Time};
use std::sync::atomic::{AtomicU32, Ordering};

const MAGIC: &[u8; 8] = b"kilnstat";
const VERSION: u32 = 1;
/// Magic, version, checksum, count.
const HEADER_LEN: usize = 8 + 4 + 4 + 8;
const CHECKSUM_AT: usize = 12;
/// Of an entry, after its path.
const FIXED_LEN: usize = 3 * 8 + 2 * 12 + 1 + 32;
/// No file may have positions that a slot cannot hold.
const FILE_MAX: usize = u32::MAX as usize;

/// The entries that a file had.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    bytes: Vec<u8>,
    entries: Vec<Slot>,
    /// An open-addressing table: 1 + a number of `entries`, or 0. At most half full.
    table: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    position: u32,
    seen: AtomicU32,
}

/// One entry.
pub(super) struct Found<'a> {
    pub(super) path: &'a [u8],
    pub(super) stamp: Stamp,
    pub(super) known: Known,
    /// The last view that found the file unchanged; 0 for none.
    pub(super) seen: &'a AtomicU32,
}

impl Loaded {
    /// Takes the bytes of a file; `None` when it is damaged or of another version.
    pub(super) fn new(bytes: Vec<u8>) -> Option<Loaded> {
        let mut fields = Fields::new(&bytes);
        if fields.take(8)? != MAGIC || u32::from_le_bytes(fields.array()?) != VERSION {
            return None;
        }
        let checksum = u32::from_le_bytes(fields.array()?);
        if bytes.len() > FILE_MAX || crc32fast::hash(fields.rest) != checksum {
            return None;
        }
        let count = usize::try_from(u64::from_le_bytes(fields.array()?)).ok()?;
        if count > bytes.len() / FIXED_LEN {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        let mut table = vec![0; (count * 2).next_power_of_two()];
        for number in 0..count {
            let position = (bytes.len() - fields.rest.len()) as u32;
            let path_len = u16::from_le_bytes(fields.array()?);
            let path = fields.take(path_len.into())?;
            fields.take(FIXED_LEN)?;
            let mut at = start(path, table.len());
            while table[at] != 0 {
                at = (at + 1) % table.len();
            }
            table[at] = number as u32 + 1;
            entries.push(Slot {
                position,
                seen: AtomicU32::new(0),
            });
        }
        let complete = fields.rest.is_empty();
        complete.then_some(Loaded {
            bytes,
            entries,
            table,
        })
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<Found<'_>> {
        if self.table.is_empty() {
            return None;
        }
        let mut at = start(path, self.table.len());
        loop {
            let number = self.table[at].checked_sub(1)?;
            let slot = &self.entries[number as usize];
            if self.path(slot) == path {
                return Some(self.entry(slot));
            }
            at = (at + 1) % self.table.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        self.entries.iter().map(|slot| self.entry(slot))
    }

    fn path(&self, slot: &Slot) -> &[u8] {
        let at = slot.position as usize;
        let len = u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]);
        &self.bytes[at + 2..at + 2 + usize::from(len)]
    }

    fn entry<'a>(&'a self, slot: &'a Slot) -> Found<'a> {
        let path = self.path(slot);
        let at = slot.position as usize + 2 + path.len();
        let (stamp, known) = decode(&self.bytes[at..at + FIXED_LEN]);
        Found {
            path,
            stamp,
            known,
            seen: &slot.seen,
        }
    }
}

impl Found<'_> {
    pub(super) fn is_used(&self) -> bool {
        self.seen.load(Ordering::Relaxed) != 0
    }
}

/// Writes the file of these entries, sorted by path. Paths are at most 64 KiB long.
pub(super) fn encode<'a>(
    entries: impl ExactSizeIterator<Item = (&'a [u8], Stamp, Known)>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + entries.len() * (FIXED_LEN + 48));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (path, stamp, known) in entries {
        bytes.extend_from_slice(&(path.len() as u16).to_le_bytes());
        bytes.extend_from_slice(path);
        for number in [stamp.device, stamp.inode, stamp.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [stamp.mtime, stamp.ctime] {
            bytes.extend_from_slice(&time.seconds.to_le_bytes());
            bytes.extend_from_slice(&time.nanos.to_le_bytes());
        }
        bytes.push(known.has_xattrs.into());
        bytes.extend_from_slice(&known.digest.0);
    }
    let checksum = crc32fast::hash(&bytes[CHECKSUM_AT + 4..]);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn start(path: &[u8], slots: usize) -> usize {
    crc32fast::hash(path) as usize % slots
}

/// Takes one field after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(rest: &'a [u8]) -> Fields<'a> {
        Fields { rest }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(field)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

/// The part of an entry after its path, [`FIXED_LEN`] bytes.
fn decode(fixed: &[u8]) -> (Stamp, Known) {
    let time = |at| Time {
        seconds: i64::from_le_bytes(field(fixed, at)),
        nanos: u32::from_le_bytes(field(fixed, at + 8)),
    };
    let stamp = Stamp {
        device: u64::from_le_bytes(field(fixed, 0)),
        inode: u64::from_le_bytes(field(fixed, 8)),
        size: u64::from_le_bytes(field(fixed, 16)),
        mtime: time(24),
        ctime: time(36),
    };
    let known = Known {
        has_xattrs: fixed[48] != 0,
        digest: ContentDigest(field(fixed, 49)),
    };
    (stamp, known)
}

fn field<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&from[at..at + N]);
    field
}
