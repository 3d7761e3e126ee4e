//! Progress as JSON lines: one object an event, the schema in docs/formats/events.md.

use std::time::SystemTime;

use engine::event::{Event, EventKind, MissReason, Stream};
use serde_json::{Map, Value, json};

use crate::report;

/// Version of the schema; it grows when a field changes its meaning.
const VERSION: u32 = 1;

/// The line of one event, without a line feed.
pub(super) fn line(event: &Event) -> String {
    record(event.at, fields(&event.kind))
}

/// One line of the stream, without a line feed: version, time and what happened, an object.
pub(crate) fn record(at: SystemTime, fields: Value) -> String {
    let mut object = Map::new();
    object.insert("version".into(), VERSION.into());
    let at = jiff::Timestamp::try_from(at)
        .map(|time| time.to_string())
        .unwrap_or_default();
    object.insert("at".into(), at.into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}

fn fields(kind: &EventKind) -> Value {
    match kind {
        EventKind::Announced { step, name } => {
            json!({"kind": "announced", "step": step.to_string(), "name": name})
        }
        EventKind::Started { step } => json!({"kind": "started", "step": step.to_string()}),
        EventKind::Cached { step } => json!({"kind": "cached", "step": step.to_string()}),
        EventKind::Missed { step, reason } => {
            json!({"kind": "missed", "step": step.to_string(), "reason": word(reason), "inputs": inputs(reason)})
        }
        EventKind::Finished { step } => json!({"kind": "finished", "step": step.to_string()}),
        EventKind::Failed { step, message } => {
            json!({"kind": "failed", "step": step.to_string(), "message": message})
        }
        EventKind::Cancelled { step } => json!({"kind": "cancelled", "step": step.to_string()}),
        EventKind::Log {
            step,
            stream,
            bytes,
        } => json!({
            "kind": "log",
            "step": step.to_string(),
            "stream": match stream { Stream::Stdout => "stdout", Stream::Stderr => "stderr" },
            "text": String::from_utf8_lossy(bytes),
        }),
        EventKind::Transfer {
            step,
            item,
            done,
            total,
        } => {
            json!({"kind": "transfer", "step": step.to_string(), "item": item, "done": done, "total": total})
        }
        EventKind::Warnings(report) => {
            json!({"kind": "warnings", "diagnostics": report::json(report)})
        }
        EventKind::Note(text) => json!({"kind": "note", "text": text}),
    }
}

fn word(reason: &MissReason) -> &'static str {
    match reason {
        MissReason::Never => "never",
        MissReason::NotAsked => "not-asked",
        MissReason::Changed(_) => "changed",
        MissReason::Evicted => "evicted",
    }
}

fn inputs(reason: &MissReason) -> Value {
    match reason {
        MissReason::Changed(inputs) => inputs
            .iter()
            .map(|input| json!({"name": input.name, "before": input.before, "after": input.after}))
            .collect(),
        _ => Value::Array(Vec::new()),
    }
}
