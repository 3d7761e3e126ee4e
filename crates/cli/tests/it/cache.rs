//! What runs again, and what must not.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use crate::harness::{Gate, Project};

const APP: &str = "FROM busybox\n\
    COPY config /config\n\
    RUN echo one > /one\n\
    COPY src /src\n\
    RUN cat /src/* > /two\n";

fn app() -> Project {
    let project = Project::with(APP);
    project.write("config", "c");
    project.write("src/a", "a");
    project.write("src/b", "b");
    project
}

#[test]
fn an_unchanged_build_executes_nothing() {
    let project = app();
    assert_eq!(project.build().executed().len(), 4);
    let again = project.build();
    assert_eq!(again.executed(), Vec::<String>::new());
    assert!(again.cached().len() >= 5, "{:?}", again.cached());
}

#[test]
fn touching_changes_nothing_and_a_byte_changes_what_depends_on_it() {
    let project = app();
    project.build();
    let times = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(9000));
    File::options()
        .write(true)
        .open(project.path("src/a"))
        .unwrap()
        .set_times(times)
        .unwrap();
    assert_eq!(project.build().executed(), Vec::<String>::new());
    project.write("src/a", "A");
    let changed = project.build();
    assert_eq!(changed.executed().len(), 2, "{:?}", changed.executed());
    assert!(
        changed.stderr.contains("/src/a changed") || changed.stderr.contains("src/a changed"),
        "{}",
        changed.stderr
    );
    project.write("src/a", "a");
    assert_eq!(
        project.build().executed(),
        Vec::<String>::new(),
        "the old bytes hit again"
    );
}

#[test]
fn equal_output_of_a_stage_stops_the_ripple() {
    let project = Project::with(
        "FROM busybox AS build\nCOPY in /in\nRUN wc -c < /in > /out\n\
         FROM busybox\nCOPY --from=build /out /out\nRUN cp /out /copy\n",
    );
    project.write("in", "1234");
    assert_eq!(project.build().executed().len(), 4);
    project.write("in", "5678");
    let changed = project.build();
    assert_eq!(
        changed.executed().len(),
        2,
        "only the first stage runs again: {:?}",
        changed.executed()
    );
    project.write("in", "56789");
    assert_eq!(project.build().executed().len(), 4);
}

#[test]
fn same_size_and_time_with_other_bytes_is_seen() {
    let project = app();
    project.build();
    let path = project.path("src/a");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "Z").unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(FileTimes::new().set_modified(modified))
        .unwrap();
    assert_eq!(project.build().executed().len(), 2);
}

#[test]
fn no_cache_runs_everything_and_keeps_the_results() {
    let project = app();
    project.build();
    let forced = project
        .kiln(&["build", "--no-cache", "--progress", "plain", "."])
        .success();
    assert_eq!(forced.executed().len(), 4);
    assert_eq!(project.build().executed(), Vec::<String>::new());
}

#[test]
fn build_arguments_count_where_they_are_in_scope() {
    let project = Project::with("FROM busybox\nRUN echo before\nARG X\nRUN echo after $X\n");
    project.build();
    let other = project
        .kiln(&["build", "--progress", "plain", "--build-arg", "X=1", "."])
        .success();
    assert_eq!(other.executed().len(), 1, "{:?}", other.executed());
}

#[test]
fn two_builds_of_one_store_share_the_work() {
    let project = app();
    let processes: Vec<_> = (0..4)
        .map(|_| {
            project
                .command(&["build", "--progress", "plain", "."])
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut executed = 0;
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        executed += text.lines().filter(|line| line.contains(" DONE ")).count();
    }
    assert!(executed >= 4, "somebody ran the steps");
    assert_eq!(project.build().executed(), Vec::<String>::new());
}

#[test]
fn an_interrupted_build_keeps_finished_steps() {
    let gate = Gate::new();
    let project = Project::with(&format!(
        "FROM busybox\nRUN echo done > /f\n{}",
        gate.step()
    ));
    let mut process = project
        .command(&["build", "--progress", "plain", "."])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let held = gate.wait_for(1);
    crate::harness::tool("kill", &["-INT", &process.id().to_string()]).success();
    let status = process.wait().unwrap();
    drop(held);
    assert_eq!(status.code(), Some(130));
    project.write("Dockerfile", "FROM busybox\nRUN echo done > /f\nRUN true\n");
    let next = project.build();
    assert_eq!(next.executed().len(), 1, "{:?}", next.executed());
}

#[test]
fn a_miss_says_what_changed() {
    #[track_caller]
    fn check(change: impl Fn(&Project), flags: &[&str], expected: &[&str]) {
        let project = Project::with(
            "FROM busybox\nARG X=1\nENV Y=1\nCOPY src /src\nRUN echo one $X\nRUN echo two\n",
        );
        project.write("src/a", "a");
        project.write("src/b", "b");
        let build = |flags: &[&str]| {
            let mut arguments = vec!["build", "--progress", "plain"];
            arguments.extend(flags);
            arguments.push(".");
            project.kiln(&arguments).success()
        };
        build(&[]);
        change(&project);
        let done = build(flags);
        let misses: Vec<&str> = done
            .stderr
            .lines()
            .filter(|line| line.contains("not in the cache") || line.contains("was not asked"))
            .collect();
        let all = misses.join("\n");
        for text in expected {
            assert!(all.contains(text), "no {text:?} in\n{all}");
        }
        assert_eq!(misses.len(), expected.len(), "{all}");
    }
    let replace = |from: &'static str, to: &'static str| {
        move |project: &Project| {
            let file = fs::read_to_string(project.path("Dockerfile")).unwrap();
            project.write("Dockerfile", file.replace(from, to));
        }
    };
    let nothing = |_: &Project| {};
    let before = "the result of [2/4] COPY src /src changed";
    check(
        |p| p.write("src/a", "A"),
        &[],
        &["a changed (", before, "the result of [3/4]"],
    );
    check(
        |p| p.write("src/new", "n"),
        &[],
        &["new is new", before, "the result of [3/4]"],
    );
    check(
        |p| fs::remove_file(p.path("src/b")).unwrap(),
        &[],
        &["b is gone", before, "the result of [3/4]"],
    );
    check(
        nothing,
        &["--build-arg", "X=2"],
        &["variable X changed (1 → 2)", "variable X changed (1 → 2)"],
    );
    check(
        replace("ENV Y=1", "ENV Y=2"),
        &[],
        &["variable Y changed (1 → 2)", "variable Y changed (1 → 2)"],
    );
    check(
        replace("echo two", "echo three"),
        &[],
        &["command changed (echo two → echo three)"],
    );
    check(nothing, &["--no-cache", "--explain"], &["--no-cache"; 3]);
    check(nothing, &["--explain"], &[]);
}

#[test]
fn no_cache_of_one_stage_only() {
    let project = Project::with(
        "FROM busybox AS a\nRUN echo a > /a\nFROM busybox AS b\nRUN echo b > /b\n\
         FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
    );
    project.build();
    let flags = [
        "build",
        "--progress",
        "plain",
        "--no-cache-filter",
        "b",
        ".",
    ];
    let done = project.kiln(&flags).success();
    assert_eq!(done.executed().len(), 1, "{:?}", done.executed());
}
