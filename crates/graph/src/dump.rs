//! A definition as text and as JSON, for people and for tests. Both are stable: the same graph
//! prints the same, and digests appear only in the JSON.

use std::fmt::{self, Write as _};

use serde_json::{Map, json};

use crate::definition::{Definition, Input, InputKey, Vertex};
use crate::fields::{Field, Value, op_fields, op_name, selector_fields};

impl fmt::Display for Definition {
    /// One paragraph a vertex: its edge, kind and name, then inputs and fields, absent and empty
    /// ones left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (edge, vertex) in self.iter() {
            write!(f, "{edge} {}", op_name(&vertex.op))?;
            if !vertex.meta.name.is_empty() {
                write!(f, "  {}", vertex.meta.name)?;
            }
            if vertex.meta.no_cache {
                write!(f, "  (no cache)")?;
            }
            writeln!(f)?;
            for (index, input) in vertex.inputs.iter().enumerate() {
                write_input(f, index, input)?;
            }
            for field in &op_fields(&vertex.op) {
                write_field(f, field, 1)?;
            }
        }
        Ok(())
    }
}

impl Definition {
    /// The graph as a JSON value: `{"vertices": [{"edge", "op", "name", "stage", "digest", "no_cache",
    /// "inputs", "fields"}]}`, inputs first.
    pub fn to_json(&self) -> serde_json::Value {
        let vertices: Vec<_> = self
            .vertices()
            .iter()
            .enumerate()
            .map(vertex_json)
            .collect();
        json!({ "vertices": vertices })
    }
}

fn write_input(f: &mut fmt::Formatter<'_>, index: usize, input: &Input) -> fmt::Result {
    write!(f, "  input {index}: {}", input.edge)?;
    let InputKey::Content(selector) = &input.key else {
        return writeln!(f);
    };
    let mut text = String::new();
    for field in selector_fields(selector) {
        if !is_trivial(&field.value) {
            write!(text, " {}={}", field.name, Inline(&field.value))?;
        }
    }
    writeln!(f, " by content{text}")
}

fn write_field(f: &mut fmt::Formatter<'_>, field: &Field<'_>, depth: usize) -> fmt::Result {
    if is_trivial(&field.value) {
        return Ok(());
    }
    let indent = "  ".repeat(depth);
    match &field.value {
        Value::List(items) if items.iter().any(|item| matches!(item, Value::Record(_))) => {
            writeln!(f, "{indent}{}:", field.name)?;
            for item in items {
                writeln!(f, "{indent}- {}", Inline(item))?;
            }
            Ok(())
        }
        value => writeln!(f, "{indent}{}: {}", field.name, Inline(value)),
    }
}

/// Says nothing worth a line: absent, false or empty.
fn is_trivial(value: &Value<'_>) -> bool {
    match value {
        Value::Absent | Value::Flag(false) => true,
        Value::Flag(true) | Value::Number(_) | Value::Mode(_) => false,
        Value::Text(text) => text.is_empty(),
        Value::Bytes(_) => false,
        Value::List(items) => items.is_empty(),
        Value::Record(fields) => fields.iter().all(|field| is_trivial(&field.value)),
        Value::Environment(environment) => environment.is_empty(),
    }
}

/// A value on one line.
struct Inline<'a, 'b>(&'a Value<'b>);

impl fmt::Display for Inline<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Absent => write!(f, "-"),
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Mode(mode) => write!(f, "{mode:04o}"),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::List(items) => {
                write!(f, "[")?;
                for (index, item) in items.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{}", Inline(item))?;
                }
                write!(f, "]")
            }
            Value::Record(fields) => {
                // An empty text can mean something here: as a path it is the root.
                let told = fields.iter().filter(|field| {
                    matches!(field.value, Value::Text(_)) || !is_trivial(&field.value)
                });
                let told: Vec<String> = told
                    .map(|field| match &field.value {
                        Value::Record(_) => format!("{}={{{}}}", field.name, Inline(&field.value)),
                        value => format!("{}={}", field.name, Inline(value)),
                    })
                    .collect();
                write!(f, "{}", told.join(" "))
            }
            Value::Environment(environment) => {
                let told: Vec<String> = environment
                    .iter()
                    .map(|(k, v)| format!("{k}={v:?}"))
                    .collect();
                write!(f, "{}", told.join(" "))
            }
        }
    }
}

fn vertex_json((index, vertex): (usize, &Vertex)) -> serde_json::Value {
    let inputs: Vec<_> = vertex.inputs.iter().map(input_json).collect();
    json!({
        "edge": index,
        "op": op_name(&vertex.op),
        "name": vertex.meta.name,
        "stage": vertex.meta.stage,
        "digest": vertex.digest.to_string(),
        "no_cache": vertex.meta.no_cache,
        "inputs": inputs,
        "fields": fields_json(&op_fields(&vertex.op)),
    })
}

fn input_json(input: &Input) -> serde_json::Value {
    let key = match &input.key {
        InputKey::Chained => json!("chained"),
        InputKey::Content(selector) => {
            json!({ "content": fields_json(&selector_fields(selector)) })
        }
    };
    json!({ "edge": input.edge.index(), "key": key })
}

fn fields_json(fields: &[Field<'_>]) -> serde_json::Value {
    let fields = fields
        .iter()
        .map(|field| (field.name.to_owned(), value_json(&field.value)));
    serde_json::Value::Object(fields.collect::<Map<_, _>>())
}

fn value_json(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Absent => serde_json::Value::Null,
        Value::Flag(flag) => json!(flag),
        Value::Number(number) => json!(number),
        Value::Mode(mode) => json!(format!("{mode:04o}")),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
        Value::List(items) => items.iter().map(value_json).collect(),
        Value::Record(fields) => fields_json(fields),
        Value::Environment(environment) => {
            let pairs = environment.iter().map(|(k, v)| json!(format!("{k}={v}")));
            pairs.collect()
        }
    }
}
