//! Flights: of all processes that are about to make the same thing, one makes it.

use std::fs::File;
use std::time::Duration;

use crate::error::{Attempt, StoreError};
use crate::store::Store;

/// Locked for each thing that is being made: the byte that its name hashes to. So a flight makes
/// no file, and nothing has to be cleaned up after whoever was killed.
const FILE: &str = "flights.lock";

/// The first and the longest pause between two looks at a lock that somebody else has.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// The right to make something. Dropped, the next one gets it.
#[derive(Debug)]
pub struct FlightGuard {
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
        let path = self.inner.path(FILE);
        let file = self.inner.disk.open_lock(&path)?;
        let locked = sys::fs::try_lock_byte(&file, byte_of(what)).attempt("lock", &path)?;
        Ok(locked.then_some(FlightGuard { _file: file }))
    }
}

/// A position that locks can have. Two names that share one wait for each other, and that is all.
fn byte_of(what: &str) -> u64 {
    let hex = oci::Digest::sha256(what).hex();
    u64::from_str_radix(&hex[..15], 16).unwrap_or(0)
}
