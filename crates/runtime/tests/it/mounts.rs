//! Mounts of every kind (rows M1 to M5).

use crate::support::{Fixture, check, run};
use runtime::{Exit, Mount, MountKind};
use std::fs;
use sys::mount::{Lower, RootMount};

fn file(target: &str, content: &str, mode: u32, owner: (u32, u32)) -> Mount {
    Mount {
        target: target.into(),
        kind: MountKind::File {
            content: content.as_bytes().to_vec(),
            mode,
            uid: owner.0,
            gid: owner.1,
            readonly: true,
        },
    }
}

#[test]
fn m1_bind_of_a_tree_read_only_and_throw_away() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for name in ["tree/a/b", "up", "wk"] {
        fs::create_dir_all(fixture.path(name)).unwrap();
    }
    fs::write(fixture.path("tree/a/b/f"), "content").unwrap();
    let mut spec = fixture.spec(
        "cat /src/b/f; touch /src/new 2>/dev/null || echo ' refused'; \
         cat /one; echo changed > /rw/f; cat /rw/f; touch /rw/new",
    );
    let lowers = || vec![Lower::Dir(fixture.path("tree"))];
    let tree = |target: &str, tree, path: &str, readonly| Mount {
        target: target.into(),
        kind: MountKind::Tree {
            tree,
            path: path.into(),
            readonly,
        },
    };
    let read_only = || RootMount::ReadOnly {
        lowers: lowers(),
        userxattr: false,
    };
    let throw_away = RootMount::Overlay {
        lowers: lowers(),
        upper: fixture.path("up"),
        work: fixture.path("wk"),
        userxattr: false,
    };
    spec.mounts = vec![
        tree("/src", read_only(), "/a", true),
        tree("/one", read_only(), "/a/b/f", true),
        tree("/rw", throw_away, "/a/b", false),
    ];
    check(&spec, "content refused\ncontentchanged\n");
    assert_eq!(
        fs::read_to_string(fixture.path("tree/a/b/f")).unwrap(),
        "content"
    );
    assert_eq!(fixture.written(), "");
}

#[test]
fn m1_the_source_stays_inside_its_tree() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fs::create_dir(fixture.path("tree")).unwrap();
    fs::write(fixture.path("tree/passwd"), "inside").unwrap();
    std::os::unix::fs::symlink("/../../passwd", fixture.path("tree/link")).unwrap();
    let mut spec = fixture.spec("cat /x");
    let tree = RootMount::ReadOnly {
        lowers: vec![Lower::Dir(fixture.path("tree"))],
        userxattr: false,
    };
    spec.mounts.push(Mount {
        target: "/x".into(),
        kind: MountKind::Tree {
            tree,
            path: "/link".into(),
            readonly: true,
        },
    });
    check(&spec, "inside");
}

#[test]
fn m2_a_directory_of_the_machine_is_written_through() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fs::create_dir(fixture.path("cache")).unwrap();
    let mut spec = fixture.spec("echo kept > /var/cache/x/f");
    spec.mounts.push(Mount {
        target: "/var/cache/x".into(),
        kind: MountKind::Bind {
            source: fixture.path("cache"),
            readonly: false,
            nosuid: false,
            noexec: false,
        },
    });
    check(&spec, "");
    assert_eq!(
        fs::read_to_string(fixture.path("cache/f")).unwrap(),
        "kept\n"
    );
    assert_eq!(fixture.written(), "");
}

#[test]
fn m3_tmpfs() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec(
        "stat -c %a /t; grep -c ' /t .*size=1024k' /proc/mounts; echo x > /t/x; \
         head -c 2000000 /dev/zero > /t/y 2>/dev/null || echo full",
    );
    spec.mounts.push(Mount {
        target: "/t".into(),
        kind: MountKind::Tmpfs {
            size: Some(1 << 20),
            mode: 0o1777,
        },
    });
    check(&spec, "1777\n1\nfull\n");
    assert_eq!(fixture.written(), "");
}

#[test]
fn m4_secrets_have_mode_and_owner_and_do_not_land() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec(
        "stat -c '%a %u:%g' /run/secrets/token; cat /run/secrets/token; \
         echo no > /run/secrets/token || echo ' read-only'; grep -c ramfs.*token /proc/mounts \
         || grep -c 'token ramfs' /proc/mounts",
    );
    spec.mounts
        .push(file("/run/secrets/token", "hunter2", 0o400, (5, 6)));
    let ran = run(&spec);
    assert!(
        ran.stdout.starts_with("400 5:6\nhunter2 read-only\n"),
        "{ran:?}"
    );
    assert_eq!(ran.exit, Exit::Code(0), "{ran:?}");
    assert_eq!(fixture.written(), "");
}

#[test]
fn m5_sockets_are_bound() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let _listener = std::os::unix::net::UnixListener::bind(fixture.path("agent")).unwrap();
    let mut spec = fixture.spec("test -S /run/buildkit/ssh_agent.0");
    spec.mounts.push(Mount {
        target: "/run/buildkit/ssh_agent.0".into(),
        kind: MountKind::Bind {
            source: fixture.path("agent"),
            readonly: false,
            nosuid: false,
            noexec: false,
        },
    });
    check(&spec, "");
    assert_eq!(fixture.written(), "");
}

#[test]
fn mounts_nest_in_order() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("cat /t/deep/f; ls /t");
    spec.mounts = vec![
        Mount {
            target: "/t".into(),
            kind: MountKind::Tmpfs {
                size: None,
                mode: 0o755,
            },
        },
        file("/t/deep/f", "x", 0o644, (0, 0)),
    ];
    check(&spec, "xdeep\n");
    assert_eq!(fixture.written(), "");
}

#[test]
fn a_read_only_root_refuses_writes_but_its_mounts_do_not() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("touch /x 2>/dev/null || echo refused; echo y > /t/y; cat /t/y");
    spec.readonly_root = true;
    spec.mounts.push(Mount {
        target: "/t".into(),
        kind: MountKind::Tmpfs {
            size: None,
            mode: 0o755,
        },
    });
    check(&spec, "refused\ny\n");
}

#[test]
fn a_directory_can_be_the_root() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("echo x > /out");
    spec.root = RootMount::Bind {
        source: fixture.path("root"),
        readonly: false,
    };
    spec.mounts.push(file("/etc/hosts", "", 0o644, (0, 0)));
    check(&spec, "");
    let mut names: Vec<_> = fs::read_dir(fixture.path("root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["bin", "out"]);
}

#[test]
fn packed_layers_are_mounted() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fs::create_dir(fixture.path("packed")).unwrap();
    fs::write(fixture.path("packed/f"), "from a packed layer").unwrap();
    let made = std::process::Command::new("mkfs.erofs")
        .arg("--chunksize=4096")
        .arg(format!("--blobdev={}", fixture.path("data").display()))
        .args([fixture.path("index"), fixture.path("packed")])
        .output()
        .expect("install erofs-utils");
    assert!(made.status.success(), "{made:?}");
    let mut spec = fixture.spec("cat /f; echo x >> /f; rm /f");
    let packed = Lower::Erofs {
        index: fixture.path("index"),
        tar: fixture.path("data"),
    };
    spec.root = fixture.root_of(vec![Lower::Dir(fixture.path("root")), packed]);
    check(&spec, "from a packed layer");
    assert_eq!(fixture.written(), "f");
    // Not mounted for this container alone.
    let process = runtime::spawn(crate::support::helper(), &spec).unwrap();
    assert_eq!(process.shortcuts().pooled_layers, 1);
    process.wait(|_, _| {}).unwrap();
}
