//! Images for several platforms, from nothing and from bases for several platforms.

use std::fs;

use serde_json::Value;

use crate::harness::{Project, Registry};

const BOTH: &str = "linux/amd64,linux/arm64";

fn blob(project: &Project, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    let path = format!("layout/blobs/{}", digest.replace(':', "/"));
    serde_json::from_str(&fs::read_to_string(project.path(&path)).unwrap()).unwrap()
}

/// The index of a build for both platforms, and the configs of its images.
#[track_caller]
fn build(project: &Project, platforms: &str) -> (Vec<String>, Vec<Value>) {
    let output = "type=oci,dest=layout,tar=false";
    project
        .kiln(&["build", "-q", "--platform", platforms, "-o", output, "."])
        .success();
    let text = fs::read_to_string(project.path("layout/index.json")).unwrap();
    let top: Value = serde_json::from_str(&text).unwrap();
    let index = blob(project, &top["manifests"][0]);
    let images = index["manifests"].as_array().unwrap().clone();
    let names = images.iter().map(|image| {
        let platform = &image["platform"];
        let part = |name: &str| platform[name].as_str().unwrap().to_string();
        format!("{}/{}", part("os"), part("architecture"))
    });
    let configs = images
        .iter()
        .map(|image| blob(project, &blob(project, image)["config"]));
    (names.collect(), configs.collect())
}

#[test]
fn an_index_in_the_order_of_the_request() {
    let project = Project::new();
    project.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY f-$TARGETARCH /f\nLABEL arch=$TARGETARCH\n",
    );
    project.write("f-amd64", "one");
    project.write("f-arm64", "another");
    for platforms in [BOTH, "linux/arm64,linux/amd64"] {
        let (names, configs) = build(&project, platforms);
        assert_eq!(names.join(","), platforms);
        for (name, config) in names.iter().zip(&configs) {
            let arch = name.strip_prefix("linux/").unwrap();
            assert_eq!(config["architecture"], arch);
            assert_eq!(config["config"]["Labels"]["arch"], arch);
        }
        assert_ne!(
            configs[0]["rootfs"]["diff_ids"],
            configs[1]["rootfs"]["diff_ids"]
        );
    }
}

#[test]
fn a_base_for_both_platforms_gives_each_its_own() {
    let registry = Registry::start();
    let base = format!("{}/base:1", registry.address);
    let publisher = Project::new();
    publisher.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n",
    );
    publisher.write("amd64", "made for amd64");
    publisher.write("arm64", "made for arm64");
    publisher
        .kiln(&["build", "--platform", BOTH, "-t", &base, "--push", "."])
        .success();

    let project = Project::new();
    project.write(
        "Dockerfile",
        format!("FROM {base} AS base\nFROM scratch\nCOPY --from=base /arch /copied\nCOPY f /f\n"),
    );
    project.write("f", "content");
    let files = "type=local,dest=files";
    project
        .kiln(&["build", "--platform", BOTH, "-o", files, "."])
        .success();
    for arch in ["amd64", "arm64"] {
        let copied = fs::read_to_string(project.path(&format!("files/linux_{arch}/copied")));
        assert_eq!(copied.unwrap(), format!("made for {arch}"));
    }

    project.write("Dockerfile", format!("FROM {base}\nCOPY f /f\n"));
    let (names, configs) = build(&project, BOTH);
    assert_eq!(names.join(","), BOTH);
    assert_eq!(configs[1]["architecture"], "arm64");
    assert_eq!(
        configs[1]["rootfs"]["diff_ids"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn one_push_of_an_index_and_another_that_sends_nothing() {
    let registry = Registry::start();
    let name = format!("{}/app:1", registry.address);
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nCOPY f /f\n");
    project.write("f", "content");
    let push = || {
        project
            .kiln(&["build", "--platform", BOTH, "-t", &name, "--push", "."])
            .success();
        let requests = registry.take_requests();
        requests.iter().filter(|r| r.starts_with("PUT")).count()
    };
    // One layer, which both share; two configs, two manifests, one index.
    assert_eq!(push(), 6);
    assert_eq!(push(), 0);
}

#[test]
fn a_foreign_program_without_an_emulator_says_what_to_install() {
    if fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() == "qemu-aarch64"))
    }) {
        return;
    }
    let project =
        Project::with("FROM busybox AS base\nFROM scratch\nCOPY foreign /bin/sh\nRUN true\n");
    let mut program = fs::read("/bin/busybox").unwrap();
    // e_machine of an ELF file: 183 is AArch64.
    program[18..20].copy_from_slice(&183_u16.to_le_bytes());
    project.write("foreign", program);
    let mut permissions = fs::metadata(project.path("foreign")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(project.path("foreign"), permissions).unwrap();
    let failed = project.kiln(&["build", "--platform", "linux/arm64", "."]);
    failed
        .code(1)
        .says(&["is a binary for aarch64", "qemu-user-static"]);
}
