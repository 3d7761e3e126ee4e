//! Reading clocks by their numbers.

use std::io;

/// Seconds and nanoseconds of a clock (`CLOCK_REALTIME` is 0).
///
/// # Errors
/// The errno of `clock_gettime(2)`: `EINVAL` when there is no such clock.
pub fn read(clock: i32) -> io::Result<(i64, i64)> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes the structure, which is live.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    match result {
        0 => Ok((time.tv_sec, time.tv_nsec)),
        _ => Err(io::Error::last_os_error()),
    }
}
