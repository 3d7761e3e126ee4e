//! What a process is and may do (rows R2, R5, R8, R10, R11).

use crate::support::{Fixture, check, run};
use runtime::{Capability, Exit, Io, Resource, Rlimit, Security, User, WindowSize, spawn};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

#[test]
fn r2_environment_directory_and_streams() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("pwd; umask; hostname; cat; echo $$; echo >&2 error");
    spec.cwd = "/some/where".into();
    spec.hostname = "buildkitsandbox".to_owned();
    check(&spec, "/some/where\n0022\nbuildkitsandbox\n1\nerror\n");
    spec.args = vec!["env".into()];
    for (name, value) in [("A", "1"), ("B", "b"), ("A", "2")] {
        spec.env.push((name.into(), value.into()));
    }
    check(&spec, "PATH=/bin\nA=2\nB=b\n");
}

#[test]
fn r2_a_working_directory_behind_a_link_to_nowhere_is_made() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let link = fixture.path("root/link");
    std::os::unix::fs::symlink("/not/there/yet", link).unwrap();
    let mut spec = fixture.spec("pwd -P");
    spec.cwd = "/link/deep".into();
    check(&spec, "/not/there/yet/deep\n");
}

#[test]
fn r5_user_and_groups() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("id; echo x > /dev/stdout; grep CapEff /proc/self/status");
    spec.user = User {
        uid: 1000,
        gid: 1001,
        groups: vec![1001, 44],
    };
    check(
        &spec,
        "uid=1000 gid=1001 groups=44,1001\nx\nCapEff:\t0000000000000000\n",
    );
}

#[test]
fn r10_default_capabilities_and_filter() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let pattern = "^(Cap|NoNewPrivs|Seccomp:|SigIgn|SigBlk)";
    let mut spec = fixture.spec("");
    // Without a shell, which has ideas of its own about signals.
    spec.args = ["grep", "-E", pattern, "/proc/self/status"]
        .map(Into::into)
        .into();
    check(
        &spec,
        "SigBlk:\t0000000000000000\n\
         SigIgn:\t0000000000000000\n\
         CapInh:\t0000000000000000\n\
         CapPrm:\t00000000a80425fb\n\
         CapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\n\
         CapAmb:\t0000000000000000\n\
         NoNewPrivs:\t0\n\
         Seccomp:\t2\n",
    );
}

#[test]
fn r10_namespaces_cannot_be_made_inside() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let ran = run(&fixture.spec("unshare -U true"));
    assert_eq!(ran.exit, Exit::Code(1));
    assert!(ran.stderr.contains("Operation not permitted"), "{ran:?}");
}

#[test]
fn r10_capabilities_are_added_and_dropped() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("grep CapEff /proc/self/status");
    let chown: Capability = "CHOWN".parse().unwrap();
    let set = spec.security.capabilities;
    spec.security.capabilities = set.with(Capability::SYS_ADMIN).without(chown);
    check(&spec, "CapEff:\t00000000a82425fa\n");
}

#[test]
fn r10_masked_and_protected_paths() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    check(
        &fixture.spec(
            "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
             echo 1 2>/dev/null > /proc/sys/kernel/domainname || echo protected; \
             touch /sys/x 2>/dev/null || echo read-only",
        ),
        "0\n0\nprotected\nread-only\n",
    );
}

#[test]
fn r10_setuid_programs_work() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let suid = fixture.path("root/suid-cat");
    std::fs::copy("/bin/cat", &suid).unwrap();
    std::fs::set_permissions(&suid, std::fs::Permissions::from_mode(0o4755)).unwrap();
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::os::unix::fs::symlink(target, fixture.path("root").join(link)).unwrap();
    }
    let mut spec = fixture.spec("/suid-cat /proc/self/status | grep ^Uid");
    spec.user.uid = 1000;
    spec.mounts.push(runtime::Mount {
        target: "/usr".into(),
        kind: runtime::MountKind::Bind {
            source: "/usr".into(),
            readonly: true,
            nosuid: false,
            noexec: false,
        },
    });
    check(&spec, "Uid:\t1000\t0\t0\t0\n");
    spec.security.no_new_privileges = true;
    check(&spec, "Uid:\t1000\t1000\t1000\t1000\n");
}

#[test]
fn r8_insecure_may_mount_and_sees_devices() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec(
        "mount -t tmpfs x /dev/shm && ls /dev | grep -cE '^(kmsg|loop-control)$'; \
         grep Seccomp: /proc/self/status",
    );
    spec.security = Security::insecure();
    let ran = run(&spec);
    assert_eq!(ran.exit, Exit::Code(0), "{ran:?}");
    assert!(ran.stdout.ends_with("Seccomp:\t0\n"), "{ran:?}");
}

#[test]
fn r11_limits() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("ulimit -n; ulimit -Hn; grep -c 'shm.*size=1024k' /proc/mounts");
    spec.rlimits.push(Rlimit {
        resource: Resource::Nofile,
        soft: 100,
        hard: 200,
    });
    spec.shm_size = 1 << 20;
    check(&spec, "100\n200\n1\n");
}

#[test]
fn nothing_of_the_machine_is_mounted_inside() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let ran = run(&fixture.spec("cat /proc/self/mountinfo"));
    for line in ran.stdout.lines() {
        let target = line.split(' ').nth(4).unwrap();
        let ours = ["/", "/proc", "/dev", "/sys"].contains(&target)
            || ["/proc/", "/dev/", "/sys/"]
                .iter()
                .any(|prefix| target.starts_with(prefix));
        assert!(ours, "{line}");
    }
    let roots = ran
        .stdout
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/"));
    assert_eq!(roots.count(), 1, "{}", ran.stdout);
}

#[test]
fn no_descriptor_of_the_machine_gets_in() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("");
    spec.args = ["ls", "/proc/self/fd"].map(Into::into).into();
    // 3 is the directory that `ls` reads.
    check(&spec, "0\n1\n2\n3\n");
}

#[test]
fn the_helper_s_file_cannot_be_written_from_inside() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    // Process 1 is the helper's init here.
    let mut spec =
        fixture.spec("chmod 777 /proc/1/exe 2>&1 | grep -o 'Read-only file system'; true");
    spec.init = true;
    spec.security = Security::insecure();
    check(&spec, "Read-only file system\n");
}

#[test]
fn devices_are_usable() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    check(
        &fixture.spec(
            "head -c 3 /dev/zero | wc -c; head -c 9 /dev/urandom | wc -c; echo x > /dev/null; \
             stat -c '%a %t:%T' /dev/null; ls /dev/fd/0 /dev/ptmx /dev/shm; \
             stat -c %a /dev/shm /dev/mqueue",
        ),
        "3\n9\n666 1:3\n/dev/fd/0\n/dev/ptmx\n\n/dev/shm:\n1777\n1777\n",
    );
}

#[test]
fn a_terminal_is_the_controlling_one() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("tty; stty size; test -c /dev/console && echo x > /dev/tty");
    spec.io = Io::Terminal(WindowSize {
        rows: 33,
        columns: 111,
    });
    spec.user.uid = 1000;
    let mut process = spawn(crate::support::helper(), &spec).unwrap();
    let mut terminal = process.take_terminal().unwrap();
    let mut shown = Vec::new();
    // Ends with EIO when the container has.
    terminal.read_to_end(&mut shown).ok();
    let outcome = process
        .wait(|_, _| panic!("output beside the terminal"))
        .unwrap();
    assert_eq!(
        (String::from_utf8(shown).unwrap().as_str(), outcome.exit),
        ("/dev/pts/0\r\n33 111\r\nx\r\n", Exit::Code(0))
    );
}
