//! Ordinary users: with subordinate ids and without, over a store of their own.

use std::process::Command;

use crate::harness::{Output, Project, output};

/// Has subordinate ids; runtime's tests make the same one.
const MAPPED: &str = "kiln-test";
/// Has none.
const SINGLE: &str = "kiln-test-single";

fn user(name: &str) {
    let script = format!(
        "id {name} >/dev/null 2>&1 || useradd --no-create-home --shell /usr/sbin/nologin {} {name}
         [ {name} != {MAPPED} ] || grep -q '^{MAPPED}:' /etc/subuid || usermod --add-subuids 700000-765535 --add-subgids 700000-765535 {name}",
        if name == SINGLE { "--key SUB_UID_COUNT=0 --key SUB_GID_COUNT=0" } else { "" }
    );
    output(Command::new("flock").args(["/tmp/kiln-test-users", "sh", "-c", &script])).success();
}

/// A project of a user's with a static busybox in its context, and kiln beside it.
fn project_of(name: &str, dockerfile: &str) -> Project {
    let project = Project::new();
    project.write("Dockerfile", dockerfile);
    project.host(&format!(
        "cp /bin/busybox .; cp {} ../kiln; chmod 755 .. ../kiln busybox",
        env!("CARGO_BIN_EXE_kiln")
    ));
    give(&project, name);
    project
}

fn give(project: &Project, name: &str) {
    project.host(&format!("chown -hR {name}: ..; chmod 711 .."));
}

/// Runs kiln as a user.
fn run_as(project: &Project, name: &str, arguments: &[&str]) -> Output {
    let kiln = project.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", name, "--regid", name, "--clear-groups", "--"]);
    command
        .arg(project.path("../kiln"))
        .args(arguments)
        .env_clear()
        .current_dir(project.path("."));
    for (name, value) in kiln.get_envs() {
        command.env(name, value.expect("set"));
    }
    output(&mut command)
}

/// Builds the same small image as a user, and returns what is in it and the digest of its manifest.
#[track_caller]
fn check(name: &str, layers: &str) -> (String, String) {
    let project = project_of(
        name,
        "FROM scratch AS base\nCOPY busybox /bin/\nCOPY tree /d\nADD --chown=5:6 t.tar.gz /e\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo ran > /d/out; rm /d/gone; mkdir /d/n; rm -r /d/new; mkdir /d/new; /bin/busybox ls /d\"]\n\
         FROM scratch\nCOPY --from=base /d /d\nCOPY --from=base /bin/busybox /bin/\nCOPY --link --chown=7:8 tree/sub /l\n\
         RUN [\"/bin/busybox\", \"ln\", \"/d/out\", \"/d/again\"]\n",
    );
    for file in ["a", "gone", "sub/b", "new/c"] {
        project.write(&format!("tree/{file}"), file);
    }
    project.write("config.toml", format!("layers = \"{layers}\"\n"));
    project.host("chmod -R u=rwX,go=rX .; tar --mtime=@0 --sort=name -czf t.tar.gz tree");
    give(&project, name);
    let run = |arguments: &[&str]| {
        let all = [&["--config", "config.toml"], arguments].concat();
        run_as(&project, name, &all).success()
    };
    run(&["build", "-t", "image", "."]);
    run(&["build", "-q", "-o", "type=tar,dest=out.tar", "."]);
    run(&["run", "--rm", "image", "/bin/busybox", "cat", "/d/out"]);
    run(&[
        "build",
        "-q",
        "--metadata-file",
        "meta.json",
        "-o",
        "type=oci,dest=image.tar",
        ".",
    ]);
    let listed = "tar --numeric-owner -tvf out.tar | awk '{print $1, $2, $6}' | sort -k3";
    let digest = "grep -o '\"containerimage.digest\": *\"[^\"]*' meta.json";
    (project.host(listed), project.host(digest))
}

/// The four ways in which layers are kept and mounted.
#[test]
fn ordinary_users_build_what_root_builds() {
    user(MAPPED);
    user(SINGLE);
    let (listed, digest) = check("root", "auto");
    assert!(digest.contains("sha256:"), "{digest}");
    for (name, layers) in [("root", "directories"), (MAPPED, "auto"), (SINGLE, "auto")] {
        let found = check(name, layers);
        assert_eq!(found, (listed.clone(), digest.clone()), "{name}, {layers}");
    }
    for line in [
        "-rw-r--r-- 0/0 d/again",
        "hrw-r--r-- 0/0 d/out",
        "-rw-r--r-- 0/0 d/sub/b",
        "drwxr-xr-x 0/0 d/n/",
        "-rw-r--r-- 7/8 l/b",
    ] {
        assert!(listed.contains(line), "{line} in\n{listed}");
    }
    assert!(!listed.contains("gone"), "{listed}");
}

#[test]
fn an_ordinary_user_verifies_with_another_clock() {
    user(MAPPED);
    let project = project_of(
        MAPPED,
        "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox date +%F > /day; /bin/busybox id > /id\"]\n",
    );
    let verify = ["build", "--verify", "--progress", "quiet", "."];
    let done = run_as(&project, MAPPED, &verify).code(1).says(&[
        "not varied: the user: only root can become somebody else",
        "  /day: content differs",
    ]);
    assert!(!done.stderr.contains("/id:"), "{}", done.stderr);
}
