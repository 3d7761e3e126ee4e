//! Images for several platforms, from nothing and from bases for several platforms.

use std::fs;

use serde_json::Value;

use crate::harness::{Output, Project, Registry, output, wrap_in};

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

/// Builds for another processor, in a user namespace of its own that has no emulators but the one
/// that `register` tells the kernel of (Linux 6.7 and later has such).
#[track_caller]
fn build_foreign(register: &str) -> (Project, Output) {
    let project = Project::with("FROM scratch\nCOPY foreign /bin/sh\nRUN echo run > /made\n");
    let mut program = fs::read("/bin/busybox").unwrap();
    // e_machine of an ELF file: 183 is AArch64.
    program[18..20].copy_from_slice(&183_u16.to_le_bytes());
    project.write("foreign", program);
    project.host("chmod 755 foreign");
    let arguments = ["build", "--platform", "linux/arm64", "-o", "out", "."];
    let mut command = project.command(&arguments);
    let handlers = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc";
    let script = format!("set -e; {handlers}; {register} exec \"$0\" \"$@\"");
    let apart = ["unshare", "--user", "--map-root-user", "--mount"];
    wrap_in(&mut command, &apart, &script);
    let output = output(&mut command);
    (project, output)
}

#[test]
fn a_foreign_program_runs_where_the_kernel_has_an_emulator() {
    // busybox takes the program's path for the name of the applet: `busybox /bin/sh -c …`. The
    // kernel holds it open (F), so that no container needs to have it.
    let magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
    let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
    let register = format!(
        "printf '%s' ':aarch64:M::{magic}:{mask}:/bin/busybox:F' > /proc/sys/fs/binfmt_misc/register;"
    );
    let (project, output) = build_foreign(&register);
    output.success();
    let made = fs::read_to_string(project.path("out/made"));
    assert_eq!(made.unwrap(), "run\n");
}

#[test]
fn a_foreign_program_without_an_emulator_says_what_to_install() {
    let (_, output) = build_foreign("");
    output.code(1).says(&[
        "\"/bin/sh\" is a binary for aarch64, not for",
        "help: a program of another processor needs an emulator that the kernel knows: \
         install qemu-user-static (Debian, Ubuntu), or run \
         `docker run --privileged --rm tonistiigi/binfmt --install all`",
    ]);
}
