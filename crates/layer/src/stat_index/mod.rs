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
//! | tmpfs, ramfs, hugetlbfs | never | on many kernels a write through a shared mapping leaves no stamp |
//! | all others (NFS, 9p, FUSE, FAT …) | 60 s | another clock may stamp, or a coarse one; a minute of skew is a broken clock |
//!
//! A time stamp in the future is never old, so such a file is always read. What stays open, as it
//! does for git and make: a process that keeps a shared writable mapping of a page it has written
//! already may write to it again without a new stamp until the kernel has cleaned the page.
//!
//! ```text
//! file   "kilnstat" · version u32 · CRC-32 of the rest u32 · count u64 · entries by path
//! entry  path length u16 · path · device u64 · inode u64 · size u64 · mtime i64 u32 · ctime i64 u32
//!        · has attributes u8 · SHA-256
//! ```
//! Integers are little-endian. A file that is missing or damaged is an empty index, never an error.

mod loaded;
mod window;

pub(crate) use window::Window;

use crate::{ContentDigest, RelPath, Time};
use loaded::Loaded;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use sys::fs::Stat;

/// The remembered digests of the files below one directory.
#[derive(Debug)]
pub struct StatIndex {
    file: PathBuf,
    loaded: Loaded,
    /// What was found out since; counts before `loaded`.
    learned: RwLock<BTreeMap<Box<[u8]>, Learned>>,
    changed: AtomicBool,
    views: AtomicU32,
}

#[derive(Debug)]
struct Learned {
    stamp: Stamp,
    known: Known,
    seen: AtomicU32,
}

/// Tells the views that share an index apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ViewId(u32);

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

impl StatIndex {
    /// Loads the index in `file`, which may be missing.
    pub fn open(file: &Path) -> StatIndex {
        let loaded = std::fs::read(file).ok().and_then(Loaded::new);
        StatIndex {
            file: file.to_owned(),
            loaded: loaded.unwrap_or_default(),
            learned: RwLock::default(),
            changed: AtomicBool::new(false),
            views: AtomicU32::new(1),
        }
    }

    /// Writes the index back if something was learned, by renaming a new file over the old one,
    /// whose directory exists.
    ///
    /// Entries that nobody asked for may belong to another Dockerfile over the same directory, or
    /// to files that are gone. They are kept as long as at least half as many are in use as the
    /// old file had.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let bytes = self.encode();
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

    /// A number for a view that is about to use this index.
    pub(crate) fn new_view(&self) -> ViewId {
        ViewId(self.views.fetch_add(1, Ordering::Relaxed))
    }

    /// What is known of the file at `path` if it still has `stamp`. `view` has looked at it then.
    pub(crate) fn find(&self, path: &RelPath, stamp: &Stamp, view: ViewId) -> Option<Known> {
        self.with(path, |known_stamp, known, seen| {
            (known_stamp == *stamp).then(|| {
                if seen.load(Ordering::Relaxed) != view.0 {
                    seen.store(view.0, Ordering::Relaxed);
                }
                known
            })
        })
    }

    /// The digest of the file at `path` if `view` has looked at it before.
    pub(crate) fn seen(&self, path: &RelPath, view: ViewId) -> Option<ContentDigest> {
        self.with(path, |_, known, seen| {
            (seen.load(Ordering::Relaxed) == view.0).then_some(known.digest)
        })
    }

    /// Remembers what `view` found out. The stamps were older than the window when the file was
    /// opened.
    pub(crate) fn learn(&self, path: &RelPath, stamp: Stamp, known: Known, view: ViewId) {
        // The format's limit; the kernel's is far below.
        if path.as_bytes().len() > usize::from(u16::MAX) {
            return;
        }
        let learned = Learned {
            stamp,
            known,
            seen: AtomicU32::new(view.0),
        };
        let mut all = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(path.as_bytes().into(), learned);
        self.changed.store(true, Ordering::Relaxed);
    }

    fn with<T>(
        &self,
        path: &RelPath,
        ask: impl FnOnce(Stamp, Known, &AtomicU32) -> Option<T>,
    ) -> Option<T> {
        let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = learned.get(path.as_bytes()) {
            return ask(entry.stamp, entry.known, &entry.seen);
        }
        drop(learned);
        let entry = self.loaded.find(path.as_bytes())?;
        ask(entry.stamp, entry.known, entry.seen)
    }

    fn encode(&self) -> Vec<u8> {
        let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
        let used = learned.len() + self.loaded.iter().filter(|entry| entry.is_used()).count();
        let keep_unused = self.loaded.len() <= used * 2;
        let mut all: BTreeMap<&[u8], (Stamp, Known)> = self
            .loaded
            .iter()
            .filter(|entry| keep_unused || entry.is_used())
            .map(|entry| (entry.path, (entry.stamp, entry.known)))
            .collect();
        all.extend(
            learned
                .iter()
                .map(|(path, entry)| (&**path, (entry.stamp, entry.known))),
        );
        let entries = all.into_iter();
        loaded::encode(entries.map(|(path, (stamp, known))| (path, stamp, known)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn stamp(inode: u64) -> Stamp {
        Stamp {
            device: 1,
            inode,
            size: 3,
            mtime: Time::default(),
            ctime: Time::default(),
        }
    }

    fn known(byte: u8) -> Known {
        Known {
            digest: ContentDigest([byte; 32]),
            has_xattrs: byte % 2 == 1,
        }
    }

    /// An index in a new directory that has learned `files`, saved and loaded again.
    fn reloaded(files: &[(&str, u64)]) -> (tempfile::TempDir, StatIndex) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("index");
        let index = StatIndex::open(&file);
        let view = index.new_view();
        for &(name, inode) in files {
            index.learn(&path(name), stamp(inode), known(inode as u8), view);
        }
        index.save().unwrap();
        let index = StatIndex::open(&file);
        (directory, index)
    }

    #[test]
    fn what_was_learned_is_known_after_loading() {
        let (_directory, index) = reloaded(&[("b", 2), ("a/x", 1), ("a", 3)]);
        let view = index.new_view();
        assert_eq!(index.find(&path("a/x"), &stamp(1), view), Some(known(1)));
        assert_eq!(index.find(&path("b"), &stamp(2), view), Some(known(2)));
        assert_eq!(index.find(&path("b"), &stamp(3), view), None);
        assert_eq!(index.find(&path("c"), &stamp(2), view), None);
    }

    #[test]
    fn a_view_answers_without_looking_only_for_what_it_saw() {
        let (_directory, index) = reloaded(&[("a", 1)]);
        let (one, two) = (index.new_view(), index.new_view());
        assert_eq!(index.seen(&path("a"), one), None);
        index.find(&path("a"), &stamp(1), one).unwrap();
        assert_eq!(index.seen(&path("a"), one), Some(known(1).digest));
        assert_eq!(index.seen(&path("a"), two), None);
    }

    #[test]
    fn nothing_learned_nothing_written() {
        let (_directory, index) = reloaded(&[("a", 1)]);
        std::fs::remove_file(&index.file).unwrap();
        index.find(&path("a"), &stamp(1), index.new_view()).unwrap();
        index.save().unwrap();
        assert!(!index.file.exists());
    }

    #[test]
    fn entries_out_of_use_go_when_too_few_are_in_use() {
        let (_directory, index) = reloaded(&[("a", 1), ("b", 2), ("c", 3)]);
        index.learn(&path("d"), stamp(4), known(4), index.new_view());
        index.save().unwrap();
        let index = StatIndex::open(&index.file);
        let left: Vec<_> = index.loaded.iter().map(|entry| entry.path).collect();
        assert_eq!(left, [b"d"]);
    }

    #[test]
    fn saving_leaves_one_file() {
        let (directory, _index) = reloaded(&[("a", 1)]);
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    proptest! {
        #[test]
        fn damaged_files_are_empty_indexes(at in 0usize..250, byte: u8, cut: bool) {
            let (_directory, index) = reloaded(&[("a", 1), ("b", 2)]);
            let whole = std::fs::read(&index.file).unwrap();
            let at = at % whole.len();
            let mut damaged = whole.clone();
            damaged[at] = byte;
            damaged.truncate(if cut { at } else { whole.len() });
            std::fs::write(&index.file, &damaged).unwrap();
            let again = StatIndex::open(&index.file);
            let expect = if damaged == whole { 2 } else { 0 };
            prop_assert_eq!(again.loaded.len(), expect);
        }
    }
}
