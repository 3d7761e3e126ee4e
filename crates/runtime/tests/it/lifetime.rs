//! Starting many, killing, signals, output to the last byte, and what is left when the caller dies.

use crate::support::{Fixture, helper, run};
use runtime::{Exit, ProcessSpec, Stream, spawn};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Starts a script that prints `ready` first, and returns when it has.
fn with_ready(
    spec: &ProcessSpec,
    then: impl FnOnce(runtime::ProcessHandle) + Send,
) -> (runtime::Outcome, String) {
    let process = spawn(helper(), spec).unwrap();
    let handle = process.handle();
    let (tell, ready) = mpsc::channel();
    let mut printed = String::new();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            ready.recv().unwrap();
            then(handle);
        });
        process.wait(|stream, bytes| {
            if stream == Stream::Stdout {
                printed += std::str::from_utf8(bytes).unwrap();
            }
            tell.send(()).ok();
        })
    });
    (outcome.unwrap(), printed)
}

/// The command lines of all processes of the machine, words joined by blanks.
fn command_lines() -> impl Iterator<Item = String> {
    std::fs::read_dir("/proc").unwrap().flatten().map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line
            .split(|&byte| byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        words.join(" ").trim_end().to_owned()
    })
}

fn runs(marker: &str) -> bool {
    command_lines().any(|line| line.contains(marker))
}

#[test]
fn kill_takes_everything_with_it() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let spec = fixture.spec("trap '' TERM; sleep 31101 & sleep 31101 & echo ready; wait");
    let start = Instant::now();
    let (outcome, _) = with_ready(&spec, |handle| handle.kill());
    assert_eq!(outcome.exit, Exit::Signal(9));
    assert!(!runs("31101"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn signals_reach_the_program() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let spec =
        fixture.spec("trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let (outcome, printed) = with_ready(&spec, |handle| handle.signal(15));
    assert_eq!(
        (outcome.exit, printed.as_str()),
        (Exit::Code(7), "ready\ngot it\n")
    );
}

#[test]
fn init_passes_signals_on_and_reaps() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec(
        "(sleep 0.01 &) ; sleep 0.1; echo $$; grep -s State /proc/[0-9]*/status | grep -c Z; \
         trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done",
    );
    spec.init = true;
    let process = spawn(helper(), &spec).unwrap();
    let handle = process.handle();
    let mut printed = String::new();
    let outcome = process
        .wait(|_, bytes| {
            printed += std::str::from_utf8(bytes).unwrap();
            if printed.contains("ready") {
                handle.signal(15);
            }
        })
        .unwrap();
    assert_eq!(
        (outcome.exit, printed.as_str()),
        (Exit::Code(9), "2\n0\nready\n")
    );
}

#[test]
fn a_dropped_process_is_killed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let process = spawn(helper(), &fixture.spec("exec sleep 31102")).unwrap();
    assert!(runs("31102"));
    drop(process);
    assert!(!runs("31102"));
}

#[test]
fn the_end_of_process_1_ends_the_rest() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let start = Instant::now();
    // The orphan holds the output open; nobody waits for it.
    let ran = run(&fixture.spec("sleep 31103 & echo done"));
    assert_eq!((ran.stdout.as_str(), ran.exit), ("done\n", Exit::Code(0)));
    assert!(!runs("31103"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_caller_that_dies_takes_its_container_along() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut caller = std::process::Command::new(env!("CARGO_BIN_EXE_runtime-probe"))
        .arg("run")
        .arg(fixture.path(""))
        .args(["/bin/sleep", "31104"])
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    // The container's own command line; the caller's has more words in front.
    let container = || command_lines().any(|line| line == "/bin/sleep 31104");
    while !container() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(container());
    caller.kill().unwrap();
    caller.wait().unwrap();
    while container() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!container());
}

#[test]
fn all_output_arrives() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let spec = fixture.spec("head -c 3000000 /dev/zero; head -c 200000 /dev/zero >&2");
    let ran = run(&spec);
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (3_000_000, 200_000));
}

#[test]
fn many_at_once_from_many_threads() {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let Some(fixture) = Fixture::new() else {
                    return;
                };
                let ran = run(&fixture.spec(&format!("echo {number} > /out; cat /out")));
                assert_eq!(ran.stdout, format!("{number}\n"));
            });
        }
    });
}
