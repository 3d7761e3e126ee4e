use std::fs;

use oci::{DiffId, Digest};
use store::TarIdentity;
use sys::mount::{Lower, RootMount};

use crate::fixture::{Fixture, check_healthy, shared_layer, step_layer};

#[test]
fn a_step_becomes_a_layer() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = step_layer(&store, &[], "one");
    let layer = store.layer(id).unwrap().unwrap();
    assert_eq!(layer.packed, None);
    let directory = layer.directory.clone().unwrap();
    assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "one");
    assert_eq!(layer.lower(true).unwrap(), Lower::Dir(directory));
    assert!(!directory_of(&layer).join("work").exists());
    check_healthy(&store);
}

fn directory_of(layer: &store::Layer) -> std::path::PathBuf {
    layer
        .directory
        .as_ref()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

#[test]
fn a_dropped_snapshot_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let active = store.active(&[]).unwrap();
    let upper = active.upper().to_owned();
    fs::write(upper.join("file"), "x").unwrap();
    drop(active);
    assert!(!upper.exists());
}

#[test]
fn steps_mount_over_their_parents() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let base = shared_layer(&store, b"tar of a base");
    let step = step_layer(&store, &[base], "one");
    let active = store.active(&[base, step]).unwrap();
    let RootMount::Overlay {
        lowers,
        upper,
        work,
        userxattr,
    } = active.root_mount(true, false).unwrap()
    else {
        panic!("no overlay");
    };
    assert!(
        matches!(lowers[..], [Lower::Erofs { .. }, Lower::Dir(_)]),
        "{lowers:?}"
    );
    assert_eq!(
        (upper.as_path(), work.as_path()),
        (active.upper(), active.work())
    );
    assert!(!userxattr);
    // Where EROFS cannot be mounted, somebody has to unpack the base first.
    assert!(active.root_mount(false, false).is_err());
    let draft = store.layer_draft().unwrap();
    fs::write(draft.directory().unwrap().join("unpacked"), "").unwrap();
    store.attach_directory(base, draft).unwrap();
    assert!(active.root_mount(false, false).is_ok());
}

#[test]
fn a_layer_gets_its_second_form_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = step_layer(&store, &[], "one");
    let diff_id = DiffId::new(Digest::sha256("tar"));
    let tar = TarIdentity { diff_id, len: 3 };
    let attach = |index: &str| {
        let draft = store.layer_draft().unwrap();
        fs::write(draft.tar(), "tar").unwrap();
        fs::write(draft.index(), index).unwrap();
        store.attach_packed(id, draft, tar).unwrap().packed.unwrap()
    };
    let first = attach("first");
    assert_eq!(
        (first.diff_id, first.tar_len, first.index_len),
        (diff_id, 3, 5)
    );
    assert_eq!(fs::read_to_string(attach("second").index).unwrap(), "first");
    check_healthy(&store);
    store.drop_directory(id).unwrap();
    assert_eq!(store.layer(id).unwrap().unwrap().directory, None);
    check_healthy(&store);
}

#[test]
fn the_last_form_is_not_dropped() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = step_layer(&store, &[], "one");
    store.drop_directory(id).unwrap();
    assert!(store.layer(id).unwrap().unwrap().directory.is_some());
}

#[test]
fn images_share_layers() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.open(), fixture.open());
    assert_eq!(shared_layer(&one, b"tar"), shared_layer(&two, b"tar"));
    assert_ne!(shared_layer(&one, b"tar"), shared_layer(&two, b"rat"));
    check_healthy(&one);
}

#[test]
fn the_doctor_drops_layers_whose_bytes_changed() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = shared_layer(&store, b"tar");
    let layer = store.layer(id).unwrap().unwrap();
    fs::write(layer.packed.unwrap().tar, "rat").unwrap();
    assert_eq!(store.doctor(&|_| true).unwrap().findings.len(), 1);
    assert_eq!(store.layer(id).unwrap(), None);
    check_healthy(&store);
}

#[test]
fn a_stored_file_may_go_on_behind_its_tar() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let draft = store.layer_draft().unwrap();
    fs::write(draft.tar(), "tar, then a file in one piece").unwrap();
    fs::write(draft.index(), "index").unwrap();
    let diff_id = DiffId::new(Digest::sha256("tar"));
    let id = draft
        .commit_shared(TarIdentity { diff_id, len: 3 })
        .unwrap();
    let packed = store.layer(id).unwrap().unwrap().packed.unwrap();
    assert_eq!((packed.tar_len, packed.stored_len), (3, 29));
    assert!(store.doctor(&|_| true).unwrap().findings.is_empty());
}

#[test]
fn a_layer_knows_what_it_was_made_on() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let base = shared_layer(&store, b"base");
    let first = step_layer(&store, &[base], "one");
    let second = step_layer(&store, &[base, first], "two");
    assert_eq!(store.below(second).unwrap(), [base, first]);
    // On layers that came as bytes nothing depends.
    assert_eq!(store.below(first).unwrap(), []);
    assert_eq!(store.below(base).unwrap(), []);
    check_healthy(&store);
    drop(store);
    let store = fixture.boot("later");
    assert_eq!(store.below(second).unwrap(), [base, first]);
}
