//! Every change to the disk fails once, with the disk full or broken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::{Descriptor, MediaType, Platform, Reference};
use store::{
    BlockPlace, Image, ImageManifest, Options, PrunePolicy, Sharing, Store, StoreError, TarIdentity,
};

use crate::fixture::{Fixture, check_healthy, key, result, shared_layer, step_layer};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// A bit of everything that changes the disk. Says how it ended; never panics because of it.
fn work(store: &Store) -> Result<(), StoreError> {
    let active = store.active(&[])?;
    std::fs::write(active.upper().join("file"), "x").unwrap();
    let layer = active.commit()?;
    store.save_result(&key(1), &result(&[layer]))?;
    store.save_link(&key(1), &key(2))?;
    let draft = store.layer_draft()?;
    std::fs::write(draft.tar(), "tar").unwrap();
    std::fs::write(draft.index(), "index").unwrap();
    let diff_id = oci::DiffId::new(oci::Digest::sha256("tar"));
    store.attach_packed(layer, draft, TarIdentity { diff_id, len: 3 })?;
    let config = store.put_blob(b"config")?;
    let place = BlockPlace {
        blob: config.digest,
        offset: 0,
        len: 6,
        checksum: 0,
        slots: Box::default(),
    };
    store.add_blocks(&[([0; 32], place)])?;
    let manifest = ImageManifest {
        platform: Platform::native(),
        config: Descriptor::new(MediaType::OciConfig, config.digest, config.len),
        manifest: None,
        layers: vec![],
        annotations: oci::Annotations::new(),
        descriptor_annotations: oci::Annotations::new(),
    };
    let image = Image {
        manifests: vec![manifest],
        index: None,
        annotations: oci::Annotations::new(),
        created: 1,
    };
    let name: Reference = "app".parse().unwrap();
    store.tag(&image, Some(&name))?;
    for content in ["one", "two"] {
        let mount = store.cache_mount("cargo", Sharing::Locked, &|| false)?;
        std::fs::write(mount.upper().join("file"), content).unwrap();
        mount.publish()?;
    }
    store.settle()?;
    store.flight("step", &|| false)?;
    store.prune(&PrunePolicy::default(), &|_| true)?;
    Ok(())
}

/// Opens a store whose `at`-th change fails; without one, only counts.
fn open(
    fixture: &Fixture,
    at: Option<usize>,
    errno: i32,
) -> (Result<Store, StoreError>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let fault: store::Fault = Arc::new(move |_, _| {
        let now = counter.fetch_add(1, Ordering::Relaxed);
        if Some(now) == at {
            Err(io::Error::from_raw_os_error(errno))
        } else {
            Ok(())
        }
    });
    let options = Options {
        boot_id: Some("one".into()),
        fault: Some(fault),
    };
    (Store::open_with(fixture.root(), options), count)
}

#[track_caller]
fn check(errno: i32) {
    let fixture = Fixture::in_memory();
    let (store, count) = open(&fixture, None, errno);
    work(&store.unwrap()).unwrap();
    let changes = count.load(Ordering::Relaxed);
    assert!(changes > 30, "only {changes} changes: is the fault asked?");
    for at in 0..changes {
        let fixture = Fixture::in_memory();
        let (store, _) = open(&fixture, Some(at), errno);
        // Failing is fine, and succeeding too where the change was only tidying up.
        if let Err(error) = store.and_then(|store| work(&store)) {
            assert_eq!(
                error.is_out_of_space(),
                errno == ENOSPC,
                "change {at}: {error}"
            );
        }
        let store = fixture.boot("one");
        for finding in store.doctor(&|_| true).unwrap().findings {
            assert!(
                finding.what.starts_with("bytes of blob"),
                "change {at}: {finding:?}"
            );
        }
        check_healthy(&store);
        if let Some(found) = store.result(&key(1)).unwrap() {
            assert!(
                store.layer(found.layers[0]).unwrap().is_some(),
                "change {at}"
            );
        }
        work(&store).unwrap_or_else(|error| panic!("after change {at}: {error}"));
        check_healthy(&store);
        drop(store);
        check_believable(&fixture, at);
    }
}

/// After the machine stopped, only what is whole is believed.
#[track_caller]
fn check_believable(fixture: &Fixture, at: usize) {
    let store = fixture.boot("two");
    assert!(
        store.result(&key(1)).unwrap().is_some(),
        "change {at}: it was settled"
    );
    check_healthy(&store);
}

#[test]
fn a_full_disk_does_no_harm() {
    check(ENOSPC);
}

#[test]
fn a_broken_disk_does_no_harm() {
    check(EIO);
}

#[test]
fn a_failed_commit_does_not_count() {
    let fixture = Fixture::in_memory();
    let fault: store::Fault = Arc::new(|operation, _| match operation {
        store::Operation::Rename => Err(io::Error::from_raw_os_error(EIO)),
        _ => Ok(()),
    });
    let options = Options {
        boot_id: None,
        fault: Some(fault),
    };
    let store = Store::open_with(fixture.root(), options).unwrap();
    let active = store.active(&[]).unwrap();
    assert!(active.commit().is_err());
    assert!(store.put_blob(b"x").is_err());
    drop(store);
    let store = fixture.open();
    assert_eq!(store.usage().unwrap(), []);
    shared_layer(&store, b"tar");
    step_layer(&store, &[], "x");
    assert_eq!(store.usage().unwrap().len(), 2);
}
