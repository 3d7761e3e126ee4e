//! Metadata of an inode in one `statx`.

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::path::Arg;
use std::io;
use std::os::fd::AsFd;

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What the kernel knows of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileType,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Number of names.
    pub nlink: u32,
    /// Device that holds the inode: major number in the upper half, minor in the lower.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Number of the mount that it was reached through; 0 before Linux 5.8.
    pub mount: u64,
    /// Major and minor number of a device node.
    pub rdev: (u32, u32),
    /// Time of the last change of content.
    pub mtime: Time,
    /// Time of the last change of content or metadata.
    pub ctime: Time,
}

impl From<&Statx> for Stat {
    fn from(raw: &Statx) -> Stat {
        Stat {
            kind: FileType::from_raw_mode(raw.stx_mode.into()),
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            nlink: raw.stx_nlink,
            device: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
            inode: raw.stx_ino,
            mount: raw.stx_mnt_id,
            rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
            mtime: Time {
                seconds: raw.stx_mtime.tv_sec,
                nanos: raw.stx_mtime.tv_nsec,
            },
            ctime: Time {
                seconds: raw.stx_ctime.tv_sec,
                nanos: raw.stx_ctime.tv_nsec,
            },
        }
    }
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);

/// The inode called `name` in `dir`; a symbolic link is not followed.
///
/// # Errors
/// The errno of `statx(2)`.
pub fn stat_at(dir: impl AsFd, name: impl Arg) -> io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let raw = rustix::fs::statx(dir, name, flags, WANTED)?;
    Ok(Stat::from(&raw))
}

/// The inode behind an open descriptor (`O_PATH` too).
///
/// # Errors
/// The errno of `statx(2)`.
pub fn stat(fd: impl AsFd) -> io::Result<Stat> {
    let raw = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, WANTED)?;
    Ok(Stat::from(&raw))
}
