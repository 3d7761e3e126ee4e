//! Locks of single bytes of a file: any number of locks by number, and one file for all of them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Locks one byte of a file, which need not be that long, for as long as this opening of it lasts
/// (an open file description lock, `fcntl_locking(2)`). `false` when somebody else has it: another
/// process, or another opening in this one.
///
/// # Errors
/// When the file is not open for writing, `byte` is above `i64::MAX - 1`, or the file system
/// knows no locks.
pub fn try_lock_byte(file: &File, byte: u64) -> io::Result<bool> {
    // SAFETY: a `flock` of zeros is valid, and those of its fields that matter are set below.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = byte
        .try_into()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    range.l_len = 1;
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the kernel reads the
    // `flock` during the call only.
    let result = unsafe {
        libc::fcntl(
            file.as_raw_fd(),
            libc::F_OFD_SETLK,
            std::ptr::from_ref(&range),
        )
    };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}
