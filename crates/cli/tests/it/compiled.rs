//! Compiled Python files whose source an earlier step brought: the time that they name is that of
//! the source in the image, whenever it was checked out or written.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Project, tool};

/// 2001-09-09T01:46:40Z.
const EPOCH: &str = "1000000000";

/// Writes what Python would, as far as it says what it was compiled from.
const COMPILE: &str = r#"#!/bin/sh
set -e
number() {
    for shift in 0 8 16 24; do printf "\\$(printf %03o $(($1 >> shift & 255)))"; done
}
for source; do
    cache=${source%/*}/__pycache__
    name=${source##*/}
    mkdir -p $cache
    {
        printf '\313\015\r\n\0\0\0\0'
        number $(stat -L -c %Y $source)
        number $(stat -L -c %s $source)
        printf code
    } > $cache/${name%.py}.cpython-312.pyc
done
"#;

/// Sources come with a COPY and a RUN; compiled files with a RUN, through a link, and a COPY. The last
/// step finds them valid.
const DOCKERFILE: &str = "FROM busybox AS compiler\n\
    COPY --chmod=755 compile /bin/compile\n\
    FROM compiler AS build\n\
    COPY copied.py /app/\n\
    RUN compile /app/copied.py\n\
    FROM compiler\n\
    COPY app.py copied.py /app/\n\
    RUN echo 'print(1)' > /app/made.py && ln -s /app /linked\n\
    RUN compile /linked/app.py /app/made.py\n\
    COPY --from=build /app/__pycache__ /app/__pycache__\n\
    RUN cp -r /app /tmp/app && cp -a /app/*.py /tmp/app && compile /tmp/app/*.py && \
        diff -r /app /tmp/app && rm -r /tmp/app\n";

fn project(checkout: u64) -> Project {
    let project = Project::with(DOCKERFILE);
    project.write("compile", COMPILE);
    for (name, later) in [("app.py", 0), ("copied.py", 77)] {
        project.write(name, "print('module')\n");
        let times = UNIX_EPOCH + Duration::from_secs(checkout + later);
        let file = File::options().write(true).open(project.path(name));
        let times = FileTimes::new().set_modified(times);
        file.unwrap().set_times(times).unwrap();
    }
    project
}

/// Builds, and returns the image's id.
fn id(project: &Project, timestamp: &str) -> String {
    let arguments = ["build", "-q", "--timestamp", timestamp, "."];
    project.kiln(&arguments).success().stdout
}

/// Builds, and has the image's files written by a program that knows nothing but tar.
fn files(project: &Project, timestamp: &str) {
    let output = "type=oci,dest=layout,tar=false,compression=uncompressed";
    let arguments = ["build", "-q", "--timestamp", timestamp, "-o", output, "."];
    project.kiln(&arguments).success();
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        project.path(&format!("layout/blobs/{}", digest.replace(':', "/")))
    };
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = read(&project.path("layout/index.json"));
    let manifest = read(&blob(&index["manifests"][0]));
    let files = project.path("files");
    fs::create_dir(&files).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let (tar, files) = (blob(layer), files.to_str().unwrap());
        tool("tar", &["-xf", tar.to_str().unwrap(), "-C", files]).success();
    }
}

#[track_caller]
fn check_valid(timestamp: &str) {
    let project = project(1_500_000_000);
    files(&project, timestamp);
    for name in ["app", "made", "copied"] {
        let source = project.path(&format!("files/app/{name}.py"));
        let source = fs::metadata(source).unwrap().modified().unwrap();
        let seconds = source.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let compiled = format!("files/app/__pycache__/{name}.cpython-312.pyc");
        let compiled = fs::read(project.path(&compiled)).unwrap();
        let named = u32::from_le_bytes(compiled[8..12].try_into().unwrap());
        assert_eq!(u64::from(named), seconds, "{name}, {timestamp}");
    }
}

#[test]
fn the_image_has_the_time_of_the_source_that_it_has() {
    for timestamp in ["auto", EPOCH, "preserve"] {
        check_valid(timestamp);
    }
}

#[test]
fn when_the_source_was_checked_out_does_not_show() {
    let (first, second) = (project(1_500_000_000), project(1_600_000_000));
    for timestamp in ["auto", EPOCH] {
        assert_eq!(id(&first, timestamp), id(&second, timestamp), "{timestamp}");
    }
    // Nor do the times that the layers were given for another image before.
    let fresh = project(1_550_000_000);
    assert_eq!(id(&fresh, EPOCH), id(&first, EPOCH));
    assert_eq!(id(&fresh, "auto"), id(&first, "auto"));
}
