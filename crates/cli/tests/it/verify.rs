//! Building twice, and comparing images.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::harness::{Project, output, wrap};

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
    assert!(done.stderr.contains(" (a time: 1"), "{}", done.stderr);
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
fn another_day_and_another_user() {
    check("date +%F > /day && sleep 0.1", &["/day"]);
    check(
        "cat /proc/self/uid_map > /users && id -u > /id && stat -c %u:%g /src /src/f1 > /owners",
        &["/users"],
    );
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

/// Builds twice; the images are the same, and these lines say what was not varied.
#[track_caller]
fn check_unvaried(project: &Project, arguments: &[&str], expected: &[&str]) {
    let all = [
        &["build", "--verify", "--progress", "quiet"],
        arguments,
        &["."],
    ]
    .concat();
    let done = project.kiln(&all).success();
    let lines = done
        .stderr
        .lines()
        .filter(|line| line.starts_with("not varied: "));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), expected.len(), "{}", done.stderr);
    for (line, part) in lines.iter().zip(expected) {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn what_another_user_cannot_do_is_done_by_the_same() {
    let project = Project::with("FROM busybox\nRUN mknod /null c 1 3 && echo device > /out\n");
    let step = "[2/2] RUN mknod /null c 1 3 && echo device > /out";
    let expected = format!("the user: with another one the build fails: {step}: mknod: /null: ");
    check_unvaried(&project, &[], &[&expected]);
}

#[test]
fn what_does_not_work_with_another_clock_is_done_with_the_same() {
    // The time of a file is the machine's.
    let younger = "touch /t && [ $(date +%s) -lt $(($(stat -c %Y /t) + 1000)) ]";
    let project = Project::with(&format!("FROM busybox\nRUN {younger}\n"));
    let expected = "the clock: with another one the build fails: step failed: ";
    check_unvaried(&project, &[], &[expected]);
}

#[test]
fn an_ssh_agent_serves_one_user() {
    let project = Project::with("FROM busybox\nRUN --mount=type=ssh true\n");
    let _agent = UnixListener::bind(project.path("agent")).unwrap();
    let expected = "the user: the ssh agent answers nobody else";
    check_unvaried(&project, &["--ssh=default=agent"], &[expected]);
}

#[test]
fn a_kernel_that_lets_nobody_be_followed() {
    let project = Project::with("FROM busybox\nRUN echo x > /f\n");
    let mut command = project.command(&["build", "--verify", "--progress", "quiet", "."]);
    // Who is followed already is followed by nobody else.
    wrap(
        &mut command,
        "exec strace -f -qq -e trace=none -o /dev/null \"$0\" \"$@\"",
    );
    drop(
        output(&mut command)
            .success()
            .says(&["not varied: the clock: Operation not permitted"]),
    );
}

#[test]
fn what_only_the_caller_can_read() {
    let project = Project::with("FROM busybox\n");
    project.write("app/f", "content");
    project.write("app/private/g", "content");
    project.write("named/n", "content");
    project.write("secret", "s");
    project.write(
        "other/File",
        "FROM busybox\nCOPY . /app/\nCOPY --from=named n /\nRUN --mount=type=secret,id=s sha1sum < /run/secrets/s > /sum\n",
    );
    project.write("other/File.dockerignore", "ignored\n");
    project.write("app/ignored", "content");
    project.host(
        "git init -q . && git add app && git -c user.name=n -c user.email=e commit -qm m
         chmod -R go= . && chmod 6711 app/f",
    );
    let arguments = [
        "--secret=id=s,src=secret",
        "--build-context=named=named",
        "-fother/File",
    ];
    let all = ["build", "--verify", "--progress", "quiet"];
    let all = [&all[..], &arguments, &["app"]].concat();
    let done = project.kiln(&all).success();
    assert!(!done.stderr.contains("not varied"), "{}", done.stderr);
    let mode = fs::metadata(project.path("secret"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
