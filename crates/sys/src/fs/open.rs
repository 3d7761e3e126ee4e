//! Opening files so that no symbolic link and no `..` leads out of a root.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// How often a look-up is tried again when the kernel saw a rename race (`EAGAIN`).
const RACES: usize = 128;

/// Opens `path` as a process whose root is `root` would: absolute links and `..` stay inside.
///
/// `O_CLOEXEC` is added. Kernel magic links are refused.
///
/// # Errors
/// The errno of `openat2(2)`.
pub fn open_in_root(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, mode, ResolveFlags::IN_ROOT)
}

/// Opens `path` below `root`; a path or link that would leave it is an error (`EXDEV`).
///
/// `O_CLOEXEC` is added. Kernel magic links are refused.
///
/// # Errors
/// The errno of `openat2(2)`.
pub fn open_beneath(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, mode, ResolveFlags::BENEATH)
}

fn open_resolved(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    let mut left = RACES;
    loop {
        let result =
            rustix::fs::openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, mode, resolve);
        match result {
            Err(Errno::AGAIN | Errno::INTR) if left > 0 => left -= 1,
            other => return Ok(other?),
        }
    }
}

/// Opens the very inode behind `fd` (usually an `O_PATH` one) again with other flags.
///
/// # Errors
/// The errno of `open(2)`; `ENOENT` when `/proc` is not mounted.
pub fn reopen(fd: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::open(
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A file without a name for reading and writing, in the file system of `directory`. It goes away
/// with its last descriptor.
///
/// # Errors
/// The errno of `open(2)` or `unlink(2)`.
pub fn unnamed_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(File::from(file)),
        // Not every file system can; then a name that nobody else has, for a moment.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
            let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let name = format!(".kiln-{}-{}", std::process::id(), clock.tv_nsec);
            let path = directory.join(name);
            let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
            rustix::fs::unlink(&path)?;
            Ok(File::from(file))
        }
        Err(errno) => Err(errno.into()),
    }
}
