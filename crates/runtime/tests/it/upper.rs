//! The upper directory holds what the program wrote and nothing else (rows R3, R4).

use crate::support::{Fixture, check, run};
use runtime::{Exit, Mount, MountKind};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};
use sys::mount::Lower;

const GENERATED: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];

fn generated() -> Vec<Mount> {
    let secret = ["/run/secrets/token"];
    let targets = GENERATED.into_iter().chain(secret);
    let mount = |target: &str| Mount {
        target: target.into(),
        kind: MountKind::File {
            content: b"generated\n".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            readonly: true,
        },
    };
    targets.map(mount).collect()
}

fn past() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789)
}

fn age(path: &Path) {
    File::open(path).unwrap().set_modified(past()).unwrap();
}

fn mtime(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).unwrap().modified().unwrap()
}

/// Runs a script over an image, with generated files, and compares what is in the upper directory.
#[track_caller]
fn written(fixture: &Fixture, script: &str, expect: &str) {
    let mut spec = fixture.spec(script);
    spec.mounts = generated();
    check(&spec, "");
    assert_eq!(fixture.written(), expect, "{script}");
}

#[test]
fn r3_an_image_without_any_of_the_targets() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    age(&fixture.path("upper"));
    written(&fixture, "cat /etc/hosts >/dev/null", "");
    assert_eq!(mtime(&fixture.path("upper")), past());
}

#[test]
fn r3_an_image_with_some_of_them() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.image_file("etc/hosts", "the image's own");
    fixture.image_file("run/x", "");
    written(&fixture, "grep -q generated /etc/hosts", "");
    written(&fixture, "echo x > /etc/mine", "etc/ etc/mine");
}

#[test]
fn r3_the_program_s_own_files_stay() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    written(
        &fixture,
        "echo x > /etc/mine; mkdir /run/mine",
        "etc/ etc/mine run/ run/mine/",
    );
}

#[test]
fn r3_a_failing_program_leaves_no_stubs_either() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("exit 3");
    spec.mounts = generated();
    assert_eq!(run(&spec).exit, Exit::Code(3));
    assert_eq!(fixture.written(), "");
}

#[test]
fn r3_dangling_links_lead_to_where_they_point() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.image_file("etc/os", "");
    let link = fixture.path("root/etc/resolv.conf");
    std::os::unix::fs::symlink("../run/systemd/stub", link).unwrap();
    written(&fixture, "grep -q generated /etc/resolv.conf", "");
}

/// An image whose upper layer hides the lower ones below `/etc` and `/run`, so that the targets
/// must be made in the upper directory.
fn opaque_image() -> Option<(Fixture, Vec<Lower>)> {
    let fixture = Fixture::new()?;
    let top = fixture.path("top");
    for name in ["etc", "run", "usr/share"] {
        fs::create_dir_all(top.join(name)).unwrap();
        let directory = File::open(top.join(name)).unwrap();
        let target = sys::fs::Target::Fd(std::os::fd::AsFd::as_fd(&directory));
        sys::fs::set_xattr(target, b"trusted.overlay.opaque", b"y").unwrap();
        age(&top.join(name));
    }
    age(&top.join("usr"));
    age(&top);
    let lowers = vec![Lower::Dir(fixture.path("root")), Lower::Dir(top)];
    Some((fixture, lowers))
}

#[track_caller]
fn written_over_opaque(script: &str, expect: &str, aged: &[&str]) {
    let Some((fixture, lowers)) = opaque_image() else {
        return;
    };
    age(&fixture.path("upper"));
    let mut spec = fixture.spec(script);
    spec.root = fixture.root_of(lowers);
    spec.mounts = generated();
    spec.mounts.push(Mount {
        target: "/usr/share/deep/cache".into(),
        kind: MountKind::Tmpfs {
            size: None,
            mode: 0o755,
        },
    });
    check(&spec, "");
    assert_eq!(fixture.written(), expect, "{script}");
    for name in aged {
        assert_eq!(
            mtime(&fixture.path("upper").join(name)),
            past(),
            "{script}: {name}"
        );
    }
}

#[test]
fn r3_stubs_in_the_upper_directory_vanish_with_their_copied_parents() {
    written_over_opaque("true", "", &[""]);
}

#[test]
fn r3_parents_that_the_program_wrote_to_stay() {
    written_over_opaque("echo > /etc/mine", "etc/ etc/mine", &[]);
    written_over_opaque("chmod 700 /etc", "etc/", &["etc"]);
    written_over_opaque("touch /etc/mine; rm /etc/mine", "etc/", &[]);
    written_over_opaque(
        "echo > /usr/share/deep/f",
        "usr/ usr/share/ usr/share/deep/ usr/share/deep/f",
        &["usr"],
    );
}

#[test]
fn r4_deletions_and_new_directories_are_plain_overlay_entries() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.image_file("gone", "");
    fixture.image_file("dir/below", "");
    check(
        &fixture.spec("rm -r /gone /dir; mkdir /dir; mount > /dev/null"),
        "",
    );
    assert_eq!(fixture.written(), "dir/ gone");
    let upper = File::open(fixture.path("upper")).unwrap();
    let whiteout = sys::fs::stat_at(&upper, "gone").unwrap();
    assert_eq!(
        (whiteout.kind, whiteout.rdev),
        (sys::fs::FileType::CharacterDevice, (0, 0))
    );
}

#[test]
fn the_same_directories_run_again() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    check(&fixture.spec("echo 1 > /a"), "");
    check(&fixture.spec("cat /a; echo 2 > /b"), "1\n");
    assert_eq!(fixture.written(), "a b");
}

#[test]
fn a_stack_of_300_layers() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut lowers = vec![Lower::Dir(fixture.path("root"))];
    for number in 0..300 {
        let layer = fixture.path(&format!("layers/{number}"));
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        lowers.push(Lower::Dir(layer));
    }
    let mut spec = fixture.spec("cat /top");
    spec.root = fixture.root_of(lowers);
    check(&spec, "299");
}
