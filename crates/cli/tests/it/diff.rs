//! `kiln diff`: what is said of two images.

use serde_json::Value;

use crate::harness::{Project, Registry};

/// Builds both Dockerfiles, and returns what `kiln diff` says of the images.
#[track_caller]
fn compared(one: &str, two: &str) -> (Project, String) {
    let project = Project::with("");
    project.write("f", "content");
    project.write("g", "other content");
    for (name, text) in [("one", one), ("two", two)] {
        project.write("Dockerfile", format!("FROM busybox\n{text}"));
        project.kiln(&["build", "-q", "-t", name, "."]).success();
    }
    let done = project.kiln(&["diff", "one", "two"]);
    let code = i32::from(!done.succeeded());
    let text = done.code(code).stdout;
    (project, text)
}

#[track_caller]
fn check(one: &str, two: &str, expected: &str) {
    assert_eq!(compared(one, two).1, expected);
}

#[test]
fn equal_images() {
    check("COPY f /f\n", "COPY f /f\n", "");
}

#[test]
fn fields_of_the_config() {
    check(
        "ENV A=1\nUSER me\n",
        "ENV A=2\n",
        "config\n  \
           config.Env.1: \"A=1\" → \"A=2\"\n  \
           config.User: \"me\" only in the first\n  \
           history.4.created_by: \"ENV A=1\" → \"ENV A=2\"\n  \
           history.5.comment: \"buildkit.dockerfile.v0\" only in the first\n  \
           history.5.created: \"2000-01-01T00:00:00Z\" only in the first\n  \
           history.5.created_by: \"USER me\" only in the first\n  \
           history.5.empty_layer: true only in the first\n",
    );
}

#[test]
fn every_respect_in_which_files_differ() {
    let make = |script: &str| format!("RUN {script}\n");
    let one = make(
        "echo a > /content && echo b > /mode && echo c > /owner && ln -s x /target && touch /kind && \
         echo d > /one && ln /one /other && mkdir -p /only/first/deep && rm /etc/group",
    );
    let two = make(
        "echo ab > /content && echo b > /mode && chmod 600 /mode && echo c > /owner && chown 7:8 /owner && \
         ln -s y /target && mkdir /kind && echo d > /one && echo d > /other && mkdir -p /only/second",
    );
    let (_, text) = compared(&one, &two);
    let layer = text.split_once("layer 4 (").unwrap().1;
    let lines: Vec<&str> = layer.lines().skip(1).collect();
    let expected = [
        "  /content: 2 bytes → 3 bytes, content differs from byte 1 on",
        "  /etc/group: deleted in the first only",
        "  /kind: file of 0 bytes → directory, mode 644 → 755",
        "  /mode: mode 644 → 600",
        "  /only/first: only in the first",
        "  /only/second: only in the second",
        "  /other: hard link to /one → file of 2 bytes",
        "  /owner: owner 0:0 → 7:8",
        "  /target: link to x → link to y",
        // What a container sees, as far as it was not said yet.
        "files",
        "  /etc/group: only in the second",
        "  /other: hard link to /one → no hard link",
    ];
    let listed: Vec<&str> = lines
        .into_iter()
        .filter(|l| !l.starts_with("  /etc: "))
        .collect();
    assert_eq!(listed, expected, "{text}");
}

#[test]
fn the_same_files_in_other_layers() {
    let (_, text) = compared("COPY f g /d/\nRUN rm /d/g\n", "COPY f /d/\n");
    assert!(
        text.contains("layer 4 (COPY f g /d/ # buildkit)\n  all of it: only in the first\n"),
        "{text}"
    );
    assert!(
        text.contains("layer 4 (COPY f /d/ # buildkit)\n  all of it: only in the second\n"),
        "{text}"
    );
    assert!(!text.contains("files\n"), "{text}");
}

#[test]
fn the_time_of_the_build_is_no_difference() {
    // A layer of one image only, with a directory that a layer of both has too.
    let (_, text) = compared("", "RUN touch /etc/new\n");
    let (_, files) = text.split_once("files\n").expect(&text);
    assert_eq!(files, "  /etc/new: only in the second\n");
}

#[test]
fn answers_for_machines() {
    let (project, _) = compared(
        "RUN touch /here\n",
        "RUN touch /here /there && chmod 600 /here\n",
    );
    let json = project.kiln(&["diff", "--format", "json", "one", "two"]);
    let rows: Vec<Value> = serde_json::from_str(&json.code(1).stdout).unwrap();
    let of = |place: &str| {
        let rows = rows.iter().filter(|row| row["place"] == place);
        rows.map(|row| {
            format!(
                "{} {} {}",
                row["layer"], row["item"], row["reasons"][0]["aspect"]
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(
        of("layer"),
        ["4 \"/here\" \"mode\"", "4 \"/there\" \"added\""]
    );
    assert_eq!(
        of("files"),
        ["null \"/here\" \"mode\"", "null \"/there\" \"added\""]
    );
    assert_eq!(of("config").len(), 1);
}

#[test]
fn platforms_one_by_one() {
    let project = Project::new();
    project.write("f", "content");
    for (name, platforms, text) in [
        ("one", "linux/amd64,linux/arm64", "ENV A=$TARGETARCH"),
        ("two", "linux/amd64,linux/riscv64", "ENV A=amd64"),
    ] {
        project.write(
            "Dockerfile",
            format!("FROM scratch\nARG TARGETARCH\nCOPY f /f\n{text}\n"),
        );
        let arguments = ["build", "-q", "--platform", platforms, "-t", name, "."];
        project.kiln(&arguments).success();
    }
    let text = project.kiln(&["diff", "one", "two"]).code(1).stdout;
    assert_eq!(
        text,
        "linux/arm64: image\n  linux/arm64: only in the first\n\
         linux/riscv64: image\n  linux/riscv64: only in the second\n"
    );
}

#[test]
fn an_image_that_came_from_a_registry() {
    let registry = Registry::start();
    let name = format!("{}/app:1", registry.address);
    let project = Project::with("FROM busybox\nRUN echo a > /a && rm /etc/group\n");
    project
        .kiln(&["build", "-t", &name, "--push", "."])
        .success();
    let other = Project::with("FROM busybox\nRUN echo b > /a && rm /etc/group\n");
    other.build();
    other.kiln(&["pull", &name]).success();
    let text = other.kiln(&["diff", &name, "image"]).code(1).stdout;
    let layers = text.split_once("layer 4").unwrap().1;
    let files: Vec<&str> = layers.lines().skip(1).collect();
    assert_eq!(files, ["  /a: content differs from byte 0 on"]);
}

#[test]
fn trouble_is_no_difference() {
    let project = Project::with("FROM busybox\n");
    let missing = project.kiln(&["diff", "busybox", "nothing"]).code(2);
    drop(missing.says(&["there is no image nothing in the store"]));
}
