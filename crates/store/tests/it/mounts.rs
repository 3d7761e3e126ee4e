use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use store::{CacheMount, Sharing, Store, StoreError};

use crate::fixture::{Fixture, check_healthy};

fn mount(store: &Store, sharing: Sharing) -> CacheMount {
    store.cache_mount("cargo", sharing, &|| false).unwrap()
}

/// Writes files into a mount's upper directory as overlayfs would, and publishes them.
fn publish(mount: CacheMount, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = mount.upper().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match *content {
            "whiteout" => whiteout(&path),
            "opaque" => opaque(&path),
            content => fs::write(path, content).unwrap(),
        }
    }
    mount.publish().unwrap();
}

fn whiteout(path: &Path) {
    let parent = fs::File::open(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap();
    sys::fs::make_device(
        &parent,
        name,
        sys::fs::FileType::CharacterDevice,
        0o600,
        (0, 0),
    )
    .unwrap();
}

fn opaque(path: &Path) {
    use std::os::fd::AsFd;
    fs::create_dir_all(path).unwrap();
    let directory = fs::File::open(path).unwrap();
    let target = sys::fs::Target::Fd(directory.as_fd());
    sys::fs::set_xattr(target, b"user.overlay.opaque", b"y").unwrap();
}

/// What overlayfs would show of the published directories.
fn shown(lowers: &[PathBuf]) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for lower in lowers {
        overlay(lower, lower, &mut shown);
    }
    shown
}

fn overlay(lower: &Path, directory: &Path, shown: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .strip_prefix(lower)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            use std::os::fd::AsFd;
            let file = fs::File::open(&path).unwrap();
            let target = sys::fs::Target::Fd(file.as_fd());
            if sys::fs::get_xattr(target, b"user.overlay.opaque")
                .unwrap()
                .is_some()
            {
                shown.retain(|other, _| !other.starts_with(&format!("{name}/")));
            }
            shown.remove(&name);
            overlay(lower, &path, shown);
            continue;
        }
        shown.retain(|other, _| !other.starts_with(&format!("{name}/")));
        shown.remove(&name);
        if !kind.is_char_device() {
            shown.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[track_caller]
fn check(store: &Store, files: &[(&str, &str)]) {
    let lowers = mount(store, Sharing::Shared).lowers();
    let expected = files
        .iter()
        .map(|&(name, content)| (name.to_owned(), content.to_owned()));
    assert_eq!(shown(&lowers), expected.collect());
}

#[test]
fn what_is_published_comes_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert!(mount(&store, Sharing::Locked).is_new());
    publish(mount(&store, Sharing::Locked), &[("a", "1"), ("d/b", "1")]);
    publish(mount(&store, Sharing::Locked), &[("a", "2"), ("d/c", "2")]);
    assert!(!mount(&store, Sharing::Locked).is_new());
    check(&fixture.open(), &[("a", "2"), ("d/b", "1"), ("d/c", "2")]);
    assert_eq!(
        mount(&store, Sharing::Locked).lowers().len(),
        1,
        "merged when nobody uses it"
    );
    check_healthy(&store);
}

#[test]
fn what_is_not_published_is_forgotten() {
    let fixture = Fixture::new();
    let store = fixture.open();
    publish(mount(&store, Sharing::Locked), &[("a", "1")]);
    let failed = mount(&store, Sharing::Locked);
    fs::write(failed.upper().join("a"), "half").unwrap();
    drop(failed);
    check(&store, &[("a", "1")]);
}

#[test]
fn a_mount_is_forgotten_unless_somebody_uses_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert!(!store.forget_cache_mount("cargo").unwrap());
    publish(mount(&store, Sharing::Locked), &[("a", "1")]);
    let user = mount(&store, Sharing::Locked);
    assert!(!store.forget_cache_mount("cargo").unwrap());
    drop(user);
    assert!(store.forget_cache_mount("cargo").unwrap());
    assert!(mount(&store, Sharing::Locked).is_new());
}

#[test]
fn shared_mounts_add_up() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (one, two) = (
        mount(&store, Sharing::Shared),
        mount(&store, Sharing::Shared),
    );
    publish(one, &[("a", "1"), ("both", "1")]);
    publish(two, &[("b", "2"), ("both", "2")]);
    check(&store, &[("a", "1"), ("b", "2"), ("both", "2")]);
}

#[test]
fn what_is_in_use_does_not_move() {
    let fixture = Fixture::new();
    let store = fixture.open();
    publish(mount(&store, Sharing::Shared), &[("a", "1")]);
    let user = mount(&store, Sharing::Shared);
    publish(mount(&store, Sharing::Shared), &[("a", "2")]);
    publish(mount(&store, Sharing::Shared), &[("a", "3")]);
    assert_eq!(shown(&user.lowers())["a"], "1");
    drop(user);
    check(&store, &[("a", "3")]);
}

#[test]
fn the_first_private_user_wins() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (one, two) = (
        mount(&store, Sharing::Private),
        mount(&store, Sharing::Private),
    );
    publish(one, &[("a", "1")]);
    publish(two, &[("b", "2")]);
    check(&store, &[("a", "1")]);
}

#[test]
fn locked_mounts_take_turns() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let first = mount(&store, Sharing::Locked);
    let error = store
        .cache_mount("cargo", Sharing::Locked, &|| true)
        .unwrap_err();
    assert!(matches!(error, StoreError::Cancelled { .. }), "{error}");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| shown(&mount(&fixture.open(), Sharing::Locked).lowers()));
        std::thread::sleep(std::time::Duration::from_millis(30));
        publish(first, &[("a", "1")]);
        assert_eq!(second.join().unwrap()["a"], "1");
    });
}

/// Whiteouts, opaque directories, and files and directories that take each other's places: the
/// merged directory shows what the overlay of both showed, with and without something below.
#[test]
fn merging_changes_nothing_that_is_seen() {
    let changes: [&[(&str, &str)]; 6] = [
        &[
            ("d/a", "1"),
            ("d/e/b", "1"),
            ("f", "1"),
            ("g/x", "1"),
            ("h", "1"),
        ],
        &[
            ("d/a", "whiteout"),
            ("d/e", "opaque"),
            ("d/e/c", "2"),
            ("f", "whiteout"),
        ],
        &[("f/y", "3"), ("g", "3"), ("h", "whiteout")],
        &[("g", "whiteout"), ("d", "whiteout")],
        &[("d", "opaque"), ("d/z", "5"), ("h/i", "5")],
        &[("h/i", "whiteout"), ("f/y", "6")],
    ];
    let plain = Fixture::new();
    let store = plain.open();
    for files in changes {
        // In use, nothing is merged: this is what has to be seen.
        let user = mount(&store, Sharing::Shared);
        publish(mount(&store, Sharing::Shared), files);
        drop(user);
    }
    let expected = shown(&mount(&store, Sharing::Shared).lowers());
    assert_eq!(mount(&store, Sharing::Shared).lowers().len(), 6);
    // One more publication, of nothing, with nobody around.
    publish(mount(&store, Sharing::Shared), &[]);
    let lowers = mount(&store, Sharing::Shared).lowers();
    assert_eq!((lowers.len(), shown(&lowers)), (1, expected.clone()));

    let merged = Fixture::new();
    let store = merged.open();
    for files in changes {
        publish(mount(&store, Sharing::Locked), files);
    }
    let lowers = mount(&store, Sharing::Shared).lowers();
    assert_eq!((lowers.len(), shown(&lowers)), (1, expected));
    check_healthy(&store);
}
