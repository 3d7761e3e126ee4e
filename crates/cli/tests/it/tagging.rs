//! Names and labels from git.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Project, output};

fn git(project: &Project, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .current_dir(project.path(""))
        .env("HOME", project.path(""))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .args(["-c", "user.name=n", "-c", "user.email=e@example.org"])
        .args(arguments);
    output(&mut command).success().stdout.trim().to_string()
}

/// A repository with one commit.
fn repository() -> (Project, String) {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nCOPY f /f\n");
    project.write("f", "content");
    git(&project, &["init", "-q", "-b", "topic/one"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "first"]);
    let commit = git(&project, &["rev-parse", "HEAD"]);
    (project, commit)
}

/// The name that a build gives.
fn names(project: &Project, tag: &str) -> String {
    name_in(project, ".", tag)
}

fn name_in(project: &Project, directory: &str, tag: &str) -> String {
    let done = project
        .kiln(&["build", "--progress", "quiet", "-t", tag, directory])
        .success();
    let line = done.stderr.lines().find_map(|l| l.strip_prefix("naming "));
    line.unwrap().to_string()
}

#[test]
fn names_of_a_clean_tree() {
    let (project, commit) = repository();
    assert_eq!(names(&project, "app:{git}"), format!("app:{commit}"));
    assert_eq!(
        names(&project, "app:{git.short}"),
        format!("app:{}", &commit[..12])
    );
    assert_eq!(names(&project, "app:{git.branch}"), "app:topic-one");
    let missing = project.kiln(&["build", "-t", "app:{git.tag}", "."]).code(1);
    missing.says(&["{git.tag}: no git tag points to the commit"]);
    git(&project, &["tag", "v1.9"]);
    git(&project, &["tag", "v1.10"]);
    assert_eq!(names(&project, "app:{git.tag}"), "app:v1.10");
}

#[test]
fn a_changed_tree_is_named_by_what_it_holds() {
    let (project, commit) = repository();
    let objects = || git(&project, &["count-objects"]);
    let before = objects();
    project.write("f", "other");
    let one = names(&project, "app:{git.short}");
    let prefix = format!("app:{}-dirty-", &commit[..12]);
    assert!(one.starts_with(&prefix), "{one}");
    assert_eq!(names(&project, "app:{git.short}"), one, "the same tree");
    project.write("new", "file");
    let two = names(&project, "app:{git.short}");
    assert_ne!(two, one);
    // The tree is the one that committing everything makes.
    assert_eq!(objects(), before, "nothing is left in the repository");
    git(&project, &["add", "."]);
    let tree = git(&project, &["write-tree"]);
    assert_eq!(two, format!("{prefix}{}", &tree[..12]));
}

/// Names by git of a build in a directory beside the project.
#[track_caller]
fn check(project: &Project, directory: &str, short: &str, branch: Result<&str, &str>) {
    let build = |tag: &str| project.kiln(&["build", "--progress", "quiet", "-t", tag, directory]);
    let named = format!("naming app:{short}\n");
    drop(build("app:{git.short}").success().says(&[&named]));
    let (code, says) = match branch {
        Ok(branch) => (0, format!("naming app:{branch}\n")),
        Err(reason) => (1, reason.to_string()),
    };
    drop(build("app:{git.branch}").code(code).says(&[&says]));
}

const DETACHED: Result<&str, &str> = Err("{git.branch}: HEAD is at no branch");

#[test]
fn checkouts_of_every_kind() {
    let (project, commit) = repository();
    let short = &commit[..12];
    git(
        &project,
        &["worktree", "add", "-q", "-b", "linked", "../linked"],
    );
    check(&project, "../linked", short, Ok("linked"));
    project.host("git clone -q --depth 1 file://$PWD ../shallow");
    check(&project, "../shallow", short, Ok("topic-one"));
    project.host("git -C ../shallow checkout -q --detach");
    check(&project, "../shallow", short, DETACHED);
}

#[test]
fn submodules_and_what_is_in_them() {
    let (project, commit) = repository();
    let author = "-c user.name=n -c user.email=e@example.org -c protocol.file.allow=always";
    project.host(&format!(
        "git init -q -b main ../outer && cd ../outer && git {author} submodule --quiet add ../work inner && \
         cp ../work/Dockerfile . && echo f > f && git add . && git {author} commit -q -m outer && \
         git {author} clone -q --recurse-submodules ../outer ../clone"
    ));
    check(&project, "../clone/inner", &commit[..12], DETACHED);
    let outer = project.host("git -C ../clone rev-parse HEAD");
    let outer = &outer[..12];
    check(&project, "../clone", outer, Ok("main"));
    let mut seen = Vec::new();
    for change in ["one", "another", "content"] {
        project.host(&format!("printf {change} > ../clone/inner/f"));
        seen.push(name_in(&project, "../clone", "app:{git.short}"));
    }
    let dirty = format!("app:{outer}-dirty-");
    assert!(
        seen[..2].iter().all(|name| name.starts_with(&dirty)),
        "{seen:?}"
    );
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[2], format!("app:{outer}"), "as it was committed");
}

#[test]
fn labels_and_annotations_on_request() {
    let (project, commit) = repository();
    let origin = "https://user:secret@example.org/app.git";
    git(&project, &["remote", "add", "origin", origin]);
    project
        .kiln(&["build", "-t", "app", "--git-labels", "."])
        .success();
    let shown = project.kiln(&["inspect", "app"]).success().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let labels = &shown[0]["Config"]["Labels"];
    let name = |last: &str| format!("org.opencontainers.image.{last}");
    assert_eq!(labels[name("revision")], commit);
    assert_eq!(labels[name("created")], "2023-11-14T22:13:20Z");
    let source = labels[name("source")].as_str().unwrap();
    assert!(!source.contains("secret"), "{source}");
    assert!(source.contains("example.org/app.git"), "{source}");
    let piped = project
        .kiln(&[
            "build",
            "-q",
            "--git-annotations",
            "-o",
            "type=oci,dest=-",
            ".",
        ])
        .success();
    let revision = format!("\"{}\": \"{commit}", name("revision"));
    assert!(piped.stdout.contains(&revision));
}

#[test]
fn outside_a_repository() {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nLABEL a=b\n");
    for asks in [&["-t", "app:{git}"][..], &["--git-labels"]] {
        let arguments = [&["build"], asks, &["."]].concat();
        let refused = project.kiln(&arguments).code(1);
        refused.says(&["is in no git repository with a commit"]);
    }
}
