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

#[test]
fn two_images_compared() {
    let project =
        Project::with("FROM busybox\nENV A=1\nCOPY f /f\nRUN touch /here && chmod 600 /here\n");
    project.write("f", "content");
    project.build();
    project.kiln(&["tag", "image", "one"]).success();
    project.kiln(&["diff", "image", "one"]).success();
    project.write(
        "Dockerfile",
        "FROM busybox\nENV A=2\nCOPY f /f\nRUN touch /here /there && chmod 640 /here\n",
    );
    project.write("f", "contents");
    project.build();
    let found = project.kiln(&["diff", "one", "image"]).code(1).stdout;
    for line in [
        "\"A=1\" → \"A=2\"",
        "/f: kind file of 7 bytes → file of 8 bytes, content differs from byte 7 on",
        "/here: mode 600 → 640",
        "/there: only in the second",
    ] {
        assert!(found.contains(line), "{line}:\n{found}");
    }
    let json = project.kiln(&["diff", "--format", "json", "one", "image"]);
    let rows: serde_json::Value = serde_json::from_str(&json.code(1).stdout).unwrap();
    assert!(rows.as_array().unwrap().len() > 4, "{rows}");
}
