//! Building twice, and comparing images.

use std::fs;

use crate::harness::Project;

const STEADY: &str = "FROM busybox AS build\nCOPY . /src\nRUN cp /src/f /g && ln /g /h && mkdir -p /d && umask > /u\n\
    FROM busybox\nCOPY --from=build /g /h /u /made/\nWORKDIR /made\nCOPY f copied\n";

#[test]
fn a_build_that_depends_on_its_inputs_alone() {
    let project = Project::with(STEADY);
    project.write("f", "content");
    let done = project.kiln(&["build", "--verify", "-t", "image", "."]);
    drop(
        done.success()
            .says(&["verified: the second build made the same image"]),
    );
    let beside = fs::read_dir(project.store().parent().unwrap()).unwrap();
    let left = beside
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("kiln-verify")
        })
        .count();
    assert_eq!(left, 0, "the second store goes away");
    project.kiln(&["run", "--rm", "image", "true"]).success();
}

#[test]
fn the_step_and_the_file_that_differ() {
    let project = Project::with(
        "FROM busybox\nCOPY f /f\nRUN echo same > /same && date +%s > /when && cat /when > /again\n",
    );
    project.write("f", "content");
    let done = project.kiln(&["build", "--verify", "."]).code(1).says(&[
        "RUN /bin/sh -c echo same",
        "/when: content differs from byte",
        "/again: content differs from byte",
        "error: the second build made another image",
    ]);
    assert!(!done.stderr.contains("  /same:"), "{}", done.stderr);
}

/// Builds twice; of all lines about files, these are expected and no others.
#[track_caller]
fn check(run: &str, expected: &[&str]) {
    let project = Project::with(&format!("FROM busybox\nCOPY . /src\nRUN {run}\n"));
    for number in 0..40 {
        project.write(&format!("f{number}"), "content");
    }
    let ended = project.kiln(&["build", "--verify", "--progress", "quiet", "."]);
    let done = ended.code(i32::from(!expected.is_empty()));
    let files = done.stderr.lines().filter(|line| line.starts_with("  /"));
    let files: Vec<&str> = files
        .map(|line| line.trim_start().split(": ").next().unwrap())
        .collect();
    assert_eq!(files, expected, "{}", done.stderr);
    let step = done.stderr.contains("layer 5 (RUN /bin/sh -c");
    assert_eq!(step, !expected.is_empty(), "{}", done.stderr);
}

#[test]
fn surroundings_that_a_command_writes_down() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let several: &[&str] = if processors > 1 { &["/cores"] } else { &[] };
    check("nproc > /cores", several);
    check(
        "echo $RANDOM$RANDOM$RANDOM > /random && echo 1 > /one",
        &["/random"],
    );
    let info = Project::new().kiln(&["info"]).success().stdout;
    let mounted = !info.contains("layers are mounted as: directories");
    let order: &[&str] = if mounted { &["/order"] } else { &[] };
    check("find /src > /order && find /src | sort > /sorted", order);
}

#[test]
fn surroundings_that_do_not_reach_a_command() {
    check(
        "umask > /u && id > /i && env > /e && hostname > /n && pwd > /p && ls -ln /src/f1 | cut -c1-30 > /l",
        &[],
    );
}

#[test]
fn a_context_that_can_be_read_once() {
    let project = Project::with("FROM busybox\n");
    project.host("tar -cf context.tar Dockerfile");
    let refused = project.kiln_reading(&["build", "--verify", "-"], "context.tar");
    drop(refused.code(1).says(&["standard input can be read once"]));
}
