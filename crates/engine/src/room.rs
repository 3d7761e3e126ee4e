//! Room on the disk: the configured limits, kept before a step writes, and what is done when the
//! disk is full all the same.

use std::error::Error;
use std::io::{self, ErrorKind};

use store::{PrunePolicy, Store};

/// The limits that builds keep, by giving up cache that nobody uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<'e> {
    store: &'e Store,
    max_size: Option<u64>,
    min_free: Option<u64>,
}

/// A disk with less than this left counts as full.
const NOTHING: u64 = 64 << 10;
/// The part of a full disk that is freed, at least.
const PART: u64 = 20;

impl<'e> Room<'e> {
    pub(crate) fn new(store: &'e Store, max_size: Option<u64>, min_free: Option<u64>) -> Room<'e> {
        Room {
            store,
            max_size,
            min_free,
        }
    }

    /// Keeps the disk as free as it is to be. Costs one question when it is.
    pub(crate) fn before_writing(&self) {
        if let (Some(least), Ok((free, _))) = (self.min_free, self.store.room())
            && free < least
        {
            self.prune(None, Some(least));
        }
    }

    /// Keeps all limits.
    pub(crate) fn after_writing(&self) {
        if self.max_size.is_some() || self.min_free.is_some() {
            self.prune(self.max_size, self.min_free);
        }
    }

    /// Whether the disk is full now.
    pub(crate) fn is_full(&self) -> bool {
        self.store.room().is_ok_and(|(free, _)| free < NOTHING)
    }

    /// Does something that writes; if the disk is full, gives up cache and does it once more.
    pub(crate) fn retried<T, E: Error + 'static>(
        &self,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        self.before_writing();
        match work() {
            Err(error) if is_no_space(&error) && self.evict() => work(),
            result => result,
        }
    }

    /// Frees a part of a full disk; false when there is nothing to give up.
    fn evict(&self) -> bool {
        let Ok((free, total)) = self.store.room() else {
            return false;
        };
        let wanted = self.min_free.unwrap_or(0).max(total / PART).max(free + 1);
        self.prune(None, Some(wanted))
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
