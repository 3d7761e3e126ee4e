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
    let refused = project.kiln(&["build", "--timestamp", "git", "."]).code(1);
    drop(refused.says(&["in no git repository with a commit"]));
}
