//! What a `RUN` gets, and what it must leave behind nothing of.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::harness::{Done, Project};

/// Builds a Dockerfile over busybox and returns what the last step printed on lines `> …`.
#[track_caller]
pub(crate) fn printed(dockerfile: &str, flags: &[&str]) -> Vec<String> {
    lines(&build(&Project::with(dockerfile), flags))
}

#[track_caller]
pub(crate) fn build(project: &Project, flags: &[&str]) -> Done {
    let mut arguments = vec!["build", "--progress", "plain", "-t", "image"];
    arguments.extend(flags);
    arguments.push(".");
    project.kiln(&arguments).success()
}

pub(crate) fn lines(done: &Done) -> Vec<String> {
    // `#2 0.034 > text`; a command line with ` > ` in it has no time before that.
    let lines = done
        .stderr
        .lines()
        .filter_map(|line| line.split_once(" > "));
    let lines = lines.filter(|(start, _)| {
        let time = start.split_once(' ').map(|(_, time)| time);
        time.is_some_and(|time| time.parse::<f64>().is_ok())
    });
    lines.map(|(_, text)| text.to_string()).collect()
}

#[test]
fn the_process_of_a_step() {
    #[track_caller]
    fn check(instructions: &str, command: &str, flags: &[&str], expected: &str) {
        let file = format!("FROM busybox\n{instructions}RUN ( {command} ) | sed 's/^/> /'\n");
        assert_eq!(printed(&file, flags).join(" "), expected, "{file}");
    }
    check("", "id -u; id -G", &[], "0 0");
    check(
        "USER user\n",
        "sh -c 'id -u; id -g; id -G; echo $HOME'",
        &[],
        "1000 1001 1001 2000 /home/user",
    );
    check(
        "USER 77\n",
        "sh -c 'id -u; id -G; echo $HOME'",
        &[],
        "77 0 /",
    );
    check("USER user:extra\n", "id -G", &[], "2000");
    check(
        "",
        "sh -c 'umask; hostname; pwd'",
        &[],
        "0022 buildkitsandbox /",
    );
    check(
        "WORKDIR /a/b\nENV X=1\n",
        "sh -c 'pwd; echo $X'",
        &[],
        "/a/b 1",
    );
    check(
        "",
        "sh -c 'ulimit -n'",
        &["--ulimit", "nofile=123:456"],
        "123",
    );
    check(
        "",
        "sh -c \"df -k /dev/shm | awk 'NR==2{print \\$2}'\"",
        &["--shm-size", "8m"],
        "8192",
    );
    check(
        "",
        "grep -w machine /etc/hosts",
        &["--add-host", "machine:10.1.2.3"],
        "10.1.2.3\tmachine",
    );
    check(
        "",
        "sh -c 'readlink /proc/self/fd/0; test -t 1 || echo none'",
        &[],
        "/dev/null none",
    );
    check(
        "",
        "sh -c 'cat /proc/keys /proc/kcore /proc/timer_list 2>/dev/null | wc -c; echo 1 > /proc/sys/kernel/hostname || echo kept'",
        &[],
        "0 kept",
    );
    check(
        "",
        "sh -c 'grep Seccomp: /proc/self/status | cut -f2; grep CapEff /proc/self/status | cut -f2'",
        &[],
        "2 00000000a80425fb",
    );
}

#[test]
fn networks_and_privileges_that_must_be_allowed() {
    let interfaces = "sh -c 'ls /sys/class/net | wc -l'";
    let none = format!("FROM busybox\nRUN --network=none {interfaces} | sed 's/^ */> /'\n");
    assert_eq!(printed(&none, &[]), ["1"]);
    #[track_caller]
    fn refused(instruction: &str, entitlement: &str) {
        let project = Project::with(&format!(
            "# syntax=docker/dockerfile:1-labs\nFROM busybox\n{instruction}\n"
        ));
        let flags = ["build", "--progress", "plain", "."];
        drop(project.kiln(&flags).code(1).says(&[entitlement]));
        let allowed = ["build", "--allow", entitlement, "."];
        drop(project.kiln(&allowed).success());
    }
    refused("RUN --network=host true", "network.host");
    refused(
        "RUN --security=insecure grep -q 'Seccomp:.*0' /proc/self/status && ! grep -q 'CapEff.*a80425fb' /proc/self/status",
        "security.insecure",
    );
}

#[test]
fn proxies_reach_the_step_and_nothing_else() {
    let project = Project::with("FROM busybox\nRUN echo \"> $http_proxy $HTTP_PROXY\"\n")
        .env("HTTP_PROXY", "http://proxy.invalid:1");
    let done = build(
        &project,
        &["--build-arg", "HTTP_PROXY=http://proxy.invalid:1"],
    );
    assert!(
        lines(&done)[0].contains("http://proxy.invalid:1"),
        "{}",
        done.stderr
    );
    let other = build(
        &project,
        &["--build-arg", "HTTP_PROXY=http://other.invalid:2"],
    );
    assert_eq!(other.executed(), Vec::<String>::new());
    let image = project.kiln(&["inspect", "image"]).success().stdout;
    assert!(!image.contains("proxy.invalid"), "{image}");
}

/// Paths and sizes in the image's last layer.
fn last_layer(project: &Project) -> Vec<String> {
    let archive = project.path("out");
    let dest = format!("type=oci,tar=false,dest={}", archive.display());
    project.kiln(&["build", "-q", "-o", &dest, "."]).success();
    let blobs = archive.join("blobs/sha256");
    let text = |name: &Path| fs::read_to_string(name).unwrap_or_default();
    let manifest = fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| text(&entry.unwrap().path()))
        .find(|text| text.contains("\"layers\":"))
        .unwrap();
    let digest = manifest.rsplit("sha256:").next().unwrap();
    let layer = blobs.join(&digest[..64]);
    let list = crate::harness::tool("tar", &["tzf", &layer.to_string_lossy()]).success();
    list.stdout.lines().map(str::to_string).collect()
}

#[test]
fn mounts_leave_nothing_in_the_layer() {
    #[track_caller]
    fn check(step: &str, flags: &[&str], expected: &[&str]) {
        let project = Project::with(&format!("FROM busybox\nRUN mkdir -p /a\n{step}\n"));
        project.write("f", "content");
        build(&project, flags);
        assert_eq!(last_layer(&project), expected, "{step}");
    }
    check(
        "RUN --mount=type=cache,target=/x/y/z touch /x/y/z/f",
        &[],
        &[],
    );
    check("RUN --mount=type=tmpfs,target=/a/t touch /a/t/f", &[], &[]);
    check(
        "RUN --mount=type=bind,target=/ctx,rw touch /ctx/new",
        &[],
        &[],
    );
    check(
        "RUN --mount=type=bind,source=f,target=/a/f cat /a/f",
        &[],
        &[],
    );
    check("RUN --mount=type=secret,id=none,target=/s/t true", &[], &[]);
    check("RUN cat /etc/resolv.conf /etc/hosts", &[], &[]);
    check(
        "RUN --mount=type=cache,target=/a/c echo > /a/kept",
        &[],
        &["a/", "a/kept"],
    );
}

#[test]
fn cache_mounts() {
    let project = Project::with("FROM busybox\n");
    let step = |mount: &str, command: &str| {
        project.write("Dockerfile", format!("FROM busybox\nFROM busybox AS seed\nRUN mkdir /d && echo seed > /d/s\nFROM busybox\nRUN --mount=type=cache,{mount} {command}\n"));
    };
    step(
        "target=/c",
        "sh -c 'echo 1 >> /c/f; echo \"> $(cat /c/f | wc -l)\"'",
    );
    assert_eq!(lines(&build(&project, &[])), ["1"]);
    step(
        "target=/c",
        "sh -c 'echo 2 >> /c/f; echo \"> $(cat /c/f | wc -l)\"'",
    );
    assert_eq!(
        lines(&build(&project, &[])),
        ["2"],
        "kept from build to build"
    );
    step(
        "target=/other,id=/c,sharing=locked",
        "sh -c 'echo \"> $(cat /other/f | wc -l)\"'",
    );
    assert_eq!(
        lines(&build(&project, &[])),
        ["2"],
        "the id counts, not the target"
    );
    step(
        "target=/c,ro",
        "sh -c 'touch /c/g 2>/dev/null || echo \"> refused\"'",
    );
    assert_eq!(lines(&build(&project, &[])), ["refused"]);
    step("target=/c", "sh -c 'rm /c/f; echo lost > /c/g; exit 1'");
    drop(project.kiln(&["build", "."]).code(1));
    step("target=/c", "sh -c 'echo \"> $(ls /c)\"'");
    assert_eq!(
        lines(&build(&project, &[])),
        ["f"],
        "a step that fails changes nothing"
    );
    step("target=/m,mode=0701,uid=5,gid=6", "stat -c '> %a %u %g' /m");
    assert_eq!(lines(&build(&project, &[])), ["701 5 6"]);
    step(
        "target=/s,from=seed,source=/d",
        "sh -c 'echo \"> $(cat /s/s)\"'",
    );
    assert_eq!(lines(&build(&project, &[])), ["seed"]);
    step("target=/c", "sh -c 'echo \"> $(ls /c | wc -l)\"'");
    assert_eq!(
        lines(&build(&project, &["--no-cache"])),
        ["0"],
        "--no-cache empties what it uses"
    );
}

/// Files below a directory that contain a text. Something that goes away meanwhile, as what waits
/// for the disk after a build lets it, has all be looked at anew.
pub(crate) fn containing(folder: &Path, text: &[u8], found: &mut Vec<String>) {
    loop {
        let mut these = Vec::new();
        match search(folder, text, &mut these) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => {
                result.unwrap();
                found.extend(these);
                return;
            }
        }
    }
}

fn search(folder: &Path, text: &[u8], found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_dir() {
            search(&path, text, found)?;
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            fs::File::open(&path)?.read_to_end(&mut bytes)?;
            if bytes.windows(text.len()).any(|window| window == text) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(())
}

#[test]
fn secrets_land_nowhere() {
    const VALUE: &str = "hunter2-swordfish-xyzzy";
    let project = Project::with(
        "FROM busybox\n\
         RUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=TOKEN \
             test \"$(cat /run/secrets/file)\" = \"$TOKEN\" && test -n \"$TOKEN\" && stat -c '> %a %u' /run/secrets/file\n\
         RUN --mount=type=secret,id=missing,env=NONE test ! -e /run/secrets/missing && test -z \"$NONE\"\n",
    )
    .env("VALUE", VALUE);
    project.write("secret.txt", VALUE);
    let flags = [
        "--secret",
        "id=file,src=secret.txt",
        "--secret",
        "id=variable,env=VALUE",
    ];
    let done = build(&project, &flags);
    assert_eq!(lines(&done), ["400 0"]);
    assert!(!done.stderr.contains(VALUE) && !done.stdout.contains(VALUE));
    let mut found = Vec::new();
    containing(project.store(), VALUE.as_bytes(), &mut found);
    assert_eq!(found, Vec::<String>::new());
    let json = [
        "build",
        "--progress",
        "json",
        "--no-cache",
        "--explain",
        "-t",
        "image",
    ];
    let all: Vec<&str> = json.iter().chain(&flags).copied().chain(["."]).collect();
    let done = project.kiln(&all).success();
    assert!(!done.stderr.contains(VALUE) && !done.stdout.contains(VALUE));
    let image = project.kiln(&["inspect", "image"]).success().stdout;
    assert!(!image.contains(VALUE));
    project.write("secret.txt", "another");
    let other = Project::with("FROM busybox\nRUN --mount=type=secret,id=need,required true\n");
    let done = other.kiln(&["build", "."]).code(1);
    drop(done.says(&["the step needs the secret `need`: give it with --secret id=need"]));
}

#[test]
fn another_value_of_a_secret_is_no_other_step() {
    let project =
        Project::with("FROM busybox\nRUN --mount=type=secret,id=s wc -c /run/secrets/s\n");
    project.write("s", "one");
    build(&project, &["--secret", "id=s,src=s"]);
    project.write("s", "other");
    let again = build(&project, &["--secret", "id=s,src=s"]);
    assert_eq!(again.executed(), Vec::<String>::new());
}

#[test]
fn a_secret_that_is_no_text_is_itself_in_a_variable_too() {
    let project = Project::with(
        "FROM busybox\nRUN --mount=type=secret,id=s,env=S printf %s \"$S\" | od -An -tx1 | sed 's/^/>/'\n",
    );
    project.write("s", b"a\xff\xfeb");
    let done = build(&project, &["--secret", "id=s,src=s"]);
    assert_eq!(lines(&done), ["61 ff fe 62"]);
}
