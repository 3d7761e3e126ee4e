//! Ordinary users: the probe program is run as one, enters its user namespace and runs containers.
//!
//! The user `kiln-test` is made on the first run, with a home that is never used and subordinate
//! ids; `kiln-test-single` has none.

use crate::support::Fixture;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use sys::fs::{FileType, Target};

/// Makes a user; one that is there already is fine.
fn user(name: &str) {
    let subordinate = name == MAPPED;
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    if !passwd
        .lines()
        .any(|line| line.starts_with(&format!("{name}:")))
    {
        let mut command = Command::new("useradd");
        command.args(["--no-create-home", "--shell", "/usr/sbin/nologin"]);
        if !subordinate {
            command.args(["--key", "SUB_UID_COUNT=0", "--key", "SUB_GID_COUNT=0"]);
        }
        let made = command.arg(name).output().expect("useradd is needed");
        assert!(made.status.success(), "{made:?}");
    }
    if subordinate
        && !std::fs::read_to_string("/etc/subuid")
            .unwrap()
            .contains(name)
    {
        let ranges = [
            "--add-subuids",
            "700000-765535",
            "--add-subgids",
            "700000-765535",
        ];
        let added = Command::new("usermod")
            .args(ranges)
            .arg(name)
            .output()
            .unwrap();
        assert!(added.status.success(), "{added:?}");
    }
}

/// Runs the probe as a user, over a fixture that belongs to it.
#[track_caller]
fn check(name: &str, args: &[&str], expect: &[&str]) -> Option<Fixture> {
    let fixture = Fixture::new()?;
    user(name);
    let base = fixture.path("");
    // The user must reach it, and the probe beside it.
    let probe = fixture.path("probe");
    std::fs::copy(env!("CARGO_BIN_EXE_runtime-probe"), &probe).unwrap();
    let owner = format!("{name}:");
    let owned = Command::new("chown")
        .args(["-hR", &owner])
        .arg(&base)
        .status()
        .unwrap();
    assert!(owned.success());
    let ran = Command::new("setpriv")
        .args(["--reuid", name, "--regid", name, "--clear-groups", "--"])
        .arg(&probe)
        .args(args.iter().map(|arg| match *arg {
            "DIR" => base.as_path(),
            other => Path::new(other),
        }))
        .current_dir("/")
        .output()
        .expect("setpriv is needed");
    let all = format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    for part in expect {
        assert!(all.contains(part), "{part:?} is not in {all:?}");
    }
    Some(fixture)
}

const MAPPED: &str = "kiln-test";
const SINGLE: &str = "kiln-test-single";

#[test]
fn a_user_with_subordinate_ids_stands_on_b() {
    check(MAPPED, &[], &["Mapped: ordinary user with subordinate ids"]);
}

#[test]
fn a_user_without_stands_on_c_and_is_told_why() {
    check(
        SINGLE,
        &[],
        &[
            "Single: ",
            "missing: kiln-test-single has no line in /etc/subuid",
        ],
    );
}

#[test]
fn b_runs_with_owners_and_whiteouts() {
    let script = "id -u; touch /mine; chown 1000:1000 /mine; stat -c '%u:%g' /mine; \
                  rm /bin/false; ls /dev/null /proc/self/status; grep CapEff /proc/self/status; \
                  ls /sys/class/net; id > /dev/shm/x && echo shm";
    let Some(fixture) = check(
        MAPPED,
        &["run", "DIR", "/bin/sh", "-c", script],
        &["0\n1000:1000\n/dev/null\n/proc/self/status\nCapEff:\t00000000a80425fb\nlo\nshm\n"],
    ) else {
        return;
    };
    assert_eq!(fixture.written(), "bin/ bin/false mine");
    let mine = std::fs::metadata(fixture.path("upper/mine")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::uid(&mine) > 100_000);
}

#[test]
fn c_runs_as_its_one_user() {
    let script = "id -u; echo x > /mine; cat /mine; chown 1000:7 /mine; stat -c %u:%g /mine";
    let Some(fixture) = check(
        SINGLE,
        &["run", "DIR", "/bin/sh", "-c", script],
        &["0\nx\n0:0\n"],
    ) else {
        return;
    };
    assert_eq!(fixture.written(), "mine");
    let mine = std::fs::File::open(fixture.path("upper/mine")).unwrap();
    let target = Target::File(mine.as_fd());
    let recorded = sys::fs::recorded_owner(target, FileType::RegularFile);
    assert_eq!(recorded.unwrap(), Some((1000, 7)));
}

#[test]
fn b_shares_the_machine_s_network_when_asked() {
    check(
        MAPPED,
        &[
            "run",
            "DIR",
            "--network=host",
            "/bin/sh",
            "-c",
            "ls -d /sys/class/net; touch /sys/x",
        ],
        &["/sys/class/net\n", "Read-only file system"],
    );
}

#[test]
fn root_without_its_capability_takes_a_user_namespace_too() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let ran = Command::new("setpriv")
        .arg("--bounding-set=-sys_admin")
        .arg(env!("CARGO_BIN_EXE_runtime-probe"))
        .arg("run")
        .arg(fixture.path(""))
        .args(["/bin/sh", "-c", "echo x > /f; cat /f"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "x\n", "{ran:?}");
    assert_eq!(fixture.written(), "f");
}
