//! A sorted table of entries in a file, searched without being loaded: in memory are the first path
//! of each block, one bit an entry, and the few blocks that were touched last. A million entries
//! cost about a megabyte.

use super::{Known, Stamp};
use crate::{ContentDigest, Time};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"kilnstat";
const VERSION: u32 = 2;
/// Magic, version.
const HEADER_LEN: usize = 8 + 4;
/// Position and checksum of the directory.
const TRAILER_LEN: usize = 8 + 4;
/// Of an entry, after its path.
const FIXED_LEN: usize = 3 * 8 + 2 * 12 + 1 + 32;
/// A block is closed when it is this long.
const BLOCK: usize = 8 * 1024;
/// Of a block in the directory, after its path.
const REFERENCE_LEN: usize = 3 * 4;
/// No directory is longer: it is read as a whole.
const DIRECTORY_MAX: u64 = 256 << 20;
/// Blocks that are kept, each in one place.
const KEPT: usize = 32;

/// What is remembered of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) stamp: Stamp,
    pub(super) known: Known,
    /// Somebody asked for it.
    pub(super) used: bool,
}

/// The entries of a file.
#[derive(Debug)]
pub(super) struct Table {
    file: File,
    blocks: Vec<Reference>,
    used: Vec<AtomicU64>,
    kept: [Mutex<Option<Kept>>; KEPT],
}

/// A block in memory, and its number.
type Kept = (usize, Arc<Block>);

/// Where a block is.
#[derive(Debug)]
struct Reference {
    first_path: Box<[u8]>,
    offset: u64,
    len: u32,
    /// Number of its first entry.
    first_entry: usize,
    entries: u32,
    checksum: u32,
}

/// The bytes of a block, and where its entries begin.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    entries: Vec<u32>,
}

impl Table {
    /// Reads the directory of `file`; `None` when it is damaged or of another version.
    pub(super) fn open(file: File) -> Option<Table> {
        let len = file.metadata().ok()?.len();
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0).ok()?;
        if header[..8] != *MAGIC || header[8..] != VERSION.to_le_bytes() {
            return None;
        }
        let mut trailer = [0; TRAILER_LEN];
        let end = len.checked_sub(TRAILER_LEN as u64)?;
        file.read_exact_at(&mut trailer, end).ok()?;
        let start = u64::from_le_bytes(field(&trailer, 0));
        let directory_len = end.checked_sub(start).filter(|&len| len <= DIRECTORY_MAX)?;
        let mut directory = vec![0; directory_len as usize];
        file.read_exact_at(&mut directory, start).ok()?;
        if crc32fast::hash(&directory).to_le_bytes() != field::<4>(&trailer, 8) {
            return None;
        }
        let blocks = references(&directory, start)?;
        let entries = blocks
            .last()
            .map_or(0, |last| last.first_entry + last.entries as usize);
        Some(Table {
            file,
            blocks,
            used: std::iter::repeat_with(AtomicU64::default)
                .take(entries.div_ceil(64))
                .collect(),
            kept: Default::default(),
        })
    }

    /// Writes `entries`, sorted by path, to `file`, which is empty. Paths are at most 64 KiB long.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(
        entries: impl Iterator<Item = Entry>,
        file: &mut impl Write,
    ) -> io::Result<()> {
        let mut out = Vec::with_capacity(2 * BLOCK);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        file.write_all(&out)?;
        let mut position = out.len() as u64;
        out.clear();
        let mut directory = Vec::new();
        let mut count = 0u32;
        let mut close = |out: &mut Vec<u8>, count: &mut u32, directory: &mut Vec<u8>| {
            file.write_all(out)?;
            position += out.len() as u64;
            for number in [out.len() as u32, *count, crc32fast::hash(out)] {
                directory.extend_from_slice(&number.to_le_bytes());
            }
            out.clear();
            *count = 0;
            io::Result::Ok(())
        };
        for entry in entries {
            if out.len() >= BLOCK {
                close(&mut out, &mut count, &mut directory)?;
            }
            if out.is_empty() {
                put_path(&mut directory, &entry.path);
            }
            put(&mut out, &entry);
            count += 1;
        }
        if !out.is_empty() {
            close(&mut out, &mut count, &mut directory)?;
        }
        let checksum = crc32fast::hash(&directory);
        directory.extend_from_slice(&position.to_le_bytes());
        directory.extend_from_slice(&checksum.to_le_bytes());
        file.write_all(&directory)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.blocks
            .last()
            .map_or(0, |last| last.first_entry + last.entries as usize)
    }

    /// How many of them somebody asked for.
    pub(super) fn used(&self) -> usize {
        let count = |word: &AtomicU64| word.load(Ordering::Relaxed).count_ones() as usize;
        self.used.iter().map(count).sum()
    }

    /// What is known of `path`, if `accept` takes its stamp: then it counts as used. A damaged
    /// block knows nothing.
    pub(super) fn find(
        &self,
        path: &[u8],
        accept: impl FnOnce(&Stamp) -> bool,
    ) -> Option<(Stamp, Known)> {
        let after = self
            .blocks
            .partition_point(|block| *block.first_path <= *path);
        let number = after.checked_sub(1)?;
        let block = self.block(number)?;
        let found = block
            .entries
            .binary_search_by(|&at| block.path(at).cmp(path))
            .ok()?;
        let (stamp, known) = block.fixed(block.entries[found]);
        if accept(&stamp) {
            let entry = self.blocks[number].first_entry + found;
            let (word, bit) = (&self.used[entry / 64], 1 << (entry % 64));
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Some((stamp, known))
    }

    /// All entries in order; those of damaged blocks are left out.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.blocks.len()).flat_map(move |number| {
            let block = self.read(number);
            let first = self.blocks[number].first_entry;
            let entries = block.into_iter().flat_map(move |block| {
                (0..block.entries.len()).map(move |index| (block.entry(index), first + index))
            });
            entries.map(|(entry, number)| {
                let word = self.used[number / 64].load(Ordering::Relaxed);
                Entry {
                    used: word >> (number % 64) & 1 == 1,
                    ..entry
                }
            })
        })
    }

    /// Whether every block can be read.
    pub(super) fn is_whole(&self) -> bool {
        (0..self.blocks.len()).all(|number| self.read(number).is_some())
    }

    fn block(&self, number: usize) -> Option<Arc<Block>> {
        let mut kept = self.kept[number % KEPT]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((at, block)) = &*kept
            && *at == number
        {
            return Some(Arc::clone(block));
        }
        let block = Arc::new(self.read(number)?);
        *kept = Some((number, Arc::clone(&block)));
        Some(block)
    }

    /// A block as the file has it; `None` when it is damaged.
    fn read(&self, number: usize) -> Option<Block> {
        let reference = &self.blocks[number];
        let mut bytes = vec![0; reference.len as usize];
        self.file.read_exact_at(&mut bytes, reference.offset).ok()?;
        if crc32fast::hash(&bytes) != reference.checksum {
            return None;
        }
        let mut entries = Vec::with_capacity(reference.entries as usize);
        let mut at = 0;
        while at < bytes.len() {
            entries.push(at as u32);
            let path_len = u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
            at += 2 + usize::from(path_len) + FIXED_LEN;
        }
        let whole = at == bytes.len() && entries.len() == reference.entries as usize;
        whole.then_some(Block { bytes, entries })
    }
}

impl Block {
    fn path(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let len = u16::from_le_bytes(field(&self.bytes, at));
        &self.bytes[at + 2..at + 2 + usize::from(len)]
    }

    /// The part of an entry after its path.
    fn fixed(&self, at: u32) -> (Stamp, Known) {
        let at = at as usize + 2 + self.path(at).len();
        let time = |at| Time {
            seconds: i64::from_le_bytes(field(&self.bytes, at)),
            nanos: u32::from_le_bytes(field(&self.bytes, at + 8)),
        };
        let stamp = Stamp {
            device: u64::from_le_bytes(field(&self.bytes, at)),
            inode: u64::from_le_bytes(field(&self.bytes, at + 8)),
            size: u64::from_le_bytes(field(&self.bytes, at + 16)),
            mtime: time(at + 24),
            ctime: time(at + 36),
        };
        let known = Known {
            has_xattrs: self.bytes[at + 48] != 0,
            digest: ContentDigest(field(&self.bytes, at + 49)),
        };
        (stamp, known)
    }

    fn entry(&self, index: usize) -> Entry {
        let at = self.entries[index];
        let (stamp, known) = self.fixed(at);
        Entry {
            path: self.path(at).to_vec(),
            stamp,
            known,
            used: false,
        }
    }
}

/// The blocks that a directory, which begins at `end`, tells of.
fn references(directory: &[u8], end: u64) -> Option<Vec<Reference>> {
    let mut blocks: Vec<Reference> = Vec::new();
    let (mut offset, mut first_entry) = (HEADER_LEN as u64, 0);
    let mut rest = directory;
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk()?;
        let (path, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
        let (fixed, after) = after.split_at_checked(REFERENCE_LEN)?;
        let [len, entries, checksum] = [0, 4, 8].map(|at| u32::from_le_bytes(field(fixed, at)));
        blocks.push(Reference {
            first_path: path.into(),
            offset,
            len,
            first_entry,
            entries,
            checksum,
        });
        offset += u64::from(len);
        first_entry += entries as usize;
        rest = after;
    }
    (offset == end && first_entry as u64 <= end).then_some(blocks)
}

fn put_path(out: &mut Vec<u8>, path: &[u8]) {
    out.extend_from_slice(&(path.len() as u16).to_le_bytes());
    out.extend_from_slice(path);
}

fn put(out: &mut Vec<u8>, entry: &Entry) {
    let Entry { stamp, known, .. } = entry;
    put_path(out, &entry.path);
    for number in [stamp.device, stamp.inode, stamp.size] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for time in [stamp.mtime, stamp.ctime] {
        out.extend_from_slice(&time.seconds.to_le_bytes());
        out.extend_from_slice(&time.nanos.to_le_bytes());
    }
    out.push(known.has_xattrs.into());
    out.extend_from_slice(&known.digest.0);
}

fn field<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&from[at..at + N]);
    field
}
