//! Room on the disk: the configured limits, kept before and while steps write, and what is done
//! when the disk is full all the same.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use store::{PrunePolicy, Store};

use crate::lock::lock;

/// The limits that builds keep, by giving up cache that nobody uses.
#[derive(Debug)]
pub(crate) struct Room {
    store: Store,
    max_size: Option<u64>,
    min_free: Option<u64>,
    /// When the store is to be measured again. Whoever measures holds it.
    due: Mutex<Option<Instant>>,
}

/// A disk with less than this left counts as full.
const NOTHING: u64 = 64 << 10;
/// One on which fewer files can be made than this, too.
const FEW: u64 = 16;
/// The part of a full disk that is freed, at least.
const PART: u64 = 20;
/// How often the limits are looked after while something is written.
const TICK: Duration = Duration::from_millis(250);
/// The part of the time that goes into measuring the store, at most.
const MEASURING: u32 = 20;

impl Room {
    pub(crate) fn new(store: Store, max_size: Option<u64>, min_free: Option<u64>) -> Room {
        Room {
            store,
            max_size,
            min_free,
            due: Mutex::default(),
        }
    }

    /// Whether there is any limit to keep.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_size.is_some() || self.min_free.is_some()
    }

    /// Keeps the limits again and again, until the other end of `ended` is gone.
    pub(crate) fn watch(&self, ended: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(TICK) {
            self.keep();
        }
    }

    /// Keeps the limits. Costs one question to the file system, and now and then a measurement.
    pub(crate) fn keep(&self) {
        if let (Some(least), Ok((free, _))) = (self.min_free, self.store.room())
            && free < least
        {
            self.prune(None, Some(least));
        }
        let now = Instant::now();
        if self.max_size.is_some()
            // Somebody else may be at it.
            && let Ok(mut due) = self.due.try_lock()
            && due.is_none_or(|due| due <= now)
        {
            self.keep_size();
            *due = Some(now + TICK.max(now.elapsed() * MEASURING));
        }
    }

    /// Keeps all limits, however recently they were looked after.
    pub(crate) fn after_writing(&self) {
        *lock(&self.due) = None;
        self.keep();
    }

    fn keep_size(&self) {
        // A store that cannot be measured is a build's least trouble.
        if let (Some(most), Ok(size)) = (self.max_size, self.store.size())
            && size > most
        {
            self.prune(Some(most), None);
        }
    }

    /// Whether the disk is full now.
    pub(crate) fn is_full(&self) -> bool {
        let no_bytes = self.store.room().is_ok_and(|(free, _)| free < NOTHING);
        // overlayfs cannot make its working directory then, and is mounted read-only without a word.
        let no_files = self.store.free_files();
        no_bytes || no_files.is_ok_and(|free| free.is_some_and(|free| free < FEW))
    }

    /// Does something that writes. If the disk is full, gives up some cache and does it again,
    /// and if that was not enough, gives up all that may go and does it a last time.
    pub(crate) fn retried<T, E: Error + 'static>(
        &self,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        self.keep();
        let mut result = work();
        for all in [false, true] {
            match &result {
                Err(error) if is_no_space(error) && self.evict(all) => result = work(),
                _ => break,
            }
        }
        result
    }

    /// Frees a part of a full disk, or all that may go; false when that is nothing. What the attempt
    /// wrote is gone already, so twice of what is free is more than it had.
    fn evict(&self, all: bool) -> bool {
        let Ok((free, total)) = self.store.room() else {
            return false;
        };
        let least = self.min_free.unwrap_or(0).max(total / PART);
        let part = least.max(free.saturating_mul(2)).max(1);
        self.prune(None, Some(if all { u64::MAX } else { part }))
    }

    fn prune(&self, max_size: Option<u64>, min_free: Option<u64>) -> bool {
        let policy = PrunePolicy {
            max_size,
            min_free,
            ..PrunePolicy::default()
        };
        // What cannot be given up now is tried again by the next build.
        self.store
            .prune(&policy, &|_| true)
            .is_ok_and(|report| !report.removed.is_empty())
    }
}

/// Whether something failed because the disk, or the user's part of it, is full.
fn is_no_space(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let full = |error: &io::Error| {
            matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            )
        };
        if error.downcast_ref::<io::Error>().is_some_and(full) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StepError;

    #[track_caller]
    fn check(number: i32, expected: bool) {
        let cause = io::Error::from_raw_os_error(number);
        let error = StepError::failed::<io::Error>("write")(cause);
        assert_eq!(is_no_space(&error), expected, "{error:?}");
    }

    #[test]
    fn a_full_disk_is_seen_below_any_error() {
        check(28, true);
        check(122, true);
        check(5, false);
    }
}
