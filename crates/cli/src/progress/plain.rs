//! Progress as plain lines: for logs, pipes and people who scroll back.

use engine::event::{Event, EventKind, MissReason};

use super::state::{State, Step};
use crate::report;

/// The lines that one event is worth, given the state after it.
pub(super) fn lines(state: &State, event: &Event, explain: bool) -> Vec<String> {
    let step = |digest| state.step(digest);
    match &event.kind {
        EventKind::Announced { .. } | EventKind::Transfer { .. } => Vec::new(),
        EventKind::Started { step: digest } => step(digest)
            .map(|step| format!("#{} {}", step.number, step.name))
            .into_iter()
            .collect(),
        EventKind::Cached { step: digest } => step(digest)
            .map(|step| format!("#{} CACHED {}", step.number, step.name))
            .into_iter()
            .collect(),
        EventKind::Missed {
            step: digest,
            reason,
        } if explain || matches!(reason, MissReason::Changed(_)) => step(digest)
            .map(|step| format!("#{} {}", step.number, miss(reason)))
            .into_iter()
            .collect(),
        EventKind::Missed { .. } => Vec::new(),
        EventKind::Log { step: digest, .. } => step(digest)
            .map(|step| log(state, step))
            .unwrap_or_default(),
        EventKind::Finished { step: digest } => ended(state, step(digest), "DONE", ""),
        EventKind::Cancelled { step: digest } => ended(state, step(digest), "CANCELLED", ""),
        EventKind::Failed {
            step: digest,
            message,
        } => ended(state, step(digest), "ERROR", message),
        EventKind::Warnings(report) => vec![report::render(report, false)],
        EventKind::Note(text) => vec![text.clone()],
    }
}

/// Why a step was not in the cache, in words.
pub(super) fn miss(reason: &MissReason) -> String {
    let value = |value: &str| match value {
        "" => String::new(),
        value => format!(" ({value})"),
    };
    match reason {
        MissReason::Never => "not in the cache: it never ran here".to_string(),
        MissReason::NotAsked => "the cache was not asked (--no-cache)".to_string(),
        MissReason::Evicted => "not in the cache any more: its result was removed".to_string(),
        MissReason::Changed(inputs) => {
            let shown: Vec<String> = inputs
                .iter()
                .map(|input| match (&input.before, &input.after) {
                    (Some(before), Some(after)) => {
                        format!("{} changed ({before} → {after})", input.name)
                    }
                    (None, Some(after)) => format!("{} is new{}", input.name, value(after)),
                    (Some(before), None) => format!("{} is gone{}", input.name, value(before)),
                    (None, None) => format!("{} changed", input.name),
                })
                .collect();
            format!("not in the cache: {}", shown.join(", "))
        }
    }
}

fn log(state: &State, step: &Step) -> Vec<String> {
    let seconds = state.running(step).as_secs_f64();
    step.fresh
        .iter()
        .map(|line| format!("#{} {seconds:.3} {line}", step.number))
        .collect()
}

fn ended(state: &State, step: Option<&Step>, word: &str, message: &str) -> Vec<String> {
    let Some(step) = step else { return Vec::new() };
    let mut lines = log(state, step);
    let seconds = state.running(step).as_secs_f64();
    let message = if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    };
    lines.push(format!(
        "#{} {word} {seconds:.2}s {}{message}",
        step.number, step.name
    ));
    lines
}
