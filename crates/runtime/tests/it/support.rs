//! A busybox root with its directories, and one way to run a script in it.

use runtime::{Exit, Helper, ProcessSpec, SpawnError, Stream, spawn};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use sys::mount::{Lower, RootMount};
use tempfile::TempDir;

/// Programs that the tests' scripts use.
const APPLETS: [&str; 25] = [
    "sh", "cat", "chmod", "chown", "env", "false", "grep", "head", "hostname", "id", "ip", "ls",
    "mkdir", "mount", "pwd", "rm", "sleep", "stat", "stty", "test", "touch", "true", "tty",
    "unshare", "wc",
];

pub(crate) struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// `None` for ordinary users, unless `KILN_REQUIRE` says that nothing may be skipped.
    pub(crate) fn new() -> Option<Fixture> {
        let may_skip = std::env::var_os("KILN_REQUIRE").is_none();
        if !sys::process::geteuid().is_root() && may_skip {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["root/bin", "upper", "work"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let bin = dir.path().join("root/bin");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("install busybox-static");
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        Some(Fixture { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the image.
    pub(crate) fn image_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path("root").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn root(&self) -> RootMount {
        self.root_of(vec![Lower::Dir(self.path("root"))])
    }

    pub(crate) fn root_of(&self, lowers: Vec<Lower>) -> RootMount {
        RootMount::Overlay {
            lowers,
            upper: self.path("upper"),
            work: self.path("work"),
            userxattr: false,
        }
    }

    pub(crate) fn spec(&self, script: &str) -> ProcessSpec {
        let mut spec = ProcessSpec::new(self.root(), ["/bin/sh", "-c", script]);
        spec.env.push(("PATH".into(), "/bin".into()));
        spec
    }

    /// Paths in the upper directory, sorted, directories with a slash.
    pub(crate) fn written(&self) -> String {
        let mut found = Vec::new();
        list(&self.path("upper"), Path::new(""), &mut found);
        found.sort();
        found.join(" ")
    }
}

fn list(base: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(base.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            found.push(format!("{}/", path.display()));
            list(base, &path, found);
        } else {
            found.push(path.display().to_string());
        }
    }
}

/// The helper that all tests share.
pub(crate) fn helper() -> &'static Helper {
    static HELPER: LazyLock<Helper> =
        LazyLock::new(|| Helper::program(env!("CARGO_BIN_EXE_runtime-probe")));
    &HELPER
}

/// What a container printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit: Exit,
}

#[track_caller]
pub(crate) fn run(spec: &ProcessSpec) -> Ran {
    match try_run(spec) {
        Ok(ran) => ran,
        Err(error) => panic!("{}", chain(&error)),
    }
}

pub(crate) fn try_run(spec: &ProcessSpec) -> Result<Ran, SpawnError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let outcome = spawn(helper(), spec)?
        .wait(|stream, bytes| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        })
        .expect("the container is waited for");
    Ok(Ran {
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
        exit: outcome.exit,
    })
}

/// Runs a script and compares what it prints; it must succeed.
#[track_caller]
pub(crate) fn check(spec: &ProcessSpec, expect: &str) {
    let ran = run(spec);
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!((all.as_str(), ran.exit), (expect, Exit::Code(0)));
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
