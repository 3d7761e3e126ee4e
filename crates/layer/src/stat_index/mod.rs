//! What the files of one directory hashed to, and by which stamps to tell that they still do.
//!
//! An entry is used when device, inode, size, modification and change time are all what they were:
//! then the file need not be read again. That is sound only if every later write moves the change
//! time, and a write within the same tick of the clock does not. So an entry is recorded only when
//! the stamps are *older than the window* at the moment before they were taken (git's rule for
//! racily clean entries, turned round: what is racy is not recorded, and read again next time).
//!
//! Let `T` be this machine's clock just before the stamps are taken, `c` the change time among
//! them. The bytes are read after that, so every write before `T` is in them; a write after `T` gets
//! a change time of at least `T` less one tick of the clock that stamps files, so `c + tick <= T`
//! keeps the two apart. Writes between `T` and the end of the reading that move the stamps are seen
//! by taking the stamps once more, of the open file: they are the same, inode and all, or the file
//! is read again. So two `stat` around one reading are enough. How long the tick is, and whether the
//! clock is this machine's at all, depends on the file system:
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
//! file       "kilnstat" · version u32 · blocks · directory · trailer
//! block      entries by path, about 8 KiB of them
//! entry      path length u16 · path · device u64 · inode u64 · size u64 · mtime i64 u32
//!            · ctime i64 u32 · has attributes u8 · SHA-256
//! directory  for each block: first path (length u16, bytes) · length u32 · entries u32 · CRC-32 u32
//! trailer    position of the directory u64 · its CRC-32 u32
//! ```
//! Integers are little-endian. A file that is missing or damaged is an empty index, never an error;
//! a damaged block knows nothing.

mod table;
mod window;

pub(crate) use window::Windows;

use crate::{ContentDigest, RelPath, Time};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use sys::fs::Stat;
use table::{Entry, Table};

/// Entries that are learned before they go to a temporary file: a dozen megabytes of them.
const LEARNED_MAX: usize = 1 << 16;

/// The remembered digests of the files below one directory.
#[derive(Debug)]
pub struct StatIndex {
    file: PathBuf,
    loaded: Option<Table>,
    learned: RwLock<Learned>,
}

/// What was found out since; counts before what was loaded, and later before earlier.
#[derive(Debug, Default)]
struct Learned {
    entries: BTreeMap<Box<[u8]>, (Stamp, Known)>,
    /// Those that were learned earlier.
    earlier: Vec<Table>,
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

impl StatIndex {
    /// Opens the index in `file`, which may be missing.
    pub fn open(file: &Path) -> StatIndex {
        StatIndex {
            file: file.to_owned(),
            loaded: File::open(file).ok().and_then(Table::open),
            learned: RwLock::default(),
        }
    }

    /// Whether a file is an index of which nothing is damaged.
    pub fn is_whole(file: &Path) -> bool {
        let table = File::open(file).ok().and_then(Table::open);
        table.is_some_and(|table| table.is_whole())
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
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        if learned.entries.is_empty() && learned.earlier.is_empty() {
            return Ok(());
        }
        let learned = std::mem::take(&mut *learned);
        let mut name = self.file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = self.file.with_file_name(name);
        let write = || {
            let mut out = BufWriter::with_capacity(256 * 1024, File::create(&new)?);
            Table::write(self.merged(&learned), &mut out)?;
            out.flush()?;
            std::fs::rename(&new, &self.file)
        };
        write().inspect_err(|_| {
            // The error that matters is the one at hand.
            drop(std::fs::remove_file(&new));
        })
    }

    /// What is known of the file at `path` if it still has `stamp`.
    pub(crate) fn find(&self, path: &RelPath, stamp: &Stamp) -> Option<Known> {
        let path = path.as_bytes();
        let same = |found: (Stamp, Known)| (found.0 == *stamp).then_some(found.1);
        let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = learned.entries.get(path) {
            return same(*found);
        }
        let tables = learned.earlier.iter().rev().chain(&self.loaded);
        let mut found = tables.filter_map(|table| table.find(path, |known| known == stamp));
        same(found.next()?)
    }

    /// Remembers what was found out. The stamps were older than the window when they were taken.
    pub(crate) fn learn(&self, path: &RelPath, stamp: Stamp, known: Known) {
        // The format's limit; the kernel's is far below.
        if path.as_bytes().len() > usize::from(u16::MAX) {
            return;
        }
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        learned
            .entries
            .insert(path.as_bytes().into(), (stamp, known));
        if learned.entries.len() >= LEARNED_MAX {
            let entries = std::mem::take(&mut learned.entries);
            // Without room for them, they are found out again next time.
            let aside = put_aside(&entries, &self.file).ok().flatten();
            learned.earlier.extend(aside);
        }
    }

    /// All entries that are to be kept, sorted by path.
    fn merged<'a>(&'a self, learned: &'a Learned) -> impl Iterator<Item = Entry> + 'a {
        let earlier = &learned.earlier;
        let loaded = self.loaded.as_ref();
        let used = learned.entries.len()
            + earlier.iter().map(Table::len).sum::<usize>()
            + loaded.map_or(0, Table::used);
        let keep_unused = loaded.map_or(0, Table::len) <= used * 2;
        let entries = listed(&learned.entries);
        let mut sources: Vec<Box<dyn Iterator<Item = Entry> + 'a>> = vec![Box::new(entries)];
        for table in earlier.iter().rev() {
            sources.push(Box::new(table.iter()));
        }
        let kept = loaded.into_iter().flat_map(Table::iter);
        sources.push(Box::new(
            kept.filter(move |entry| keep_unused || entry.used),
        ));
        merge(sources)
    }
}

fn listed(entries: &BTreeMap<Box<[u8]>, (Stamp, Known)>) -> impl Iterator<Item = Entry> {
    entries.iter().map(|(path, &(stamp, known))| Entry {
        path: path.to_vec(),
        stamp,
        known,
        used: true,
    })
}

/// Writes entries to a file without a name, beside `index`.
fn put_aside(
    entries: &BTreeMap<Box<[u8]>, (Stamp, Known)>,
    index: &Path,
) -> io::Result<Option<Table>> {
    let directory = index.parent().unwrap_or(Path::new("."));
    let file = sys::fs::unnamed_file(directory)?;
    let mut out = BufWriter::with_capacity(256 * 1024, &file);
    Table::write(listed(entries), &mut out)?;
    out.flush()?;
    drop(out);
    Ok(Table::open(file))
}

/// Merges sorted lists into one. Of equal paths, the one of the first list counts.
fn merge<'a>(
    sources: Vec<Box<dyn Iterator<Item = Entry> + 'a>>,
) -> impl Iterator<Item = Entry> + 'a {
    let mut sources: Vec<_> = sources.into_iter().map(Iterator::peekable).collect();
    std::iter::from_fn(move || {
        let heads = sources.iter_mut().filter_map(|source| source.peek());
        let path = heads.map(|entry| &entry.path).min()?.clone();
        let mut heads = sources
            .iter_mut()
            .filter_map(|source| source.next_if(|entry| entry.path == path));
        let first = heads.next();
        heads.for_each(drop);
        first
    })
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
        for &(name, inode) in files {
            index.learn(&path(name), stamp(inode), known(inode as u8));
        }
        index.save().unwrap();
        let index = StatIndex::open(&file);
        (directory, index)
    }

    fn paths(index: &StatIndex) -> Vec<String> {
        let entries = index.loaded.iter().flat_map(Table::iter);
        entries
            .map(|entry| String::from_utf8(entry.path).unwrap())
            .collect()
    }

    #[test]
    fn what_was_learned_is_known_after_loading() {
        let (_directory, index) = reloaded(&[("b", 2), ("a/x", 1), ("a", 3)]);
        assert_eq!(index.find(&path("a/x"), &stamp(1)), Some(known(1)));
        assert_eq!(index.find(&path("b"), &stamp(2)), Some(known(2)));
        assert_eq!(index.find(&path("b"), &stamp(3)), None);
        assert_eq!(index.find(&path("c"), &stamp(2)), None);
    }

    #[test]
    fn what_was_learned_last_counts() {
        let (_directory, index) = reloaded(&[("a", 1), ("b", 2)]);
        index.learn(&path("a"), stamp(5), known(5));
        assert_eq!(index.find(&path("a"), &stamp(5)), Some(known(5)));
        assert_eq!(index.find(&path("a"), &stamp(1)), None);
        index.save().unwrap();
        let index = StatIndex::open(&index.file);
        assert_eq!(index.find(&path("a"), &stamp(5)), Some(known(5)));
        assert_eq!(paths(&index), ["a", "b"]);
    }

    #[test]
    fn many_entries_are_found_before_and_after_saving() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("index");
        let index = StatIndex::open(&file);
        let count = 2 * LEARNED_MAX as u64 + 1000;
        let name = |number: u64| path(&format!("{}/{number}", number % 100));
        for number in 0..count {
            index.learn(&name(number), stamp(number), known(number as u8));
        }
        let check = |index: &StatIndex| {
            for number in (0..count).step_by(997) {
                let found = index.find(&name(number), &stamp(number));
                assert_eq!(found, Some(known(number as u8)), "{number}");
            }
        };
        check(&index);
        assert_eq!(index.learned.read().unwrap().earlier.len(), 2);
        index.save().unwrap();
        let index = StatIndex::open(&file);
        check(&index);
        let paths = paths(&index);
        assert_eq!(paths.len() as u64, count);
        assert!(paths.is_sorted());
    }

    #[test]
    fn nothing_learned_nothing_written() {
        let (_directory, index) = reloaded(&[("a", 1)]);
        std::fs::remove_file(&index.file).unwrap();
        index.find(&path("a"), &stamp(1)).unwrap();
        index.save().unwrap();
        assert!(!index.file.exists());
    }

    #[test]
    fn entries_out_of_use_go_when_too_few_are_in_use() {
        let (_directory, index) = reloaded(&[("a", 1), ("b", 2), ("c", 3)]);
        index.learn(&path("d"), stamp(4), known(4));
        index.save().unwrap();
        assert_eq!(paths(&StatIndex::open(&index.file)), ["d"]);
    }

    #[test]
    fn entries_in_use_stay() {
        let (_directory, index) = reloaded(&[("a", 1), ("b", 2), ("c", 3)]);
        index.find(&path("b"), &stamp(2)).unwrap();
        index.find(&path("c"), &stamp(9));
        index.learn(&path("d"), stamp(4), known(4));
        index.save().unwrap();
        assert_eq!(paths(&StatIndex::open(&index.file)), ["a", "b", "c", "d"]);
    }

    #[test]
    fn saving_leaves_one_file() {
        let (directory, _index) = reloaded(&[("a", 1)]);
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    proptest! {
        #[test]
        fn damaged_files_never_lie(at in 0usize..400, byte: u8, cut: bool) {
            let (_directory, index) = reloaded(&[("a", 1), ("b", 2)]);
            let whole = std::fs::read(&index.file).unwrap();
            let at = at % whole.len();
            let mut damaged = whole.clone();
            damaged[at] = byte;
            damaged.truncate(if cut { at } else { whole.len() });
            std::fs::write(&index.file, &damaged).unwrap();
            let again = StatIndex::open(&index.file);
            let found = again.find(&path("a"), &stamp(1));
            let expect = (damaged == whole).then(|| known(1));
            prop_assert_eq!(found, expect);
        }
    }
}
