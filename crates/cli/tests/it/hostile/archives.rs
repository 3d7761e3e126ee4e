//! Archives that are `ADD`ed, or come as contexts.

use testkit::Archive;

use super::{Yard, new};

#[test]
fn archives_that_lead_outside() {
    let yard = Yard::new();
    let (outside, upwards) = (yard.outside.as_str(), yard.upwards());
    let inside = outside.trim_start_matches('/');
    let landed = format!("d/{inside}/drop/x=1");
    let landed = [landed.as_str()];
    let link = |target: &str| new().entry(b'2', "way", target, b"");
    for (what, archive, expected) in [
        (
            "an absolute path",
            new().file(&format!("{outside}/drop/x"), b"1"),
            Ok(&landed[..]),
        ),
        (
            "a path upwards",
            new().file(&format!("{upwards}/drop/x"), b"1"),
            Ok(&landed),
        ),
        (
            "a path through an absolute link",
            link(outside).file("way/drop/x", b"1"),
            Ok(&landed),
        ),
        (
            "a path through a link upwards",
            link(&upwards).file("way/drop/x", b"1"),
            Ok(&landed),
        ),
        (
            "a link as a directory of many",
            link(outside)
                .entry(b'5', "way/", "", b"")
                .file("way/x", b"1"),
            Ok(&["d/way/x=1"]),
        ),
        (
            "a file where a link was",
            link(&format!("{outside}/secret")).file("way", b"1"),
            Ok(&["d/way=1"]),
        ),
        (
            "a hard link to outside",
            new().entry(b'1', "h", &format!("{outside}/secret"), b""),
            Err("hard link to nothing"),
        ),
        (
            "a hard link upwards",
            new().entry(b'1', "h", &format!("{upwards}/secret"), b""),
            Err("hard link to nothing"),
        ),
        (
            "a hard link through a link",
            link(outside).entry(b'1', "h", "way/secret", b""),
            Err("hard link to nothing"),
        ),
        (
            "a hard link to a link, written through",
            link(outside)
                .entry(b'1', "h", "way", b"")
                .file("h/drop/x", b"1"),
            Ok(&landed),
        ),
        (
            "a path of the records",
            new()
                .pax(b'x', &[("path", &format!("{upwards}/drop/x"))])
                .file("a", b"1"),
            Ok(&landed),
        ),
        (
            "a link of the records",
            new()
                .pax(b'x', &[("linkpath", &format!("{upwards}/secret"))])
                .entry(b'1', "h", "a", b""),
            Err("hard link to nothing"),
        ),
        (
            "a long name",
            new()
                .entry(
                    b'L',
                    "././@LongLink",
                    "",
                    format!("{upwards}/drop/x\0").as_bytes(),
                )
                .file("a", b"1"),
            Ok(&landed),
        ),
        (
            "links in a circle",
            new()
                .entry(b'2', "a", "b", b"")
                .entry(b'2', "b", "a", b"")
                .file("a/x", b""),
            Err("too many links"),
        ),
        (
            "a file as a directory",
            new().file("f", b"1").file("f/x", b"2"),
            Err("no directory"),
        ),
        (
            "the root as a file",
            new().file("..", b"1"),
            Err("only a directory"),
        ),
    ] {
        yard.check_archive(what, archive, expected);
    }
}

#[test]
fn archives_that_are_odd() {
    let yard = Yard::new();
    let long = "n".repeat(300);
    let deep = "p/".repeat(3000);
    let sparse = |records: &[(&str, &str)]| new().pax(b'x', records);
    // One of the old form: a segment at 0 of 3 bytes, of 5 bytes in all.
    let segment = b"00000000000\x0000000000003\0";
    let device = |major: u8, minor: u8| {
        let numbers = format!("000000{major}\0000000{minor}\0");
        new().patched(b'3', "zero", &[(329, numbers.as_bytes())], b"")
    };
    for (what, archive, expected) in [
        (
            "a file twice",
            new().file("a", b"1").file("a", b"2"),
            Ok(&["d/a=2"][..]),
        ),
        (
            "a file, then a directory",
            new()
                .file("a", b"1")
                .entry(b'5', "a/", "", b"")
                .file("a/b", b"2"),
            Ok(&["d/a/b=2"]),
        ),
        (
            "a directory, then a file",
            new().file("a/b", b"1").file("a", b"2"),
            Ok(&["d/a=2"]),
        ),
        ("an endless device", device(1, 5), Ok(&["d/zero"])),
        (
            "a disk",
            new().patched(b'4', "disk", &[(329, b"0000010\x000000000\0")], b""),
            Ok(&["d/disk"]),
        ),
        (
            "a name that is too long",
            new()
                .entry(b'L', "L", "", format!("{long}\0").as_bytes())
                .file("a", b""),
            Err("255 bytes"),
        ),
        (
            "a path that is too long",
            sparse(&[("path", &deep)]).file("a", b""),
            Err("4096 bytes of path"),
        ),
        (
            "a NUL in a path",
            sparse(&[("path", "a\0b")]).file("a", b""),
            Err("extended header"),
        ),
        (
            "a negative size",
            sparse(&[("size", "-1")]).file("a", b""),
            Err("extended header"),
        ),
        (
            "a negative number",
            new().patched(b'0', "a", &[(124, &[0xff; 12])], b""),
            Err("size"),
        ),
        (
            "more than there can be",
            new().patched(
                b'0',
                "a",
                &[(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")],
                b"",
            ),
            Err("bytes of content"),
        ),
        (
            "more than there is",
            new().patched(b'0', "a", &[(124, b"77777777777\0")], b"1"),
            Err("ends at byte"),
        ),
        (
            "an owner that is none",
            new().patched(b'0', "a", &[(108, b"\x80\0\0\x01\0\0\0\0")], b""),
            Err("uid"),
        ),
        (
            "an endless sparse file",
            sparse(&[
                ("GNU.sparse.map", "0,1"),
                ("GNU.sparse.size", "9000000000000000000"),
            ])
            .file("a", b"1"),
            Err("bytes of content"),
        ),
        (
            "segments that overlap",
            sparse(&[("GNU.sparse.map", "0,4,2,4"), ("GNU.sparse.size", "8")])
                .file("a", b"12345678"),
            Err("sparse map"),
        ),
        (
            "sparse 0.0",
            sparse(&[
                ("GNU.sparse.size", "5"),
                ("GNU.sparse.numblocks", "1"),
                ("GNU.sparse.offset", "0"),
                ("GNU.sparse.numbytes", "3"),
            ])
            .file("a", b"abc"),
            Ok(&["d/a=abc\0\0"]),
        ),
        (
            "sparse 0.1",
            sparse(&[("GNU.sparse.map", "0,3"), ("GNU.sparse.size", "5")]).file("a", b"abc"),
            Ok(&["d/a=abc\0\0"]),
        ),
        (
            "sparse 1.0 that never ends",
            sparse(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.realsize", "9"),
            ])
            .file("a", b"99999999999\n"),
            Err("segments"),
        ),
        (
            "sparse of old",
            new().patched(
                b'S',
                "a",
                &[(257, b"ustar  \0"), (386, segment), (483, b"00000000005\0")],
                b"abc",
            ),
            Ok(&["d/a=abc\0\0"]),
        ),
        (
            "a part of a volume",
            new().entry(b'M', "a", "", b"1"),
            Err("unsupported type"),
        ),
        (
            "two readings of a path",
            sparse(&[("path", "b")])
                .entry(b'L', "L", "", b"c\0")
                .file("a", b""),
            Err("ambiguous"),
        ),
        (
            "a file that ends in a slash",
            new().file("a/", b"1"),
            Err("ambiguous"),
        ),
        (
            "a path for all",
            new().pax(b'g', &[("path", "b")]).file("a", b""),
            Err("ambiguous"),
        ),
        (
            "an entry behind the end",
            Archive([new().file("a", b"1").0, vec![0; 512]].concat()).file("b", b"2"),
            Err("block of zeros"),
        ),
    ] {
        yard.check_archive(what, archive, expected);
    }
}
