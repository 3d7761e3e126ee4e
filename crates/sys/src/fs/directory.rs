//! Reading directories with bare `getdents64`, without a `DIR` stream.

use rustix::fs::{FileType, RawDir};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

/// Bytes that one `getdents64` may fill: about a thousand entries.
const BUFFER: usize = 32 * 1024;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, never `.` or `..`.
    pub name: Box<[u8]>,
    /// What the directory says it is; [`FileType::Unknown`] on file systems that do not tell.
    pub kind: FileType,
    /// Inode number.
    pub inode: u64,
}

/// All entries of the directory behind `dir`, from its current position, in the order of the file
/// system. A descriptor that was read before must be opened anew.
///
/// # Errors
/// The errno of `getdents64(2)`.
pub fn read_dir(dir: impl AsFd) -> io::Result<Vec<Entry>> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut raw = RawDir::new(dir.as_fd(), &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(Entry {
                name: name.into(),
                kind: entry.file_type(),
                inode: entry.ino(),
            });
        }
    }
    Ok(entries)
}
