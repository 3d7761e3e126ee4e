//! Headers where ustar ends and PAX begins, as Python's `tarfile` and our own reader take them.

use layer::tar::{Header, Limits, Reader, TypeFlag, encode};
use layer::{Time, Xattrs};
use std::io::Write;
use std::process::{Command, Stdio};

const PLAIN: Header<'static> = Header {
    path: b"f",
    type_flag: TypeFlag::File,
    link: b"",
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: Time {
        seconds: 1,
        nanos: 0,
    },
    device: (0, 0),
    xattrs: &Xattrs::new(),
};

/// What Python reads, with the records that it found beside the header.
fn python(bytes: &[u8]) -> String {
    let script = "import sys, tarfile\n\
        m = tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='utf-8').next()\n\
        print(m.name, m.uid, m.gid, m.size, m.mtime, m.linkname or '-', sorted(m.pax_headers))";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// `keys`: the records that are needed, as Python prints them.
#[track_caller]
fn check(header: &Header<'_>, keys: &str) {
    let mut bytes = encode(header).unwrap();
    let len = bytes.len();
    assert_eq!(len == 512, keys == "[]", "one block unless PAX is needed");
    let mut reader = Reader::new(&bytes[..], Limits::default());
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.path, header.path);
    let metadata = &entry.metadata;
    assert_eq!((metadata.uid, metadata.gid), (header.uid, header.gid));
    assert_eq!(
        (metadata.mtime, &metadata.xattrs),
        (header.mtime, header.xattrs)
    );

    // Python wants the end of the archive; data does not matter to a header.
    bytes.resize(len + 1024, 0);
    let text = String::from_utf8_lossy;
    let Time { seconds, nanos } = header.mtime;
    let time = match nanos {
        0 => seconds.to_string(),
        nanos => format!("{}", seconds as f64 + f64::from(nanos) / 1e9),
    };
    // Where a record has a number, Python makes a float of it.
    let time = if keys.contains("mtime") && nanos == 0 {
        format!("{time}.0")
    } else {
        time
    };
    let link = if header.link.is_empty() {
        "-".into()
    } else {
        text(header.link)
    };
    let (path, uid, gid, size) = (text(header.path), header.uid, header.gid, header.size);
    assert_eq!(
        python(&bytes),
        format!("{path} {uid} {gid} {size} {time} {link} {keys}")
    );
}

#[test]
fn names_and_targets() {
    let name = |len: usize| "n".repeat(len);
    let path = |path: &str, keys: &str| {
        let path = path.as_bytes();
        check(&Header { path, ..PLAIN }, keys);
    };
    path(&name(100), "[]");
    path(&name(101), "['path']");
    path(&format!("{}/{}", name(155), name(100)), "[]");
    path(&format!("{}/{}", name(156), name(100)), "['path']");
    path(&format!("{}/{}", name(155), name(101)), "['path']");
    path("\u{fc}", "['path']");
    let link = |len: usize, keys: &str| {
        let (link, type_flag) = (name(len), TypeFlag::Symlink);
        let link = link.as_bytes();
        check(
            &Header {
                link,
                type_flag,
                ..PLAIN
            },
            keys,
        );
    };
    link(100, "[]");
    link(101, "['linkpath']");
    link(4095, "['linkpath']");
}

#[test]
fn numbers() {
    check(
        &Header {
            uid: 0o7_777_777,
            gid: 0o7_777_777,
            ..PLAIN
        },
        "[]",
    );
    check(
        &Header {
            uid: 0o10_000_000,
            ..PLAIN
        },
        "['uid']",
    );
    check(
        &Header {
            gid: u32::MAX - 1,
            ..PLAIN
        },
        "['gid']",
    );
    const GIB: u64 = 1 << 30;
    check(
        &Header {
            size: 8 * GIB - 1,
            ..PLAIN
        },
        "[]",
    );
    check(
        &Header {
            size: 8 * GIB,
            ..PLAIN
        },
        "['size']",
    );
    check(
        &Header {
            size: 1 << 39,
            ..PLAIN
        },
        "['size']",
    );
    let time = |seconds, nanos, keys| {
        let mtime = Time { seconds, nanos };
        check(&Header { mtime, ..PLAIN }, keys);
    };
    time(0o77_777_777_777, 0, "[]");
    time(0o100_000_000_000, 0, "['mtime']");
    time(-1, 0, "['mtime']");
    time(1, 500_000_000, "['mtime']");
}

#[test]
fn attributes() {
    let value = vec![1, 0, 0, 2, b'\n', b'=', 0];
    let xattrs = &[(b"security.capability".to_vec(), value)].into();
    check(
        &Header { xattrs, ..PLAIN },
        "['SCHILY.xattr.security.capability']",
    );
}
