//! Answers to the questions that a build can be asked instead of building.

use frontend::Outline;
use serde_json::{Value, json};

use crate::build::{BuildOutcome, Compiled};
use crate::request::Call;

/// Answers from what was compiled.
pub(crate) fn answer(
    call: Call,
    file: &dockerfile::Dockerfile,
    compiled: Compiled,
) -> BuildOutcome {
    let (text, value) = match call {
        Call::Build | Call::Check => (None, None),
        Call::Graph => {
            let definition = &compiled.definition;
            (Some(definition.to_string()), Some(definition.to_json()))
        }
        Call::Outline => {
            let outlines: Vec<&Outline> =
                compiled.images.iter().map(|image| &image.outline).collect();
            let text = outlines
                .iter()
                .map(|outline| outline_text(outline))
                .collect::<Vec<_>>()
                .join("\n");
            (
                Some(text),
                Some(
                    outlines
                        .iter()
                        .map(|outline| outline_json(outline))
                        .collect(),
                ),
            )
        }
        Call::Targets => {
            let targets = frontend::targets(file);
            let mut text = String::from("TARGET\tBASE\tDESCRIPTION\n");
            for target in &targets {
                let default = if target.is_default { " (default)" } else { "" };
                text.push_str(&format!(
                    "{}{default}\t{}\t{}\n",
                    target.name, target.base, target.description
                ));
            }
            let list: Vec<Value> = targets
                .iter()
                .map(|target| {
                    json!({"name": target.name, "description": target.description, "base": target.base,
                        "platform": target.platform, "default": target.is_default})
                })
                .collect();
            (Some(text), Some(json!({"targets": list})))
        }
    };
    BuildOutcome {
        image_id: None,
        config: None,
        descriptor: None,
        names: Vec::new(),
        warnings: compiled.warnings,
        answer: text,
        answer_json: value.map(|value| format!("{value:#}\n")),
    }
}

fn outline_text(outline: &Outline) -> String {
    let mut text = format!("TARGET:\t{}\n", outline.name);
    if !outline.description.is_empty() {
        text.push_str(&format!("DESCRIPTION:\t{}\n", outline.description));
    }
    if !outline.args.is_empty() {
        text.push_str("\nBUILD ARG\tVALUE\tDESCRIPTION\n");
        for arg in &outline.args {
            text.push_str(&format!(
                "{}\t{}\t{}\n",
                arg.name,
                arg.value.as_deref().unwrap_or(""),
                arg.description
            ));
        }
    }
    for (title, mounts) in [
        ("SECRET", &outline.secrets),
        ("SSH", &outline.ssh),
        ("CACHE", &outline.caches),
    ] {
        if !mounts.is_empty() {
            text.push_str(&format!("\n{title}\tREQUIRED\n"));
            mounts
                .iter()
                .for_each(|mount| text.push_str(&format!("{}\t{}\n", mount.id, mount.required)));
        }
    }
    text
}

fn outline_json(outline: &Outline) -> Value {
    let mounts = |mounts: &[frontend::OutlineMount]| -> Vec<Value> {
        mounts
            .iter()
            .map(|mount| json!({"name": mount.id, "required": mount.required}))
            .collect()
    };
    let args: Vec<Value> = outline
        .args
        .iter()
        .map(|arg| json!({"name": arg.name, "value": arg.value, "description": arg.description}))
        .collect();
    json!({
        "name": outline.name,
        "description": outline.description,
        "args": args,
        "secrets": mounts(&outline.secrets),
        "ssh": mounts(&outline.ssh),
        "cache": mounts(&outline.caches),
    })
}
