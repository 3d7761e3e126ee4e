//! Making special inodes, and setting owner, permissions and times without following links.

use super::stat::Time;
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::fs::{Gid, Uid};
use rustix::path::Arg;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Makes a character or block device. The process's umask applies to `mode`.
///
/// # Errors
/// The errno of `mknodat(2)`; `EPERM` without `CAP_MKNOD` in the initial user namespace (except
/// for character device 0:0, an overlay whiteout, which anyone may make).
pub fn make_device(
    dir: impl AsFd,
    name: impl Arg,
    kind: FileType,
    mode: u32,
    (major, minor): (u32, u32),
) -> io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::mknodat(dir, name, kind, mode, device)?)
}

/// Makes a named pipe. The process's umask applies to `mode`.
///
/// # Errors
/// The errno of `mknodat(2)`.
pub fn make_fifo(dir: impl AsFd, name: impl Arg, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0)?)
}

/// Makes a socket inode that nothing listens on. The process's umask applies to `mode`.
///
/// # Errors
/// The errno of `mknodat(2)`.
pub fn make_socket(dir: impl AsFd, name: impl Arg, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::mknodat(dir, name, FileType::Socket, mode, 0)?)
}

/// Changes owner and group of `name` itself, be it a symbolic link. An empty name is `dir`.
///
/// # Errors
/// The errno of `fchownat(2)`.
pub fn set_owner(dir: impl AsFd, name: impl Arg, uid: u32, gid: u32) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(rustix::fs::chownat(dir, name, uid, gid, flags)?)
}

/// Sets the permission bits (0 to 0o7777) of the inode behind `fd`, which may be an `O_PATH`
/// descriptor.
///
/// # Errors
/// The errno of `chmod(2)`; `EOPNOTSUPP` for a symbolic link, which has no permissions.
pub fn set_permissions(fd: impl AsFd, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// Sets the modification time of `name` itself and leaves the access time. An empty name is `dir`.
///
/// # Errors
/// The errno of `utimensat(2)`.
pub fn set_times(dir: impl AsFd, name: impl Arg, mtime: Time) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanos.into(),
        },
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    Ok(rustix::fs::utimensat(dir, name, &times, flags)?)
}
