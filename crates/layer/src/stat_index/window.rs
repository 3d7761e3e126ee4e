//! How old the stamps of a file must be before they vouch for its bytes. The reasoning is in the
//! documentation of the module above.

use super::Stamp;
use crate::Time;
use std::io;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock};

/// The windows of the devices that files were seen on. A device does not change its file system
/// while a view looks at it.
#[derive(Debug, Default)]
pub(crate) struct Windows(RwLock<Vec<(u64, Window)>>);

impl Windows {
    /// The window of the file system that `file` is on, which is `device`.
    pub(crate) fn of(&self, device: u64, file: impl AsFd) -> io::Result<Window> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, window)) = known.iter().find(|(known, _)| *known == device) {
            return Ok(*window);
        }
        drop(known);
        let window = Window::of(file)?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.push((device, window));
        Ok(window)
    }
}

/// How old stamps must be on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// The kernel's coarse clock stamps.
    Local,
    /// Some clock stamps.
    Other,
    /// No age is enough.
    Never,
}

impl Window {
    /// The window of the file system that `file` is on.
    fn of(file: impl AsFd) -> io::Result<Window> {
        Ok(Window::of_type(sys::fs::fstatfs(file)?.f_type as u32))
    }

    /// By the magic numbers of `linux/magic.h`.
    fn of_type(magic: u32) -> Window {
        match magic {
            // ext2 to ext4, xfs, btrfs, f2fs, bcachefs, overlay.
            0xEF53 | 0x5846_5342 | 0x9123_683E | 0xF2F5_2010 | 0xCA45_1A4E | 0x794C_7630 => {
                Window::Local
            }
            // tmpfs, ramfs, hugetlbfs.
            0x0102_1994 | 0x8584_58F6 | 0x9584_58F6 => Window::Never,
            _ => Window::Other,
        }
    }

    /// Whether a file that had `stamp` when it was opened, which was not before `began`, would show
    /// other stamps after a write.
    pub(crate) fn admits(self, stamp: &Stamp, began: Time) -> bool {
        let whole_seconds = stamp.mtime.nanos == 0 && stamp.ctime.nanos == 0;
        let nanos = match self {
            Window::Local if !whole_seconds => 20_000_000,
            Window::Local => 2_000_000_000,
            Window::Other => 60_000_000_000,
            Window::Never => return false,
        };
        let count = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        count(stamp.mtime.max(stamp.ctime)) + nanos <= count(began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXT4: u32 = 0xEF53;
    const NFS: u32 = 0x6969;
    const TMPFS: u32 = 0x0102_1994;

    fn at(seconds: i64, nanos: u32) -> Time {
        Time { seconds, nanos }
    }

    #[track_caller]
    fn check(magic: u32, mtime: Time, ctime: Time, began: Time, expect: bool) {
        let stamp = Stamp {
            device: 1,
            inode: 2,
            size: 3,
            mtime,
            ctime,
        };
        let window = Window::of_type(magic);
        assert_eq!(window.admits(&stamp, began), expect, "{window:?}");
    }

    #[test]
    fn stamps_within_the_window_vouch_for_nothing() {
        let old = at(1000, 1);
        check(EXT4, old, at(2000, 500), at(2000, 500), false);
        check(EXT4, old, at(2000, 500), at(2000, 19_000_000), false);
        check(EXT4, old, at(2000, 500), at(2000, 20_000_500), true);
        check(EXT4, old, at(1999, 999_999_999), at(2000, 0), false);
    }

    #[test]
    fn the_newer_stamp_counts_and_the_future_is_never_old() {
        check(EXT4, at(3000, 1), at(1000, 1), at(2000, 0), false);
        check(EXT4, at(1000, 1), at(3000, 1), at(2000, 0), false);
    }

    #[test]
    fn whole_seconds_are_a_coarse_clock() {
        check(EXT4, at(1000, 0), at(1999, 0), at(2000, 0), false);
        check(EXT4, at(1000, 0), at(1998, 0), at(2000, 0), true);
        // A whole second of `touch -d` alone says nothing of the clock.
        check(EXT4, at(1000, 0), at(1999, 7), at(2000, 0), true);
    }

    #[test]
    fn other_clocks_and_no_stamps() {
        check(NFS, at(1000, 1), at(1950, 0), at(2000, 0), false);
        check(NFS, at(1000, 1), at(1940, 0), at(2000, 0), true);
        check(TMPFS, at(1000, 1), at(1000, 1), at(2000, 0), false);
    }
}
