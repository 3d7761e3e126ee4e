//! Locks that do not care whether another thread panicked while it held one: what they guard is
//! whole at any time, and the panic itself ends the build.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Locks, waiting for whoever holds it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go until somebody tells of a change.
pub(crate) fn wait<'a, T>(changed: &Condvar, held: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    changed.wait(held).unwrap_or_else(PoisonError::into_inner)
}
