//! `RUN --device` and `kiln run --device`: devices as specification files describe them.

use crate::harness::{Done, Output, Project, output, wrap_in};
use crate::limits::AS_ANOTHER_USER;
use crate::mounts::lines;

/// A project whose configuration names `first` and `second` as directories of specifications, in
/// the first of which a file describes the devices `full` and `null`.
fn project(dockerfile: &str) -> Project {
    let project = Project::with(dockerfile);
    let [first, second] = ["first", "second"].map(|name| project.path(name));
    project.write(
        "kiln.toml",
        format!("[cdi]\nspecDirs = [{first:?}, {second:?}]\n"),
    );
    project.write("shared/file", "of the machine\n");
    let shared = project.path("shared");
    project.write(
        "first/vendor.yaml",
        format!(
            "cdiVersion: 0.7.0\nkind: vendor.com/sink\n\
             containerEdits:\n  env: [COMMON=yes]\n  additionalGids: [4321]\n\
             devices:\n\
             - name: full\n  containerEdits:\n    env: [KIND=full]\n    deviceNodes:\n    \
               - {{path: /dev/vendor0, hostPath: /dev/full}}\n    \
               - {{path: /opt/vendor/node, hostPath: /dev/full, type: c, major: 1, minor: 7, fileMode: 0640, uid: 5, gid: 6}}\n    \
               mounts:\n    - {{hostPath: {}, containerPath: /usr/lib/vendor, options: [ro, nosuid, nodev, bind]}}\n\
             - name: 'null'\n  annotations: {{org.mobyproject.buildkit.device.class: quiet}}\n  \
               containerEdits:\n    deviceNodes: [{{path: /dev/vendor1, hostPath: /dev/null}}]\n",
            shared.display()
        ),
    );
    project
}

fn try_build(project: &Project, more: &[&str]) -> Output {
    let arguments: Vec<&str> = ["build", "--config", "kiln.toml", "--progress", "plain"]
        .into_iter()
        .chain(more.iter().copied())
        .chain(["-t", "image", "."])
        .collect();
    project.kiln(&arguments)
}

#[track_caller]
fn build(project: &Project) -> Done {
    try_build(project, &["--allow", "device"]).success()
}

#[test]
fn a_step_gets_what_its_device_needs_and_the_layer_nothing_of_it() {
    let project = project(
        "FROM busybox\nUSER user\n\
         RUN --device=vendor.com/sink=full,required \
            (echo x > /dev/vendor0) 2>&1 | sed 's/.*: /> /'; \
            stat -c '> %a %u %g %t:%T' /opt/vendor/node; \
            sed 's/^/> /' /usr/lib/vendor/file; \
            (echo x > /usr/lib/vendor/new) 2>&1 | sed 's/.*: /> /'; \
            echo \"> $COMMON $KIND $(id -G)\"\n\
         USER root\n\
         RUN echo \"> $(ls /dev | grep -c vendor) $COMMON $(id -G) $KIND\"\n",
    );
    let done = build(&project);
    let expect = [
        "No space left on device",
        "640 5 6 1:7",
        "of the machine",
        "Read-only file system",
        "yes full 1001 2000 4321",
        "0  0 ",
    ];
    assert_eq!(lines(&done), expect);
    // Neither nodes nor the directories that were made for them.
    let files = project
        .shell("find / -xdev \\( -path '*vendor*' -o -path '/opt*' \\) | grep -v ^/proc || true");
    assert_eq!(files, "");
    // A step that was cached needs no device.
    project.host("rm -r first");
    assert_eq!(
        try_build(&project, &[]).success().executed(),
        Vec::<String>::new()
    );
}

#[test]
fn names_classes_and_priorities() {
    #[track_caller]
    fn check(project: &Project, flags: &str, expect: &str) {
        let file = format!("FROM busybox\nRUN {flags} echo \"> $(cd /dev; echo vendor*)$KIND\"\n");
        project.write("Dockerfile", file);
        assert_eq!(lines(&build(project)), [expect], "{flags}");
    }
    let project = project("");
    check(&project, "--device=vendor.com/sink=null", "vendor1");
    check(&project, "--device=vendor.com/sink", "vendor0full");
    check(
        &project,
        "--device=vendor.com/sink=*",
        "vendor0 vendor1full",
    );
    check(&project, "--device=name=vendor.com/sink=quiet", "vendor1");
    let two = "--device=vendor.com/sink=null --device=vendor.com/sink=full,required";
    check(&project, two, "vendor0 vendor1full");
    // A later directory wins.
    project.write(
        "second/vendor.json",
        r#"{"cdiVersion": "0.5.0", "kind": "vendor.com/sink", "devices": [{"name": "full",
            "containerEdits": {"env": ["KIND=other"]}}]}"#,
    );
    check(&project, "--device=vendor.com/sink=full", "vendor*other");
}

#[test]
fn a_device_that_is_not_there() {
    let file =
        |flag: &str| format!("FROM busybox\nRUN --device={flag} echo '> ran'; ls /dev/vendor*\n");
    let project = project(&file("vendor.com/sink=none,required"));
    let done = try_build(&project, &["--allow", "device"]).code(1);
    assert!(!done.stderr.contains("> ran\n"), "{}", done.stderr);
    let first = project.path("first").display().to_string();
    let second = project.path("second").display().to_string();
    let done = done.says(&[
        "cannot give the step the device `vendor.com/sink=none`",
        &format!("no specification describes it: looked in {first}, {second}"),
        "Dockerfile:2",
    ]);
    drop(done);
    // Left out, and said so, if it is not required.
    project.write(
        "Dockerfile",
        file("vendor.com/sink=none").replace("; ls /dev/vendor*", ""),
    );
    let done = try_build(&project, &[]).success();
    assert_eq!(lines(&done), ["ran"]);
    drop(done.says(&["device `vendor.com/sink=none` is left out: no specification"]));
    // A file that is not understood may be the one that was meant.
    project.write(
        "second/broken.json",
        "{\"cdiVersion\": \"0.6.0\", \"kinds\": 1}",
    );
    project.write("Dockerfile", file("vendor.com/sink=none,required"));
    let done = try_build(&project, &["--allow", "device"]).code(1);
    drop(done.says(&[
        "not understood:",
        "second/broken.json: unknown field `kinds`",
    ]));
    project.write("Dockerfile", file("sink"));
    let done = try_build(&project, &["--allow", "device"]).code(1);
    drop(done.says(&["write vendor.com/class, vendor.com/class=name or vendor.com/class=*"]));
}

#[test]
fn a_device_has_to_be_allowed() {
    let project = project("FROM busybox\nRUN --device=vendor.com/sink=full echo '> ran'\n");
    #[track_caller]
    fn check(project: &Project, allow: &[&str], is_allowed: bool) {
        let built = try_build(project, &[allow, &["--no-cache"]].concat());
        if is_allowed {
            assert_eq!(lines(&built.success()), ["ran"]);
        } else {
            drop(built.code(1).says(&[
                "the step needs the entitlement device: allow it with --allow device, or only \
                 this one with --allow device=vendor.com/sink=full",
            ]));
        }
    }
    check(&project, &[], false);
    check(&project, &["--allow", "security.insecure"], false);
    check(&project, &["--allow", "device=vendor.com/sink=null"], false);
    check(&project, &["--allow", "device=vendor.com"], false);
    check(&project, &["--allow", "device=vendor.com/sink=full"], true);
    check(&project, &["--allow", "device=vendor.com/sink"], true);
    check(&project, &["--allow", "device"], true);
    // Whoever describes it may let all have it.
    project.host("sed -i 's/^kind:/annotations: {org.mobyproject.buildkit.device.autoallow: \"true\"}\\nkind:/' first/vendor.yaml");
    check(&project, &[], true);
    let done = try_build(&project, &["--allow", "devices"]).code(1);
    drop(done.says(&["kiln knows `network.host`, `security.insecure` and `device[=NAME]`"]));
}

#[test]
fn what_is_not_done_for_a_device_is_an_error() {
    let project = project("FROM busybox\nRUN --device=vendor.com/odd=a echo '> ran'\n");
    let check = |edits: &str, expect: &str| {
        project.write(
            "second/odd.yaml",
            format!(
                "cdiVersion: 1.1.0\nkind: vendor.com/odd\ndevices:\n- name: a\n  containerEdits: {{{edits}}}\n"
            ),
        );
        let done = try_build(&project, &["--allow", "device"]).code(1);
        assert!(!done.stderr.contains("> ran\n"), "{}", done.stderr);
        drop(done.says(&["cannot give the step the device `vendor.com/odd=a`", expect]));
    };
    check(
        "hooks: [{hookName: createContainer, path: /usr/bin/vendor-hook, args: [x]}]",
        "second/odd.yaml asks for the hook /usr/bin/vendor-hook (createContainer), a program of \
         this machine that would change the container's files",
    );
    check("intelRdt: {closID: x}", "asks for a class of cache");
    check(
        "netDevices: [{hostInterfaceName: eth9, name: eth0}]",
        "asks for network devices",
    );
    check(
        "deviceNodes: [{path: /dev/no-such-device}]",
        "find /dev/no-such-device: No such file",
    );
    check(
        "deviceNodes: [{path: /dev/x, hostPath: /etc/passwd}]",
        "/etc/passwd is no device",
    );
    check(
        "deviceNodes: [{path: /dev/x, type: p}]",
        "asks for a node of type `p`",
    );
    check(
        "mounts: [{hostPath: /no/such, containerPath: /x}]",
        "find /no/such: No such file",
    );
    check(
        "mounts: [{hostPath: /etc, containerPath: /x, type: overlay}]",
        "asks for a mount of type `overlay`",
    );
    check(
        "mounts: [{hostPath: /etc, containerPath: /x, options: [rshared]}]",
        "asks for a mount with the option `rshared`",
    );
}

#[test]
fn an_ordinary_user_has_the_machine_s_nodes() {
    let project = project(
        "FROM busybox\nRUN --device=vendor.com/sink=full,required \
            for node in /dev/vendor0 /opt/vendor/node; do \
                stat -c '> %t:%T' $node; (echo x > $node) 2>&1 | sed 's/.*: /> /'; done\n\
         RUN echo \"> $(ls -d /opt 2>&1 | wc -l) $(test -e /opt; echo $?)\"\n",
    );
    let flags = ["--config", "kiln.toml", "--allow", "device"];
    let arguments: Vec<&str> = ["build", "--progress", "plain"]
        .into_iter()
        .chain(flags)
        .chain(["."])
        .collect();
    let mut build = project.command(&arguments);
    wrap_in(&mut build, &["/usr/bin/env"], AS_ANOTHER_USER);
    let full = "No space left on device";
    let expect = ["1:7", full, "1:7", full, "1 1"];
    assert_eq!(lines(&output(&mut build).success()), expect);
}

#[test]
fn containers_have_devices_too() {
    let project = project("FROM busybox\nUSER user\n");
    build(&project);
    let run = |devices: &[&str], script: &str| {
        let all: Vec<&str> = ["run", "--rm", "--config", "kiln.toml"]
            .into_iter()
            .chain(devices.iter().copied())
            .chain(["image", "sh", "-c", script])
            .collect();
        project.kiln(&all)
    };
    let write = "echo x > /dev/vendor0";
    let done = run(&["--device", "vendor.com/sink=full"], write).code(1);
    drop(done.says(&["No space left on device"]));
    let done = run(&["--device", "/dev/full:/dev/vendor0"], write).code(1);
    drop(done.says(&["No space left on device"]));
    let done = run(
        &["--device", "/dev/full:/dev/vendor0:rw"],
        "ls /dev/vendor0",
    )
    .success();
    assert_eq!(done.stdout, "/dev/vendor0\n");
    // All of a directory.
    let done = run(
        &["--device", "/dev/pts:/dev/terminals"],
        "ls /dev/terminals",
    );
    let shown = done.success().stdout;
    assert!(shown.contains("ptmx"), "{shown}");
    let refused = |device: &str, says: &str| {
        drop(
            run(&["--device", device], "echo ran")
                .code(125)
                .says(&[says]),
        );
    };
    refused(
        "vendor.com/sink=none",
        "use the device `vendor.com/sink=none`: no specification",
    );
    refused("/etc/passwd", "/etc/passwd is no device");
    refused("/dev/no-such", "find /dev/no-such: No such file");
    refused("/dev/null:/dev/x:r", "a device is for reading and writing");
    refused("/dev/null:x", "the target must be an absolute path");
}
