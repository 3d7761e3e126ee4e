//! Other owners and users where there is one id. None of this needs a user namespace: what is
//! written down and what is pretended is the same for root.

use crate::support::{Fixture, check, helper};
use runtime::{Exit, Helper, Mount, MountKind, ProcessSpec, Security, User, spawn};
use std::os::fd::AsFd;
use std::path::Path;
use sys::fs::{CWD, FileType, Mode, OFlags, Target};
use sys::seccomp::Instruction;

fn spec(fixture: &Fixture, script: &str) -> ProcessSpec {
    fixture.image_file(
        "etc/passwd",
        "root:x:0:0::/:/bin/sh\nwww:x:33:44::/:/bin/sh\n",
    );
    fixture.image_file("etc/group", "root:x:0:\nwww:x:44:\nmore:x:55:www\n");
    let mut spec = fixture.spec(&format!("b() {{ busybox \"$@\"; }}; set -e; {script}"));
    spec.one_id = true;
    spec
}

/// The owners that are written down in a directory: `path uid:gid`, or only the path of what has
/// none, with the kernel's owner if it is not root.
fn owners(directory: &Path) -> String {
    let mut lines = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let inode = sys::fs::openat(CWD, &path, flags, Mode::empty()).unwrap();
        let stat = sys::fs::stat(&inode).unwrap();
        if stat.kind == FileType::Directory {
            let entries = std::fs::read_dir(&path).unwrap();
            pending.extend(entries.map(|entry| entry.unwrap().path()));
        }
        let recorded = sys::fs::recorded_owner(Target::Fd(inode.as_fd()), stat.kind).unwrap();
        let mut line = path.strip_prefix(directory).unwrap().display().to_string();
        if let Some((uid, gid)) = recorded {
            line += &format!(" {uid}:{gid}");
        }
        if (stat.uid, stat.gid) != (0, 0) {
            line += &format!(" really {}:{}", stat.uid, stat.gid);
        }
        lines.push(line);
    }
    lines.sort();
    lines.retain(|line| !line.is_empty());
    lines.join(", ")
}

/// Runs a script, compares what it prints, and what is written down of owners then.
#[track_caller]
fn check_owners(script: &str, prints: &str, expect: &str) {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    check(&spec(&fixture, script), prints);
    assert_eq!(owners(&fixture.path("upper")), expect, "{script}");
}

#[test]
fn owners_are_written_down_whatever_the_path() {
    check_owners(
        "mkdir -p /d/e; echo x > /d/f; cd /d/e; chown 1:2 ../f",
        "",
        "d, d/e, d/f 1:2",
    );
    check_owners(
        "touch /f; b ln -s /f /l; b ln -s l /k; chown 1 /k; chown -h 2 /k",
        "",
        "f 1:0, k 2:0, l",
    );
    check_owners(
        "b mkfifo /p; mkdir /d; touch /d/f; b ln /d/f /d/g; chown -R 3:4 /d /p",
        "",
        "d 3:4, d/f 3:4, d/g 3:4, p 3:4",
    );
    check_owners("touch /f; chown 1:2 /f; chown 0:0 /f", "", "f");
    // As it seemed to have.
    check_owners(
        "touch /f; chown 0:0 /f; mkdir /d; chown 0 /d",
        "",
        "d, f 0:0",
    );
    // A file of the image is copied up by it, and the kernel's owner stays.
    check_owners("chown 1 /bin/sh /bin/busybox", "", "bin, bin/busybox 1:0");
    check_owners(
        "touch /f; b ln -s f /l; chown 1:1 /f; chown -h 1:1 /l; b mv /f /g; b mv /l /m; chown 2:3 /g",
        "",
        "g 2:3, m 1:1",
    );
}

#[test]
fn a_process_s_root_is_where_its_paths_begin() {
    check_owners(
        "mkdir -p /c/bin; b cp /bin/busybox /c/bin; touch /f /c/f; b ln -s /../f /c/l; \
         b chroot /c /bin/busybox chown 5 /l; cd /c; b chroot /c /bin/busybox chown 6 ../../bin",
        "",
        "c, c/bin 6:0, c/bin/busybox, c/f 5:0, c/l, f",
    );
}

#[test]
fn what_the_kernel_has_to_say_is_said() {
    check_owners(
        "chown 1 /none 2>&1 || chown 1 /f/x 2>&1 || echo x > /f; chown 1 /f/x 2>&1 || true",
        "chown: /none: No such file or directory\nchown: /f/x: No such file or directory\n\
         chown: /f/x: Not a directory\n",
        "f",
    );
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = spec(&fixture, "chown 1 /bin/busybox 2>&1 || true");
    spec.readonly_root = true;
    check(&spec, "chown: /bin/busybox: Read-only file system\n");
}

#[test]
fn what_is_given_away_loses_its_privileges() {
    check_owners(
        "for m in 6755 2745 4644; do touch /f; chmod $m /f; chown 7:7 /f; stat -c %a /f; done",
        "755\n2745\n644\n",
        "f 7:7",
    );
}

#[test]
fn only_the_root_file_system_is_written_on() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let volume = fixture.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("f"), "").unwrap();
    let mut spec = spec(&fixture, "touch /t/f; chown -R 5:6 /v /t; echo done");
    spec.mounts = vec![
        Mount {
            target: "/v".into(),
            kind: MountKind::Bind {
                source: volume.clone(),
                readonly: false,
                nosuid: false,
                noexec: false,
            },
        },
        Mount {
            target: "/t".into(),
            kind: MountKind::Tmpfs {
                size: None,
                mode: 0o755,
            },
        },
    ];
    check(&spec, "done\n");
    assert_eq!(owners(&volume), "f");
    assert_eq!(owners(&fixture.path("upper")), "");
}

#[test]
fn a_process_is_who_it_says_it_is() {
    let id = "uid=33(www) gid=44(www) groups=44(www),55(more)\n";
    check_owners("b su www -c id; id -u", &format!("{id}0\n"), "");
    // Its children are too, also those that outlive it.
    check_owners(
        "b su www -c '(sleep 0.1; id -u) & exit'; sleep 0.3; id -u",
        "33\n0\n",
        "",
    );
    // Who gave root up has not got it any more.
    check_owners(
        "touch /f; chown 33:44 /f; b su www -c 'chown 0 /f || chown 33:55 /f' 2>&1",
        "chown: /f: Operation not permitted\n",
        "f 33:55",
    );
}

#[test]
fn it_is_known_afterwards_who_there_was() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let script = "b su www -c true; b su www -c 'id -u' >/dev/null; id -u >/dev/null";
    let ran = spawn(helper(), &spec(&fixture, script)).unwrap();
    let outcome = ran.wait(|_, _| {}).unwrap();
    assert_eq!(outcome.exit, Exit::Code(0));
    assert_eq!(outcome.became, [(33, 44)]);
}

#[test]
fn a_program_begins_as_its_user() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = spec(
        &fixture,
        "id; touch /f; stat -c %u:%g /f; chown 5 /f 2>&1 || echo refused; grep CapEff /proc/self/status",
    );
    spec.user = User {
        uid: 33,
        gid: 44,
        groups: vec![44, 55],
    };
    check(
        &spec,
        "uid=33(www) gid=44(www) groups=44(www),55(more)\n33:44\n\
         chown: /f: Operation not permitted\nrefused\nCapEff:\t0000000000000000\n",
    );
}

#[test]
fn without_a_sandbox_owners_are_written_down_too() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = spec(&fixture, "touch /f; chown 5 /f; b su www -c 'id -u'");
    spec.security = Security::insecure();
    check(&spec, "33\n");
    assert_eq!(owners(&fixture.path("upper")), "f 5:0");
}

#[test]
fn a_container_ends_while_calls_wait() {
    check_owners(
        "touch /f; chown 1:1 /f; for i in 1 2 3 4; do (while :; do chown 1:1 /f; id; done) >/dev/null & done; sleep 0.1; echo done",
        "done\n",
        "f 1:1",
    );
}

/// There is one listener at most: what kiln itself runs under may have one.
#[test]
fn where_somebody_else_listens_the_kernel_answers() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let spec = spec(&fixture, "touch /f; chown 5:6 /f");
    let run = move || {
        let allow_all = Instruction {
            code: 0x06,
            jump_true: 0,
            jump_false: 0,
            operand: 0x7fff_0000,
        };
        // For this thread and whatever it starts.
        let listener = sys::seccomp::listen(&[allow_all]).unwrap();
        let program = Helper::program(helper().path());
        let outcome = spawn(&program, &spec).unwrap().wait(|_, _| {}).unwrap();
        drop(listener);
        outcome.exit
    };
    let exit = std::thread::spawn(run).join().unwrap();
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(owners(&fixture.path("upper")), "f really 5:6");
}
