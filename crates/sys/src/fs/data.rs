//! Content of regular files: sparse segments, and copies that share blocks where they can.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A run of bytes that are not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
}

/// The data segments of a file of `size` bytes, in order; what lies between them reads as zeros.
/// One segment of everything on file systems that know no holes. Moves the file's position.
///
/// # Errors
/// The errno of `lseek(2)`.
pub fn segments(file: impl AsFd, size: u64) -> io::Result<Vec<Segment>> {
    let file = file.as_fd();
    let mut found = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => position,
            Err(errno) => return Err(errno.into()),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => size,
            Err(errno) => return Err(errno.into()),
        };
        let (start, end) = (start.min(size), end.min(size));
        if start < end {
            found.push(Segment {
                offset: start,
                len: end - start,
            });
        }
        position = end;
    }
    Ok(found)
}

/// Makes `to` share all blocks of `from`. `false` where the file systems cannot.
///
/// # Errors
/// The errno of `ioctl_ficlone(2)` that does not mean "not here".
pub fn clone_file(from: impl AsFd, to: impl AsFd) -> io::Result<bool> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(errno) if not_here(errno) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// How far [`copy_range`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// All bytes were copied.
    All,
    /// The source ended this many bytes after the start.
    Short(u64),
    /// The kernel cannot copy between these files; nothing was copied. Read and write instead.
    Unsupported,
}

/// Copies `len` bytes inside the kernel, sharing blocks where the file system does.
///
/// # Errors
/// The errno of `copy_file_range(2)` that does not mean "not here".
pub fn copy_range(
    from: BorrowedFd<'_>,
    from_offset: u64,
    to: BorrowedFd<'_>,
    to_offset: u64,
    len: u64,
) -> io::Result<Copied> {
    let (mut source, mut target) = (from_offset, to_offset);
    let mut left = len;
    while left > 0 {
        // One call moves at most 2 GiB less a page.
        let step = usize::try_from(left.min(1 << 30)).unwrap_or(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), step) {
            Ok(0) => return Ok(Copied::Short(len - left)),
            Ok(count) => left -= count as u64,
            Err(Errno::INTR) => {}
            Err(errno) if left == len && not_here(errno) => return Ok(Copied::Unsupported),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Copied::All)
}

fn not_here(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTTY | Errno::PERM
    )
}
