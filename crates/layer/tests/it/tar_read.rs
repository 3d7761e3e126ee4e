//! The reader against archives of other writers, and against archives made to be read in two ways.

use layer::tar::{Entry, EntryKind, FileData, Limits, ReadError, Reader, Segment};
use std::path::Path;
use std::process::Command;
use testkit::Archive;

fn read(archive: &[u8]) -> Result<Vec<Entry>, ReadError> {
    let mut reader = Reader::new(archive, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

/// Paths and sizes of what is read; the beginning of the error otherwise.
#[track_caller]
fn check(archive: Vec<u8>, expect: Result<&[(&str, u64)], &str>) {
    match (read(&archive), expect) {
        (Ok(entries), Ok(expect)) => {
            let found: Vec<(String, u64)> = entries
                .iter()
                .map(|entry| {
                    let size = match &entry.kind {
                        EntryKind::File(data) => data.size,
                        _ => 0,
                    };
                    (String::from_utf8_lossy(&entry.path).into_owned(), size)
                })
                .collect();
            let found: Vec<(&str, u64)> = found.iter().map(|(p, s)| (p.as_str(), *s)).collect();
            assert_eq!(found, expect);
        }
        (Err(error), Err(expect)) => {
            let error = error.to_string();
            assert!(
                error.contains(expect),
                "{error:?} says nothing of {expect:?}"
            );
        }
        (found, expect) => panic!("found {found:?}, expected {expect:?}"),
    }
}

/// CVE-2025-62518: the header says that there is no data, the records say how much there is. A
/// reader that skips by the header takes the data for entries.
#[test]
fn size_of_the_records_wins_over_that_of_the_header() {
    let inner = Archive::default().file("smuggled", b"").end();
    let mut archive = Archive::default().pax(b'x', &[("size", &inner.len().to_string())]);
    archive.header(b'0', "outer", "", 0);
    let archive = archive.data(&inner).file("after", b"a");
    let expect = [("outer", inner.len() as u64), ("after", 1)];
    check(archive.end(), Ok(&expect));
}

/// RUSTSEC-2026-0068: the other way round.
#[test]
fn size_of_the_records_wins_when_it_is_smaller() {
    let mut archive = Archive::default().pax(b'x', &[("size", "0")]);
    archive.header(b'0', "outer", "", 512);
    let archive = archive.file("after", b"");
    check(archive.end(), Ok(&[("outer", 0), ("after", 0)]));
}

/// GHSA-3pv8-6f4r-ffg2: records speak of the file, not of the long name between.
#[test]
fn records_skip_the_long_name() {
    let long = "n".repeat(150);
    let archive = Archive::default()
        .pax(b'x', &[("size", "3")])
        .entry(b'L', "././@LongLink", "", format!("{long}\0").as_bytes())
        .file("short", b"abc")
        .file("after", b"");
    check(archive.end(), Ok(&[(&long, 3), ("after", 0)]));
}

#[test]
fn headers_without_data_have_none_whatever_their_size_says() {
    for flag in *b"123456" {
        let mut archive = Archive::default();
        archive.header(flag, "odd", "target", 512);
        let archive = archive.file("after", b"");
        check(archive.end(), Ok(&[("odd", 0), ("after", 0)]));
    }
}

#[test]
fn what_readers_disagree_about_is_refused() {
    let new = Archive::default;
    let x = |records: &[(&str, &str)]| new().pax(b'x', records);
    for (archive, reason) in [
        (x(&[]).pax(b'x', &[]).file("a", b""), "two extended headers"),
        (
            new().pax(b'g', &[("path", "b")]).file("a", b""),
            "global path",
        ),
        (
            new().pax(b'g', &[("size", "9")]).file("a", b""),
            "global path or size",
        ),
        (
            x(&[("path", "b")])
                .entry(b'L', "L", "", b"c\0")
                .file("a", b""),
            "paths that differ",
        ),
        (
            new()
                .entry(b'L', "L", "", b"c\0")
                .entry(b'L', "L", "", b"d\0")
                .file("a", b""),
            "two long names",
        ),
        (new().file("a/", b"data"), "ends in a slash"),
        (x(&[("path", "a\0b")]).file("a", b""), "extended header"),
        (x(&[("size", "-1")]).file("a", b""), "extended header"),
        (x(&[("size", "1x")]).file("a", b""), "extended header"),
        (
            x(&[("uid", "4294967296")]).file("a", b""),
            "extended header",
        ),
        (
            new().entry(b'x', "x", "", b"9 a=b\n").file("a", b""),
            "extended header",
        ),
        (new().entry(b'2', "a", "", b""), "empty link"),
        (new().entry(b'M', "a", "", b""), "unsupported type 'M'"),
        (new().file("", b""), "empty path"),
    ] {
        check(archive.end(), Err(reason));
    }
    // An entry behind one block of zeros: the end for some, for others not.
    let mut archive = new().file("a", b"");
    archive.0.extend([0; 512]);
    check(archive.file("b", b"").end(), Err("after a block of zeros"));
}

#[test]
fn archives_may_end_without_zeros_but_not_within_an_entry() {
    let archive = Archive::default().file("a", b"data").0;
    check(archive.clone(), Ok(&[("a", 4)]));
    check(archive[..512 + 100].to_vec(), Err("ends at byte"));
    check(archive[..100].to_vec(), Err("ends at byte"));
    check(Archive::default().pax(b'x', &[]).0, Err("ends at byte"));
    check(Vec::new(), Ok(&[]));
}

#[test]
fn limits_hold() {
    let with = |archive: Archive, limits: Limits| {
        let archive = archive.end();
        let mut reader = Reader::new(archive.as_slice(), limits);
        loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no limit"),
                Err(error) => return error.to_string(),
            }
        }
    };
    let limits = Limits::default();
    let small = Limits {
        entries: 1,
        ..limits
    };
    let archive = Archive::default().file("a", b"").file("b", b"");
    assert!(with(archive, small).contains("1 entries"));
    let archive = Archive::default().file("a", &[1; 5000]);
    let small = Limits {
        total: 4000,
        ..limits
    };
    assert!(with(archive, small).contains("4000 bytes"));
    let archive = Archive::default()
        .pax(b'x', &[("path", &"p/".repeat(3000))])
        .file("a", b"");
    assert!(with(archive, limits).contains("4096 bytes of path"));
    let mut archive = Archive::default();
    archive.header(b'x', "x", "", 1 << 30);
    assert!(with(archive, limits).contains("extended header"));
    let archive = Archive::default()
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.realsize", "9"),
            ],
        )
        .file("a", b"99999999999\n");
    assert!(with(archive, limits).contains("segments"));
}

#[test]
fn sparse_maps_that_overlap_or_overflow_are_refused() {
    for (map, size, data) in [
        ("0,4,2,4", "8", 8),
        ("4,4,0,4", "8", 8),
        ("0,4", "3", 4),
        ("0,4", "8", 5),
        ("18446744073709551615,2", "8", 2),
        ("0,4,8", "8", 4),
    ] {
        let records = [("GNU.sparse.map", map), ("GNU.sparse.size", size)];
        let archive = Archive::default()
            .pax(b'x', &records)
            .file("a", &vec![1; data]);
        assert!(read(&archive.end()).is_err(), "{map}");
    }
}

#[test]
fn sparse_forms_of_pax() {
    let map = vec![Segment { offset: 1, len: 2 }, Segment { offset: 8, len: 1 }];
    let common = [("GNU.sparse.name", "real"), ("GNU.sparse.size", "9")];
    let zero = [
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "1"),
        ("GNU.sparse.numbytes", "2"),
        ("GNU.sparse.offset", "8"),
        ("GNU.sparse.numbytes", "1"),
    ];
    let one = [("GNU.sparse.map", "1,2,8,1"), ("GNU.sparse.numblocks", "2")];
    let two = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
    let mut in_data = b"2\n1\n2\n8\n1\n".to_vec();
    in_data.resize(512, 0);
    let in_data = [in_data.as_slice(), b"abc"].concat();
    for (records, data, offset) in [
        (&zero[..], &b"abc"[..], 1536),
        (&one[..], b"abc", 1536),
        (&two[..], &in_data, 2048),
    ] {
        let records: Vec<_> = common.iter().chain(records).copied().collect();
        let archive = Archive::default()
            .pax(b'x', &records)
            .file("GNUSparseFile.0/real", data);
        let entries = read(&archive.file("after", b"").end()).unwrap();
        assert_eq!(entries[0].path, b"real");
        let sparse = Some(map.clone());
        let expect = FileData {
            size: 9,
            offset,
            sparse,
        };
        assert_eq!(entries[0].kind, EntryKind::File(expect));
        assert_eq!(entries[1].path, b"after");
    }
}

/// A tree that has everything a tar can have and an ordinary user can make.
fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("dir/empty")).unwrap();
    std::fs::write(root.join("dir/file"), b"content").unwrap();
    std::fs::write(root.join("dir/empty-file"), b"").unwrap();
    let long = "long-".repeat(30);
    std::fs::create_dir(root.join(&long)).unwrap();
    std::fs::write(root.join(&long).join(&long), vec![7; 70_000]).unwrap();
    std::os::unix::fs::symlink(format!("/{long}/{long}"), root.join("link")).unwrap();
    std::fs::hard_link(root.join("dir/file"), root.join("other")).unwrap();
    std::fs::write(root.join("\u{fc}ber"), b"u").unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for index in 0..60_u64 {
        use std::os::unix::fs::FileExt;
        sparse.write_all_at(b"data", index << 20).unwrap();
    }
    sparse.set_len(64 << 20).unwrap();
}

fn gnu_tar(root: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(arguments)
        .args(["--sort=name", "-cf", "-", "-C"])
        .arg(root)
        .arg(".")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn all_forms_of_gnu_tar() {
    let directory = tempfile::tempdir().unwrap();
    make_tree(directory.path());
    for arguments in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=oldgnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ] {
        let archive = gnu_tar(directory.path(), arguments);
        let entries = read(&archive).unwrap();
        assert_eq!(entries.len(), 11, "{arguments:?}");
        for entry in &entries {
            check_against_tree(directory.path(), entry, &archive);
        }
    }
}

#[track_caller]
fn check_against_tree(root: &Path, entry: &Entry, archive: &[u8]) {
    use std::os::unix::fs::MetadataExt;
    let path = root.join(std::str::from_utf8(&entry.path).unwrap());
    let metadata = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!(entry.metadata.mode, metadata.mode() & 0o7777);
    assert_eq!(entry.metadata.uid, metadata.uid());
    assert_eq!(entry.metadata.mtime.seconds, metadata.mtime());
    match &entry.kind {
        EntryKind::Directory => assert!(metadata.is_dir()),
        EntryKind::Symlink(target) => {
            let found = std::fs::read_link(&path).unwrap();
            assert_eq!(found.as_os_str().as_encoded_bytes(), target);
        }
        EntryKind::HardLink(target) => {
            let target = root.join(std::str::from_utf8(target).unwrap());
            assert_eq!(std::fs::metadata(target).unwrap().ino(), metadata.ino());
        }
        EntryKind::File(data) => {
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes == content(data, archive), "{}", path.display());
        }
        other => panic!("{other:?}"),
    }
}

fn content(data: &FileData, archive: &[u8]) -> Vec<u8> {
    let size = usize::try_from(data.size).unwrap();
    let mut at = usize::try_from(data.offset).unwrap();
    let Some(map) = &data.sparse else {
        return archive[at..at + size].to_vec();
    };
    let mut bytes = vec![0; size];
    for segment in map {
        let offset = usize::try_from(segment.offset).unwrap();
        let len = usize::try_from(segment.len).unwrap();
        bytes[offset..offset + len].copy_from_slice(&archive[at..at + len]);
        at += len;
    }
    bytes
}
