//! `kiln run`: exit codes, environment, users, signals, terminals.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::harness::{Project, tool};

fn project() -> Project {
    let project = Project::with(
        "FROM busybox\nENV A=image\nWORKDIR /tmp\nUSER user\nCMD [\"sh\", \"-c\", \"echo cmd\"]\n",
    );
    project.build();
    project
}

#[test]
fn exit_codes_are_dockers() {
    let project = project();
    #[track_caller]
    fn check(project: &Project, arguments: &[&str], code: i32) {
        let all: Vec<&str> = ["run", "--rm"].iter().chain(arguments).copied().collect();
        project.kiln(&all).code(code);
    }
    check(&project, &["image", "true"], 0);
    check(&project, &["image", "sh", "-c", "exit 42"], 42);
    check(&project, &["image", "/tmp"], 126);
    check(&project, &["image", "no-such-command"], 127);
    check(&project, &["image", "sh", "-c", "kill -9 $$; exit 3"], 3);
    check(
        &project,
        &["image", "sh", "-c", "sh -c 'kill -15 $$'; exit $?"],
        143,
    );
    check(&project, &["--pull", "never", "no/such:image"], 125);
    check(&project, &["--no-such-flag", "image"], 125);
}

#[test]
fn command_environment_user_and_directory() {
    let project = project();
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = ["run", "--rm"].iter().chain(arguments).copied().collect();
        project.kiln(&all).success().stdout
    };
    assert_eq!(run(&["image"]), "cmd\n");
    assert_eq!(run(&["image", "pwd"]), "/tmp\n");
    assert_eq!(run(&["-w", "/root/../etc", "image", "pwd"]), "/etc\n");
    assert_eq!(run(&["image", "id", "-un"]), "user\n");
    assert_eq!(run(&["-u", "0", "image", "id", "-u"]), "0\n");
    assert_eq!(
        run(&[
            "-e",
            "A=cli",
            "-e",
            "B=2",
            "image",
            "sh",
            "-c",
            "echo $A $B"
        ]),
        "cli 2\n"
    );
    assert_eq!(run(&["--entrypoint", "echo", "image", "hi"]), "hi\n");
    // What follows the image is the command's, be it called as a flag of kiln's.
    assert_eq!(
        run(&["--entrypoint", "echo", "image", "-c", "--memory", "-x"]),
        "-c --memory -x\n"
    );
    assert_eq!(
        run(&["--network", "none", "image", "ls", "/sys/class/net"]),
        "lo\n"
    );
}

#[test]
fn standard_input_is_passed_with_i() {
    let project = project();
    let mut process = project
        .command(&["run", "--rm", "-i", "image", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(b"through").unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"through");
    assert_eq!(
        project
            .kiln(&["run", "--rm", "image", "wc", "-c"])
            .success()
            .stdout
            .trim(),
        "0"
    );
}

#[test]
fn signals_are_forwarded() {
    let project = project();
    let script = "trap 'echo got; exit 9' TERM; echo ready; while true; do sleep 0.1; done";
    let mut process = project
        .command(&["run", "--rm", "image", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    tool("kill", &["-TERM", &process.id().to_string()]).success();
    assert_eq!(process.wait().unwrap().code(), Some(9));
}

#[test]
fn a_terminal_with_t() {
    let project = project();
    let store = project.store().display().to_string();
    let script = format!(
        "KILN_ROOT={store} {} run --rm -it image sh -c 'tty; stty size'",
        env!("CARGO_BIN_EXE_kiln")
    );
    let output = tool("script", &["-qec", &script, "/dev/null"]).success();
    assert!(
        output.stdout.contains("/dev/pts/") || output.stdout.contains("/dev/console"),
        "{}",
        output.stdout
    );
}

#[test]
fn changes_of_a_container_are_its_own() {
    let project = project();
    let write = [
        "run",
        "--rm",
        "-u",
        "0",
        "image",
        "sh",
        "-c",
        "echo x > /marker",
    ];
    project.kiln(&write).success();
    drop(
        project
            .kiln(&["run", "--rm", "image", "test", "-e", "/marker"])
            .code(1),
    );
    drop(
        project
            .kiln(&[
                "run",
                "--rm",
                "-u",
                "0",
                "--read-only",
                "image",
                "touch",
                "/marker",
            ])
            .code(1),
    );
}

#[test]
fn directories_of_the_machine() {
    let project = project();
    project.write("shared/f", "host");
    let volume = format!("{}:/mnt", project.path("shared").display());
    let readonly = format!("{volume}:ro");
    assert_eq!(
        project
            .kiln(&["run", "--rm", "-v", &volume, "image", "cat", "/mnt/f"])
            .success()
            .stdout,
        "host"
    );
    drop(
        project
            .kiln(&[
                "run", "--rm", "-u", "0", "-v", &readonly, "image", "touch", "/mnt/g",
            ])
            .code(1),
    );
}
