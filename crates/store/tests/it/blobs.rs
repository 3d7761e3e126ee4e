use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use oci::Digest;
use store::{Store, StoreError};

use crate::fixture::{Fixture, check_healthy};

#[test]
fn bytes_come_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let digest = Digest::sha256("hello");
    assert_eq!(store.blob(&digest).unwrap(), None);
    let mut writer = store.blob_writer(Some(&digest)).unwrap();
    writer.write_all(b"hel").unwrap();
    writer.write_all(b"lo").unwrap();
    let blob = writer.commit().unwrap();
    assert_eq!((blob.len, blob.digest), (5, digest));
    assert_eq!(store.blob(&digest).unwrap(), Some(blob.clone()));
    assert_eq!(store.document(&digest).unwrap().unwrap(), b"hello");
    assert_eq!(fixture.open().blob(&digest).unwrap(), Some(blob));
    check_healthy(&store);
}

#[test]
fn a_wrong_digest_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let digest = Digest::Sha512([7; 64]);
    let mut writer = store.blob_writer(Some(&digest)).unwrap();
    writer.write_all(b"lies").unwrap();
    let error = writer.commit().unwrap_err();
    let StoreError::WrongDigest(wrong) = error else {
        panic!("{error}");
    };
    assert_eq!((wrong.expected, wrong.len), (digest, 4));
    assert_eq!(store.blob(&digest).unwrap(), None);
    check_healthy(&store);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut writer = store.blob_writer(None).unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    assert_eq!(store.blob(&Digest::sha256("half")).unwrap(), None);
    let left = fs::read_dir(fixture.root().join("tmp")).unwrap();
    for lease in left {
        assert_eq!(fs::read_dir(lease.unwrap().path()).unwrap().count(), 0);
    }
}

#[test]
fn the_doctor_drops_rotten_bytes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let blob = store.put_blob(b"sound").unwrap();
    fs::write(&blob.path, b"rotte").unwrap();
    let health = store.doctor(&|_| true).unwrap();
    assert_eq!(health.findings.len(), 1, "{health:?}");
    assert_eq!(store.blob(&blob.digest).unwrap(), None);
    check_healthy(&store);
}

#[test]
fn other_directories_are_no_stores() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("thesis.tex"), "precious").unwrap();
    let error = Store::open(fixture.root()).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
}

#[test]
fn a_new_store_is_closed_to_others() {
    let fixture = Fixture::new();
    let root = fixture.root().join("store");
    Store::open(&root).unwrap();
    let mode = fs::metadata(&root).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn newer_stores_are_refused() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("version"), "kiln store 2\n").unwrap();
    let error = Store::open(fixture.root()).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::NewerFormat {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}
