//! One at a time by key: whoever comes second waits, and finds the work done.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Condvar, Mutex};

use crate::lock::{lock, wait};

/// Keys of which somebody has the turn.
pub(crate) struct Turns<K> {
    taken: Mutex<HashSet<K>>,
    ended: Condvar,
}

/// The turn at a key; the next one's when this is dropped, by a panic too.
pub(crate) struct Turn<'t, K: Hash + Eq> {
    turns: &'t Turns<K>,
    key: K,
}

impl<K> Default for Turns<K> {
    fn default() -> Turns<K> {
        Turns {
            taken: Mutex::default(),
            ended: Condvar::new(),
        }
    }
}

impl<K: Hash + Eq + Clone> Turns<K> {
    /// Waits until nobody else has the turn at `key`, and takes it.
    pub(crate) fn take(&self, key: K) -> Turn<'_, K> {
        let mut taken = lock(&self.taken);
        while !taken.insert(key.clone()) {
            taken = wait(&self.ended, taken);
        }
        drop(taken);
        Turn { turns: self, key }
    }
}

impl<K: Hash + Eq> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        lock(&self.turns.taken).remove(&self.key);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_for_each_key() {
        let turns = Turns::default();
        let within = [const { AtomicUsize::new(0) }; 3];
        let visits = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..300 {
                        let key = round % within.len();
                        let _turn = turns.take(key);
                        assert_eq!(within[key].fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        visits.fetch_add(1, Ordering::SeqCst);
                        within[key].fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(visits.into_inner(), 4 * 300);
        assert!(lock(&turns.taken).is_empty());
    }
}
