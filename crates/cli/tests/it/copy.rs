//! `COPY` end to end: names, owners, modes, kinds of files, destinations (rows C1 to C15).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::Project;

/// What `find` says of a tree: mode, owner and path.
const LISTING: &str = "find . | sort | while read f; do stat -c '%a %u:%g %n' \"$f\"; done";

/// Builds a Dockerfile over busybox and lists what is at `/d`.
#[track_caller]
fn check(project: &Project, instructions: &str, expected: &str) {
    project.write("Dockerfile", format!("FROM busybox\n{instructions}\n"));
    project.build();
    let found = project.shell(&format!("cd /d; {LISTING}"));
    let found: Vec<&str> = found.lines().collect();
    let expected: Vec<&str> = expected.split(", ").collect();
    assert_eq!(found, expected, "{instructions}");
}

fn chmod(project: &Project, name: &str, mode: u32) {
    fs::set_permissions(project.path(name), fs::Permissions::from_mode(mode)).expect("set");
}

fn sources() -> Project {
    let project = Project::with("");
    for name in [
        "a.txt",
        "b.txt",
        "c.md",
        "tree/one",
        "tree/sub/two",
        "tree/sub/skip.log",
        "[x]0",
    ] {
        project.write(name, name);
        chmod(&project, name, 0o644);
    }
    for name in ["tree", "tree/sub"] {
        chmod(&project, name, 0o750);
    }
    chmod(&project, "tree/one", 0o4755);
    project
}

#[test]
fn sources_and_destinations() {
    let project = sources();
    check(
        &project,
        "COPY *.txt /d/",
        "755 0:0 ., 644 0:0 ./a.txt, 644 0:0 ./b.txt",
    );
    check(
        &project,
        "COPY a.txt c.md /d/",
        "755 0:0 ., 644 0:0 ./a.txt, 644 0:0 ./c.md",
    );
    check(&project, "COPY [[]x]0 /d/", "755 0:0 ., 644 0:0 ./[x]0");
    check(&project, "COPY ../../a.txt /d/e", "755 0:0 ., 644 0:0 ./e");
    check(
        &project,
        "RUN mkdir -m 700 /d\nCOPY a.txt /d",
        "700 0:0 ., 644 0:0 ./a.txt",
    );
    check(
        &project,
        "WORKDIR /d\nCOPY a.txt .\nCOPY nothing* .",
        "755 0:0 ., 644 0:0 ./a.txt",
    );
    check(
        &project,
        "COPY tree /d",
        "755 0:0 ., 4755 0:0 ./one, 750 0:0 ./sub, 644 0:0 ./sub/skip.log, 644 0:0 ./sub/two",
    );
    check(
        &project,
        "COPY tre* /d/",
        "755 0:0 ., 4755 0:0 ./one, 750 0:0 ./sub, 644 0:0 ./sub/skip.log, 644 0:0 ./sub/two",
    );
    check(
        &project,
        "COPY --exclude=**/*.log tree /d",
        "755 0:0 ., 4755 0:0 ./one, 750 0:0 ./sub, 644 0:0 ./sub/two",
    );
    check(
        &project,
        "COPY --parents tree/./sub/two a.txt /d/",
        "755 0:0 ., 644 0:0 ./a.txt, 750 0:0 ./sub, 644 0:0 ./sub/two",
    );
    check(
        &project,
        "COPY --parents tree/**/two /d/",
        "755 0:0 ., 750 0:0 ./tree, 750 0:0 ./tree/sub, 644 0:0 ./tree/sub/two",
    );
}

#[test]
fn owners_and_modes() {
    let project = sources();
    check(
        &project,
        "USER user\nCOPY --chown=user a.txt /d/",
        "755 1000:1001 ., 644 1000:1001 ./a.txt",
    );
    check(
        &project,
        "USER user\nCOPY a.txt /d/",
        "755 0:0 ., 644 0:0 ./a.txt",
    );
    check(
        &project,
        "COPY --chown=7 a.txt /d/",
        "755 7:7 ., 644 7:7 ./a.txt",
    );
    check(
        &project,
        "COPY --chown=user:extra a.txt /d/",
        "755 1000:2000 ., 644 1000:2000 ./a.txt",
    );
    check(
        &project,
        "RUN mkdir /d\nCOPY --chmod=0640 a.txt /d/",
        "755 0:0 ., 640 0:0 ./a.txt",
    );
    check(
        &project,
        "RUN mkdir /d\nCOPY --chmod=u=rwX,go=rX tree/sub a.txt /d/",
        "755 0:0 ., 644 0:0 ./a.txt, 644 0:0 ./skip.log, 644 0:0 ./two",
    );
    check(
        &project,
        "RUN mkdir /d\nUSER user\nWORKDIR /d/w",
        "755 0:0 ., 755 1000:1001 ./w",
    );
    check(
        &project,
        "FROM busybox AS from\nRUN mkdir /x && touch /x/f && chown 5:6 /x/f\nFROM busybox\nCOPY --from=from /x /d",
        "755 0:0 ., 644 5:6 ./f",
    );
}

#[test]
fn here_documents() {
    let project = Project::with("");
    project.write(
        "Dockerfile",
        "FROM busybox\nARG WHO=you\nCOPY <<one <<\"two\" /d/\nhello $WHO\none\nhello $WHO\ntwo\n\
         COPY --chmod=0755 --chown=user <<-EOF /d/script\n\t#!/bin/sh\n\techo ran\nEOF\n",
    );
    project.build();
    assert_eq!(
        project.shell("cat /d/one /d/two; /d/script; stat -c '%a %u:%g' /d/script /d/one"),
        "hello you\nhello $WHO\nran\n755 1000:1001\n644 0:0\n"
    );
}

#[test]
fn conflicts_name_the_line() {
    let project = sources();
    for (instructions, says) in [
        (
            "RUN mkdir -p /d/a.txt\nCOPY a.txt /d/",
            ["Dockerfile:3", "cannot replace to directory"],
        ),
        (
            "RUN mkdir /d; touch /d/sub\nCOPY tree /d",
            ["Dockerfile:3", "cannot copy to non-directory"],
        ),
        ("COPY --chmod=9999 a.txt /d", ["Dockerfile:2", "chmod"]),
        (
            "COPY --link --chown=user a.txt /d",
            ["Dockerfile:2", "number"],
        ),
    ] {
        project.write("Dockerfile", format!("FROM busybox\n{instructions}\n"));
        project.kiln(&["build", "."]).code(1).says(&says);
    }
}

#[test]
fn links_lead_nowhere_but_inside() {
    let project = Project::with(
        "FROM busybox\n\
         RUN mkdir -p /real/deep && ln -s /real /abs && ln -s ../../../../real /up\n\
         COPY f /abs/one\n\
         COPY f /up/two\n\
         COPY --link f /linked/three\n\
         COPY links /links\n\
         COPY inner-link /followed\n",
    );
    project.write("f", "f");
    project.write("links/inside", "x");
    project.host("ln -s /etc/passwd links/outside; ln -s links/inside inner-link; ln -s /etc/hostname escape");
    project.build();
    assert_eq!(
        project.shell("ls /real; readlink /links/outside; cat /followed; ls /linked"),
        "deep\none\ntwo\n/etc/passwd\nxthree\n"
    );
    // The target is looked for below the context, where there is none.
    project.write("Dockerfile", "FROM busybox\nCOPY escape /x\n");
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["escape", "does not exist"]);
}

#[test]
fn hard_links_holes_capabilities_devices_and_odd_names() {
    let project = Project::with(
        "FROM busybox AS from\n\
         RUN mkdir /x && mknod /x/dev c 1 3 && mkfifo /x/fifo && ln -s gone /x/dangling\n\
         FROM busybox\n\
         COPY tree /d\n\
         COPY --from=from /x /d\n",
    );
    project.host(
        "mkdir tree; echo 1 > tree/a; ln tree/a tree/b; truncate -s 300M tree/hole; \
         cp /bin/true tree/capable; setcap cap_net_raw+ep tree/capable; \
         printf x > \"$(printf 'tree/n\\377')\"; printf y > 'tree/new\nline'",
    );
    project.build();
    assert_eq!(
        project.shell("cd /d; stat -c %h a; stat -c %i a b | sort -u | wc -l; stat -c %s hole; stat -c '%F %t:%T' dev fifo; readlink dangling; cat n* | sort"),
        "2\n1\n314572800\ncharacter special file 1:3\nfifo 0:0\ngone\nyx\n"
    );
    project
        .kiln(&["build", "-o", "type=local,dest=out", "."])
        .success();
    assert_eq!(
        project.host("getcap out/d/capable").trim(),
        "out/d/capable cap_net_raw=ep"
    );
    assert_eq!(
        project
            .host("ls -A out/d | wc -l; cat \"$(printf 'out/d/n\\377')\"")
            .trim(),
        "9\nx"
    );
    let store: u64 = project
        .host("du -sk ../store | cut -f1")
        .trim()
        .parse()
        .expect("a number");
    assert!(store < 100_000, "the hole is kept as {store} KiB");
}

#[test]
fn a_linked_copy_survives_another_base() {
    let project = Project::with(
        "ARG BASE=one\nFROM busybox AS one\nRUN touch /1\nFROM busybox AS two\nRUN touch /2\nFROM $BASE\nCOPY --link big /big\n",
    );
    project.write("big", "content");
    let layer = |output: &crate::harness::Done| {
        let mut names = output.executed();
        // Joining lists of layers copies nothing.
        names.retain(|name| !name.contains("] LINK "));
        names
    };
    let first = project.build();
    assert_eq!(layer(&first).len(), 2, "{:?}", layer(&first));
    let other = project
        .kiln(&[
            "build",
            "--progress",
            "plain",
            "--build-arg",
            "BASE=two",
            "-t",
            "image",
            ".",
        ])
        .success();
    assert_eq!(
        layer(&other).len(),
        1,
        "only the RUN: {:?}",
        other.executed()
    );
    assert_eq!(
        project.shell("ls /1 /2 2>/dev/null; cat /big"),
        "/2\ncontent"
    );
}

#[test]
fn keys_count_what_is_in_the_layer() {
    let project = sources();
    project.write("Dockerfile", "FROM busybox\nCOPY tree /d\n");
    project.build();
    for (edit, runs) in [
        ("touch tree/one tree", false),
        ("chown 12:13 tree/sub tree/sub/two", false),
        ("chmod 777 tree", false),
        ("umask 077; echo x > unrelated", false),
        ("mv tree other; cp -a other tree; rm -r other", false),
        ("chmod 600 tree/one", true),
        ("mv tree/one tree/uno", true),
        ("mkdir tree/empty", true),
        ("rm tree/sub/two", true),
        ("ln -s one tree/link", true),
        ("ln -sfn two tree/link", true),
        ("setcap cap_net_raw+ep tree/uno", true),
        (
            "cp -p tree/uno tree/x; printf UNO > tree/uno; touch -r tree/x tree/uno; rm tree/x",
            true,
        ),
    ] {
        project.host(edit);
        let executed = project.build().executed();
        assert_eq!(!executed.is_empty(), runs, "{edit}: {executed:?}");
    }
}

#[test]
fn modes_of_git_do_not_see_the_umask() {
    let project = sources();
    project.write("Dockerfile", "FROM busybox\nCOPY tree a.txt /d/\n");
    let build = || {
        let arguments = [
            "build",
            "--progress",
            "plain",
            "--context-modes",
            "git",
            "-t",
            "image",
            ".",
        ];
        project.kiln(&arguments).success()
    };
    build();
    project.host("chmod 600 a.txt; chmod 700 tree/one tree/sub");
    assert_eq!(build().executed(), Vec::<String>::new());
    assert_eq!(
        project.shell("stat -c %a /d/a.txt /d/one /d/sub"),
        "644\n755\n755\n"
    );
    project.host("chmod +x a.txt");
    assert_eq!(build().executed().len(), 1);
}

#[test]
fn packed_layers_and_directories_make_the_same_image() {
    let packed = sources();
    let dockerfile = "FROM busybox AS from\nCOPY tree /src\nRUN cp -r /src /out && rm /out/one && ln -s x /out/l\n\
         FROM busybox\nCOPY --from=from /out /d\nADD t.tar.gz /e\nRUN rm -r /d/sub && mkdir /d/sub && touch -d @5 /d/sub/new\nCOPY --link a.txt /f\n";
    packed.write("Dockerfile", dockerfile);
    packed.host("tar -czf t.tar.gz tree");
    let written = Project::new();
    written.write("config.toml", "layers = \"directories\"\n");
    let base = packed.kiln(&[
        "build",
        "-q",
        "-o",
        "type=docker,dest=base.tar",
        "-t",
        "busybox",
        "../busybox",
    ]);
    base.success();
    let digest = |project: &Project, global: &[&str], context: &str, tag: &str| {
        let arguments: Vec<&str> = global
            .iter()
            .copied()
            .chain(["build", "-q", "-t", tag, context])
            .collect();
        project.kiln(&arguments).success().stdout
    };
    let context = |name: &str| packed.path(name).to_string_lossy().into_owned();
    let config = ["--config", "config.toml"];
    assert_eq!(
        digest(&packed, &[], "../busybox", "busybox"),
        digest(&written, &config, &context("../busybox"), "busybox")
    );
    assert_eq!(
        digest(&packed, &[], ".", "image"),
        digest(&written, &config, &context("."), "image")
    );
    let info = written
        .kiln(&["--config", "config.toml", "info"])
        .success()
        .stdout;
    assert!(info.contains("directories"), "{info}");
}

#[test]
fn names_that_would_delete() {
    let refuse = |dockerfile: &str, places: &[&str]| {
        let project = Project::with(dockerfile);
        project.write(".wh.f", "content");
        let says =
            ["/.wh.f has a name that begins with `.wh.`, which means a deletion in image layers"];
        let refused = project.kiln(&["build", "."]).code(1);
        drop(refused.says(&[&says[..], places].concat()));
    };
    refuse("FROM busybox\nCOPY .wh.f /\n", &["--> Dockerfile:2:1"]);
    refuse("FROM busybox\nRUN echo > /.wh.f\n", &[]);
    // Steps may use such names among themselves.
    let project = Project::with(
        "FROM busybox AS one\nRUN echo kept > /.wh.f\nRUN mv /.wh.f /f\nFROM scratch\nCOPY --from=one /f /\n",
    );
    project.kiln(&["build", "-o", "out", "."]).success();
    assert_eq!(project.host("cat out/f"), "kept\n");
}
