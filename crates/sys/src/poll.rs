//! Waiting for several descriptors at once.

use rustix::event::{PollFd, PollFlags};
use std::io;
use std::os::fd::BorrowedFd;

/// Waits until one of the descriptors can be read or was closed by the other side, and tells
/// which; `None` entries are never ready. Without `timeout` (milliseconds) it waits for ever.
///
/// # Errors
/// The errno of `poll(2)`.
pub fn readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    timeout: Option<u32>,
) -> io::Result<[bool; N]> {
    let mut positions = Vec::with_capacity(N);
    let mut polled = Vec::with_capacity(N);
    for (position, descriptor) in descriptors.iter().enumerate() {
        if let Some(descriptor) = descriptor {
            positions.push(position);
            polled.push(PollFd::from_borrowed_fd(*descriptor, PollFlags::IN));
        }
    }
    let timeout = timeout.map(|millis| rustix::event::Timespec {
        tv_sec: (millis / 1000).into(),
        tv_nsec: i64::from(millis % 1000) * 1_000_000,
    });
    loop {
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    let mut ready = [false; N];
    for (position, descriptor) in positions.into_iter().zip(&polled) {
        ready[position] = !descriptor.revents().is_empty();
    }
    Ok(ready)
}
