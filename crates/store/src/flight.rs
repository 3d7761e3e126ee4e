//! Flights: of all processes that are about to make the same thing, one makes it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Attempt, StoreError};
use crate::lease::names;
use crate::store::{Inner, Store, text_key};

/// The first and the longest pause between two looks at a lock that somebody else has.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// The right to make something. Dropped, the next one gets it.
#[derive(Debug)]
pub struct FlightGuard {
    store: Store,
    path: PathBuf,
    /// Locked as long as it is open.
    _file: File,
}

impl Store {
    /// Waits for the right to make `what`. Whoever gets it looks again first whether it is there.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] as soon as `cancelled` says so; else when the file cannot be
    /// locked.
    pub fn flight(
        &self,
        what: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<FlightGuard, StoreError> {
        let mut pause = PAUSES.0;
        loop {
            if let Some(guard) = self.try_flight(what)? {
                return Ok(guard);
            }
            if cancelled() {
                let what = what.to_owned();
                return Err(StoreError::Cancelled { what });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The right to make `what`, unless somebody has it.
    ///
    /// # Errors
    /// When the file cannot be locked.
    pub fn try_flight(&self, what: &str) -> Result<Option<FlightGuard>, StoreError> {
        let path = self.inner.path("flights").join(text_key(what));
        loop {
            let file = self.inner.disk.open_lock(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error).attempt("lock", &path),
            }
            // The one before removes the file at its end: this may be the lock of a file that is
            // no longer there.
            let mine = file.metadata().attempt("look at", &path)?.ino();
            if fs::metadata(&path).is_ok_and(|current| current.ino() == mine) {
                let store = self.clone();
                return Ok(Some(FlightGuard {
                    store,
                    path,
                    _file: file,
                }));
            }
        }
    }
}

impl Inner {
    /// Removes the files of flights whose makers were killed.
    pub(crate) fn drop_stray_flights(&self) -> Result<(), StoreError> {
        let folder = self.path("flights");
        for name in names(&folder)? {
            let path = folder.join(name);
            let Ok(file) = File::open(&path) else {
                continue;
            };
            // Locked while it goes: whoever opened it a moment ago gets the lock of a file that is
            // no longer there, notices, and takes another.
            if file.try_lock().is_ok() {
                self.disk.remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        // A file that stays behind is locked and removed by the next one.
        _ = self.store.inner.disk.remove_file(&self.path);
    }
}
