//! The same size and time with other bytes: an edit that only its content gives away is seen by the
//! next build. And what nobody copies is not looked at.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Project, output};

/// Longer than file systems take for two changes to have different times.
const SETTLED: Duration = Duration::from_millis(40);

/// Builds, and asserts that the image has what the project has.
#[track_caller]
fn check(project: &Project, what: &str) {
    let arguments = ["build", "-q", "-o", "type=tar,dest=../out.tar", "."];
    project.kiln(&arguments).success();
    let same = "[ \"$(tar -xOf ../out.tar d/f)\" = \"$(cat src/f)\" ] && echo same";
    assert_eq!(project.host(&format!("{same} || true")), "same\n", "{what}");
}

fn project() -> Project {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nCOPY src /d\n");
    project.write("src/f", "one");
    project.write("src/g", "other");
    project
}

#[test]
fn same_size_and_time_with_other_bytes() {
    let map = "python3 -c \"import mmap; f = open('src/f', 'r+b'); mmap.mmap(f.fileno(), 0)[:] = b'six'\"";
    let project = project();
    check(&project, "as it is");
    for (what, script) in [
        (
            "touch -r",
            "cp -p src/f ../r; printf two > src/f; touch -r ../r src/f",
        ),
        (
            "cp -p over it",
            "printf ten > ../new; touch -r src/f ../new; cp -p ../new src/f",
        ),
        (
            "a rename over it",
            "printf few > ../new; touch -r src/f ../new; mv ../new src/f",
        ),
        ("a write through a mapping", map),
        (
            "and its time put back",
            &format!(
                "cp -p src/f ../r; {}; touch -r ../r src/f",
                map.replace("six", "any")
            ),
        ),
        (
            "a swap with a file of the same time",
            "printf all > src/g; touch -r src/f src/g; mv src/f x; mv src/g src/f; mv x src/g",
        ),
        (
            "a clock that stands still",
            "printf now > src/f; touch -d '1 hour' src/f; printf yet > src/f; touch -d '1 hour' src/f",
        ),
    ] {
        // So that the file is remembered, and only then edited.
        std::thread::sleep(SETTLED);
        check(&project, "before");
        project.host(script);
        check(&project, what);
    }
}

#[test]
fn writes_right_after_a_build() {
    let project = project();
    for round in 100..120 {
        project.write("src/f", round.to_string());
        check(&project, &format!("round {round}"));
    }
}

/// As somebody who cannot read everything, so that reading it would be an error.
#[test]
fn what_is_ignored_or_not_copied_is_not_read() {
    let project = project();
    for name in ["ignored/deep/x", "beside/x", "src/skipped/x", "src/closed"] {
        project.write(name, "x");
    }
    project.write(".dockerignore", "ignored\n");
    project.host(&format!(
        "cp {} ../kiln; chmod 755 ../kiln; chmod -R a+rX ..; chmod 700 ignored beside src/skipped; chmod 600 src/closed
         mkdir -m 777 ../open",
        env!("CARGO_BIN_EXE_kiln")
    ));
    let build = |dockerfile: &str| {
        project.write("Dockerfile", format!("FROM scratch\n{dockerfile}\n"));
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(project.path("../kiln"))
            .args(["build", "-o", "type=tar,dest=../open/out.tar", "."])
            .env_clear()
            .env("HOME", project.path("../open"))
            .env("PATH", "/usr/bin:/bin")
            .env("KILN_ROOT", project.path("../open/store"))
            .current_dir(project.path("."));
        output(&mut command)
    };
    build("COPY --exclude=skipped --exclude=closed src /d").success();
    build("COPY src/f src/g /d/").success();
    build("COPY Docker* /d/").success();
    build("COPY ignored /d")
        .code(1)
        .says(&["does not exist", ".dockerignore:1"]);
    build("COPY beside /d")
        .code(1)
        .says(&["beside", "ermission denied"]);
    build("COPY src/skipped /d")
        .code(1)
        .says(&["src/skipped", "ermission denied"]);
    build("COPY --exclude=skipped src /d")
        .code(1)
        .says(&["src/closed", "ermission denied"]);
    build("COPY . /d").code(1).says(&["ermission denied"]);
}
