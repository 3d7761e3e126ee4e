//! Compiled Python files in layers: as they were for whoever reads the layer through its index,
//! with the times of the image in the tar.

use crate::spec;
use layer::{
    Change, Content, Data, FileBelow, Kind, Metadata, Node, Packed, RelPath, Time, Times, apply,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const SOURCE: &[u8] = b"source";

/// Later than any time of a layer.
const WRITTEN: i64 = 1_700_000_000;

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn time(seconds: i64) -> Time {
    Time { seconds, nanos: 7 }
}

fn put(name: &str, kind: Kind, mtime: i64, content: Option<&[u8]>) -> (RelPath, Change) {
    let metadata = Metadata {
        mode: 0o644,
        mtime: time(mtime),
        ..Metadata::default()
    };
    let node = Node {
        kind,
        metadata,
        links: None,
    };
    let change = Change::Put {
        node,
        opaque: false,
        data: content.map(|content| Data::Inline(content.into())),
    };
    (path(name), change)
}

fn file(name: &str, mtime: i64, content: &[u8]) -> (RelPath, Change) {
    let size = content.len() as u64;
    put(name, Kind::File { size }, mtime, Some(content))
}

fn symlink(name: &str, target: &str) -> (RelPath, Change) {
    let target = target.as_bytes().to_vec();
    put(name, Kind::Symlink { target }, WRITTEN, None)
}

/// A file that Python compiled from [`SOURCE`].
fn compiled(name: &str, source: i64, flags: u32) -> (RelPath, Change) {
    let mut bytes = b"\xcb\x0d\r\n".to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(&source.to_le_bytes()[..4]);
    bytes.extend((SOURCE.len() as u32).to_le_bytes());
    bytes.extend(b"code");
    file(name, WRITTEN + 5, &bytes)
}

/// Files in the layers below: their true times, and those in the image.
type Below<'a> = &'a [(&'a str, i64, i64)];

struct Written {
    packed: Packed,
    /// What is in the tar.
    shipped: spec::Layer,
}

impl Written {
    fn file(&self, name: &str) -> &spec::Inode {
        match &self.shipped[&path(name)] {
            spec::Edit::Put { inode, .. } => inode,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The time of its source that a compiled file names.
    fn named(&self, name: &str) -> i64 {
        let bytes = &self.file(name).content[8..12];
        i64::from(u32::from_le_bytes(bytes.try_into().unwrap()))
    }
}

/// Packs a layer, which has to say the same as before through its index, and to become the same
/// tar again from there.
#[track_caller]
fn written(changes: &[(RelPath, Change)], below: Below<'_>, times: Times) -> Written {
    let mut changes = changes.to_vec();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    let files: BTreeMap<RelPath, FileBelow> = below
        .iter()
        .map(|&(name, mtime, shipped)| {
            let file = FileBelow {
                mtime: time(mtime),
                size: SOURCE.len() as u64,
                shipped: time(shipped),
            };
            (path(name), file)
        })
        .collect();
    let mut lookup = |path: &RelPath| Ok(files.get(path).copied());
    let (packed, mut found, tar) = spec::packed_with_index(&changes, times, &mut lookup);
    found.retain(|(path, _)| changes.iter().any(|(put, _)| put == path));
    assert_eq!(spec::layer_of(&found), spec::layer_of(&changes));
    for other in [Times::Layer, Times::Clamp(WRITTEN - 100)] {
        let (first, ..) = spec::packed_with_index(&changes, other, &mut lookup);
        let (again, ..) = spec::packed_with_index(&found, other, &mut lookup);
        assert_eq!(again.diff_id, first.diff_id, "{other:?}");
    }
    let content = Content {
        file: Arc::new(tar),
        offset: 0,
        len: packed.tar_len,
    };
    let scratch = Arc::new(tempfile::tempfile().unwrap());
    let limits = apply::Limits::default();
    let shipped = apply::layer_changes(&content, &scratch, &limits).unwrap();
    let shipped = spec::layer_of(&shipped);
    Written { packed, shipped }
}

#[test]
fn the_source_is_of_the_same_layer() {
    let layer = |source: i64, named: i64, flags: u32| {
        let changes = [
            compiled("m.pyc", named, flags),
            file("m.py", source, SOURCE),
        ];
        written(&changes, &[("m.py", named, 9)], Times::Layer)
    };
    let first = layer(1000, 1000, 0);
    let time = first.packed.time.unwrap().seconds;
    assert_eq!(first.named("m.pyc"), time);
    assert_eq!(first.file("m.py").metadata.mtime.seconds, time);
    let second = layer(2000, 2000, 0);
    assert_eq!(
        first.packed.diff_id, second.packed.diff_id,
        "the time of the source is no content"
    );
    // Stale, or checked by hash: left alone.
    assert_eq!(layer(1000, 999, 0).named("m.pyc"), 999);
    assert_eq!(layer(1000, 1000, 1).named("m.pyc"), 1000);
}

#[test]
fn the_source_is_of_a_layer_below() {
    let layer = |name: &str, source: i64, shipped: i64, flags: u32| {
        let changes = [
            compiled("d/__pycache__/m.cpython-312.pyc", 1000, flags),
            file("f", WRITTEN, b"other"),
        ];
        written(&changes, &[(name, source, shipped)], Times::Layer)
    };
    let named = |written: &Written| written.named("d/__pycache__/m.cpython-312.pyc");
    let first = layer("d/m.py", 1000, 500, 0);
    assert_eq!(named(&first), 500);
    // With another source the layer has another time, as with any other content.
    let other = layer("d/m.py", 1000, 501, 0);
    assert_eq!(named(&other), 501);
    assert_ne!(first.packed.time, other.packed.time);
    // Stale, checked by hash, of something else, or what it is anyway.
    assert_eq!(named(&layer("d/m.py", 999, 500, 0)), 1000);
    assert_eq!(named(&layer("d/m.py", 1000, 500, 1)), 1000);
    assert_eq!(named(&layer("m.py", 1000, 500, 0)), 1000);
    assert_eq!(named(&layer("d/m.py", 1000, 1000, 0)), 1000);
}

#[test]
fn when_the_source_was_written_does_not_show() {
    for times in [Times::Layer, Times::Clamp(600)] {
        let layer = |source: i64| {
            let changes = [
                compiled("below.pyc", source, 0),
                compiled("own.pyc", source, 0),
                file("own.py", source, SOURCE),
            ];
            written(&changes, &[("below.py", source, 500)], times)
        };
        let (first, second) = (layer(1000), layer(2000));
        assert_eq!(first.packed.diff_id, second.packed.diff_id, "{times:?}");
        assert_eq!(first.named("below.pyc"), 500);
        let own = first.file("own.py").metadata.mtime.seconds;
        assert_eq!(first.named("own.pyc"), own);
    }
    let kept = [compiled("m.pyc", 1000, 0)];
    let kept = written(&kept, &[("m.py", 1000, 500)], Times::Preserve);
    assert_eq!(kept.named("m.pyc"), 1000);
}

/// Debian's `sitecustomize.py` is a link into `/etc`.
#[test]
fn the_source_is_behind_links() {
    let check = |target: &str, below: Below<'_>, expect: Option<i64>| {
        let changes = [
            file("etc/m.py", 1000, SOURCE),
            compiled("lib/__pycache__/m.cpython-311.pyc", 1000, 0),
            symlink("lib/m.py", target),
            symlink("lib/n.py", "../etc/m.py"),
        ];
        let written = written(&changes, below, Times::Layer);
        let named = written.named("lib/__pycache__/m.cpython-311.pyc");
        let expect = expect.or(written.packed.time.map(|time| time.seconds));
        assert_eq!(Some(named), expect, "{target}");
    };
    for target in ["/etc/m.py", "../etc/m.py", "n.py"] {
        check(target, &[], None);
    }
    for target in ["m.py", "/elsewhere.py", "/etc"] {
        check(target, &[], Some(1000));
    }
    check("../elsewhere.py", &[("elsewhere.py", 1000, 500)], Some(500));
    check("m.py", &[("lib/m.py", 1000, 500)], Some(1000));
}

#[test]
fn only_compiled_files_without_their_source_are_asked_for() {
    let mut asked = Vec::new();
    let mut below = |path: &RelPath| {
        asked.push(path.to_string());
        Ok(None)
    };
    let changes = [
        compiled("a/own.pyc", 1000, 0),
        file("b", 1000, b"no Python"),
        compiled("c/foreign.pyc", 1000, 0),
        file("d.pyc", 1000, b""),
        file("a/own.py", 1000, SOURCE),
    ];
    let mut changes = changes.to_vec();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    spec::packed_with_index(&changes, Times::Layer, &mut below);
    assert_eq!(asked, ["/c/foreign.py"]);
}

#[test]
fn layers_that_cannot_be_searched_are_an_error() {
    let mut below = |_: &RelPath| Err(io::Error::other("gone"));
    let changes = [compiled("m.pyc", 1000, 0)];
    let (tar, index) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let error = layer::pack_indexed(&changes[..], Times::Layer, &mut below, &tar, &index);
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "look for /m.py in the layers below");
}
