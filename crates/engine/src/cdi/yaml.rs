//! YAML as the JSON that it stands for: what readers of these files in Go make of it. The first
//! document counts.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// A collection that is not complete.
enum Open {
    Sequence(Vec<Value>),
    /// With the key whose value comes next.
    Mapping(Map<String, Value>, Option<String>),
}

/// Parses a document.
///
/// # Errors
/// When it is no YAML, or has what JSON has not: keys that are no texts, aliases without anchors.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut open: Vec<(Open, usize)> = Vec::new();
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::Alias(anchor) => {
                let value = anchors.get(&anchor).ok_or("an alias names nothing")?;
                (value.clone(), 0)
            }
            Event::SequenceStart(anchor, _) => {
                open.push((Open::Sequence(Vec::new()), anchor));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push((Open::Mapping(Map::new(), None), anchor));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some((Open::Sequence(items), anchor)) => (Value::Array(items), anchor),
                Some((Open::Mapping(fields, _), anchor)) => (Value::Object(fields), anchor),
                None => return Err("a collection ends that did not begin".into()),
            },
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut() {
            None => return Ok(value),
            Some((Open::Sequence(items), _)) => items.push(value),
            Some((Open::Mapping(fields, key), _)) => match key.take() {
                Some(key) => {
                    fields.insert(key, value);
                }
                None => *key = Some(field_name(value)?),
            },
        }
    }
    Ok(Value::Null)
}

fn field_name(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Array(_) | Value::Object(_) => Err("a collection is the name of a field".into()),
    }
}

/// What is not between quotes may be more than a text. A number that begins with 0 is octal, as it
/// was in YAML 1.1: modes are written so.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    let number = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().map(Value::from);
    let prefixed = |prefix: &str| text.strip_prefix(prefix);
    let known = match text {
        _ if style != ScalarStyle::Plain => None,
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        "0" => Some(Value::from(0)),
        _ => match (prefixed("0x"), prefixed("0o"), prefixed("0")) {
            (Some(digits), ..) => number(digits, 16),
            (_, Some(digits), _) | (_, _, Some(digits)) if !digits.contains('.') => {
                number(digits, 8)
            }
            _ => number(text, 10).or_else(|| fraction(text)),
        },
    };
    known.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn fraction(text: &str) -> Option<Value> {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let value = text.parse().ok().filter(|_| is_number)?;
    Number::from_f64(value).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expect: Value) {
        assert_eq!(parse(text), Ok(expect), "{text}");
    }

    #[test]
    fn values() {
        check(
            "[1, -2, 0, 0x1f, 0o17, 017, 08, 0.6, 1.5]",
            json!([1, -2, 0, 31, 15, 15, "08", 0.6, 1.5]),
        );
        check(
            "[a, 'b c', \"d\\n\", '1', ~, null, true, False]",
            json!(["a", "b c", "d\n", "1", null, null, true, false]),
        );
        check(
            "[0.6.0, A=1, /dev/null, -x, 1e3x]",
            json!(["0.6.0", "A=1", "/dev/null", "-x", "1e3x"]),
        );
        check(
            "a:\n- b: 1\n  c: [x]\n- {d: e}\n7: |\n  text\n",
            json!({"a": [{"b": 1, "c": ["x"]}, {"d": "e"}], "7": "text\n"}),
        );
        check(
            "a: &x {b: [1]}\nc: *x\n",
            json!({"a": {"b": [1]}, "c": {"b": [1]}}),
        );
        check("--- 1\n--- 2\n", json!(1));
        check("", Value::Null);
        check("{\"a\": [1, \"b\"]}", json!({"a": [1, "b"]}));
    }

    #[test]
    fn mistakes() {
        for text in ["a: [1", "a: *x", "? [a]\n: b\n", "a: b: c"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
