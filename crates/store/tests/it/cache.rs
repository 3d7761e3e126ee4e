use std::fs;
use std::path::{Path, PathBuf};

use oci::{Compression, Descriptor, DiffId, Digest, MediaType};
use store::{InputChange, LayerId, StepRecord};

use crate::fixture::{Fixture, check_healthy, key, result, step_layer};

#[test]
fn results_come_back_to_everyone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let record = result(&[step_layer(&store, &[], "one")]);
    assert_eq!(store.result(&key(1)).unwrap(), None);
    store.save_result(&key(1), &record).unwrap();
    assert_eq!(fixture.open().result(&key(1)).unwrap(), Some(record));
    check_healthy(&store);
}

#[test]
fn a_result_without_its_layers_is_none() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let gone = LayerId::shared(DiffId::new(Digest::sha256("gone")));
    store.save_result(&key(1), &result(&[gone])).unwrap();
    assert_eq!(store.result(&key(1)).unwrap(), None);
    // Unless somebody knows where to get them.
    let blob = Descriptor::of(MediaType::OciLayer(Compression::Gzip), b"compressed");
    store
        .add_origin(gone, &blob, "registry.example/app")
        .unwrap();
    store.add_origin(gone, &blob, "mirror.example/app").unwrap();
    store.save_result(&key(1), &result(&[gone])).unwrap();
    assert!(store.result(&key(1)).unwrap().is_some());
    let origin = store.origin(gone).unwrap().unwrap();
    assert_eq!(
        origin.repositories,
        ["mirror.example/app", "registry.example/app"]
    );
    check_healthy(&store);
}

#[test]
fn links_steps_notes_and_compressed_forms_come_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert_eq!(store.link(&key(1)).unwrap(), None);
    store.save_link(&key(1), &key(2)).unwrap();
    store.save_link(&key(1), &key(3)).unwrap();
    assert_eq!(store.link(&key(1)).unwrap(), Some(key(3)));

    let step = StepRecord {
        key: "k".into(),
        inputs: vec![],
    };
    store.save_step(&key(1), &step).unwrap();
    assert_eq!(store.step(&key(1)).unwrap(), Some(step));

    store
        .save_note("etag", "https://example.org/a", &"\"5\"".to_owned())
        .unwrap();
    assert_eq!(
        store.note("etag", "https://example.org/a").unwrap(),
        Some("\"5\"".to_owned())
    );
    assert_eq!(
        store.note::<u64>("etag", "https://example.org/a").unwrap(),
        None
    );
    assert_eq!(
        store
            .note::<String>("etag", "https://example.org/b")
            .unwrap(),
        None
    );

    let layer = DiffId::new(Digest::sha256("tar"));
    let blob = Descriptor::of(MediaType::OciLayer(Compression::Gzip), b"compressed");
    store.save_compressed(layer, "gzip 6 v1", &blob).unwrap();
    assert_eq!(store.compressed(layer, "gzip 6 v1").unwrap(), Some(blob));
    assert_eq!(store.compressed(layer, "gzip 9 v1").unwrap(), None);
    check_healthy(&store);
}

#[test]
fn differences_are_told_by_name() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let inputs = vec![pair("same", "1"), pair("changed", "1"), pair("gone", "1")];
    let step = StepRecord {
        key: String::new(),
        inputs,
    };
    let now = [pair("new", "2"), pair("same", "1"), pair("changed", "2")];
    let change = |name: &str, before: Option<&str>, after: Option<&str>| InputChange {
        name: name.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    };
    let expected = [
        change("new", None, Some("2")),
        change("changed", Some("1"), Some("2")),
        change("gone", Some("1"), None),
    ];
    assert_eq!(step.changes(&now), expected);
}

/// Every record, damaged in any one byte or cut short anywhere, counts as absent or is as it was.
#[test]
fn damaged_records_are_absent() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.save_link(&key(1), &key(2)).unwrap();
    let path = only_file(&fixture.root().join("cache/links"));
    let whole = fs::read(&path).unwrap();
    let sum_at = whole.iter().position(|&byte| byte == b'\n').unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        for bytes in [&damaged[..], &whole[..at]] {
            fs::write(&path, bytes).unwrap();
            let link = store.link(&key(1)).unwrap();
            let stamp_only = at < sum_at && bytes.len() == whole.len();
            assert!(
                link.is_none() || (stamp_only && link == Some(key(2))),
                "byte {at}: {link:?}"
            );
        }
    }
}

fn only_file(folder: &Path) -> PathBuf {
    let entry = fs::read_dir(folder).unwrap().next();
    entry.unwrap().unwrap().path()
}
