//! Ordinary users: with subordinate ids and without, over a store of their own.

use std::process::Command;

use crate::harness::{Project, output};

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

/// Builds the same small image as a user, and returns what is in it and the digest of its manifest.
#[track_caller]
fn check(name: &str, layers: &str) -> (String, String) {
    let project = Project::new();
    project.write(
        "Dockerfile",
        "FROM scratch AS base\nCOPY busybox /bin/\nCOPY tree /d\nADD --chown=5:6 t.tar.gz /e\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo ran > /d/out; rm /d/gone; mkdir /d/n; rm -r /d/new; mkdir /d/new; /bin/busybox ls /d\"]\n\
         FROM scratch\nCOPY --from=base /d /d\nCOPY --from=base /bin/busybox /bin/\nCOPY --link --chown=7:8 tree/sub /l\n\
         RUN [\"/bin/busybox\", \"ln\", \"/d/out\", \"/d/again\"]\n",
    );
    for file in ["a", "gone", "sub/b", "new/c"] {
        project.write(&format!("tree/{file}"), file);
    }
    project.write("config.toml", format!("layers = \"{layers}\"\n"));
    project.host(&format!(
        "chmod -R u=rwX,go=rX .; tar --mtime=@0 --sort=name -czf t.tar.gz tree
         cp /bin/busybox .; cp {} ../kiln; chmod 755 .. ../kiln busybox; chown -hR {name}: ..; chmod 711 ..",
        env!("CARGO_BIN_EXE_kiln")
    ));
    let run = |arguments: &[&str]| {
        let kiln = project.command(arguments);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", name, "--regid", name, "--clear-groups", "--"]);
        command
            .arg(project.path("../kiln"))
            .args(["--config", "config.toml"])
            .args(arguments)
            .env_clear()
            .current_dir(project.path("."));
        for (name, value) in kiln.get_envs() {
            command.env(name, value.expect("set"));
        }
        output(&mut command).success()
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
