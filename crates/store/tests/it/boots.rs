//! What is believed after the machine stopped without warning.

use std::fs;
use std::io::Write;

use oci::{Annotations, Compression, Descriptor, DiffId, MediaType, Platform, Reference};
use store::{Image, ImageLayer, ImageManifest, LayerId, Sharing, StepRecord, Store, TarIdentity};

use crate::fixture::{Fixture, check_healthy, key, result, shared_layer, step_layer};

#[test]
fn what_was_settled_is_believed() {
    let fixture = Fixture::new();
    let store = fixture.boot("one");
    let record = result(&[step_layer(&store, &[], "x"), shared_layer(&store, b"tar")]);
    store.save_result(&key(1), &record).unwrap();
    store.settle().unwrap();
    drop(store);
    assert_eq!(
        fixture.boot("two").result(&key(1)).unwrap(),
        Some(record.clone())
    );
    assert_eq!(fixture.boot("three").result(&key(1)).unwrap(), Some(record));
    check_healthy(&fixture.boot("four"));
}

#[test]
fn what_was_not_settled_is_dropped_when_it_cannot_be_verified() {
    let fixture = Fixture::new();
    let store = fixture.boot("one");
    let layer = step_layer(&store, &[], "x");
    store.save_result(&key(1), &result(&[layer])).unwrap();
    drop(store);
    // The same boot: the process was only killed.
    assert!(fixture.boot("one").result(&key(1)).unwrap().is_some());
    let store = fixture.boot("two");
    assert_eq!(store.result(&key(1)).unwrap(), None);
    assert_eq!(store.layer(layer).unwrap(), None);
    check_healthy(&store);
}

#[test]
fn what_was_not_settled_is_believed_once_it_is_verified() {
    let fixture = Fixture::new();
    let store = fixture.boot("one");
    let (sound, rotten) = (
        shared_layer(&store, b"sound"),
        shared_layer(&store, b"rotten"),
    );
    store.save_result(&key(1), &result(&[sound])).unwrap();
    store.save_result(&key(2), &result(&[rotten])).unwrap();
    let mut tar = fs::File::options();
    let path = store.layer(rotten).unwrap().unwrap().packed.unwrap().tar;
    tar.write(true)
        .open(path)
        .unwrap()
        .write_all(&[0; 6])
        .unwrap();
    // What lies behind a tar has no digest.
    let draft = store.layer_draft().unwrap();
    fs::write(draft.tar(), "tar and more").unwrap();
    fs::write(draft.index(), "index").unwrap();
    let diff_id = DiffId::new(oci::Digest::sha256("tar"));
    let longer = draft
        .commit_shared(TarIdentity { diff_id, len: 3 })
        .unwrap();
    let blob = store.put_blob(b"sound").unwrap();
    let rotten_blob = store.put_blob(b"rotten").unwrap();
    fs::write(&rotten_blob.path, [0; 6]).unwrap();
    drop(store);

    let store = fixture.boot("two");
    assert!(store.result(&key(1)).unwrap().is_some());
    assert_eq!(store.result(&key(2)).unwrap(), None);
    assert_eq!(store.layer(rotten).unwrap(), None);
    assert_eq!(store.layer(longer).unwrap(), None);
    assert_eq!(store.blob(&blob.digest).unwrap(), Some(blob));
    assert_eq!(store.blob(&rotten_blob.digest).unwrap(), None);
    check_healthy(&store);
    store.settle().unwrap();
    drop(store);
    assert!(fixture.boot("three").result(&key(1)).unwrap().is_some());
}

/// An image of one platform, with this config and layer.
fn image(store: &Store, config: &[u8], layer: LayerId) -> Image {
    let config = store.put_blob(config).unwrap();
    let manifest = ImageManifest {
        platform: Platform::native(),
        config: Descriptor::new(MediaType::OciConfig, config.digest, config.len),
        manifest: None,
        layers: vec![ImageLayer {
            diff_id: layer.diff_id().unwrap(),
            id: layer,
            blob: None,
        }],
        annotations: Annotations::new(),
        descriptor_annotations: Annotations::new(),
    };
    Image {
        manifests: vec![manifest],
        index: None,
        annotations: Annotations::new(),
        created: 1,
    }
}

/// Every kind of record that was written by another boot and not settled: what it names is
/// verified, what cannot be is dropped, and what names no files is believed.
#[test]
fn every_kind_of_record_of_another_boot() {
    let fixture = Fixture::new();
    let store = fixture.boot("one");
    let names = ["sound", "rotten-config", "rotten-layer"];
    let names = names.map(|name| name.parse::<Reference>().unwrap());
    let (good, bad) = (shared_layer(&store, b"good"), shared_layer(&store, b"bad"));
    for (name, layer) in names.iter().zip([good, good, bad]) {
        let image = image(&store, name.to_string().as_bytes(), layer);
        store.tag(&image, Some(name)).unwrap();
    }
    let rotten = oci::Digest::sha256(names[1].to_string());
    let rotten = store.blob(&rotten).unwrap().unwrap();
    fs::write(&rotten.path, "torn").unwrap();
    let tar = store.layer(bad).unwrap().unwrap().packed.unwrap().tar;
    fs::write(tar, "BAD").unwrap();
    let mount = store
        .cache_mount("cargo", Sharing::Shared, &|| false)
        .unwrap();
    fs::write(mount.upper().join("file"), "x").unwrap();
    mount.publish().unwrap();
    store.save_link(&key(1), &key(2)).unwrap();
    let step = StepRecord {
        key: "k".into(),
        inputs: vec![],
    };
    store.save_step(&key(3), &step).unwrap();
    // A layer that is not here but can be fetched needs no verifying.
    let absent = LayerId::shared(DiffId::new(oci::Digest::sha256("elsewhere")));
    let blob = Descriptor::of(MediaType::OciLayer(Compression::Gzip), b"compressed");
    store
        .add_origin(absent, &blob, "registry.example/base")
        .unwrap();
    store
        .save_compressed(absent.diff_id().unwrap(), "gzip", &blob)
        .unwrap();
    store.save_result(&key(4), &result(&[absent])).unwrap();
    drop(store);

    for boot in ["two", "two"] {
        let store = fixture.boot(boot);
        let there = names
            .each_ref()
            .map(|name| store.image(name).unwrap().is_some());
        assert_eq!(there, [true, false, false]);
        assert_eq!(store.blob(&rotten.digest).unwrap(), None);
        assert_eq!(store.layer(bad).unwrap(), None);
        let mount = store
            .cache_mount("cargo", Sharing::Shared, &|| false)
            .unwrap();
        assert!(mount.is_new(), "its files may be torn");
        assert_eq!(store.link(&key(1)).unwrap(), Some(key(2)));
        assert_eq!(store.step(&key(3)).unwrap(), Some(step.clone()));
        let known = store.compressed(absent.diff_id().unwrap(), "gzip");
        assert_eq!(known.unwrap().as_ref(), Some(&blob));
        assert_eq!(store.result(&key(4)).unwrap(), Some(result(&[absent])));
    }
    // What was verified is settled in its turn.
    let store = fixture.boot("two");
    store.settle_all().unwrap();
    drop(store);
    assert!(fixture.boot("three").image(&names[0]).unwrap().is_some());
}

/// A generation that ended without reaching the disk is not taken for one that did.
#[test]
fn generations_are_not_confused() {
    let fixture = Fixture::new();
    let store = fixture.boot("one");
    let settled = result(&[step_layer(&store, &[], "settled")]);
    store.save_result(&key(1), &settled).unwrap();
    store.settle().unwrap();
    let gate = fs::read(fixture.root().join("gate")).unwrap();
    let settled_then = fs::read(fixture.root().join("settled")).unwrap();
    let lost = result(&[step_layer(&store, &[], "lost")]);
    store.save_result(&key(2), &lost).unwrap();
    store.settle().unwrap();
    let later = result(&[step_layer(&store, &[], "later")]);
    store.save_result(&key(3), &later).unwrap();
    drop(store);
    // The machine stopped: the gate is one generation old, and the last settling never happened.
    fs::write(fixture.root().join("gate"), gate).unwrap();
    fs::write(fixture.root().join("settled"), settled_then).unwrap();
    let store = fixture.boot("two");
    let other = result(&[step_layer(&store, &[], "other")]);
    store.save_result(&key(4), &other).unwrap();
    store.settle().unwrap();
    drop(store);
    let store = fixture.boot("three");
    assert_eq!(store.result(&key(1)).unwrap(), Some(settled));
    assert_eq!(store.result(&key(4)).unwrap(), Some(other));
    assert_eq!(store.result(&key(2)).unwrap(), None);
    assert_eq!(store.result(&key(3)).unwrap(), None);
    check_healthy(&store);
}

#[test]
fn a_damaged_gate_makes_nothing_believed_too_early() {
    let fixture = Fixture::new();
    let store = fixture.boot("one");
    let record = result(&[step_layer(&store, &[], "x")]);
    store.save_result(&key(1), &record).unwrap();
    drop(store);
    fs::write(fixture.root().join("gate"), "").unwrap();
    let store = fixture.boot("two");
    store.save_link(&key(1), &key(1)).unwrap();
    store.settle().unwrap();
    drop(store);
    assert_eq!(fixture.boot("three").result(&key(1)).unwrap(), None);
}
