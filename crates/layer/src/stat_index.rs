//! What the files of one directory hashed to, and by which stamps to tell that they still do.
//!
//! An entry is used when device, inode, size, modification and change time are all what they were:
//! then the file need not be read again. That is sound only if every later write moves the change
//! time, and a write within the same tick of the clock does not. So an entry is recorded only when
//! the stamps are *older than the window* at the moment before they were taken (git's rule for
//! racily clean entries, turned round: what is racy is not recorded, and read again next time).
//!
//! Let `T` be this machine's clock just before the file is opened, `c` its change time. A write
//! after the opening gets a change time of at least `T` less one tick of the clock that stamps
//! files, so `c + tick <= T` keeps the two apart. How long the tick is, and whether the clock is
//! this machine's at all, depends on the file system:
//!
//! | file system | window | why |
//! |---|---|---|
//! | ext, xfs, btrfs, f2fs, bcachefs, overlay | 20 ms | stamped from the kernel's coarse clock, at most 10 ms behind; twice that |
//! | those, both stamps on a whole second | 2 s | an old inode format with one-second stamps |
//! | tmpfs, ramfs, hugetlbfs | never | a write through a shared mapping leaves no stamp |
//! | all others (NFS, 9p, FUSE, FAT …) | 60 s | another clock may stamp, or a coarse one; a minute of skew is a broken clock |
//!
//! A time stamp in the future is never old, so such a file is always read. What stays open, as it
//! does for git and make: a process that keeps a shared writable mapping of a page it has written
//! already may write to it again without a new stamp until the kernel has cleaned the page.
//!
//! ```text
//! file   "kilnstat" · version u32 · CRC-32 of the rest u32 · count u64 · entries in path order
//! entry  path length u16 · path · device u64 · inode u64 · size u64 · mtime i64 u32 · ctime i64 u32
//!        · has attributes u8 · SHA-256
//! ```
//! Integers are little-endian. A file that is missing or damaged is an empty index, never an error.

use crate::{ContentDigest, RelPath, Time};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use sys::fs::Stat;

const MAGIC: &[u8; 8] = b"kilnstat";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 8 + 4 + 4 + 8;
/// Of an entry, without its path.
const FIXED_LEN: usize = 2 + 3 * 8 + 2 * 12 + 1 + 32;

/// The remembered digests of the files below one directory.
#[derive(Debug)]
pub struct StatIndex {
    file: PathBuf,
    entries: RwLock<HashMap<Box<[u8]>, Entry>>,
    changed: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    known: Known,
    /// Whether this process asked for it.
    used: AtomicBool,
}

/// What makes two sightings of a file the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: Time,
    ctime: Time,
}

/// What need not be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) digest: ContentDigest,
    /// Whether the file has attributes that belong to an image.
    pub(crate) has_xattrs: bool,
}

/// How old stamps must be on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// The kernel's coarse clock.
    Local,
    /// Some clock.
    Other,
    /// No age is enough.
    Never,
}

impl StatIndex {
    /// Loads the index in `file`. It may be missing; so may, until [`StatIndex::save`], its
    /// directory.
    pub fn open(file: &Path) -> StatIndex {
        let entries = std::fs::read(file).ok().and_then(|bytes| decode(&bytes));
        StatIndex {
            file: file.to_owned(),
            entries: RwLock::new(entries.unwrap_or_default()),
            changed: AtomicBool::new(false),
        }
    }

    /// Writes the index back if something was learned, by renaming a new file over the old one.
    ///
    /// Entries that nobody asked for are kept until they outnumber the others: they may belong to
    /// another Dockerfile over the same directory, or to files that are gone.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let bytes = encode(&self.entries.read().unwrap_or_else(PoisonError::into_inner));
        let mut name = self.file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = self.file.with_file_name(name);
        let written = File::create(&new)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| std::fs::rename(&new, &self.file));
        written.inspect_err(|_| {
            // The error that matters is the one at hand.
            drop(std::fs::remove_file(&new));
        })
    }

    pub(crate) fn find(&self, path: &RelPath, stamp: &Stamp) -> Option<Known> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(path.as_bytes())?;
        if entry.stamp != *stamp {
            return None;
        }
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(entry.known)
    }

    /// Remembers what a file hashed to. The stamps were older than the window when it was opened.
    pub(crate) fn learn(&self, path: &RelPath, stamp: Stamp, known: Known) {
        // The format's limit; the kernel's is far below.
        if path.as_bytes().len() > usize::from(u16::MAX) {
            return;
        }
        let entry = Entry {
            stamp,
            known,
            used: AtomicBool::new(true),
        };
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(path.as_bytes().into(), entry);
        self.changed.store(true, Ordering::Relaxed);
    }
}

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Stamp {
        let time = |time: sys::fs::Time| Time {
            seconds: time.seconds,
            nanos: time.nanos,
        };
        Stamp {
            device: stat.device,
            inode: stat.inode,
            size: stat.size,
            mtime: time(stat.mtime),
            ctime: time(stat.ctime),
        }
    }
}

impl Window {
    /// The window of the file system that `file` is on.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Window> {
        let kind = sys::fs::fstatfs(file)?.f_type as u32;
        Ok(match kind {
            // ext2 to ext4, xfs, btrfs, f2fs, bcachefs, overlay: linux/magic.h.
            0xEF53 | 0x5846_5342 | 0x9123_683E | 0xF2F5_2010 | 0xCA45_1A4E | 0x794C_7630 => {
                Window::Local
            }
            // tmpfs, ramfs, hugetlbfs.
            0x0102_1994 | 0x8584_58F6 | 0x9584_58F6 => Window::Never,
            _ => Window::Other,
        })
    }

    /// Whether a file that had `stamp` when it was opened, which was not before `began`, would show
    /// other stamps after a write.
    pub(crate) fn admits(self, stamp: &Stamp, began: Time) -> bool {
        let whole_seconds = stamp.mtime.nanos == 0 && stamp.ctime.nanos == 0;
        let nanos = match self {
            Window::Local if !whole_seconds => 20_000_000,
            Window::Local => 2_000_000_000,
            Window::Other => 60_000_000_000,
            Window::Never => return false,
        };
        let count = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        count(stamp.mtime.max(stamp.ctime)) + nanos <= count(began)
    }
}

fn encode(entries: &HashMap<Box<[u8]>, Entry>) -> Vec<u8> {
    let is_used = |entry: &Entry| entry.used.load(Ordering::Relaxed);
    let used = entries.values().filter(|entry| is_used(entry)).count();
    let keep_unused = entries.len() - used <= used;
    let mut kept: Vec<_> = entries
        .iter()
        .filter(|(_, entry)| keep_unused || is_used(entry))
        .collect();
    kept.sort_unstable_by_key(|(path, _)| *path);

    let paths: usize = kept.iter().map(|(path, _)| path.len()).sum();
    let mut bytes = Vec::with_capacity(HEADER_LEN + paths + kept.len() * FIXED_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(kept.len() as u64).to_le_bytes());
    for (path, entry) in kept {
        bytes.extend_from_slice(&(path.len() as u16).to_le_bytes());
        bytes.extend_from_slice(path);
        let stamp = &entry.stamp;
        for number in [stamp.device, stamp.inode, stamp.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [stamp.mtime, stamp.ctime] {
            bytes.extend_from_slice(&time.seconds.to_le_bytes());
            bytes.extend_from_slice(&time.nanos.to_le_bytes());
        }
        bytes.push(entry.known.has_xattrs.into());
        bytes.extend_from_slice(&entry.known.digest.0);
    }
    let checksum = crc32fast::hash(&bytes[16..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<Box<[u8]>, Entry>> {
    let mut fields = Fields(bytes);
    let header = fields.take(8)? == MAGIC && fields.number(u32::from_le_bytes)? == VERSION;
    let checksum = fields.number(u32::from_le_bytes)?;
    if !header || crc32fast::hash(fields.0) != checksum {
        return None;
    }
    let count = usize::try_from(fields.number(u64::from_le_bytes)?).ok()?;
    let mut entries = HashMap::with_capacity(count.min(bytes.len() / FIXED_LEN));
    for _ in 0..count {
        let len = fields.number(u16::from_le_bytes)?;
        let path = fields.take(len.into())?.into();
        let entry = Entry {
            stamp: Stamp {
                device: fields.number(u64::from_le_bytes)?,
                inode: fields.number(u64::from_le_bytes)?,
                size: fields.number(u64::from_le_bytes)?,
                mtime: fields.time()?,
                ctime: fields.time()?,
            },
            known: Known {
                has_xattrs: fields.take(1)? != [0],
                digest: ContentDigest(fields.number(|digest| digest)?),
            },
            used: AtomicBool::new(false),
        };
        entries.insert(path, entry);
    }
    fields.0.is_empty().then_some(entries)
}

/// Takes one field after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    fn number<const N: usize, T>(&mut self, from: fn([u8; N]) -> T) -> Option<T> {
        let field = self.take(N)?.try_into().ok()?;
        Some(from(field))
    }

    fn time(&mut self) -> Option<Time> {
        Some(Time {
            seconds: self.number(i64::from_le_bytes)?,
            nanos: self.number(u32::from_le_bytes)?,
        })
    }
}
