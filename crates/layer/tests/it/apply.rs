//! Layers and archives of strangers.

use crate::spec::{self, Edit};
use layer::apply::{
    Applied, ApplyError, Expected, Limits, apply, archive_changes, is_archive, layer_changes,
};
use layer::compress::Format;
use layer::{Content, Kind, RelPath};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use testkit::Archive;

fn applied(blob: &[u8]) -> Result<(Applied, Arc<File>), ApplyError> {
    let stored = tempfile::tempfile().unwrap();
    let applied = apply(blob, &stored, Expected::default(), &Limits::default())?;
    Ok((applied, Arc::new(stored)))
}

/// One line for each change, in order.
fn describe(layer: &spec::Layer) -> Vec<String> {
    layer
        .iter()
        .map(|(path, edit)| match edit {
            Edit::Whiteout => format!("{path} gone"),
            Edit::Link { to } => format!("{path} is {to}"),
            Edit::Put { inode, opaque } => {
                let what = match &inode.kind {
                    Kind::Directory => "dir".to_owned(),
                    Kind::File { .. } => {
                        format!("file {}", String::from_utf8_lossy(&inode.content))
                    }
                    Kind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
                    other => format!("{other:?}"),
                };
                format!("{path} {what}{}", if *opaque { " opaque" } else { "" })
            }
        })
        .collect()
}

#[track_caller]
fn check(archive: Archive, expect: &[&str]) {
    let (applied, stored) = applied(&archive.end()).unwrap();
    let layer = spec::layer_of(&spec::changes_of_index(&applied.index, &stored));
    assert_eq!(describe(&layer), expect);
}

#[track_caller]
fn check_refused(archive: Archive, reason: &str) {
    let error = applied(&archive.end()).unwrap_err().to_string();
    assert!(
        error.contains(reason),
        "{error:?} says nothing of {reason:?}"
    );
}

fn new() -> Archive {
    Archive::default()
}

fn directory(archive: Archive, path: &str) -> Archive {
    archive.entry(b'5', path, "", b"")
}

#[test]
fn the_last_of_several_entries_wins() {
    check(new().file("a", b"1").file("a", b"2"), &["/a file 2"]);
    check(new().file("./a", b"1").file("/a", b"2"), &["/a file 2"]);
    check(
        directory(new(), "d/").file("d/a", b"1").file("d", b"2"),
        &["/d file 2"],
    );
    check(
        directory(new().file("d", b"1"), "d/").file("d/a", b"2"),
        &["/d dir", "/d/a file 2"],
    );
    check(
        directory(directory(new(), "d/").file("d/a", b"1"), "d/"),
        &["/d dir", "/d/a file 1"],
    );
}

#[test]
fn hard_links_keep_what_they_were_made_to() {
    let link = |archive: Archive, path: &str, to: &str| archive.entry(b'1', path, to, b"");
    check(
        link(new().file("a", b"1"), "b", "a"),
        &["/a file 1", "/b is /a"],
    );
    check(
        link(new().file("b", b"1"), "a", "b"),
        &["/a file 1", "/b is /a"],
    );
    check(
        link(new().file("a", b"1"), "b", "a").file("a", b"2"),
        &["/a file 2", "/b file 1"],
    );
    check(link(new().file("a", b"1"), "a", "a"), &["/a file 1"]);
    check(
        link(new().file("a", b"1"), "b", "../../a"),
        &["/a file 1", "/b is /a"],
    );
    check_refused(link(new(), "b", "a"), "hard link to nothing");
    check_refused(
        link(directory(new(), "d/"), "b", "d"),
        "hard link to a directory",
    );
    check_refused(link(new(), "b", "/"), "hard link to the root");
}

#[test]
fn whiteouts_speak_of_the_layers_below() {
    check(new().file("d/.wh.a", b""), &["/d/a gone"]);
    check(new().file("d/.wh..wh..opq", b""), &["/d dir opaque"]);
    check(
        new().file("d/a", b"1").file("d/.wh..wh..opq", b""),
        &["/d dir opaque", "/d/a file 1"],
    );
    // Within one layer, what is there is not gone, in whatever order.
    check(new().file(".wh.a", b"").file("a", b"1"), &["/a file 1"]);
    check(new().file("a", b"1").file(".wh.a", b""), &["/a file 1"]);
    check(
        directory(new().file(".wh.d", b""), "d/").file("d/a", b"1"),
        &["/d dir opaque", "/d/a file 1"],
    );
    check(
        new().file("d/a", b"1").file(".wh.d", b""),
        &["/d dir opaque", "/d/a file 1"],
    );
    // Below what is gone or replaced there is nothing to say.
    check(new().file("d/.wh.a", b"").file(".wh.d", b""), &["/d gone"]);
    check(new().file("d/.wh.a", b"").file("d", b"1"), &["/d file 1"]);
    check(
        new().file("d/.wh.a", b"").file("d/.wh..wh..opq", b""),
        &["/d dir opaque"],
    );
    check(
        new()
            .file(".wh..wh.aufs", b"")
            .file(".wh..wh.plnk/1.2", b""),
        &[],
    );
    check_refused(new().file(".wh.", b""), "whites out no name");
    check_refused(new().file(".wh...", b""), "whites out no name");
    check_refused(new().file(".wh.d/a", b""), "below a whiteout");
}

#[test]
fn paths_stay_inside() {
    check(
        new().file("../../etc/passwd", b"1"),
        &["/etc/passwd file 1"],
    );
    check(new().file("/etc/../../x", b"1"), &["/x file 1"]);
    let link = |path: &str, to: &str| new().entry(b'2', path, to, b"");
    check(
        link("d", "/../../e").file("d/a", b"1"),
        &["/d -> /../../e", "/e/a file 1"],
    );
    check(
        link("x/d", "../e")
            .file("x/d/a", b"1")
            .file("x/d/.wh.b", b""),
        &["/e/a file 1", "/e/b gone", "/x/d -> ../e"],
    );
    check(link("d", "e").file("d", b"1"), &["/d file 1"]);
    check(
        directory(link("d", "e"), "d/").file("d/a", b"1"),
        &["/d dir", "/d/a file 1"],
    );
    check_refused(link("d", "d").file("d/a", b"1"), "too many links");
    check_refused(new().file("f", b"1").file("f/a", b"2"), "no directory");
    check_refused(new().file("..", b"1"), "only a directory");
    check_refused(
        new()
            .pax(b'x', &[("path", &"n".repeat(256))])
            .file("a", b""),
        "255",
    );
}

#[test]
fn attributes_of_the_host_are_dropped() {
    let records = [
        ("SCHILY.xattr.trusted.overlay.opaque", "y"),
        ("SCHILY.xattr.user.overlay.redirect", "/"),
        ("SCHILY.xattr.security.selinux", "label"),
        ("SCHILY.xattr.user.mine", "kept"),
    ];
    let (applied, stored) = applied(&new().pax(b'x', &records).file("a", b"").end()).unwrap();
    let layer = spec::layer_of(&spec::changes_of_index(&applied.index, &stored));
    let Edit::Put { inode, .. } = &layer[&RelPath::new("a").unwrap()] else {
        panic!("no file");
    };
    assert_eq!(
        inode.metadata.xattrs,
        [(b"user.mine".to_vec(), b"kept".to_vec())].into()
    );
}

#[test]
fn sparse_files_lie_behind_the_tar() {
    let map = format!("0,4,{},4", 256 << 20);
    let size = ((256 << 20) + 4).to_string();
    let records = [("GNU.sparse.map", map.as_str()), ("GNU.sparse.size", &size)];
    let archive = new()
        .pax(b'x', &records)
        .file("sparse", b"headtail")
        .file("z", b"1")
        .end();
    let (applied, stored) = applied(&archive).unwrap();
    assert_eq!(applied.tar_len, archive.len() as u64);
    assert!(applied.stored_len > 256 << 20);
    assert_eq!(stored.metadata().unwrap().len(), applied.stored_len);
    assert!(stored.metadata().unwrap().blocks() < 100);
    let layer::erofs::IndexChange::Put { data_offset, .. } = &applied.index[0].change else {
        panic!("no file");
    };
    let mut tail = [0; 4];
    stored
        .read_exact_at(&mut tail, data_offset.unwrap() + (256 << 20))
        .unwrap();
    assert_eq!(&tail, b"tail");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn in_every_format(tar: &[u8]) -> Vec<(Format, Vec<u8>)> {
    let (head, rest) = tar.split_at(700);
    let run = |program: &str| {
        let mut child = std::process::Command::new(program)
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(tar).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let zstd = |bytes| zstd::stream::encode_all(bytes, 3).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    vec![
        (Format::Plain, tar.to_vec()),
        (Format::Gzip, gzip(tar)),
        (Format::Gzip, [gzip(head), gzip(rest)].concat()),
        (Format::Zstd, zstd(tar)),
        (Format::Zstd, [zstd(head), skippable, zstd(rest)].concat()),
        (Format::Bzip2, run("bzip2")),
        (Format::Xz, run("xz")),
    ]
}

#[test]
fn every_compression_is_the_same_layer() {
    let tar = new().file("a", &[b'x'; 3000]).file("b", b"2").end();
    let diff_id = oci::DiffId::new(oci::Digest::sha256(&tar));
    for (format, blob) in in_every_format(&tar) {
        let (applied, stored) = applied(&blob).unwrap();
        assert_eq!(applied.format, format);
        assert_eq!(applied.diff_id, diff_id);
        assert_eq!(applied.blob, oci::Digest::sha256(&blob));
        assert_eq!(applied.blob_size, blob.len() as u64);
        let mut bytes = vec![0; tar.len()];
        stored.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, tar);
    }
}

#[test]
fn damaged_streams_are_errors() {
    let tar = new().file("a", &[b'x'; 300_000]).end();
    for (format, blob) in in_every_format(&tar) {
        for cut in [0, 1, blob.len() / 2, blob.len() - 1] {
            let whole = cut == 0 && format == Format::Plain;
            let tar_ends_early = format == Format::Plain && cut == blob.len() - 1;
            let result = applied(&blob[..cut]);
            // Nothing at all is an archive without entries.
            let is_empty = cut == 0;
            assert_eq!(
                result.is_ok(),
                whole || is_empty,
                "{format:?} {cut} {tar_ends_early}"
            );
        }
    }
}

#[test]
fn only_the_expected_layer_is_taken() {
    let tar = new().file("a", b"1").end();
    let blob = gzip(&tar);
    let stored = tempfile::tempfile().unwrap();
    let wrong = oci::Digest::sha256("other");
    let limits = Limits::default();
    let right = Expected {
        blob: Some(oci::Digest::sha256(&blob)),
        diff_id: Some(oci::DiffId::new(oci::Digest::sha256(&tar))),
    };
    apply(blob.as_slice(), &stored, right, &limits).unwrap();
    for expected in [
        Expected {
            blob: Some(wrong),
            ..right
        },
        Expected {
            diff_id: Some(oci::DiffId::new(wrong)),
            ..right
        },
    ] {
        let result = apply(blob.as_slice(), &stored, expected, &limits);
        assert!(matches!(result, Err(ApplyError::Digest { .. })));
    }
}

#[test]
fn bombs_end() {
    let mut limits = Limits::default();
    limits.archive.total = 1 << 20;
    let bomb = gzip(&new().file("a", &vec![0; 4 << 20]).end());
    let stored = tempfile::tempfile().unwrap();
    let error = apply(bomb.as_slice(), &stored, Expected::default(), &limits).unwrap_err();
    assert!(format!("{error:?}").contains("Limit"), "{error:?}");
    assert!(stored.metadata().unwrap().blocks() * 512 <= 2 << 20);
}

#[test]
fn streams_that_become_far_more_than_they_are_end() {
    let dense = |len: usize| {
        let tar = new().file("a", &vec![b'x'; len]).end();
        zstd::stream::encode_all(tar.as_slice(), 3).unwrap()
    };
    let outcome = |blob: &[u8], ratio, small| {
        let limits = Limits {
            ratio,
            small,
            ..Limits::default()
        };
        let stored = tempfile::tempfile().unwrap();
        let result = apply(blob, &stored, Expected::default(), &limits);
        assert!(stored.metadata().unwrap().blocks() * 512 <= 8 << 20);
        matches!(result, Err(ApplyError::Bomb { .. }))
    };
    let bomb = dense(64 << 20);
    assert!(bomb.len() < 16 << 10, "{} bytes", bomb.len());
    assert!(outcome(&bomb, 100, 4 << 20));
    assert!(!outcome(&dense(2 << 20), 100, 4 << 20), "a small one");
}

#[test]
fn a_source_that_fails_is_the_error() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("network"))
        }
    }
    let stored = tempfile::tempfile().unwrap();
    let error = apply(Failing, &stored, Expected::default(), &Limits::default()).unwrap_err();
    assert!(matches!(error, ApplyError::Read { .. }), "{error:?}");
}

fn content(bytes: &[u8]) -> Content {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(b"before", 0).unwrap();
    file.write_all_at(bytes, 6).unwrap();
    file.write_all_at(b"after", 6 + bytes.len() as u64).unwrap();
    Content {
        file: Arc::new(file),
        offset: 6,
        len: bytes.len() as u64,
    }
}

#[test]
fn archives_are_told_by_their_content() {
    let tar = new().file("a", b"1").end();
    for (_, blob) in in_every_format(&tar) {
        assert!(is_archive(&content(&blob)).unwrap());
    }
    for other in [
        &b""[..],
        b"text",
        &[0; 1024],
        &gzip(b"text"),
        &gzip(b"")[..5],
        &[b'a'; 600],
    ] {
        assert!(!is_archive(&content(other)).unwrap());
    }
}

#[test]
fn archives_are_extracted_without_whiteouts() {
    let map = [("GNU.sparse.map", "2,1"), ("GNU.sparse.size", "4")];
    let tar = new()
        .file("d/.wh.a", b"1")
        .pax(b'x', &map)
        .file("s", b"x")
        .file("z", b"3")
        .end();
    for (_, blob) in in_every_format(&tar) {
        let scratch = Arc::new(tempfile::tempfile().unwrap());
        let changes = archive_changes(&content(&blob), &scratch, &Limits::default()).unwrap();
        let layer = spec::layer_of(&changes);
        let expect = ["/d/.wh.a file 1", "/s file \0\0x\0", "/z file 3"];
        assert_eq!(describe(&layer), expect);
    }
}

#[test]
fn the_same_archive_as_a_layer_deletes() {
    let tar = new().file("d/.wh.a", b"").file("z", b"3").end();
    for (_, blob) in in_every_format(&tar) {
        let scratch = Arc::new(tempfile::tempfile().unwrap());
        let changes = layer_changes(&content(&blob), &scratch, &Limits::default()).unwrap();
        let expect = ["/d/a gone", "/z file 3"];
        assert_eq!(describe(&spec::layer_of(&changes)), expect);
    }
}
