//! `COPY` by the letter: what a source names, where it lands, what replaces what, and which metadata
//! arrive (rows C2 to C15, C22, C23). The tables say what BuildKit makes of the same lines.

use crate::harness::{Output, Project};

/// What sources are copied from. `base` is copied to `/` first.
fn project() -> Project {
    let project = Project::new();
    project.host(
        "mkdir -p tree/sub tree/e d1 d2 deep/a/b base/dir/sub base/etc
         echo 1 > a.txt; echo 2 > b.txt; echo c > c.md; echo one > tree/one; echo two > tree/sub/two
         echo x > d1/x; echo y > d2/y; echo z > deep/a/b/z; echo w > 'a b'; echo q > 'q?r'; echo s > 's*r'; echo t > star
         ln -s one tree/l; ln -s tree tl; ln -s a.txt al; ln -s ../../a.txt deep/a/up; ln -s /a.txt absl
         chmod -R u=rwX,go=rX .; chmod 750 tree/sub; chmod 600 tree/one
         echo f > base/file; echo old > base/dir/one; ln base/dir/one base/dir/peer; ln -s /dir base/way; ln -s gone base/lost
         chmod 700 base/dir base/dir/sub; ln -s /file base/dir/c.md
         printf 'root:x:0:0::/:\\nuser:x:1000:1001::/:\\n' > base/etc/passwd; printf 'extra:x:2000:\\n' > base/etc/group",
    );
    project.write(".dockerignore", "Dockerfile\n.dockerignore\nbase2\n");
    project
}

fn build(project: &Project, instructions: &str) -> Output {
    let text = format!("FROM scratch AS base\nCOPY base /\nFROM base\n{instructions}\n");
    project.write("Dockerfile", text);
    project.kiln(&["build", "-o", "type=tar,dest=../out.tar", "."])
}

/// Builds, and lists what is at and below `/d` of the image: mode, owner, name.
#[track_caller]
fn check(project: &Project, instructions: &str, expected: &str) {
    build(project, instructions).success();
    let listed = project.host(
        "tar --numeric-owner -tvf ../out.tar | sed -E 's/^(\\S+) +(\\S+) +(\\S+ +){3}/\\1 \\2 /' | grep -E ' d(/|$| )' | sort -k3",
    );
    let found: Vec<&str> = listed.lines().collect();
    let expected: Vec<&str> = expected
        .split(", ")
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(found, expected, "{instructions}");
}

const D: &str = "drwxr-xr-x 0/0 d/";

#[test]
fn sources_by_name() {
    let project = project();
    let file = |name: &str| format!("{D}, -rw-r--r-- 0/0 d/{name}");
    let tree = format!(
        "{D}, drwxr-xr-x 0/0 d/e/, lrwxrwxrwx 0/0 d/l -> one, -rw------- 0/0 d/one, drwxr-x--- 0/0 d/sub/, -rw-r--r-- 0/0 d/sub/two"
    );
    for (instructions, expected) in [
        ("COPY /a.txt /d/", file("a.txt")),
        ("COPY a.txt/ /d/", file("a.txt")),
        ("COPY ../../tree/../a.txt /d/", file("a.txt")),
        ("COPY [\"a b\", \"/d/\"]", file("a b")),
        ("COPY q[?]r /d/", file("q?r")),
        // One backslash goes where words are expanded; one more is the pattern's, if it is one.
        (
            "COPY s\\*r /d/",
            format!("{D}, -rw-r--r-- 0/0 d/s*r, -rw-r--r-- 0/0 d/star"),
        ),
        ("COPY s\\\\*? /d/", file("s*r")),
        // A class begins with `^`; this one has two characters.
        ("COPY [!a].txt /d/", file("a.txt")),
        ("COPY [^b].txt /d/", file("a.txt")),
        (
            "COPY ?.txt /d/",
            format!("{D}, -rw-r--r-- 0/0 d/a.txt, -rw-r--r-- 0/0 d/b.txt"),
        ),
        ("COPY gone* a.txt /d/", file("a.txt")),
        ("COPY tree/ /d", tree.clone()),
        ("COPY tl /d/", tree.clone()),
        ("COPY tr*e /d/", tree.clone()),
        ("COPY --parents tree/./ /d/", tree),
        (
            "COPY d*/ /d/",
            format!(
                "{D}, drwxr-xr-x 0/0 d/a/, drwxr-xr-x 0/0 d/a/b/, -rw-r--r-- 0/0 d/a/b/z, lrwxrwxrwx 0/0 d/a/up -> ../../a.txt, -rw-r--r-- 0/0 d/x, -rw-r--r-- 0/0 d/y"
            ),
        ),
        ("COPY al /d/", file("al")),
        ("COPY absl /d/", file("absl")),
        ("COPY deep/a/up /d/", file("up")),
        // A link that a wildcard matches is followed, as a source is.
        (
            "COPY t?ee/* /d/",
            format!("{D}, -rw------- 0/0 d/l, -rw------- 0/0 d/one, -rw-r--r-- 0/0 d/two"),
        ),
        (
            "COPY --parents **/z /d/",
            format!(
                "{D}, drwxr-xr-x 0/0 d/deep/, drwxr-xr-x 0/0 d/deep/a/, drwxr-xr-x 0/0 d/deep/a/b/, -rw-r--r-- 0/0 d/deep/a/b/z"
            ),
        ),
        (
            "COPY --parents deep/./a/b/z /d/",
            format!("{D}, drwxr-xr-x 0/0 d/a/, drwxr-xr-x 0/0 d/a/b/, -rw-r--r-- 0/0 d/a/b/z"),
        ),
        (
            "COPY --exclude=**/* --exclude=!**/two tree /d/",
            format!("{D}, drwxr-x--- 0/0 d/sub/, -rw-r--r-- 0/0 d/sub/two"),
        ),
        // Flags are expanded, this one is not.
        ("ARG P=two\nCOPY --exclude=$P tree/sub /d/", file("two")),
        ("COPY --from=base file /d/f", file("f")),
        // From the root of the stage, wherever that works.
        (
            "FROM base AS w\nWORKDIR /dir\nFROM base\nCOPY --from=w file /d/f",
            file("f"),
        ),
        ("COPY --from=base /../way/one /d/", file("one")),
        (
            "ADD --exclude=two d1 d2 /d/",
            format!("{D}, -rw-r--r-- 0/0 d/x, -rw-r--r-- 0/0 d/y"),
        ),
    ] {
        check(&project, instructions, &expected);
    }
    for source in ["gone", "tree/gone", "a.txt/b", "--parents gone/x"] {
        build(&project, &format!("COPY {source} /d/"))
            .code(1)
            .says(&["Dockerfile:4", "does not exist"]);
    }
}

#[test]
fn destinations_by_name() {
    let project = project();
    let one = |name: &str| format!("-rw-r--r-- 0/0 d{name}");
    for (instructions, expected) in [
        ("COPY a.txt /d", one("")),
        ("COPY a.txt ../../d", one("")),
        ("COPY a.txt b.txt /d", one("")),
        ("COPY a.txt /d/", format!("{D}, {}", one("/a.txt"))),
        ("COPY a.txt /d/.", format!("{D}, {}", one("/a.txt"))),
        ("COPY a.txt d/x/../y", format!("{D}, {}", one("/y"))),
        (
            "WORKDIR /d\nCOPY a.txt .",
            format!("{D}, {}", one("/a.txt")),
        ),
        (
            "WORKDIR /d\nCOPY a.txt \"\"",
            format!("{D}, {}", one("/a.txt")),
        ),
        ("WORKDIR /d\nCOPY a.txt x", format!("{D}, {}", one("/x"))),
        (
            "WORKDIR /d/e\nCOPY a.txt ..",
            format!("{D}, {}, drwxr-xr-x 0/0 d/e/", one("/a.txt")),
        ),
        (
            "WORKDIR /d/e\nWORKDIR ../f\nCOPY a.txt ./",
            format!(
                "{D}, drwxr-xr-x 0/0 d/e/, drwxr-xr-x 0/0 d/f/, {}",
                one("/f/a.txt")
            ),
        ),
    ] {
        check(&project, instructions, &expected);
    }
    // A linked layer has the directories on the way, with metadata of its own.
    for (link, mode) in [("", "drwx------"), ("--link", "drwxr-xr-x")] {
        build(&project, &format!("COPY {link} a.txt /dir/new")).success();
        let listed = project.host("tar -tvf ../out.tar | grep -E ' dir/$' | cut -c1-10");
        assert_eq!(listed.trim(), mode, "{link}");
    }
    // In the image's own tree: links are followed inside of it, what is there keeps its metadata.
    for (instructions, path, content) in [
        ("COPY a.txt /way/", "dir/a.txt", "1"),
        ("COPY a.txt /way", "dir/a.txt", "1"),
        ("COPY a.txt /lost", "gone", "1"),
        ("COPY a.txt /lost/", "gone/a.txt", "1"),
        ("COPY tree /way/sub", "dir/sub/one", "one"),
        ("COPY c.md /dir/", "dir/c.md", "c"),
        ("COPY --link a.txt /way/", "way/a.txt", "1"),
        // An existing file is another one afterwards: its other names keep what they have.
        ("COPY a.txt /dir/one", "dir/peer", "old"),
        ("COPY <<dir /\ndocument\ndir", "dir", "error"),
    ] {
        let output = build(&project, instructions);
        if content == "error" {
            output.code(1).says(&["cannot replace to directory"]);
            continue;
        }
        output.success();
        let read = format!("tar -xOf ../out.tar {path}");
        assert_eq!(project.host(&read).trim(), content, "{instructions}");
    }
}

/// A directory where a file is to be, and the other way round.
#[test]
fn what_replaces_what() {
    let project = project();
    for (instructions, says) in [
        ("COPY a.txt /dir/sub/x/\nCOPY a.txt /dir/sub", None),
        (
            "COPY d1 /d/a.txt\nCOPY a.txt /d/",
            Some("cannot replace to directory"),
        ),
        ("COPY tree /file", Some("cannot copy to non-directory")),
        ("COPY a.txt /file/", Some("not a directory")),
        (
            "COPY a.txt /d/sub\nCOPY tree /d",
            Some("cannot copy to non-directory"),
        ),
        (
            "COPY d1 /d/one\nCOPY tree /d",
            Some("cannot replace to directory"),
        ),
        ("COPY tl /d/sub\nCOPY --link tree/sub/two /d/sub", None),
        // Layers of their own, one above the other: the upper one wins.
        ("COPY a.txt /d/sub\nCOPY --link tree /d", None),
        ("COPY d1 /d/one\nCOPY --link tree /d", None),
    ] {
        let output = build(&project, instructions);
        match says {
            Some(says) => drop(output.code(1).says(&["Dockerfile:", says])),
            None => drop(output.success()),
        }
    }
    // Directories below a source give their metadata even to those that are there; the one that
    // is copied to keeps its own.
    build(&project, "COPY tree /dir").success();
    let modes = project.host("tar -tvf ../out.tar | grep -E ' dir/(sub/)?$' | cut -c1-10");
    assert_eq!(modes, "drwx------\ndrwxr-x---\n");
}

#[test]
fn owners_and_modes_by_flag() {
    let project = project();
    for (instructions, expected) in [
        (
            "COPY --chown=7 tree/sub /d/x",
            "drwxr-xr-x 7/7 d/, drwxr-xr-x 7/7 d/x/, -rw-r--r-- 7/7 d/x/two",
        ),
        ("COPY --chown=:9 a.txt /d", "-rw-r--r-- 0/9 d"),
        ("COPY --chown=user a.txt /d", "-rw-r--r-- 1000/1001 d"),
        ("COPY --chown=user:extra a.txt /d", "-rw-r--r-- 1000/2000 d"),
        ("COPY --chown=user:5 a.txt /d", "-rw-r--r-- 1000/5 d"),
        ("COPY --chown=user <<d /\nx\nd", "-rw-r--r-- 1000/1001 d"),
        (
            "COPY --link --chown=7:8 --parents deep/a/b/z /d/",
            "drwxr-xr-x 7/8 d/, drwxr-xr-x 7/8 d/deep/, drwxr-xr-x 7/8 d/deep/a/, drwxr-xr-x 7/8 d/deep/a/b/, -rw-r--r-- 7/8 d/deep/a/b/z",
        ),
        ("COPY --chmod=4711 a.txt /d", "-rws--x--x 0/0 d"),
        ("COPY --chmod=+x a.txt /d", "-rwxr-xr-x 0/0 d"),
        ("COPY --chmod=a-w,u+s a.txt /d", "-r-Sr--r-- 0/0 d"),
        ("COPY --chmod=g=u tree/one /d", "-rw-rw---- 0/0 d"),
        (
            "COPY --chmod=u=rwX,go=rX tree/sub /d",
            "drwxr-xr-x 0/0 d/, -rw-r--r-- 0/0 d/two",
        ),
        ("ARG M=640\nCOPY --chmod=$M a.txt /d", "-rw-r----- 0/0 d"),
        ("ADD --chmod=600 a.txt /d", "-rw------- 0/0 d"),
    ] {
        check(&project, instructions, expected);
    }
    for (instructions, says) in [
        (
            "COPY --chown=usr a.txt /d",
            &["unable to find user usr", "root, user"][..],
        ),
        (
            "COPY --chown=user:grp a.txt /d",
            &["unable to find group grp", "extra"],
        ),
        ("ADD --chown=usr d1 /d", &["unable to find user usr"]),
        ("COPY --chown=usr <<d /\nx\nd", &["unable to find user usr"]),
        ("COPY --chmod=8 a.txt /d", &["chmod"]),
        ("COPY --chmod=u=y a.txt /d", &["chmod"]),
    ] {
        build(&project, instructions)
            .code(1)
            .says(&["Dockerfile:4"])
            .says(says);
    }
    build(&project, "USER nobody-yet\nWORKDIR /d\nCOPY a.txt .").success();
}

/// What only some file systems and some users can make arrives as it is.
#[test]
fn kinds_and_attributes() {
    let project = project();
    project.host(
        "cd d1; mkfifo pipe; mknod -m 600 null c 1 3; mknod -m 640 disk b 7 5; chmod 6755 x; mkdir -m 3777 sticky
         echo h > h1; ln h1 h2; ln h1 ../d2/h3; truncate -s 200M hole; printf end >> hole; ln -s nowhere dangling
         printf n > \"$(printf 'n\\377')\"; printf m > \"$(printf 'line\\nfeed')\"
         python3 - <<'P'
import os, socket
os.setxattr('h1', 'user.colour', b'blue\\0red')
os.setxattr('x', 'trusted.mine', b'no')
socket.socket(socket.AF_UNIX).bind('socket')
P
         cp /bin/true able; setcap cap_net_raw+ep able",
    );
    for (from, copy) in [
        ("a context", "COPY d1 d2 /d/"),
        ("a stage", "COPY d1 d2 /s/\nFROM base\nCOPY --from=1 /s /d"),
    ] {
        build(&project, copy).success();
        let listed = project.host(
            "tar --numeric-owner -tvf ../out.tar | awk '/ d.(able|h[123]|x|pipe|null|disk|sticky|socket)/ { print $1, $3, $6, $8, $9 }'",
        );
        let expected = [
            "-rwxr-xr-x",
            "-rw-r--r--",
            "hrw-r--r--",
            "hrw-r--r--",
            "-rwsr-sr-x",
            "prw-r--r--",
            "crw-------",
            "brw-r-----",
            "drwxrwsrwt",
            "-rwxr-xr-x",
        ];
        let mut modes: Vec<_> = listed.lines().map(|line| &line[..10]).collect();
        let mut expected = expected.to_vec();
        modes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(modes, expected, "{from}: {listed}");
        for line in ["1,3", "7,5"] {
            assert!(listed.contains(line), "{from}: {line} in {listed}");
        }
        project
            .kiln(&["build", "-o", "type=local,dest=../out", "."])
            .success();
        let found = project.host(
            "cd ../out/d; stat -c '%h' h1 | tr '\\n' ' '; stat -c %i h1 h2 h3 | sort -u | wc -l
             stat -c %s hole; [ $(stat -c %b hole) -lt 100 ] && echo holes; tail -c 3 hole; echo; readlink dangling; cat n*; cat line*; echo; getcap able
             python3 -c \"import os; print(os.getxattr('h2', 'user.colour'), os.listxattr('x'))\"",
        );
        project.host("rm -r ../out");
        let expected = [
            "3 1",
            "209715203",
            "holes",
            "end",
            "nowhere",
            "nm",
            "able cap_net_raw=ep",
            "b'blue\\x00red' []",
        ];
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{from}");
    }
    let stored = project.host("du -sk ../store | cut -f1");
    assert!(
        stored.trim().parse::<u64>().unwrap() < 50_000,
        "holes are kept as {stored} KiB"
    );
}
