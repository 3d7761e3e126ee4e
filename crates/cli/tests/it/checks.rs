//! Questions instead of builds: `--check`, `--call`, `--print`, in text and in JSON.

use std::fmt::Write as _;

use serde_json::Value;

use crate::harness::Project;

const FILE: &str = "\
# VERSION is what to build
ARG VERSION=1
# build compiles it
FROM scratch AS build
ARG VERSION
RUN --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=cache,target=/c make
# release is what to ship
FROM scratch AS release
COPY --from=build /out /out
";

/// Asks, and expects these texts in the answer.
#[track_caller]
fn check(arguments: &[&str], code: i32, texts: &[&str]) {
    let project = Project::new();
    project.write("Dockerfile", FILE);
    let all: Vec<&str> = ["build"]
        .iter()
        .chain(arguments)
        .chain(&["."])
        .copied()
        .collect();
    let answer = project.kiln(&all).code(code).stdout;
    for text in texts {
        assert!(answer.contains(text), "no {text:?} in\n{answer}");
    }
    if arguments.iter().any(|argument| argument.contains("json")) {
        let value: Result<Value, _> = serde_json::from_str(&answer);
        assert!(value.is_ok(), "{answer}");
    }
}

#[test]
fn questions_are_answered() {
    check(&["--check"], 0, &["no warnings found"]);
    check(&["--call", "lint"], 0, &["no warnings found"]);
    check(
        &["--call", "targets"],
        0,
        &["release (default)", "compiles it"],
    );
    check(
        &["--call", "targets,format=json"],
        0,
        &["\"default\": true"],
    );
    let outline = ["VERSION", "what to build", "token", "default"];
    check(&["--call", "outline"], 0, &outline);
    check(&["--call", "outline,format=json"], 0, &outline);
    check(&["--print", "graph"], 0, &["exec", "/out"]);
    check(&["--print", "graph,format=json"], 0, &["\"vertices\""]);
}

#[test]
fn what_the_file_alone_says_needs_no_base_image() {
    let project = Project::new();
    let file = FILE.replace("scratch", "registry.invalid/nowhere");
    project.write("Dockerfile", file + "CMD [\"x\"]\n");
    for call in ["targets", "outline"] {
        let arguments = ["build", "--call", call, "."];
        let answer = project.kiln(&arguments).success().stdout;
        assert!(answer.contains("release"), "{answer}");
    }
    let arguments = ["build", "--check", "."];
    project.kiln(&arguments).code(1).says(&["cannot resolve"]);
}

#[test]
fn the_graph_is_printed_the_same_every_time() {
    let project = Project::new();
    project.write("Dockerfile", FILE);
    let print = || {
        let arguments = ["build", "--print", "graph", "."];
        project.kiln(&arguments).success().stdout
    };
    assert_eq!(print(), print());
}

#[test]
fn a_failing_build_ends_its_json_lines_with_the_error() {
    let project = Project::with("FROM busybox\nRUN echo words; exit 3\n");
    let fails = |expected: &[(&str, &str)]| {
        let arguments = ["build", "--progress", "json", "."];
        let said = project.kiln(&arguments).code(1).stderr;
        let last = said.lines().last().expect("a line");
        for line in said.lines() {
            let value: Result<Value, _> = serde_json::from_str(line);
            assert!(value.is_ok(), "{line}");
        }
        let last: Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(last["kind"], "error");
        for (pointer, text) in expected {
            let field = last.pointer(pointer).unwrap_or(&Value::Null).to_string();
            assert!(field.contains(text), "{pointer} of {last:#}");
        }
    };
    fails(&[
        ("/message", "exit code: 3"),
        ("/place/start/line", "2"),
        ("/tail/0", "words"),
    ]);
    project.write("Dockerfile", "FROM busybox\nRUM x\n");
    fails(&[("/diagnostics/0/code", "unknown-instruction")]);
}

/// Files that nobody writes end in an error of ours or in none. How long they take is measured by
/// the example `hostile` of the crate frontend; a test that hangs fails too.
#[track_caller]
fn check_hostile(dockerfile: &[u8], code: i32, text: &str) {
    let project = Project::new();
    project.write("Dockerfile", dockerfile);
    let done = project.kiln(&["build", "--check", "."]).code(code);
    let said = done.stdout + &done.stderr;
    let start: String = said.chars().take(2_000).collect();
    assert!(said.contains(text), "no {text:?} in\n{start}");
}

#[test]
fn hostile_files_end_in_errors() {
    let long = format!("FROM scratch\nRUN {}\n", "x".repeat(70_000));
    check_hostile(long.as_bytes(), 1, "65535");
    check_hostile(b"FROM scratch\nENV a=\xff\xfe\n", 1, "Dockerfile:2:7");
    check_hostile(b"\0\x01\x02\xff", 1, "Dockerfile:1:1");
    let deep = format!("FROM scratch\nENV a={}\n", "${a:-".repeat(10_000));
    check_hostile(deep.as_bytes(), 1, "128 levels");
    let nested = format!("FROM scratch\nRUN {}\n", "[".repeat(60_000));
    check_hostile(nested.as_bytes(), 0, "no warnings");
    let onbuild = format!("FROM scratch\n{}RUN x\n", "ONBUILD ".repeat(7_000));
    check_hostile(onbuild.as_bytes(), 1, "ONBUILD");
    let bomb =
        "FROM scratch\nENV a=xxxxxxxxxx\n".to_owned() + &"ENV a=$a$a$a$a$a$a$a$a\n".repeat(30);
    check_hostile(bomb.as_bytes(), 1, "longer than");
    let continued = format!("FROM scratch\nRUN x{}\n", " \\\n# c\n\n  y".repeat(20_000));
    check_hostile(continued.as_bytes(), 1, "the first of 20000 empty lines");
    let open = format!("FROM scratch\n{}", "RUN <<E\n".repeat(5_000));
    check_hostile(open.as_bytes(), 1, "unterminated heredoc");
    let names = format!("FROM scratch AS base\n{}", "ONBUILD RUN x\n".repeat(400));
    let fired = names + &"FROM base\n".repeat(400);
    check_hostile(fired.as_bytes(), 1, "variables and triggers make more");
}

#[test]
fn ten_thousand_stages_and_cycles() {
    let mut chain = String::from("FROM scratch AS s0\n");
    let mut cycle = String::new();
    for index in 1..10_000 {
        writeln!(chain, "FROM s{} AS s{index}\nENV A={index}", index - 1).expect("written");
        writeln!(
            cycle,
            "FROM scratch AS s{index}\nCOPY --from=s{} / /",
            index + 1
        )
        .expect("written");
    }
    cycle.push_str("FROM scratch AS s10000\nCOPY --from=s1 / /\n");
    check_hostile(chain.as_bytes(), 0, "no warnings");
    check_hostile(cycle.as_bytes(), 1, "circular dependency");
}
