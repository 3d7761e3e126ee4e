//! The same bytes from the same inputs, whatever the surroundings.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::{Project, output, wrap};

const APP: &str = "FROM busybox AS build\n\
    COPY src /src\n\
    RUN mkdir /out && cat /src/* > /out/all && ln /out/all /out/again && touch /out/now\n\
    FROM busybox\n\
    WORKDIR /app\n\
    COPY --from=build /out/ ./\n\
    COPY src/a b/\n\
    RUN echo x > y && chmod 640 y\n";

fn project(age: u64) -> Project {
    let project = Project::with(APP);
    for (name, content) in [("src/b", "2"), ("src/a", "1"), ("src/deep/c", "3")] {
        project.write(name, content);
        let path = project.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let times = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(age));
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(times)
            .unwrap();
    }
    for directory in ["src", "src/deep"] {
        fs::set_permissions(project.path(directory), fs::Permissions::from_mode(0o755)).unwrap();
    }
    project.write("Dockerfile", APP.replace("cat /src/*", "cat /src/a /src/b"));
    project
}

/// Digest of the manifest that a build in these surroundings exports.
fn digest(project: &Project, change: impl FnOnce(&mut Command)) -> String {
    let arguments = [
        "build",
        "--metadata-file",
        "meta.json",
        "-o",
        "type=oci,dest=image.tar",
        "-t",
        "image",
        ".",
    ];
    let mut command = project.command(&arguments);
    change(&mut command);
    output(&mut command).success();
    let text = fs::read_to_string(project.path("meta.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    metadata["containerimage.digest"]
        .as_str()
        .unwrap()
        .to_string()
}

#[test]
fn directories_stores_umasks_and_ages_do_not_matter() {
    let first = digest(&project(10), |_| ());
    let second = digest(&project(100_000), |command| {
        // The shell's umask is inherited by what it executes.
        wrap(command, "umask 077; exec \"$0\" \"$@\"");
    });
    assert_eq!(first, second);
}

#[test]
fn another_clock_gives_the_same_bytes() {
    let first = digest(&project(10), |_| ());
    let second = digest(&project(10), |command| {
        // kiln itself believes that it is another year; the kernel does not.
        wrap(command, "exec faketime '2031-05-06 07:08:09' \"$0\" \"$@\"");
    });
    assert_eq!(first, second);
}

#[test]
fn warm_and_cold_builds_agree() {
    let project = project(10);
    let cold = digest(&project, |_| ());
    project.write("src/a", "other");
    let changed = digest(&project, |_| ());
    assert_ne!(cold, changed);
    project.write("src/a", "1");
    let path = project.path("src/a");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(digest(&project, |_| ()), cold);
}

#[test]
fn source_date_epoch_sets_the_times() {
    let project = project(10).env("SOURCE_DATE_EPOCH", "1000000000");
    digest(&project, |_| ());
    let shown: serde_json::Value =
        serde_json::from_str(&project.kiln(&["inspect", "image"]).success().stdout).unwrap();
    assert_eq!(shown[0]["Created"], "2001-09-09T01:46:40Z");
}
