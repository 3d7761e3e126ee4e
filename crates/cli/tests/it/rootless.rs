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

/// Builds the same small image as a user, and returns what is in it.
#[track_caller]
fn check(name: &str) -> String {
    user(name);
    let project = Project::new();
    project.write(
        "Dockerfile",
        "FROM scratch AS base\nCOPY busybox /bin/\nCOPY tree /d\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo ran > /d/out; rm /d/gone; mkdir /d/n; /bin/busybox ls /d\"]\n\
         FROM scratch\nCOPY --from=base /d /d\nCOPY --from=base /bin/busybox /bin/\n",
    );
    for file in ["a", "gone", "sub/b"] {
        project.write(&format!("tree/{file}"), file);
    }
    project.host(&format!(
        "cp /bin/busybox .; cp {} ../kiln; chmod 755 .. ../kiln; chown -hR {name}: ..; chmod 711 ..",
        env!("CARGO_BIN_EXE_kiln")
    ));
    let run = |arguments: &[&str]| {
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
        output(&mut command).success()
    };
    run(&["build", "-t", "image", "."]);
    run(&["build", "-q", "-o", "type=tar,dest=out.tar", "."]);
    run(&["run", "--rm", "image", "/bin/busybox", "cat", "/d/out"]);
    project.host("tar --numeric-owner -tvf out.tar | awk '{print $1, $2, $6}' | sort -k3")
}

#[test]
fn ordinary_users_build_what_root_builds() {
    let mapped = check(MAPPED);
    let single = check(SINGLE);
    assert_eq!(mapped, single);
    for line in [
        "-rw-r--r-- 0/0 d/out",
        "-rw-r--r-- 0/0 d/sub/b",
        "drwxr-xr-x 0/0 d/n/",
    ] {
        assert!(mapped.contains(line), "{line} in\n{mapped}");
    }
    assert!(!mapped.contains("gone"), "{mapped}");
}
