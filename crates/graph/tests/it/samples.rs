//! One op of every kind with every field set, for tests that change one field at a time.

use graph::*;
use oci::{Digest, Platform};

pub(crate) fn text(text: &str) -> String {
    text.to_owned()
}

pub(crate) fn platform() -> Platform {
    Platform::new("linux", "arm", Some("v7"))
}

pub(crate) fn image() -> ImageSource {
    ImageSource {
        reference: "busybox:1.36".parse().expect("reference"),
        manifest: Digest::sha256("manifest"),
        platform: platform(),
        origin: ImageOrigin::Registry,
    }
}

pub(crate) fn local() -> LocalSource {
    LocalSource {
        name: text("context"),
        ignore: vec![text("node_modules"), text("!keep")],
    }
}

pub(crate) fn http() -> HttpSource {
    HttpSource {
        url: text("https://example.com/x"),
        checksum: None,
        filename: text("x"),
    }
}

pub(crate) fn git() -> GitSource {
    GitSource {
        remote: text("https://example.com/r.git"),
        reference: Some(text("main")),
        commit: None,
        subdir: text("sub"),
        keep_git_dir: false,
        submodules: true,
        checksum: Some(text("abc")),
    }
}

pub(crate) fn exec() -> Exec {
    Exec {
        args: vec![text("/bin/sh"), text("-c"), text("npm ci")],
        env: [("PATH", "/bin"), ("NODE_ENV", "production")]
            .into_iter()
            .collect(),
        proxy_env: [("HTTP_PROXY", "http://proxy:1")].into_iter().collect(),
        cwd: text("/app"),
        user: text("node:node"),
        hostname: text("buildkitsandbox"),
        mounts: vec![
            Mount {
                target: text("/src"),
                kind: MountKind::Bind {
                    input: InputIndex(1),
                    source: text("/src"),
                    writable: false,
                },
            },
            Mount {
                target: text("/root/.npm"),
                kind: MountKind::Cache(CacheMount {
                    id: text("npm"),
                    sharing: Sharing::Locked,
                    from: Some((InputIndex(2), text("/seed"))),
                    readonly: false,
                    mode: 0o755,
                    uid: 1,
                    gid: 2,
                }),
            },
            Mount {
                target: text("/tmp"),
                kind: MountKind::Tmpfs {
                    size: Some(1 << 20),
                },
            },
            Mount {
                target: text("/run/secrets/token"),
                kind: MountKind::Secret(SecretMount {
                    id: text("token"),
                    required: true,
                    mode: 0o400,
                    uid: 0,
                    gid: 0,
                    env: Some(text("TOKEN")),
                }),
            },
            Mount {
                target: text("/run/agent"),
                kind: MountKind::Ssh(SshMount {
                    id: text("default"),
                    required: false,
                    mode: 0o600,
                    uid: 0,
                    gid: 0,
                }),
            },
        ],
        network: Network::Default,
        security: Security::Sandbox,
        devices: vec![Device {
            name: text("vendor.com/class=gpu"),
            required: true,
        }],
        extra_hosts: vec![(text("db"), text("10.0.0.1"))],
        limits: Limits {
            ulimits: vec![Ulimit {
                name: text("nofile"),
                soft: 1024,
                hard: u64::MAX,
            }],
            shm_size: Some(64 << 20),
            cgroup_parent: Some(text("/builds")),
        },
        platform: platform(),
        script: Some(Script {
            name: text("EOF"),
            body: text("#!/bin/sh\ntrue\n"),
        }),
    }
}

pub(crate) fn copy() -> Copy {
    Copy {
        input: InputIndex(1),
        sources: vec![text("src/*.c"), text("Makefile")],
        dest: text("/app"),
        dest_is_dir: true,
        owner: Some(Owner {
            user: Principal::Name(text("app")),
            group: Some(Principal::Id(7)),
        }),
        reset_owner: true,
        mode: Some(ModeChange::Octal(0o644)),
        parents: false,
        exclude: vec![text("*.o")],
        unpack: Unpack::Detect,
        follow_dest_links: true,
    }
}

pub(crate) fn mkdir() -> Mkdir {
    Mkdir {
        path: text("/app"),
        mode: 0o755,
        owner: None,
    }
}

pub(crate) fn mkfile() -> Mkfile {
    Mkfile {
        name: text("EOF"),
        data: b"hello\n\xff".to_vec(),
        dest: text("/greeting"),
        dest_is_dir: false,
        owner: None,
        mode: Some(ModeChange::Symbolic(text("u+x"))),
        follow_dest_links: true,
    }
}

pub(crate) fn file(action: FileAction) -> Op {
    Op::File(FileOp {
        base: Some(InputIndex(0)),
        actions: vec![action],
    })
}

pub(crate) fn selector() -> Selector {
    Selector {
        paths: vec![
            SelectedPath {
                path: text("src/*.c"),
                pattern: true,
            },
            SelectedPath {
                path: text("Makefile"),
                pattern: false,
            },
        ],
        exclude: vec![text("*.o")],
        naming: Naming::Contents,
        ignore_owner: true,
        ignore_mode: true,
    }
}

/// Every kind of op by name.
pub(crate) fn ops() -> Vec<(&'static str, Op)> {
    vec![
        ("image", Op::Source(Source::Image(Box::new(image())))),
        ("local", Op::Source(Source::Local(local()))),
        ("http", Op::Source(Source::Http(http()))),
        ("git", Op::Source(Source::Git(git()))),
        ("exec", Op::Exec(Box::new(exec()))),
        ("copy", file(FileAction::Copy(copy()))),
        ("mkdir", file(FileAction::Mkdir(mkdir()))),
        ("mkfile", file(FileAction::Mkfile(mkfile()))),
        ("merge", Op::Merge),
        ("diff", Op::Diff),
    ]
}
