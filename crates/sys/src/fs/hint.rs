//! What a file system is told about a directory, and may ignore.

use rustix::fs::IFlags;
use std::io;
use std::os::fd::AsFd;

/// Says that the subdirectories of this one have nothing to do with each other (`chattr +T`).
/// ext4 then puts each where there is room, and not beside its siblings.
///
/// # Errors
/// The errno of `ioctl_iflags(2)`: `EOPNOTSUPP` or `ENOTTY` on most other file systems.
pub fn spread_subdirectories(directory: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::ioctl_getflags(&directory)?;
    Ok(rustix::fs::ioctl_setflags(
        &directory,
        flags | IFlags::TOPDIR,
    )?)
}
