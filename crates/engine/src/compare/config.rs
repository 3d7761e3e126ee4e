//! Configs, field by field. Layers are left out: they are compared by what is in them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Aspect, Difference, Place, only_in};

/// Fields that differ, by their path in the document.
pub(super) fn differences(a: &[u8], b: &[u8]) -> Vec<Difference> {
    let (a, b) = (fields(a), fields(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let reason = match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(a), Some(b)) => Aspect::Value.because(format!("{a} → {b}")),
            (Some(value), _) | (_, Some(value)) => {
                let mut reason = only_in(a.contains_key(name));
                reason.text = format!("{value} {}", reason.text);
                reason
            }
            (None, None) => continue,
        };
        found.push(Place::Config.with(name, vec![reason]));
    }
    found
}

fn fields(bytes: &[u8]) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    let document = serde_json::from_slice(bytes).unwrap_or_default();
    flatten("", &document, &mut fields);
    fields.retain(|name, _| !name.starts_with("rootfs.diff_ids"));
    fields
}

fn flatten(name: &str, value: &Value, fields: &mut BTreeMap<String, Value>) {
    let below = |key: &str| match name {
        "" => key.to_string(),
        name => format!("{name}.{key}"),
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                flatten(&below(key), value, fields);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (number, value) in items.iter().enumerate() {
                flatten(&below(&number.to_string()), value, fields);
            }
        }
        value => drop(fields.insert(name.to_string(), value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, expected: &[&str]) {
        let found = differences(a.as_bytes(), b.as_bytes());
        let line = |d: &Difference| format!("{}: {}", d.item, d.reasons[0].text);
        assert_eq!(found.iter().map(line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn fields_by_their_path() {
        let image =
            |config: &str| format!(r#"{{"config": {config}, "rootfs": {{"diff_ids": []}}}}"#);
        check(&image("{}"), &image("{}"), &[]);
        check(
            &image(r#"{"Env": ["A=1", "B=2"], "User": "me"}"#),
            &image(r#"{"Env": ["A=1", "B=3", "C=4"]}"#),
            &[
                r#"config.Env.1: "B=2" → "B=3""#,
                r#"config.Env.2: "C=4" only in the second"#,
                r#"config.User: "me" only in the first"#,
            ],
        );
        check(
            r#"{"rootfs": {"diff_ids": ["sha256:1"]}}"#,
            r#"{"rootfs": {"diff_ids": ["sha256:2"]}}"#,
            &[],
        );
    }
}
