//! The bytes of packed layers, and what must not become one.

use crate::spec;
use layer::{
    Change, Content, ContentDigest, Data, Kind, Metadata, Node, PackError, Packed, RelPath, Time,
    Times, View, nothing_below, pack,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn node(kind: Kind, mode: u32) -> Node {
    Node {
        kind,
        metadata: Metadata {
            mode,
            ..Metadata::default()
        },
        links: None,
    }
}

fn file(name: &str, content: &[u8]) -> (RelPath, Change) {
    let size = content.len() as u64;
    let change = Change::Put {
        node: node(Kind::File { size }, 0o644),
        opaque: false,
        data: Some(Data::Inline(content.into())),
    };
    (path(name), change)
}

fn other(name: &str, kind: Kind, opaque: bool) -> (RelPath, Change) {
    let change = Change::Put {
        node: node(kind, 0o755),
        opaque,
        data: None,
    };
    (path(name), change)
}

fn at(mut change: (RelPath, Change), seconds: i64) -> (RelPath, Change) {
    if let Change::Put { node, .. } = &mut change.1 {
        node.metadata.mtime = Time { seconds, nanos: 0 };
    }
    change
}

fn packed(changes: &[(RelPath, Change)], times: Times) -> (Packed, File) {
    let tar = tempfile::tempfile().unwrap();
    (pack(changes, times, &tar).unwrap(), tar)
}

fn bytes(tar: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(tar.metadata().unwrap().len()).unwrap()];
    tar.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Row Y8: an empty layer is 1,024 zeros, known by its digest everywhere.
#[test]
fn an_empty_layer_is_the_usual_one() {
    let (packed, tar) = packed(&[], Times::Layer);
    assert_eq!(bytes(&tar), [0; 1024]);
    assert_eq!(
        packed.diff_id.to_string(),
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    );
}

/// The bytes of our format, pinned: a change here changes every layer's digest.
#[test]
fn golden_layer() {
    let mut with_xattr = file("bin/tool", b"tool");
    if let Change::Put { node, .. } = &mut with_xattr.1 {
        let capability = (b"security.capability".to_vec(), vec![1, 0, 0, 2]);
        node.metadata.xattrs.extend([capability]);
        node.metadata.mode = 0o4755;
    }
    let long = format!("etc/{}", "n".repeat(120));
    let changes = [
        other("bin", Kind::Directory, false),
        with_xattr,
        (
            path("bin/zool"),
            Change::Link {
                to: path("bin/tool"),
            },
        ),
        other("etc", Kind::Directory, true),
        file(&long, b"long name"),
        file("etc/\u{fc}", b"not ASCII"),
        (path("gone"), Change::Whiteout),
        other(
            "link",
            Kind::Symlink {
                target: b"bin/tool".to_vec(),
            },
            false,
        ),
        other("null", Kind::CharDevice { major: 1, minor: 3 }, false),
        other("socket", Kind::Socket, false),
    ];
    let (packed, tar) = packed(&changes, Times::Layer);
    assert_eq!(
        packed.time.unwrap().seconds / 31_536_000,
        946_684_800 / 31_536_000
    );
    let mut names = Vec::new();
    let all = bytes(&tar);
    let mut reader = layer::tar::Reader::new(all.as_slice(), layer::tar::Limits::default());
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    let expect = [
        "bin/",
        "bin/tool",
        "bin/zool",
        "etc/",
        "etc/.wh..wh..opq",
        &long,
        "etc/\u{fc}",
        ".wh.gone",
        "link",
        "null",
    ];
    assert_eq!(names, expect);
    assert_eq!(
        packed.diff_id.to_string(),
        "sha256:ab769a4894c28886d00a812a8c51632d8c6163973832e68e23549938ee8645e4"
    );
}

#[track_caller]
fn check_refused(changes: &[(RelPath, Change)], reason: &str) {
    let error = pack(changes, Times::Layer, &tempfile::tempfile().unwrap()).unwrap_err();
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    assert!(text.contains(reason), "{text:?} says nothing of {reason:?}");
}

#[test]
fn what_no_layer_can_say_is_refused() {
    let directory = || other("d", Kind::Directory, false);
    let link = |name: &str, to: &str| (path(name), Change::Link { to: path(to) });
    check_refused(&[file(".wh.a", b"")], ".wh.");
    check_refused(&[file(".wh.d/a", b"")], ".wh.");
    check_refused(&[(path(".wh.a"), Change::Whiteout)], ".wh.");
    check_refused(&[file("b", b""), file("a", b"")], "out of order");
    check_refused(&[file("a", b""), file("a", b"")], "out of order");
    check_refused(&[link("a", "b"), file("b", b"")], "hard link");
    check_refused(&[file("a", b""), link("b", "c")], "hard link");
    check_refused(&[directory(), link("e", "d")], "hard link");
    check_refused(&[(RelPath::root(), Change::Whiteout)], "root");
    let huge = Kind::CharDevice {
        major: u32::MAX,
        minor: 0,
    };
    check_refused(&[other("a", huge, false)], "major device number");
    let bare = other("a", Kind::File { size: 1 }, false);
    check_refused(&[bare], "no data");
    let mut odd = file("a", b"");
    if let Change::Put { node, .. } = &mut odd.1 {
        node.metadata
            .xattrs
            .insert(b"user.a=b".to_vec(), Vec::new());
    }
    check_refused(&[odd], "user.a=b");
}

/// A tree whose files may be other ones than when they were looked at.
struct Moving(BTreeMap<RelPath, Vec<u8>>);

impl View for Moving {
    fn lookup(&self, _: &RelPath) -> io::Result<Option<Node>> {
        Ok(None)
    }

    fn read_dir(&self, _: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn open(&self, path: &RelPath) -> io::Result<Content> {
        let bytes = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        let file = tempfile::tempfile()?;
        file.write_all_at(bytes, 0)?;
        Ok(Content {
            file: Arc::new(file),
            offset: 0,
            len: bytes.len() as u64,
        })
    }

    fn digest(&self, _: &RelPath, _: &Node) -> io::Result<ContentDigest> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn in_view(content: &[u8], seen: &[u8], expect: bool) -> (RelPath, Change) {
    use sha2::Digest;
    let view = Moving(BTreeMap::from([(path("there"), content.to_vec())]));
    let expect = expect.then(|| ContentDigest(sha2::Sha256::digest(seen).into()));
    let size = seen.len() as u64;
    let change = Change::Put {
        node: node(Kind::File { size }, 0o644),
        opaque: false,
        data: Some(Data::InView {
            view: Arc::new(view),
            path: path("there"),
            expect,
        }),
    };
    (path("f"), change)
}

#[test]
fn a_file_that_moved_is_an_error() {
    for size in [10, 2_000_000] {
        let old = vec![b'o'; size];
        let mut new = old.clone();
        new[size - 1] = b'n';
        for (content, expect) in [(&new[..], true), (&old[1..], true), (&old[1..], false)] {
            let tar = tempfile::tempfile().unwrap();
            let result = pack(&[in_view(content, &old, expect)], Times::Layer, &tar);
            assert!(matches!(result, Err(PackError::Changed { .. })));
        }
    }
}

#[test]
fn knowing_the_digests_changes_nothing() {
    for size in [0, 1, 511, 512, 2_000_000] {
        let content = vec![b'c'; size];
        let (known, _) = packed(&[in_view(&content, &content, true)], Times::Layer);
        let (unknown, _) = packed(&[in_view(&content, &content, false)], Times::Layer);
        let (inline, _) = packed(&[file("f", &content)], Times::Layer);
        assert_eq!(known.diff_id, unknown.diff_id);
        assert_eq!(known.diff_id, inline.diff_id);
    }
}

#[test]
fn policies_for_times() {
    let changes = [at(file("a", b""), 100), at(file("b", b""), 300)];
    let times = |times| {
        let (packed, tar) = packed(&changes, times);
        let mut found = Vec::new();
        let all = bytes(&tar);
        let mut reader = layer::tar::Reader::new(all.as_slice(), layer::tar::Limits::default());
        while let Some(entry) = reader.next_entry().unwrap() {
            found.push(entry.metadata.mtime.seconds);
        }
        (found, packed.time.map(|time| time.seconds))
    };
    let (layer, time) = times(Times::Layer);
    assert_eq!(layer, [time.unwrap(); 2]);
    assert_eq!(times(Times::Clamp(200)), (vec![100, 200], None));
    assert_eq!(times(Times::Preserve), (vec![100, 300], None));
    let (_, index, _) = spec::packed_with_index(&changes, Times::Layer, &mut nothing_below);
    let true_times: Vec<i64> = index
        .iter()
        .map(|(_, change)| match change {
            Change::Put { node, .. } => node.metadata.mtime.seconds,
            _ => panic!("no inode"),
        })
        .collect();
    assert_eq!(true_times, [100, 300]);
}

#[test]
fn holes_stay_holes() {
    let source = tempfile::tempfile().unwrap();
    source.write_all_at(b"head", 0).unwrap();
    source.write_all_at(b"tail", 256 << 20).unwrap();
    let len = source.metadata().unwrap().len();
    let content = Content {
        file: Arc::new(source),
        offset: 0,
        len,
    };
    let change = Change::Put {
        node: node(Kind::File { size: len }, 0o644),
        opaque: false,
        data: Some(Data::Open(content)),
    };
    let (_, tar) = packed(&[(path("lastlog"), change)], Times::Layer);
    let metadata = tar.metadata().unwrap();
    assert!(metadata.len() > len);
    assert!(
        metadata.blocks() * 512 < 4 << 20,
        "{} blocks",
        metadata.blocks()
    );
}
