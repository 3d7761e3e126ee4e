//! Steps at once: bounded, stopped together, shared between builds.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Gate, Project, tool};

/// A Dockerfile with `count` stages that each run `command`, and one that needs all of them.
fn stages(count: usize, command: &str) -> String {
    let mut file = String::new();
    for stage in 0..count {
        file.push_str(&format!(
            "FROM busybox AS s{stage}\nRUN {command} && echo {stage} > /f\n"
        ));
    }
    file.push_str("FROM busybox\n");
    for stage in 0..count {
        file.push_str(&format!("COPY --from=s{stage} /f /f{stage}\n"));
    }
    file
}

fn spawn(project: &Project, arguments: &[&str]) -> Child {
    let mut command = project.command(arguments);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether a process whose command line has this text is alive.
pub(crate) fn alive(text: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| {
            String::from_utf8_lossy(&line)
                .replace('\0', " ")
                .contains(text)
        })
}

/// Waits until a process is there.
#[track_caller]
pub(crate) fn wait_for(text: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !alive(text) {
        assert!(Instant::now() < deadline, "no process {text:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn nothing_left(project: &Project, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while alive(text) {
        assert!(Instant::now() < deadline, "{text:?} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let store = project.store().display().to_string();
    assert!(!mounts.contains(&store), "{mounts}");
}

#[test]
fn independent_stages_run_at_once_within_the_bound() {
    let gate = Gate::new();
    let project = Project::with(&stages(4, &gate.command()));
    for bound in [4, 2, 1] {
        let jobs = bound.to_string();
        let mut build = spawn(&project, &["build", "--no-cache", "--jobs", &jobs, "."]);
        for _ in 0..4 / bound {
            let held = gate.wait_for(bound);
            let more = gate.next_within(Duration::from_millis(100));
            assert!(more.is_none(), "more than {bound} run at once");
            drop(held);
        }
        assert!(build.wait().unwrap().success());
    }
}

#[test]
fn a_failure_stops_the_others_at_once_and_keeps_what_is_done() {
    let gate = Gate::new();
    let project = Project::with(&format!(
        "FROM busybox AS a\nRUN echo done > /done\nRUN sleep 61.07\n\
         FROM busybox AS b\nRUN {}; exit 3\n\
         FROM busybox\nCOPY --from=a /done /\nCOPY --from=b /bin/sh /x\n",
        gate.command()
    ));
    let build = spawn(&project, &["build", "--progress", "plain", "."]);
    let held = gate.wait_for(1);
    wait_for("sleep 61.07");
    drop(held);
    let began = Instant::now();
    let output = build.wait_with_output().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    for says in ["exit code: 3", "CANCELLED"] {
        assert!(said.contains(says), "{says} in {said}");
    }
    nothing_left(&project, "sleep 61.07");
    project.write("Dockerfile", "FROM busybox AS a\nRUN echo done > /done\n");
    assert_eq!(project.build().executed(), Vec::<String>::new());
}

#[test]
fn interrupts() {
    let project = Project::with("FROM busybox\nRUN sleep 62.07\n");
    let mut process = spawn(&project, &["build", "."]);
    wait_for("sleep 62.07");
    tool("kill", &["-INT", &process.id().to_string()]).success();
    let began = Instant::now();
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    nothing_left(&project, "sleep 62.07");
    project.write("Dockerfile", "FROM busybox\nRUN sleep 63.07\n");
    let mut process = spawn(&project, &["build", "."]);
    wait_for("sleep 63.07");
    process.kill().unwrap();
    process.wait().unwrap();
    nothing_left(&project, "sleep 63.07");
}

#[test]
fn an_interrupt_while_a_server_says_nothing() {
    #[track_caller]
    fn check(project: &Project, context: &str, server: &TcpListener) {
        let address = server.local_addr().unwrap().to_string();
        let mut process = spawn(project, &["build", context]);
        let _asked = server.accept().unwrap();
        tool("kill", &["-INT", &process.id().to_string()]).success();
        assert_eq!(process.wait().unwrap().code(), Some(130));
        nothing_left(project, &address);
    }
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    for name in ["project.git", "archive.tar"] {
        let url = format!("http://{}/{name}", server.local_addr().unwrap());
        let project = Project::with(&format!("FROM scratch\nADD {url} /\n"));
        check(&project, ".", &server);
        check(&project, &url, &server);
    }
    let registry = server.local_addr().unwrap();
    let project = Project::with(&format!("FROM {registry}/base\n"));
    check(&project, ".", &server);
}

#[test]
fn a_second_interrupt_ends_it_there_and_then() {
    let project = Project::with(
        "FROM busybox AS a\nRUN trap '' INT TERM HUP; sleep 64.$(echo 07); sleep 64.$(echo 08)\n\
         FROM busybox AS b\nRUN trap '' INT TERM HUP; sleep 65.$(echo 07); sleep 65.$(echo 08)\n\
         FROM busybox\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n",
    );
    for interrupts in [1, 2] {
        let mut process = spawn(&project, &["build", "."]);
        wait_for("sleep 64.07");
        wait_for("sleep 65.07");
        let id = process.id().to_string();
        for _ in 0..interrupts {
            // It may have ended at the first.
            drop(tool("kill", &["-INT", &id]));
        }
        let began = Instant::now();
        assert_eq!(process.wait().unwrap().code(), Some(130));
        assert!(began.elapsed() < Duration::from_secs(20), "it waited");
        nothing_left(&project, "sleep 64.");
        nothing_left(&project, "sleep 65.");
        let health = project.kiln(&["doctor"]).success().stdout;
        assert!(health.contains(" 0 dropped"), "{health}");
    }
}

#[test]
fn many_builds_of_one_file_execute_each_step_once() {
    let project = Project::with(
        "FROM busybox\nCOPY f /f\n\
         RUN --mount=type=cache,target=/count echo x >> /count/a && sleep 0.1\n\
         RUN --mount=type=cache,target=/count echo x >> /count/b\n",
    );
    project.write("f", "f");
    let builds: Vec<Child> = (0..16)
        .map(|_| spawn(&project, &["build", "--progress", "plain", "."]))
        .collect();
    for build in builds {
        let output = build.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    project.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/count echo \"> $(cat /count/a /count/b | wc -l)\"\n",
    );
    drop(project.build().says(&["> 2"]));
}
