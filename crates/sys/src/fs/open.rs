//! Opening files so that no symbolic link and no `..` leads out of a root.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::path::Arg;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

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
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if left > 0 => left -= 1,
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
