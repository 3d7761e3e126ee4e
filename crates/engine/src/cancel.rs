//! Stopping a build: a flag that work looks at, and what has to be killed when it is raised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// Raised once, by the user or by a step that failed. Clones are the same flag.
#[derive(Clone, Default)]
pub struct Cancel {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    raised: AtomicBool,
    next: AtomicU64,
    actions: Mutex<BTreeMap<u64, Box<dyn Fn() + Send>>>,
}

/// Forgets its action when it is dropped.
pub(crate) struct OnCancel {
    state: Arc<State>,
    id: u64,
}

impl Cancel {
    /// A flag that is not raised.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Raises the flag and performs all registered actions. Raising it again performs them again.
    pub fn cancel(&self) {
        self.state.raised.store(true, Ordering::SeqCst);
        for action in self.state.lock().values() {
            action();
        }
    }

    /// Whether the flag was raised.
    pub fn is_cancelled(&self) -> bool {
        self.state.raised.load(Ordering::SeqCst)
    }

    /// Performs `action` when the flag is raised; at once when it is already.
    pub(crate) fn on_cancel(&self, action: impl Fn() + Send + 'static) -> OnCancel {
        let id = self.state.next.fetch_add(1, Ordering::Relaxed);
        let mut actions = self.state.lock();
        // Under the lock, so that a flag raised meanwhile is seen here or sees the action.
        if self.is_cancelled() {
            action();
        }
        actions.insert(id, Box::new(action));
        drop(actions);
        OnCancel {
            state: self.state.clone(),
            id,
        }
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Box<dyn Fn() + Send>>> {
        lock(&self.actions)
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        self.state.lock().remove(&self.id);
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel({})", self.is_cancelled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_run_while_they_are_registered() {
        let cancel = Cancel::new();
        let count = Arc::new(AtomicU64::new(0));
        let counted = |count: &Arc<AtomicU64>| {
            let count = count.clone();
            move || {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let kept = cancel.on_cancel(counted(&count));
        drop(cancel.on_cancel(counted(&count)));
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(kept);
        let late = cancel.on_cancel(counted(&count));
        assert_eq!(
            count.load(Ordering::Relaxed),
            2,
            "a flag that is up already acts at once"
        );
        drop(late);
    }
}
