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

/// What is done to files and owners. No program here looks at an owner first: they see one user
/// where there is one id.
const DOCKERFILE: &str = r#"FROM scratch AS base
COPY busybox /bin/
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY passwd group /etc/
COPY tree /d
ADD --chown=5:6 t.tar.gz /e
RUN echo ran > /d/out; rm /d/gone; mkdir /d/n; rm -r /d/new; mkdir /d/new; ls /d
RUN set -e; mkdir -p /o/in /o/app; echo a > /o/f; echo s > /o/s; chmod 6755 /o/s; ln -s f /o/l; \
    mkfifo /o/p; ln /o/f /o/in/h; chown -R 33:44 /o; ln -s f /o/k; chown -h 7:8 /o/l /o/k; \
    cd /o/in; chown -R app:app ../app; cp /o/f /o/i; chown 9:10 /o/i; chmod 640 /o/i; \
    echo u > /o/u; chmod 4755 /o/u; chown 5:5 /o/u; chmod 2775 /o/in; \
    touch /o/back; chown 5:5 /o/back; chown 0:0 /o/back
RUN set -e; echo more >> /o/f; mv /o/s /o/t; ln /o/i /o/j; rm /o/in/h; mv /o/l /o/m; ln /o/k /o/k2; \
    mv /o/p /o/q; touch /e/tree/fresh; chmod 600 /e/tree/a; echo g > /o/in/group; mkdir /o/in/groups
USER app
RUN set -e; [ "$(id -u) $(id -g) $HOME" = "12 13 /home/app" ]; [ "$(whoami)" = app ]; cd /o/app; \
    echo x > x; mkdir y; ln -s x z; ln x y/w; chmod 700 y; [ -O y/w ]; [ -G z ]; ! chown 0:0 x; echo out >> /d/open
USER root
RUN set -e; sed -i s/a/A/ /o/f; rm /o/app/z; echo y >> /o/app/x; [ "$(id -u)" = 0 ]; su app -c '[ "$(id -u)" = 12 ] && echo su > /o/app/su'
FROM scratch AS copied
COPY --from=base /d /d
COPY --from=base /bin/busybox /bin/
COPY --link --chown=7:8 tree/sub /l
RUN ["/bin/busybox", "ln", "/d/out", "/d/again"]
FROM base
COPY --from=copied / /
COPY --from=base --chown=3:4 /o/in /c
COPY --from=base /o/m /c/
"#;

/// Builds the same small image as a user, and returns what is in it and the digest of its manifest.
#[track_caller]
fn check(name: &str, layers: &str) -> (String, String) {
    let project = project_of(name, DOCKERFILE);
    project.write(
        "passwd",
        "root:x:0:0::/root:/bin/sh\napp:x:12:13::/home/app:/bin/sh\n",
    );
    project.write("group", "root:x:0:\napp:x:13:\n");
    for file in ["a", "gone", "open", "sub/b", "new/c"] {
        project.write(&format!("tree/{file}"), file);
    }
    project.write("config.toml", format!("layers = \"{layers}\"\n"));
    // No ordinary user can make the device node that is in the archive.
    project.host(
        "chmod -R u=rwX,go=rX .; chmod 666 tree/open; mknod node c 1 3
         tar --mtime=@0 --sort=name -czf t.tar.gz tree node; rm node",
    );
    give(&project, name);
    let run = |arguments: &[&str]| {
        let all = [&["--config", "config.toml"], arguments].concat();
        run_as(&project, name, &all).success()
    };
    run(&["build", "-t", "image", "."]);
    run(&["build", "-q", "-o", "type=tar,dest=out.tar", "."]);
    run(&["build", "-q", "-o", "out", "."]);
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
    let listed =
        "tar --numeric-owner -tvf out.tar | grep -v ' bin/' | awk '{print $1, $2, $6}' | sort -k3";
    project.host("test -L out/o/m; test -p out/o/q; grep -q A out/o/f");
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
        "-rw------- 5/6 e/tree/a",
        "-rw-r--r-- 33/44 o/f",
        "-rwxr-xr-x 33/44 o/t",
        "-rwxr-xr-x 5/5 o/u",
        "-rw-r----- 9/10 o/i",
        "-rw-r--r-- 0/0 o/back",
        "lrwxrwxrwx 7/8 o/m",
        "prw-r--r-- 33/44 o/q",
        "drwxr-sr-x 0/44 o/in/groups/",
        "-rw-r--r-- 12/13 o/app/x",
        "-rw-r--r-- 12/13 o/app/su",
        "drwx------ 12/13 o/app/y/",
        "-rw-rw-rw- 0/0 d/open",
    ] {
        assert!(listed.contains(line), "{line} in\n{listed}");
    }
    assert!(!listed.contains("d/gone"), "{listed}");
}

#[test]
fn ordinary_users_verify_with_another_clock() {
    for name in [MAPPED, SINGLE] {
        user(name);
        let project = project_of(
            name,
            "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox date +%F > /day; \
             /bin/busybox touch /mine; /bin/busybox chown 5:6 /mine; /bin/busybox id > /id\"]\n",
        );
        let verify = ["build", "--verify", "--progress", "quiet", "."];
        let done = run_as(&project, name, &verify).code(1).says(&[
            "not varied: the user: only root can become somebody else",
            "  /day: content differs",
        ]);
        let same = !done.stderr.contains("/id:") && !done.stderr.contains("the clock");
        assert!(same, "{name}: {}", done.stderr);
    }
}
