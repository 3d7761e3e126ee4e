//! Host directories: what is shown, what is left out, and that nothing leads out.

use layer::{Filter, HostView, Kind, RelPath, View, digest_all};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Leaves out what `hidden` says, but for what `shown` says again.
struct Rules {
    hidden: &'static [&'static str],
    shown: &'static [&'static str],
    /// Set when something below a pruned directory was asked for.
    went_too_far: AtomicBool,
}

impl Filter for Rules {
    fn excludes(&self, path: &RelPath, _is_dir: bool) -> bool {
        let below = |root: &&str| path.starts_with(&rel(root));
        if path.starts_with(&rel("pruned")) && *path != rel("pruned") {
            self.went_too_far.store(true, Ordering::Relaxed);
        }
        self.hidden.iter().any(below) && !self.shown.iter().any(below)
    }

    fn prunes(&self, dir: &RelPath) -> bool {
        !self.shown.iter().any(|shown| rel(shown).starts_with(dir))
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn make(root: &Path, paths: &[&str]) {
    for path in paths {
        let full = root.join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        match path.strip_suffix('/') {
            Some(_) => std::fs::create_dir_all(full).unwrap(),
            None => std::fs::write(full, path).unwrap(),
        }
    }
}

/// The walk, and look-ups and directory listings one by one, must agree with each other.
#[track_caller]
fn check(view: &HostView, expect: &[&str]) {
    let walked = view.walk(&RelPath::root()).unwrap();
    let paths: Vec<String> = walked
        .iter()
        .map(|(path, _)| String::from_utf8_lossy(path.as_bytes()).into_owned())
        .collect();
    assert_eq!(paths, expect);
    assert_eq!(layer::walk(view, &RelPath::root()).unwrap(), walked);
}

#[test]
fn filtered_directories_are_there_when_something_in_them_is() {
    let root = tempfile::tempdir().unwrap();
    let paths = [
        "a/keep",
        "a/b/x",
        "hid/x",
        "hid/deep/in/y",
        "hid/empty/",
        "none/z",
        "pruned/p/q",
        "top",
    ];
    make(root.path(), &paths);
    let rules = Arc::new(Rules {
        hidden: &["hid", "none", "pruned", "a/b"],
        shown: &["hid/deep/in/y"],
        went_too_far: AtomicBool::new(false),
    });
    let filter = Arc::clone(&rules) as Arc<dyn Filter>;
    let view = HostView::open(root.path(), Some(filter), None).unwrap();
    let expect = [
        "a",
        "a/keep",
        "hid",
        "hid/deep",
        "hid/deep/in",
        "hid/deep/in/y",
        "top",
    ];
    check(&view, &expect);
    assert!(
        !rules.went_too_far.load(Ordering::Relaxed),
        "a pruned directory was entered"
    );
    for hidden in ["hid/x", "hid/empty", "none", "none/z", "a/b"] {
        assert_eq!(view.lookup(&rel(hidden)).unwrap(), None, "{hidden}");
    }
    let names = view.read_dir(&RelPath::root()).unwrap();
    assert_eq!(names, [b"a".to_vec(), b"hid".to_vec(), b"top".to_vec()]);
}

#[test]
fn links_are_shown_and_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    make(outside.path(), &["secret", "dir/secret"]);
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["dir/file"]);
    symlink(outside.path().join("secret"), root.path().join("absolute")).unwrap();
    symlink("dir", root.path().join("inside")).unwrap();
    symlink(outside.path().join("dir"), root.path().join("out")).unwrap();
    symlink("../../../../etc", root.path().join("up")).unwrap();
    let view = HostView::open(root.path(), None, None).unwrap();
    check(
        &view,
        &["absolute", "dir", "dir/file", "inside", "out", "up"],
    );
    for path in ["inside/file", "out/secret", "up/passwd", "dir/file/x"] {
        assert_eq!(view.lookup(&rel(path)).unwrap(), None, "{path}");
        assert!(view.open(&rel(path)).is_err(), "{path}");
    }
    for path in ["absolute", "inside", "dir"] {
        assert!(view.open(&rel(path)).is_err(), "{path}");
    }
    for path in ["inside", "out", "dir/file"] {
        assert!(view.read_dir(&rel(path)).is_err(), "{path}");
    }
    let up = view.lookup(&rel("up")).unwrap().unwrap();
    let target = b"../../../../etc".to_vec();
    assert_eq!(up.kind, Kind::Symlink { target });
}

#[test]
fn names_are_bytes_and_pipes_do_not_block() {
    let root = tempfile::tempdir().unwrap();
    let odd = b"\xff\xfe \n\\*?".to_vec();
    std::fs::write(root.path().join(OsStr::from_bytes(&odd)), "odd").unwrap();
    let pipe = layer::Root::open(root.path()).unwrap();
    pipe.make_special(&rel("pipe"), &Kind::Fifo).unwrap();
    let view = HostView::open(root.path(), None, None).unwrap();
    assert_eq!(
        view.read_dir(&RelPath::root()).unwrap(),
        [b"pipe".to_vec(), odd.clone()]
    );
    assert!(view.lookup(&RelPath::new(odd).unwrap()).unwrap().is_some());
    assert_eq!(view.lookup(&rel("pipe")).unwrap().unwrap().kind, Kind::Fifo);
    assert!(view.open(&rel("pipe")).is_err());
}

#[test]
fn digests_of_all_sizes() {
    let root = tempfile::tempdir().unwrap();
    let sizes = [
        0, 1, 4095, 4096, 131_071, 131_072, 131_073, 262_144, 300_000,
    ];
    for size in sizes {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        std::fs::write(root.path().join(format!("{size:06}")), bytes).unwrap();
    }
    std::fs::create_dir(root.path().join("dir")).unwrap();
    let view = HostView::open(root.path(), None, None).unwrap();
    let files = view.walk(&RelPath::root()).unwrap();
    let digests = digest_all(&view, &files).unwrap();
    assert_eq!(digests.len(), sizes.len() + 1);
    for ((path, _), digest) in files.iter().zip(digests) {
        let full = root.path().join(str::from_utf8(path.as_bytes()).unwrap());
        let bytes = std::fs::read(full).ok();
        let expect = bytes.map(|bytes| <[u8; 32]>::from(Sha256::digest(bytes)));
        assert_eq!(digest.map(|digest| digest.0), expect, "{path}");
    }
}

#[test]
fn hard_links_are_told_by_their_ids() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["one", "other", "dir/"]);
    std::fs::hard_link(root.path().join("one"), root.path().join("dir/two")).unwrap();
    let view = HostView::open(root.path(), None, None).unwrap();
    let links = |path| view.lookup(&rel(path)).unwrap().unwrap().links;
    assert!(links("one").is_some());
    assert_eq!(links("one"), links("dir/two"));
    assert_eq!(links("other"), None);
    assert_eq!(links("dir"), None);
}
