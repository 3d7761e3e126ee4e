//! The line on a miss: for every kind of input, what changed, from what to what. Kinds that
//! `keys` has are not repeated here.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::add::repository;
use crate::harness::{Project, Registry};
use crate::keys::{build, project};
use crate::servers::{GitServer, Web};

/// Builds, changes something, and builds again: the instructions that run, and why.
#[track_caller]
fn check(
    project: &Project,
    before: (&str, &[&str]),
    change: impl FnOnce(),
    after: (&str, &[&str]),
    runs: &[&str],
    why: &[&str],
) {
    let file = |below: &str| format!("FROM busybox\n{below}\n");
    build(project, &file(before.0), before.1);
    change();
    let (executed, reasons) = build(project, &file(after.0), after.1);
    assert_eq!(executed, runs, "{after:?} after {before:?}: {reasons:?}");
    assert_eq!(reasons, why, "{after:?} after {before:?}");
}

#[test]
fn what_is_said_and_asked_for() {
    let project = project();
    let check = |before: (&str, &[&str]), after: (&str, &[&str]), why: &[&str]| {
        let runs: &[&str] = if after.0.contains("COPY") {
            &["COPY"]
        } else {
            &["RUN"]
        };
        check(&project, before, || (), after, runs, why);
    };
    let argument = "ARG V=1\nRUN echo $V";
    check(
        (argument, &[]),
        (argument, &["--build-arg", "V=2"]),
        &["variable V changed (1 → 2)"],
    );
    check(
        ("RUN --mount=type=ssh,id=one echo 1", &[]),
        ("RUN --mount=type=ssh,id=two echo 1", &[]),
        &["id of --mount changed (one → two)"],
    );
    check(
        ("RUN echo 2", &[]),
        (
            "RUN --security=insecure echo 2",
            &["--allow", "security.insecure"],
        ),
        &["--security changed (sandbox → insecure)"],
    );
    check(
        ("RUN echo 3", &[]),
        ("SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN echo 3", &[]),
        &["SHELL changed (/bin/sh → /bin/sh -e)"],
    );
    check(
        ("RUN echo 4", &[]),
        ("RUN echo 4", &["--network", "none"]),
        &["--network changed (default → none)"],
    );
    check(
        ("RUN --mount=type=tmpfs,target=/t echo 5", &[]),
        ("RUN echo 5", &[]),
        &["target of --mount is gone (/t), type of --mount is gone (tmpfs)"],
    );
    check(
        ("RUN echo 6", &[]),
        (
            "RUN echo 6",
            &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=other"],
        ),
        &["--hostname changed (buildkitsandbox → other)"],
    );
    check(
        ("COPY dir/one /p/", &[]),
        ("COPY --parents dir/one /p/", &[]),
        &[
            "parents changed (false → true), / is new (#), /dir is new (#), /dir/one changed (# → #)",
        ],
    );
}

#[test]
fn files() {
    let project = project();
    let copy = |path: &str, change: &dyn Fn(), why: &[&str]| {
        let below = format!("COPY {path} /copied/");
        let runs: &[&str] = if why.is_empty() { &[] } else { &["COPY"] };
        check(&project, (&below, &[]), change, (&below, &[]), runs, why);
    };
    let mode = |name: &str, mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(project.path(name), permissions).unwrap();
    };
    mode("a", 0o644);
    copy("a", &|| mode("a", 0o755), &["/a changed (# 0644 → # 0755)"]);
    copy(
        "a",
        &|| project.write("a", "other"),
        &["/a changed (# → #)"],
    );
    // What a copy that is the same gives is the same, whatever the clock says (K20).
    copy("a", &|| drop(project.host("touch -d 2001-01-01 a")), &[]);
    // Two names of one file are two files (K22).
    copy(
        "a",
        &|| drop(project.host("ln a hard && rm a && cp hard a")),
        &[],
    );
    // A link counts by where it leads, and is followed only as a source (K22, K24).
    project.host("ln -s one dir/link && ln -s dir way");
    let elsewhere = || drop(project.host("ln -sfn two dir/link"));
    copy("dir", &elsewhere, &["/dir/link changed (# → #)"]);
    copy(
        "way",
        &|| drop(project.host("ln -sfn moved way")),
        &[
            "/moved is new (#), /moved/one is new (#), /moved/two is new (#), /dir is gone (#), /dir/link is gone (#), /dir/one is gone (#), /dir/two is gone (#)",
        ],
    );
    // A name counts where a wildcard has one match (K25), and for what is below a directory.
    let renamed = || drop(project.host("mv moved/one moved/uno"));
    copy(
        "moved/?n?",
        &renamed,
        &["/moved/uno is new (#), /moved/one is gone (#)"],
    );
    copy(
        "moved",
        &|| drop(project.host("mkdir moved/empty")),
        &["/moved/empty is new (#)"],
    );
}

#[test]
fn what_others_may_change() {
    let project = project();
    let web = Web::start();
    web.put("/f.txt", "one");
    let add = format!("ADD {} /d/", web.url("/f.txt"));
    let change = || web.put("/f.txt", "two");
    check(
        &project,
        (&add, &[]),
        change,
        (&add, &[]),
        &["download", "ADD"],
        &["download changed (# → #)", "/f.txt changed (# → #)"],
    );
    fs::create_dir(project.path("git")).unwrap();
    let server = GitServer::start(&project.path("git"));
    repository(&project, &server.address);
    let add = format!("ADD {} /d", server.url("/repo.git#other:dir"));
    let change = || drop(project.host("git -C git/repo.git branch -qf other main"));
    check(
        &project,
        (&add, &[]),
        change,
        (&add, &[]),
        &["fetch", "ADD"],
        &["commit changed (# → #)", "/f changed (# → #)"],
    );
}

#[test]
fn contexts_and_images_by_name() {
    let project = project();
    let named = "COPY --from=it one /x";
    check(
        &project,
        (named, &["--build-context", "it=dir"]),
        || project.write("moved/one", "changed"),
        (named, &["--build-context", "it=moved"]),
        &["load", "COPY"],
        &["/one changed (# → #)"],
    );
    let registry = Registry::start();
    let maker = Project::with("");
    let publish = |text: &str| {
        let name = format!("{}/it:{text}", registry.address);
        maker.write("Dockerfile", "FROM scratch\nCOPY one /\n");
        maker.write("one", text);
        drop(maker.kiln(&["build", "--push", "-t", &name, "."]).success());
        format!("it=docker-image://{name}")
    };
    let (one, two) = (publish("1"), publish("2"));
    check(
        &project,
        (named, &["--build-context", &one]),
        || (),
        (named, &["--build-context", &two]),
        &["FROM", "COPY"],
        &["/one changed (# → #)"],
    );
}
