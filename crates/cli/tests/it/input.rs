//! Bad input: what is said, which exit code, and that the store still works afterwards.

use crate::harness::Project;

#[track_caller]
fn check(project: &Project, arguments: &[&str], says: &[&str]) {
    let all: Vec<&str> = ["build"].iter().chain(arguments).copied().collect();
    project.kiln(&all).code(1).says(says);
}

#[test]
fn no_dockerfile_and_an_empty_one() {
    let project = Project::new();
    check(&project, &["."], &["there is no Dockerfile", "--file"]);
    project.write("dockerfile.prod", "FROM scratch\n");
    check(&project, &["."], &["dockerfile.prod"]);
    project.write("Dockerfile", "");
    check(&project, &["."], &["file with no instructions"]);
    check(&project, &["no-such-directory"], &["no-such-directory"]);
}

#[test]
fn mistakes_of_the_language_have_a_place_and_a_suggestion() {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nCOPPY a b\n");
    check(
        &project,
        &["."],
        &["Dockerfile:2:1", "unknown instruction", "COPY"],
    );
    project.write("Dockerfile", "FROM scratch AS build\nFROM scratch\nCOPY --from=biuld /a /b\nRUN --mount=type=cahce,target=/x true\n");
    check(&project, &["."], &["Dockerfile:4:", "cache"]);
}

#[test]
fn a_missing_source_names_the_rule_that_hides_it() {
    let project = Project::with("FROM busybox\nCOPY secret.txt /\n");
    check(&project, &["."], &["Dockerfile:2", "secret.txt"]);
    project.write("secret.txt", "x");
    project.write(".dockerignore", "# no secrets\n*.txt\n");
    check(&project, &["."], &["secret.txt", ".dockerignore:2"]);
    project.write("Dockerfile", "FROM busybox\nCOPY sorce /\n");
    project.write("source", "x");
    check(&project, &["."], &["sorce", "source"]);
}

#[test]
fn a_device_that_a_step_needs_is_not_left_out_in_silence() {
    let project = Project::with("FROM busybox\nRUN --device=vendor.com/gpu=0,required true\n");
    check(&project, &["."], &["Dockerfile:2", "vendor.com/gpu=0"]);
    project.write(
        "Dockerfile",
        "FROM busybox\nRUN --device=vendor.com/gpu=0 true\n",
    );
    project.kiln(&["build", "."]).code(0);
}

#[test]
fn an_unknown_base_image_and_a_registry_that_is_down() {
    let project = Project::new();
    project.write("Dockerfile", "FROM 127.0.0.1:1/no/such:image\n");
    check(&project, &["."], &["Dockerfile:1", "127.0.0.1:1"]);
    let registry = crate::harness::Registry::start();
    project.write(
        "Dockerfile",
        format!("FROM {}/no/such:image\n", registry.address),
    );
    check(&project, &["."], &["Dockerfile:1", "no/such"]);
}

#[test]
fn a_registry_that_lies_about_a_digest() {
    let publisher = Project::with("FROM busybox\nRUN echo x > /f\n");
    let registry = testkit::Registry::start();
    let name = format!("{}/base", registry.host());
    publisher
        .kiln(&["build", "-q", "-t", &name, "--push", "."])
        .success();
    let project = Project::new();
    project.write("Dockerfile", format!("FROM {name}\nRUN echo y > /g\n"));
    // Every blob that is fetched has one bit turned over: the config first, then the layers.
    registry.fault("GET", "/blobs/", 100, testkit::Effect::Corrupt);
    check(&project, &["."], &["Dockerfile:1", "digest"]);
    let honest = testkit::Registry::start();
    publisher
        .kiln(&["tag", &name, &format!("{}/base", honest.host())])
        .success();
    publisher
        .kiln(&["push", &format!("{}/base", honest.host())])
        .success();
    project.write(
        "Dockerfile",
        format!("FROM {}/base\nRUN cat /f > /g\n", honest.host()),
    );
    project.build();
    assert_eq!(project.shell("cat /g"), "x\n");
}

#[test]
fn a_target_that_does_not_exist() {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch AS release\n");
    check(
        &project,
        &["--target", "relaese", "."],
        &["relaese", "release"],
    );
}

#[test]
fn a_configuration_with_an_unknown_key() {
    let project = Project::new();
    project.write("config.toml", "[registry.\"docker.io\"]\nmirorrs = []\n");
    project
        .kiln(&["--config", "config.toml", "images"])
        .code(1)
        .says(&["mirorrs", "mirrors", "config.toml"]);
}

#[test]
fn the_store_works_after_failures() {
    let project = Project::with("FROM busybox\nRUN false\n");
    check(&project, &["."], &["exit code: 1"]);
    project.write("Dockerfile", "FROM busybox\nRUN true\n");
    project.build();
    let report = project.kiln(&["doctor"]).success().stdout;
    assert!(report.contains(" 0 dropped"), "{report}");
}
