//! What BuildKit makes of the same files. `testdata/buildkit` holds Dockerfiles and, recorded from
//! a daemon's images, the config, the history and the number of layers. There is nothing to update:
//! where BuildKit's later versions write a history differently, no such file was recorded.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::case;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/buildkit")
}

/// Leaves out what is empty, which a config may say or not.
fn filled(config: Value) -> Value {
    let Value::Object(fields) = config else {
        return config;
    };
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    fields
        .into_iter()
        .filter(|(_, value)| !empty(value))
        .collect()
}

/// The image of a file as it was recorded of BuildKit's.
fn image(dockerfile: &[u8]) -> Value {
    let parsed = dockerfile::parse(dockerfile);
    let errors = parsed.diagnostics.iter().filter(|one| one.is_error());
    assert_eq!(errors.count(), 0, "{:?}", parsed.diagnostics);
    let request = json!({ "ignore": [] });
    let lowered = case::lower_fully(&parsed.dockerfile, &request).expect("it lowers");
    let history: Vec<Value> = lowered
        .image
        .history
        .iter()
        .map(|entry| {
            let created_by = &entry.entry.created_by;
            match entry.layer {
                Some(_) => json!({ "created_by": created_by }),
                None => json!({ "created_by": created_by, "empty_layer": true }),
            }
        })
        .collect();
    let layers = lowered.image.history.iter();
    let mut image = json!({
        "config": filled(serde_json::to_value(&lowered.image.config).expect("JSON")),
        "history": history,
        "layers": layers.filter(|entry| entry.layer.is_some()).count(),
    });
    if !lowered.image.author.is_empty() {
        image["author"] = json!(lowered.image.author);
    }
    image
}

#[test]
fn images_are_those_of_buildkit() {
    let mut count = 0;
    for entry in fs::read_dir(directory()).expect("testdata/buildkit") {
        let case = entry.expect("entry").path();
        let dockerfile = fs::read(case.join("Dockerfile")).expect("Dockerfile");
        let expected = fs::read(case.join("image.json")).expect("image.json");
        let expected: Value = serde_json::from_slice(&expected).expect("JSON");
        assert_eq!(image(&dockerfile), expected, "{}", case.display());
        count += 1;
    }
    assert!(count >= 40, "only {count} cases were found");
}
