use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use store::StoreError;

use crate::fixture::{Fixture, key, result, step_layer};

#[test]
fn one_flight_at_a_time() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.open(), fixture.open());
    let guard = one.try_flight("a").unwrap().unwrap();
    assert!(two.try_flight("a").unwrap().is_none());
    assert!(two.try_flight("b").unwrap().is_some());
    let error = two.flight("a", &|| true).unwrap_err();
    assert!(matches!(error, StoreError::Cancelled { .. }), "{error}");
    drop(guard);
    assert!(two.try_flight("a").unwrap().is_some());
}

/// Sixteen builders of one step: one makes it, all get it.
#[test]
fn many_builders_make_one_result() {
    let fixture = Fixture::new();
    let made = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let store = fixture.open();
                let _flight = store.flight("step", &|| false).unwrap();
                if store.result(&key(1)).unwrap().is_none() {
                    made.fetch_add(1, Ordering::Relaxed);
                    let layer = step_layer(&store, &[], "made");
                    store.save_result(&key(1), &result(&[layer])).unwrap();
                }
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
}
