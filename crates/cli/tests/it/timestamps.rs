//! Times in layers and configs, by `--timestamp` and `SOURCE_DATE_EPOCH`.

use std::fs;

use serde_json::Value;

use crate::harness::{Project, tool};

/// 2001-09-09T01:46:40Z.
const EPOCH: &str = "1000000000";

fn project(prefix: &str) -> Project {
    let project = Project::with(&format!("{prefix}FROM busybox\nCOPY f /f\nRUN touch /g\n"));
    project.write("f", "content");
    project
}

/// The config of a build, and the times of the files of its last two layers.
#[track_caller]
fn build(project: &Project, arguments: &[&str]) -> (Value, Vec<String>) {
    drop(fs::remove_dir_all(project.path("layout")));
    let output = "type=oci,dest=layout,tar=false,compression=uncompressed";
    let all = [&["build", "-q", "-o", output], arguments, &["."]].concat();
    project.kiln(&all).success();
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        project.path(&format!("layout/blobs/{}", digest.replace(':', "/")))
    };
    let read =
        |path| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let index = read(project.path("layout/index.json"));
    let manifest = read(blob(&index["manifests"][0]));
    let layers = manifest["layers"].as_array().unwrap();
    let mut times = Vec::new();
    for layer in &layers[layers.len() - 2..] {
        let tar = blob(layer);
        let arguments = ["--utc", "--full-time", "-tvf", tar.to_str().unwrap()];
        let listed = tool("tar", &arguments).success().stdout;
        times.extend(listed.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{}T{}", words[3], words[4])
        }));
    }
    (read(blob(&manifest["config"])), times)
}

#[track_caller]
fn check_epoch(project: &Project, arguments: &[&str]) {
    let (config, times) = build(project, arguments);
    assert_eq!(times, ["2001-09-09T01:46:40"; 2]);
    assert_eq!(config["created"], "2001-09-09T01:46:40Z");
    let history = config["history"].as_array().unwrap();
    assert_eq!(history.last().unwrap()["created"], "2001-09-09T01:46:40Z");
    // The base's layers and history are its own.
    let shown = project.kiln(&["inspect", "busybox"]).success().stdout;
    let base: Value = serde_json::from_str(&shown).unwrap();
    let own = base[0]["RootFS"]["Layers"].as_array().unwrap();
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(&layers[..own.len()], &own[..]);
    assert_eq!(history[0]["created"], base[0]["Created"]);
}

#[test]
fn an_instant_as_seconds_text_variable_argument_or_in_the_file() {
    check_epoch(&project(""), &["--timestamp", EPOCH]);
    check_epoch(&project(""), &["--timestamp", "2001-09-09T01:46:40Z"]);
    check_epoch(&project("").env("SOURCE_DATE_EPOCH", EPOCH), &[]);
    let argument = format!("SOURCE_DATE_EPOCH={EPOCH}");
    check_epoch(&project(""), &["--build-arg", &argument]);
    let prefix = format!("ARG SOURCE_DATE_EPOCH={EPOCH}\n");
    check_epoch(&project(&prefix), &[]);
}

#[test]
fn own_times_and_times_from_the_content() {
    let project = project("");
    let (config, auto) = build(&project, &[]);
    assert!(
        auto.iter().all(|time| time.starts_with("2000-")),
        "{auto:?}"
    );
    assert_eq!(config["created"], "2000-01-01T00:00:00Z");
    let (_, own) = build(&project, &["--timestamp", "preserve"]);
    assert!(own.iter().all(|time| time.as_str() > "2020"), "{own:?}");
}

#[test]
fn the_time_of_the_commit_on_request() {
    let project = project("");
    let refused = project.kiln(&["build", "--timestamp", "git", "."]).code(1);
    drop(refused.says(&["in no git repository with a commit"]));
    let dates = format!("GIT_AUTHOR_DATE='1100000000 +0000' GIT_COMMITTER_DATE='{EPOCH} +0200'");
    let commit = "git -c user.name=n -c user.email=e@example.org commit -q -m first";
    project.host(&format!("git init -q && git add . && {dates} {commit}"));
    check_epoch(&project, &["--timestamp", "git"]);
    // Without being asked, a commit dates the config alone.
    let (config, times) = build(&project, &[]);
    assert_eq!(config["created"], "2001-09-09T01:46:40Z");
    assert!(times.iter().all(|time| time.starts_with("2000-")));
    // What is asked for counts more than what the environment says.
    let project = project.env("SOURCE_DATE_EPOCH", "1");
    check_epoch(&project, &["--timestamp", "git"]);
}

#[test]
fn texts_that_are_no_time() {
    let project = project("");
    for text in ["yesterday", "2001-09-09", ""] {
        let refused = project.kiln(&["build", "--timestamp", text, "."]);
        refused.code(1).says(&["--timestamp"]);
    }
    let project = project.env("SOURCE_DATE_EPOCH", "soon");
    let refused = project.kiln(&["build", "."]).code(1);
    drop(refused.says(&["SOURCE_DATE_EPOCH"]));
}

/// Builds a Python package that this machine's Python compiled, and has Python read it back.
#[track_caller]
fn check_compiled(timestamp: &str) {
    let project = Project::with("FROM busybox\nCOPY app /one\nRUN cp -a /one /two\n");
    project.write("app/m.py", "print('module')\n");
    project.host("python3 -m py_compile app/m.py");
    let output = ["-o", "type=tar,dest=files.tar"];
    let timestamp = ["--timestamp", timestamp];
    let all = [&["build", "-q"], &output[..], &timestamp, &["."]].concat();
    project.kiln(&all).success();
    project.host("mkdir files && tar -C files -xf files.tar one two");
    for directory in ["one", "two"] {
        let import = format!("cd files/{directory} && python3 -v -c 'import m' 2>&1");
        let said = project.host(&import);
        assert!(said.contains("m.cpython"), "{said}");
        let matches = said
            .lines()
            .any(|line| line.contains("m.cpython") && line.contains("matches"));
        assert!(matches, "{timestamp:?} {directory}: {said}");
        assert!(!said.contains("wrote"), "Python compiled again: {said}");
    }
}

#[test]
fn compiled_python_fits_its_source_whatever_the_times() {
    for timestamp in ["auto", EPOCH, "preserve"] {
        check_compiled(timestamp);
    }
}
