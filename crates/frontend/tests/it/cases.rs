//! Walks `testdata/dockerfiles` and compares. `KILN_UPDATE=1` writes what came out instead.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::case;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfiles")
}

#[test]
fn every_case_comes_out_as_expected() {
    let mut names: Vec<PathBuf> = fs::read_dir(directory())
        .expect("testdata/dockerfiles")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.join("Dockerfile").exists())
        .collect();
    names.sort();
    assert!(names.len() > 20, "only {} cases", names.len());
    let update = std::env::var_os("KILN_UPDATE").is_some();
    let wrong: Vec<String> = names.iter().flat_map(|case| check(case, update)).collect();
    assert!(
        wrong.is_empty(),
        "{}\nKILN_UPDATE=1 writes what came out",
        wrong.join("\n")
    );
}

/// Runs one case; what differs from its files.
fn check(case: &Path, update: bool) -> Vec<String> {
    let text = fs::read(case.join("Dockerfile")).expect("Dockerfile");
    let request = match fs::read(case.join("request.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).expect("request.json"),
        Err(_) => Value::Null,
    };
    let outcome = case::run(&text, &request);
    let parts = [
        ("graph.txt", outcome.graph),
        ("image.json", outcome.image),
        ("diagnostics.txt", outcome.diagnostics),
    ];
    let mut wrong = Vec::new();
    for (name, actual) in parts {
        let path = case.join(name);
        let expected = fs::read_to_string(&path).ok();
        if expected == actual {
            continue;
        }
        match (update, &actual) {
            (true, Some(actual)) => fs::write(&path, actual).expect("write"),
            (true, None) => fs::remove_file(&path).expect("remove"),
            (false, _) => wrong.push(format!(
                "--- {}\nexpected:\n{}\nactual:\n{}",
                path.display(),
                expected.as_deref().unwrap_or("(nothing)"),
                actual.as_deref().unwrap_or("(nothing)"),
            )),
        }
    }
    wrong
}
