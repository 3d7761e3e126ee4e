use std::time::Duration;

use oci::{Compression, Descriptor, MediaType};
use store::{PrunePolicy, PruneReport, Sharing, Store, UsageId, UsageKind};

use crate::fixture::{Fixture, age, check_healthy, key, result, shared_layer, step_layer};

const HOUR: Duration = Duration::from_secs(3600);

fn prune(store: &Store, policy: &PrunePolicy) -> PruneReport {
    store.prune(policy, &|_| true).unwrap()
}

fn kilobytes(letter: &str, count: usize) -> String {
    letter.repeat(count * 1024)
}

#[test]
fn what_a_lease_pins_stays() {
    let fixture = Fixture::new();
    let (user, other) = (fixture.open(), fixture.open());
    let layer = step_layer(&other, &[], "x");
    other.save_result(&key(1), &result(&[layer])).unwrap();
    let blob = other.put_blob(b"bytes").unwrap();
    user.result(&key(1)).unwrap().unwrap();
    user.blob(&blob.digest).unwrap().unwrap();
    drop(other);

    let pruner = fixture.open();
    let report = prune(&pruner, &PrunePolicy::default());
    assert_eq!(report.removed, []);
    assert!(user.layer(layer).unwrap().is_some());
    assert!(user.usage().unwrap().iter().all(|usage| usage.in_use));
    drop(user);
    let report = prune(&pruner, &PrunePolicy::default());
    assert_eq!((report.removed.len(), report.remaining), (2, 0));
    assert_eq!(pruner.result(&key(1)).unwrap(), None);
    check_healthy(&pruner);
}

#[test]
fn what_is_being_written_counts() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = step_layer(&store, &[], &kilobytes("d", 256));
    store.save_result(&key(1), &result(&[layer])).unwrap();
    store.put_blob(b"bytes").unwrap();
    drop(store);
    let store = fixture.open();
    let sum = |store: &Store| store.usage().unwrap().iter().map(|usage| usage.size).sum();
    assert_eq!(store.size().unwrap(), sum(&store));
    let active = store.active(&[]).unwrap();
    std::fs::write(active.upper().join("file"), kilobytes("n", 512)).unwrap();
    let kept: u64 = sum(&store);
    assert!(store.size().unwrap() >= kept + 512 * 1024);
    let policy = PrunePolicy {
        max_size: Some(600 * 1024),
        ..PrunePolicy::default()
    };
    let report = prune(&store, &policy);
    assert_eq!(report.removed.len(), 1, "{report:?}");
    assert_eq!(store.size().unwrap(), report.remaining);
}

#[test]
fn a_dry_run_removes_nothing() {
    let fixture = Fixture::new();
    let layer = step_layer(&fixture.open(), &[], "x");
    let store = fixture.open();
    let policy = PrunePolicy {
        dry_run: true,
        ..PrunePolicy::default()
    };
    assert_eq!(prune(&store, &policy).removed.len(), 1);
    assert!(store.layer(layer).unwrap().is_some());
}

#[test]
fn recent_use_protects() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let old = step_layer(&store, &[], "old");
    store.save_result(&key(1), &result(&[old])).unwrap();
    let unused = step_layer(&store, &[], "unused");
    store.save_result(&key(2), &result(&[unused])).unwrap();
    drop(store);
    age(fixture.root(), 48 * HOUR);
    fixture.open().result(&key(1)).unwrap().unwrap();
    let store = fixture.open();
    let policy = PrunePolicy {
        unused_for: Some(24 * HOUR),
        ..PrunePolicy::default()
    };
    let report = prune(&store, &policy);
    let removed: Vec<UsageId> = report.removed.into_iter().map(|usage| usage.id).collect();
    assert_eq!(removed, [UsageId::Layer(unused)]);
    assert!(store.result(&key(1)).unwrap().is_some());
}

#[test]
fn large_and_old_goes_first_until_it_is_enough() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let sizes = [(1, 64), (2, 256), (3, 16)];
    for (n, size) in sizes {
        let layer = step_layer(&store, &[], &kilobytes("x", size));
        store.save_result(&key(n), &result(&[layer])).unwrap();
    }
    let orphan = step_layer(&store, &[], &kilobytes("o", 4));
    drop(store);
    age(fixture.root(), HOUR);
    let store = fixture.open();
    let max_size = Some(100 * 1024);
    let report = prune(
        &store,
        &PrunePolicy {
            max_size,
            ..PrunePolicy::default()
        },
    );
    assert_eq!(report.removed[0].id, UsageId::Layer(orphan));
    assert_eq!(report.removed.len(), 2, "{report:?}");
    assert!(report.remaining <= 100 * 1024);
    assert_eq!(store.result(&key(2)).unwrap(), None);
    assert!(store.result(&key(1)).unwrap().is_some() && store.result(&key(3)).unwrap().is_some());
    // As much free as there is already asks for nothing.
    let min_free = Some(1);
    assert_eq!(
        prune(
            &store,
            &PrunePolicy {
                min_free,
                ..PrunePolicy::default()
            }
        )
        .removed,
        []
    );
    check_healthy(&store);
}

/// When a layer goes, what was built on it is of no use: it goes next, and before anything else.
#[test]
fn descendants_follow() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let base = step_layer(&store, &[], &kilobytes("b", 512));
    let child = step_layer(&store, &[base], "child");
    store.save_result(&key(1), &result(&[base])).unwrap();
    store.save_result(&key(2), &result(&[base, child])).unwrap();
    let other = step_layer(&store, &[], &kilobytes("c", 128));
    store.save_result(&key(3), &result(&[other])).unwrap();
    drop(store);
    let store = fixture.open();
    let max_size = Some(150 * 1024);
    let report = prune(
        &store,
        &PrunePolicy {
            max_size,
            ..PrunePolicy::default()
        },
    );
    assert_eq!(report.removed[0].id, UsageId::Layer(base));
    assert!(store.result(&key(3)).unwrap().is_some());
    assert_eq!(store.result(&key(2)).unwrap(), None);
    let report = prune(
        &store,
        &PrunePolicy {
            max_size: Some(136 * 1024),
            ..PrunePolicy::default()
        },
    );
    assert_eq!(
        report.removed.iter().map(|u| &u.id).collect::<Vec<_>>(),
        [&UsageId::Layer(child)]
    );
}

#[test]
fn what_can_be_fetched_again_takes_nothing_along() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let base = shared_layer(&store, kilobytes("b", 512).as_bytes());
    let blob = Descriptor::of(MediaType::OciLayer(Compression::Gzip), b"compressed");
    store
        .add_origin(base, &blob, "registry.example/base")
        .unwrap();
    let child = step_layer(&store, &[base], "child");
    store.save_result(&key(1), &result(&[base, child])).unwrap();
    drop(store);
    let store = fixture.open();
    let max_size = Some(100 * 1024);
    let report = prune(
        &store,
        &PrunePolicy {
            max_size,
            ..PrunePolicy::default()
        },
    );
    assert_eq!(report.removed.len(), 1);
    assert_eq!(store.layer(base).unwrap(), None);
    assert!(store.result(&key(1)).unwrap().is_some());
    check_healthy(&store);
}

#[test]
fn cache_mounts_go_last_and_not_while_in_use() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mount = store
        .cache_mount("cargo", Sharing::Shared, &|| false)
        .unwrap();
    std::fs::write(mount.upper().join("big"), kilobytes("m", 512)).unwrap();
    mount.publish().unwrap();
    let layer = step_layer(&store, &[], "small");
    store.save_result(&key(1), &result(&[layer])).unwrap();
    drop(store);
    let store = fixture.open();
    let user = store
        .cache_mount("cargo", Sharing::Shared, &|| false)
        .unwrap();
    let only = PrunePolicy {
        kinds: vec![UsageKind::CacheMount],
        ..PrunePolicy::default()
    };
    assert_eq!(prune(&store, &only).removed, []);
    drop(user);
    let report = prune(&store, &PrunePolicy::default());
    let kinds: Vec<UsageKind> = report.removed.iter().map(|usage| usage.kind()).collect();
    assert_eq!(kinds, [UsageKind::Layer, UsageKind::CacheMount]);
    assert_eq!(report.removed[1].description, "cargo");
    assert!(
        store
            .cache_mount("cargo", Sharing::Shared, &|| false)
            .unwrap()
            .is_new()
    );
}

#[test]
fn filters_decide() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = step_layer(&store, &[], "x");
    store.save_result(&key(1), &result(&[layer])).unwrap();
    drop(store);
    let store = fixture.open();
    let report = store.prune(&PrunePolicy::default(), &|usage| {
        usage.description != "RUN true"
    });
    assert_eq!(report.unwrap().removed, []);
}

#[test]
fn what_the_killed_left_behind_goes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let blob = store.put_blob(b"bytes").unwrap();
    let record = blob.path.with_extension("");
    std::fs::remove_file(&record).unwrap();
    let pruner = fixture.open();
    prune(&pruner, &PrunePolicy::default());
    assert!(blob.path.exists(), "its record may be about to be written");
    drop(store);
    prune(&pruner, &PrunePolicy::default());
    assert!(!blob.path.exists());
}
