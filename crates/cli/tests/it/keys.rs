//! What the key of a step is made of, seen from outside: an edit, the steps that run because of
//! it, and what kiln says it was. What BuildKit's keys leave out, kiln's leave out too.

use crate::harness::{Done, Project, Registry};

/// A way to build: the Dockerfile below `FROM busybox`, and flags.
type Way<'a> = (&'a str, &'a [&'a str]);

pub(crate) fn project() -> Project {
    let project = Project::new();
    project.busybox();
    for name in ["a", "b", "dir/one", "dir/two", "moved/one", "moved/two"] {
        project.write(name, name.rsplit('/').next().unwrap());
    }
    project.write("secret", "hidden");
    project
}

/// The instructions that ran, and the explanations of misses, in order.
pub(crate) fn summary(done: &Done) -> (Vec<String>, Vec<String>) {
    let word = |name: &String| {
        let (_, instruction) = name.split_once("] ").unwrap_or(("", name));
        instruction
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let reason = |line: &str| Some(masked(line.split_once("not in the cache: ")?.1));
    (
        done.executed().iter().map(word).collect(),
        done.stderr.lines().filter_map(reason).collect(),
    )
}

/// A line with the beginnings of digests made `#`.
fn masked(line: &str) -> String {
    let mut masked = String::new();
    for part in line.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        match word.len() {
            12 => masked.extend(["#", &part[12..]]),
            _ => masked.push_str(part),
        }
    }
    masked
}

#[track_caller]
pub(crate) fn build(
    project: &Project,
    dockerfile: &str,
    flags: &[&str],
) -> (Vec<String>, Vec<String>) {
    project.write("Dockerfile", dockerfile);
    let mut arguments = vec!["build", "--progress", "plain"];
    arguments.extend(flags);
    arguments.push(".");
    summary(&project.kiln(&arguments).success())
}

/// Builds one way and then another: which instructions run the second time, and why.
#[track_caller]
fn check(project: &Project, before: Way<'_>, after: Way<'_>, runs: &[&str], why: &[&str]) {
    let file = |below: &str| format!("FROM busybox\n{below}");
    build(project, &file(before.0), before.1);
    let (executed, reasons) = build(project, &file(after.0), after.1);
    assert_eq!(executed, runs, "{after:?} after {before:?}: {reasons:?}");
    assert_eq!(reasons, why, "{after:?} after {before:?}");
}

#[test]
fn commands_and_what_they_run_in() {
    let project = project();
    let check = |before: &str, after: &str, runs: &[&str], why: &[&str]| {
        check(&project, (before, &[]), (after, &[]), runs, why);
    };
    check(
        "RUN echo 1",
        "RUN echo 2",
        &["RUN"],
        &["command changed (echo 1 → echo 2)"],
    );
    check(
        "RUN echo 3",
        "RUN [\"echo\", \"3\"]",
        &["RUN"],
        &["command changed (echo 3 → [\"echo\", \"3\"]), SHELL is gone (/bin/sh)"],
    );
    check(
        "ENV X=1\nRUN echo 4",
        "ENV X=2\nRUN echo 4",
        &["RUN"],
        &["variable X changed (1 → 2)"],
    );
    check(
        "RUN echo 5",
        "ENV Y=1\nRUN echo 5",
        &["RUN"],
        &["variable Y is new (1)"],
    );
    check(
        "USER 1\nRUN echo 6",
        "USER 2\nRUN echo 6",
        &["RUN"],
        &["USER changed (1 → 2)"],
    );
    check(
        "WORKDIR /tmp\nRUN echo 7",
        "WORKDIR /root\nRUN echo 7",
        &["WORKDIR", "RUN"],
        &[
            "destination changed (/tmp → /root)",
            "WORKDIR changed (/tmp → /root)",
        ],
    );
    check(
        "RUN echo 8",
        "RUN --network=none echo 8",
        &["RUN"],
        &["--network changed (default → none)"],
    );
    check(
        "RUN <<E\necho 9\nE",
        "RUN <<E\necho nine\nE",
        &["RUN"],
        &["command changed (echo 9\\n → echo nine\\n)"],
    );
}

#[test]
fn metadata_reaches_no_key() {
    let project = project();
    let before = "LABEL a=1\nRUN echo 1\nCOPY a /\nRUN echo 2";
    for more in [
        "LABEL b=2",
        "CMD x",
        "ENTRYPOINT [\"y\"]",
        "EXPOSE 80",
        "STOPSIGNAL 9",
        "HEALTHCHECK CMD true",
        "ONBUILD RUN true",
        "MAINTAINER me",
        "ARG UNUSED_ABOVE",
    ] {
        let after = format!("{more}\n{before}");
        check(&project, (before, &[]), (&after, &[]), &[], &[]);
    }
    // A variable counts for what runs below it, and for nothing that is copied.
    check(
        &project,
        (before, &[]),
        (&before.replace("COPY a", "ENV Z=1\nCOPY a"), &[]),
        &["RUN"],
        &["variable Z is new (1)"],
    );
}

#[test]
fn flags_of_the_build() {
    let project = project();
    let check = |number: u32, before: &[&str], after: &[&str], why: &[&str]| {
        let file = format!("RUN echo {number}");
        let runs: &[&str] = if why.is_empty() { &[] } else { &["RUN"] };
        check(&project, (&file, before), (&file, after), runs, why);
    };
    let proxy = ["--build-arg", "HTTP_PROXY=http://127.0.0.1:9"];
    check(1, &[], &proxy, &[]);
    let host = |text: &'static str| ["--add-host", text];
    check(2, &host("db:10.0.0.1"), &host("db:10.0.0.2"), &[]);
    check(
        3,
        &host("db:10.0.0.1"),
        &host("other:10.0.0.1"),
        &["name of --add-host changed (db → other)"],
    );
    check(
        4,
        &["--shm-size", "8m"],
        &["--shm-size", "16m"],
        &["--shm-size changed (8388608 → 16777216)"],
    );
    check(
        5,
        &["--ulimit", "nofile=100"],
        &["--ulimit", "nofile=200:300"],
        &["soft of --ulimit changed (100 → 200), hard of --ulimit changed (100 → 300)"],
    );
    check(6, &["--jobs", "1"], &["--label", "x=y", "--jobs", "2"], &[]);
}

#[test]
fn mounts_of_a_run() {
    let project = project();
    let check = |number: u32, before: &str, after: &str, why: &[&str]| {
        let file = |mount: &str| format!("RUN --mount={mount} echo {number}");
        let flags = ["--secret", "id=s,src=secret", "--secret", "id=t,src=secret"];
        let runs: &[&str] = if why.is_empty() { &[] } else { &["RUN"] };
        check(
            &project,
            (&file(before), &flags),
            (&file(after), &flags),
            runs,
            why,
        );
    };
    check(
        1,
        "type=cache,target=/c,id=x",
        "type=cache,target=/c,id=y",
        &[],
    );
    check(
        2,
        "type=cache,target=/c",
        "type=cache,target=/c,sharing=locked",
        &[],
    );
    check(
        3,
        "type=cache,target=/c",
        "type=cache,target=/d",
        &["target of --mount changed (/c → /d)"],
    );
    check(
        4,
        "type=secret,id=s,target=/k",
        "type=secret,id=t,target=/k",
        &["id of --mount changed (s → t)"],
    );
    check(
        5,
        "type=secret,id=s,target=/k",
        "type=secret,id=s,env=K",
        &["target of --mount changed (/k → ), env of --mount is new (K)"],
    );
    check(
        6,
        "type=tmpfs,target=/t",
        "type=tmpfs,target=/t,size=1m",
        &["size of --mount is new (1048576)"],
    );
    check(
        7,
        "type=bind,source=dir,target=/m",
        "type=bind,source=moved,target=/m",
        &[],
    );
    check(
        8,
        "type=bind,source=a,target=/m",
        "type=bind,source=b,target=/m",
        &["/b is new (#), /a is gone (#)"],
    );
    // What is written into a mount is gone afterwards, so its content counts all the same.
    check(
        9,
        "type=bind,source=dir,target=/m,rw",
        "type=bind,source=moved,target=/m,rw",
        &[],
    );
}

#[test]
fn what_is_mounted_counts_by_its_content() {
    let project = project();
    let file = "FROM busybox AS made\nARG HOW\nRUN echo $HOW >&2; mkdir /o; echo same > /o/f\n\
        FROM busybox\nRUN --mount=source=dir,target=/m --mount=from=made,source=/o,target=/o cat /m/one\n";
    build(&project, file, &["--build-arg", "HOW=1"]);
    project.write("a", "other");
    let (executed, reasons) = build(&project, file, &["--build-arg", "HOW=2"]);
    assert_eq!(
        executed,
        ["RUN"],
        "what is beside it, and how it was made: {reasons:?}"
    );
    project.write("dir/one", "other");
    let (executed, reasons) = build(&project, file, &["--build-arg", "HOW=2"]);
    assert_eq!(executed, ["RUN"]);
    assert_eq!(reasons, ["/dir/one changed (# → #)"]);
}

#[test]
fn copies() {
    let project = project();
    let check = |before: &str, after: &str, runs: &[&str], why: &[&str]| {
        check(&project, (before, &[]), (after, &[]), runs, why);
    };
    check("COPY dir /1", "COPY moved /1", &[], &[]);
    check(
        "COPY a /2",
        "COPY --chown=0:0 a /2",
        &["COPY"],
        &["user of --chown is new (0), group of --chown is new (0)"],
    );
    check(
        "COPY a /3",
        "COPY --chmod=600 a /3",
        &["COPY"],
        &["--chmod is new (0600), /a changed (# → #)"],
    );
    check(
        "COPY a /4",
        "COPY a /5",
        &["COPY"],
        &["destination changed (/4 → /5)"],
    );
    check(
        "COPY dir /6",
        "COPY --exclude=two dir /6",
        &["COPY"],
        &["/dir/two is gone (#)"],
    );
    check(
        "COPY --exclude=two dir /7",
        "COPY --exclude=t* dir /7",
        &[],
        &[],
    );
    check("COPY dir/* /8/", "COPY moved/* /8/", &[], &[]);
    // What is linked does not stand on what is below it (K17).
    check(
        "RUN echo 1 > /below\nCOPY --link a /10\nCOPY a /11",
        "RUN echo 2 > /below\nCOPY --link a /10\nCOPY a /11",
        &["RUN", "LINK", "COPY"],
        &[
            "command changed (echo 1 > /below → echo 2 > /below)",
            "the result of [3/4] LINK COPY --link a /10 changed",
        ],
    );
    check(
        "COPY a /9/",
        "COPY b /9/",
        &["COPY"],
        &["/b is new (#), /a is gone (#)"],
    );
    check(
        "COPY <<E /f\n1\nE",
        "COPY <<E /f\n2\nE",
        &["COPY"],
        &["the here-document changed (1\\n → 2\\n)"],
    );
    check(
        "USER 1\nWORKDIR /o",
        "USER 2\nWORKDIR /o",
        &["WORKDIR"],
        &["user of --chown changed (1 → 2)"],
    );
    check(
        "WORKDIR /w/1",
        "WORKDIR /w/2",
        &["WORKDIR"],
        &["destination changed (/w/1 → /w/2)"],
    );
}

#[test]
fn a_context_counts_by_what_is_selected_of_it() {
    let project = project();
    let file = "FROM busybox\nCOPY dir /d\nCOPY . /all\n";
    project.write(".dockerignore", "*.log\nDockerfile\n");
    build(&project, file, &[]);
    project.write("noise.log", "1");
    assert_eq!(build(&project, file, &[]).0, Vec::<String>::new());
    project.write("a", "other");
    let (executed, reasons) = build(&project, file, &[]);
    assert_eq!(executed, ["COPY"], "the second");
    assert_eq!(reasons, ["/a changed (# → #)"]);
    // The same files in another place.
    project.host("mkdir sub && cp -a dir moved a b .dockerignore secret Dockerfile sub");
    let elsewhere = project.kiln(&[
        "build",
        "--progress",
        "plain",
        "-f",
        "sub/Dockerfile",
        "sub",
    ]);
    let (executed, _) = summary(&elsewhere.success());
    assert_eq!(executed, Vec::<String>::new());
}

#[test]
fn bases_count_by_their_layers() {
    let registry = Registry::start();
    let maker = project();
    let publish = |below: &str| {
        let name = format!("{}/base:1", registry.address);
        maker.write("Dockerfile", format!("FROM busybox\n{below}"));
        maker.kiln(&["build", "--push", "-t", &name, "."]).success();
        name
    };
    let name = publish("RUN echo 1 > /version");
    let project = project();
    let file = format!("FROM {name}\nRUN cat /version\n");
    build(&project, &file, &[]);

    publish("RUN echo 1 > /version\nLABEL only=words\n");
    assert_eq!(
        build(&project, &file, &[]).0,
        Vec::<String>::new(),
        "not asked for"
    );
    let (executed, _) = build(&project, &file, &["--pull"]);
    assert_eq!(executed, Vec::<String>::new(), "the layers are the same");
    let other = name.replace("base:1", "other:2");
    maker
        .kiln(&["build", "--push", "-t", &other, "."])
        .success();
    let (executed, _) = build(&project, &file.replace(&name, &other), &[]);
    assert_eq!(executed, Vec::<String>::new(), "also under another name");
    publish("RUN echo 2 > /version\n");
    assert_eq!(
        build(&project, &file, &[]).0,
        Vec::<String>::new(),
        "not asked for"
    );
    let (executed, reasons) = build(&project, &file, &["--pull"]);
    assert_eq!(executed, ["FROM", "RUN"]);
    let [reason] = &reasons[..] else {
        panic!("{reasons:?}");
    };
    assert!(reason.contains("base:1@sha256:"), "{reason}");
    assert_eq!(
        reason.matches("@sha256:").count(),
        2,
        "from what to what: {reason}"
    );
}
