//! What a failure looks like to the one who has to act on it: blame, advice and exit code, decided
//! here once for every error of the engine.

use std::error::Error;

use engine::diagnose::Excerpt;
use engine::{BuildError, Shortage, StepError};
use serde_json::{Value, json};

use crate::{exit, report, table};

/// Exit code of a failed command, `usual` unless the failure has one of its own.
pub(crate) fn code(error: &anyhow::Error, usual: u8) -> u8 {
    match error.downcast_ref::<BuildError>() {
        Some(BuildError::Cancelled) => exit::INTERRUPTED,
        Some(BuildError::Step {
            source: StepError::NotExecuted { code, .. },
            ..
        }) => u8::try_from(*code).unwrap_or(exit::ENGINE),
        _ => usual,
    }
}

/// What a failed build says to machines: the last object of `--progress json`.
pub(crate) fn facts(error: &BuildError) -> Value {
    match error {
        BuildError::Rejected(found) => json!({
            "kind": "error",
            "message": "the Dockerfile cannot be built as it is",
            "diagnostics": report::json(found),
        }),
        BuildError::Step {
            name,
            excerpt,
            tail,
            source,
        } => json!({
            "kind": "error",
            "message": causes(source),
            "step": name,
            "place": excerpt.as_deref().map(report::place),
            "tail": tail,
            "help": step_advice(source),
        }),
        BuildError::Resolve {
            excerpt, source, ..
        } => json!({
            "kind": "error",
            "message": causes(error),
            "place": excerpt.as_deref().map(report::place),
            "help": cause_advice(source.as_ref()),
        }),
        other => json!({"kind": "error", "message": causes(other), "help": other_advice(other)}),
    }
}

/// The text for the error stream.
pub(crate) fn render(error: &anyhow::Error, color: bool) -> String {
    match error.downcast_ref::<BuildError>() {
        Some(error) => build(error, color),
        None => chain(error.as_ref()),
    }
}

fn build(error: &BuildError, color: bool) -> String {
    match error {
        BuildError::Rejected(found) => report::render(found, color),
        BuildError::Step {
            name,
            excerpt,
            tail,
            source,
        } => step(name, excerpt.as_deref(), tail, source, color),
        BuildError::Resolve {
            excerpt: Some(excerpt),
            source,
            ..
        } => {
            let title = format!("{error}: {}", causes(source.as_ref()));
            let mut text = report::excerpt(&title, excerpt, "", color);
            advice(&mut text, cause_advice(source.as_ref()));
            text
        }
        other => {
            let mut text = chain(other);
            advice(&mut text, other_advice(other));
            text
        }
    }
}

fn step(
    name: &str,
    excerpt: Option<&Excerpt>,
    tail: &[String],
    source: &StepError,
    color: bool,
) -> String {
    let mut text = String::new();
    if !tail.is_empty() {
        text.push_str(&format!(
            "------\n > {name}:\n{}\n------\n",
            tail.join("\n")
        ));
    }
    let title = match source.source() {
        Some(cause) => format!("{source}: {}", causes(cause)),
        None => source.to_string(),
    };
    match excerpt {
        Some(excerpt) => text.push_str(&report::excerpt(&title, excerpt, &remark(source), color)),
        None => text.push_str(&format!("error: {name}: {title}")),
    }
    advice(&mut text, step_advice(source));
    text
}

/// What is said under the caret.
fn remark(error: &StepError) -> String {
    match error {
        StepError::Exit { code, .. } => format!("exit code {code}"),
        StepError::Signal { signal, .. } => format!("killed by {signal}"),
        StepError::NotFound { place, .. } => format!("not in {place}"),
        _ => String::new(),
    }
}

fn step_advice(error: &StepError) -> Option<String> {
    match error {
        StepError::Exit {
            out_of_memory: Some(found),
            ..
        }
        | StepError::Signal {
            out_of_memory: Some(found),
            ..
        } => Some(shortage(found)),
        StepError::Exit { code: 126, .. } => {
            Some("126 is the shell's way to say: found, but not executable".into())
        }
        StepError::Exit { code: 127, .. } => Some(
            "127 is the shell's way to say: command not found; is it installed, and in PATH?"
                .into(),
        ),
        StepError::Exit { code: 137, .. } => {
            Some("137 is 128 + SIGKILL: often the kernel, out of memory (dmesg tells)".into())
        }
        StepError::Exit { code, .. } if *code > 128 && *code < 160 => Some(format!(
            "{code} is 128 + {}: the command was ended by that signal",
            code - 128
        )),
        StepError::NotFound {
            ignored_by: Some(rule),
            ..
        } => Some(format!(
            "it is excluded by {rule}; a later line `!…` can include it again"
        )),
        StepError::NotFound {
            nearest: Some(nearest),
            ..
        } => Some(format!("there is {nearest:?}")),
        StepError::Failed { source, .. } | StepError::Spawn { source, .. } => {
            cause_advice(source.as_ref())
        }
        _ => None,
    }
}

/// How much memory was used and allowed, and what can be done.
pub(crate) fn shortage(shortage: &Shortage) -> String {
    let allowed = match shortage.limit {
        Some(limit) => format!("--memory allows {}", table::binary_size(limit)),
        None => "the control group around it allows no more".to_string(),
    };
    let used = shortage
        .peak
        .map(|peak| format!(" and it used {}", table::binary_size(peak)));
    format!(
        "{allowed}{}: raise the limit, or make it use less, with fewer jobs at once for example",
        used.unwrap_or_default()
    )
}

fn other_advice(error: &BuildError) -> Option<String> {
    match error {
        BuildError::NoDockerfile {
            nearest: Some(nearest),
            ..
        } => Some(format!("there is {nearest}: --file {nearest}")),
        BuildError::NoDockerfile { .. } => {
            Some("name it with --file, or run kiln where it is".into())
        }
        BuildError::Resolve { source, .. }
        | BuildError::Export { source, .. }
        | BuildError::Store { source, .. } => cause_advice(source.as_ref()),
        BuildError::Limits { source } => source.hint(),
        BuildError::Internal { .. } => {
            Some("please report it, with the Dockerfile if you can".into())
        }
        _ => None,
    }
}

/// Advice for what networks and file systems say.
fn cause_advice(error: &(dyn Error + 'static)) -> Option<String> {
    let hint = engine::registry_hint(error);
    if hint.is_some() {
        return hint;
    }
    let causes = causes(error);
    let advice = [
        (
            "No space left",
            "free some space: `kiln prune` removes cache, `kiln du` shows it",
        ),
        (
            "onnection refused",
            "is the server running, and is its address right?",
        ),
        (
            "dns error",
            "the name does not resolve here: is it right, and is there a network?",
        ),
        (
            "is a binary for",
            "a program of another processor needs an emulator that the kernel knows: install qemu-user-static (Debian, Ubuntu), or run `docker run --privileged --rm tonistiigi/binfmt --install all`; stages that only make files run natively with FROM --platform=$BUILDPLATFORM",
        ),
    ];
    advice
        .iter()
        .find(|(sign, _)| causes.contains(sign))
        .map(|(_, text)| (*text).to_string())
}

fn advice(text: &mut String, advice: Option<String>) {
    if let Some(advice) = advice {
        text.push_str("\nhelp: ");
        text.push_str(&advice);
    }
}

/// An error and its causes, `error: a: b: c`.
fn chain(error: &(dyn Error + 'static)) -> String {
    format!("error: {}", causes(error))
}

fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A cause that its error already spells out is not said again.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
