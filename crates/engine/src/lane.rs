//! Work that goes on beside a build: a queue, and the threads that take items from it. It knows
//! neither what the items are nor what is done with them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

use crate::lock::{lock, wait};

/// A queue that is worked on until it is closed.
pub(crate) struct Lane<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    working: usize,
    closed: bool,
}

impl<T> Lane<T> {
    pub(crate) fn new() -> Lane<T> {
        Lane {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                working: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Appends an item. A closed lane drops it.
    pub(crate) fn push(&self, item: T) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.waiting.push_back(item);
            self.changed.notify_all();
        }
    }

    /// Does `each` with items, on the calling thread, until the lane is closed.
    pub(crate) fn work(&self, each: impl Fn(T)) {
        while let Some(item) = self.next() {
            let _working = Working(self);
            each(item);
        }
    }

    /// Waits until nothing waits and nobody works: for good, unless somebody appends again.
    pub(crate) fn wait_until_idle(&self) {
        let mut state = lock(&self.state);
        while state.working > 0 || !state.waiting.is_empty() {
            state = wait(&self.changed, state);
        }
    }

    /// Drops what waits, and sends everybody home who works here.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn next(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if let Some(item) = state.waiting.pop_front() {
                state.working += 1;
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state = wait(&self.changed, state);
        }
    }
}

/// One item under way; over when this is dropped, by a panic too.
struct Working<'a, T>(&'a Lane<T>);

impl<T> Drop for Working<'_, T> {
    fn drop(&mut self) {
        lock(&self.0.state).working -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn everything_is_done_once_and_idle_means_done() {
        let (lane, done) = (Lane::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    lane.work(|n: usize| {
                        // Work may bring about more work.
                        if n > 0 {
                            lane.push(n - 1);
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    });
                });
            }
            (0..10).for_each(|n| lane.push(n));
            lane.wait_until_idle();
            assert_eq!(done.load(Ordering::SeqCst), 55);
            lane.close();
            lane.push(1);
        });
        assert_eq!(
            done.load(Ordering::SeqCst),
            55,
            "a closed lane takes nothing"
        );
    }

    #[test]
    fn closing_drops_what_waits() {
        let lane = Lane::new();
        lane.push(1);
        lane.close();
        lane.work(|_| unreachable!("it was dropped"));
        lane.wait_until_idle();
    }
}
