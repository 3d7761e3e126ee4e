//! Why a step was not in the cache: what its key was made of the last time, and what of it changed.

use graph::{Op, Source};
use solver::{CacheKey, KeyHasher, KeyPart, KeyParts, VertexIndex};
use store::{InputChange, StepRecord};

use super::session::{Session, store_key};
use crate::event::{ChangedInput, MissReason};
use crate::lock::lock;

/// Characters of a value that are kept; a longer one is represented by its digest.
const LONGEST: usize = 120;
/// Bytes of a file's digest that are kept: enough to tell versions of one file apart.
const DIGEST_BYTES: usize = 6;
/// The name of an input that counts by its key. Its value is the key and the step's name.
const BASE: &str = "base";
/// Changed inputs that are named.
const MOST: usize = 8;

/// What a key is made of, as names and values for people.
pub(super) fn key_inputs(
    session: &Session<'_>,
    index: VertexIndex,
    parts: &KeyParts,
) -> Vec<(String, String)> {
    let vertex = session.vertex(index);
    let mut list = op_inputs(&vertex.op);
    list.extend(found(session, index));
    for (input, part) in parts.inputs.iter().enumerate() {
        let from = vertex
            .inputs
            .get(input)
            .map(|input| session.definition.vertex(input.edge));
        let name = from.map_or_else(String::new, |vertex| vertex.meta.name.clone());
        match part {
            KeyPart::Chained(key) => list.push((BASE.into(), format!("{} {name}", short(key)))),
            KeyPart::Content(sum) => match session.key_inputs(index, input) {
                Some(inputs) => list.extend(inputs.0.iter().map(|input| {
                    let whole = if input.whole { " (whole)" } else { "" };
                    let digest: String = input
                        .digest
                        .iter()
                        .take(DIGEST_BYTES)
                        .map(|byte| format!("{byte:02x}"))
                        .collect();
                    let mode = input.mode.map(|mode| format!(" {mode:04o}"));
                    let value = digest + &mode.unwrap_or_default();
                    (format!("{}{whole}", input.path), value)
                })),
                None => list.push((format!("content of {name}"), short(sum))),
            },
            KeyPart::Unkeyed => {}
        }
    }
    list
}

/// What a source that others may change was found to be.
fn found(session: &Session<'_>, index: VertexIndex) -> Option<(String, String)> {
    let start = |digest: &str| digest.chars().take(2 * DIGEST_BYTES).collect::<String>();
    match &session.vertex(index).op {
        Op::Source(Source::Git(_)) => {
            let commits = lock(&session.learned.commits);
            Some(("commit".into(), start(commits.get(&index)?)))
        }
        Op::Source(Source::Http(_)) => {
            let downloads = lock(&session.learned.downloads);
            Some((
                "download".into(),
                start(&downloads.get(&index)?.digest.hex()),
            ))
        }
        _ => None,
    }
}

/// Remembers what a step was made of.
pub(super) fn remember(
    session: &Session<'_>,
    index: VertexIndex,
    key: CacheKey,
    inputs: &[(String, String)],
) {
    let record = StepRecord {
        key: store_key(key).to_string(),
        inputs: inputs.to_vec(),
    };
    for identity in identities(session, index) {
        // Only explanations need it.
        drop(session.store.save_step(&store_key(identity), &record));
    }
}

/// Compares a step with what it was the last time; `None` for steps that always execute.
pub(super) fn why_missed(
    session: &Session<'_>,
    index: VertexIndex,
    key: CacheKey,
    parts: Option<&KeyParts>,
) -> Option<MissReason> {
    let vertex = session.vertex(index);
    if matches!(
        vertex.op,
        Op::Source(Source::Image(_) | Source::Local(_)) | Op::Merge | Op::Diff
    ) {
        return None;
    }
    if vertex.meta.no_cache {
        return Some(MissReason::NotAsked);
    }
    let before = identities(session, index)
        .into_iter()
        .find_map(|identity| session.store.step(&store_key(identity)).ok().flatten());
    let Some(before) = before else {
        return Some(MissReason::Never);
    };
    if before.key == store_key(key).to_string() {
        return Some(MissReason::Evicted);
    }
    let now = key_inputs(session, index, parts?);
    Some(MissReason::Changed(for_people(before.changes(&now))))
}

/// The changes that a person can act on: another instruction tells all; a step before this one
/// counts only when nothing nearer changed.
fn for_people(mut changes: Vec<InputChange>) -> Vec<ChangedInput> {
    if let Some(instruction) = changes
        .iter()
        .position(|change| change.name == "instruction")
    {
        changes = vec![changes.swap_remove(instruction)];
    }
    if changes.iter().any(|change| change.name != BASE) {
        changes.retain(|change| change.name != BASE);
    }
    changes.into_iter().take(MOST).map(changed_input).collect()
}

fn changed_input(change: InputChange) -> ChangedInput {
    let InputChange {
        name,
        before,
        after,
    } = change;
    if name.starts_with('/') {
        let (before, after) = without_same_mode(before, after);
        return ChangedInput {
            name,
            before,
            after,
        };
    }
    if name != BASE {
        return ChangedInput {
            name,
            before,
            after,
        };
    }
    let step = |value: Option<String>| value.and_then(|v| Some(v.split_once(' ')?.1.to_string()));
    let (before, after) = (step(before), step(after));
    match (before, after) {
        (Some(before), Some(after)) if before != after => ChangedInput {
            name: "the step before".into(),
            before: Some(before),
            after: Some(after),
        },
        (_, step) => ChangedInput {
            name: format!("the result of {}", step.unwrap_or_default()),
            before: None,
            after: None,
        },
    }
}

/// A file's digest goes with its mode, which is told where it is another.
fn without_same_mode(
    before: Option<String>,
    after: Option<String>,
) -> (Option<String>, Option<String>) {
    let mode = |value: &str| value.split_once(' ').map(|(_, mode)| mode.to_string());
    if let (Some(before), Some(after)) = (&before, &after)
        && mode(before) != mode(after)
    {
        return (Some(before.clone()), Some(after.clone()));
    }
    let digest = |value: String| match value.split_once(' ') {
        Some((digest, _)) => digest.to_string(),
        None => value,
    };
    (before.map(digest), after.map(digest))
}

/// What an operation's key is made of, in the words of the Dockerfile and the command line.
fn op_inputs(op: &Op) -> Vec<(String, String)> {
    let mut list = Vec::new();
    if let Op::Exec(exec) = op {
        match exec.args.as_slice() {
            [shell @ .., flag, script] if flag == "-c" => {
                list.push(("SHELL".to_string(), shortened(shell.join(" "))));
                list.push(("command".to_string(), shortened(script.clone())));
            }
            args => list.push(("command".to_string(), shortened(format!("{args:?}")))),
        }
    }
    for (name, value) in graph::op_inputs_for_explain(op) {
        let part = name.rsplit('.').next().unwrap_or_default();
        match part {
            // Positions in the graph, which follow from the rest.
            "input" | "base" if matches!(op, Op::File(_)) => {}
            "follow_dest_links" => list.push(("--link".into(), (value == "false").to_string())),
            _ if name.starts_with("args[") => {}
            _ => list.push((in_words(&name), shortened(value))),
        }
    }
    list
}

/// The name of a part of an operation as its writer knows it.
fn in_words(name: &str) -> String {
    match name {
        "op" => return "instruction".into(),
        "cwd" => return "WORKDIR".into(),
        "user" => return "USER".into(),
        "script.body" => return "the here-document".into(),
        "network" | "security" | "hostname" | "platform" => return format!("--{name}"),
        "limits.shm_size" => return "--shm-size".into(),
        "limits.cgroup_parent" => return "--cgroup-parent".into(),
        _ => {}
    }
    if let Some(variable) = name.strip_prefix("env.") {
        return format!("variable {variable}");
    }
    let numbered = |list: &str| {
        let (index, part) = name
            .strip_prefix(list)?
            .strip_prefix('[')?
            .split_once(']')?;
        let index: usize = index.parse().ok()?;
        Some((index, part.trim_start_matches('.')))
    };
    // The second one, and those after it, say which they are.
    let which = |index: usize, text: String| match index {
        0 => text,
        _ => format!("{text} ({})", index + 1),
    };
    if let Some((index, part)) = numbered("actions") {
        let text = match part {
            "owner.user" => "user of --chown",
            "owner.group" => "group of --chown",
            "mode" => "--chmod",
            "dest" | "path" => "destination",
            "data" => "the here-document",
            other => other,
        };
        return which(index, text.to_string());
    }
    if let Some((index, part)) = numbered("mounts") {
        return which(index, format!("{part} of --mount"));
    }
    if let Some((index, _)) = numbered("extra_hosts") {
        return which(index, "name of --add-host".into());
    }
    if let Some((index, part)) = numbered("limits.ulimits") {
        return which(index, format!("{part} of --ulimit"));
    }
    name.to_string()
}

/// What tells a step from others across builds: its text in its stage, or else its place there.
fn identities(session: &Session<'_>, index: VertexIndex) -> [CacheKey; 2] {
    let vertex = session.vertex(index);
    let stage = vertex.meta.stage.clone().unwrap_or_default();
    let before = || {
        let vertices = session.definition.vertices()[..index.0].iter();
        vertices.filter(|before| before.meta.stage == vertex.meta.stage)
    };
    let place = before().count();
    // One text may be several steps.
    let twin = before()
        .filter(|before| before.meta.description == vertex.meta.description)
        .count();
    let is_source = matches!(vertex.op, Op::Source(_));
    let hasher = |kind| {
        KeyHasher::new("kiln.step", 2)
            .text(&session.project)
            .text(&stage)
            // The download of an ADD stands beside the ADD itself.
            .text(if is_source { "source" } else { "step" })
            .text(kind)
    };
    [
        hasher("text")
            .text(&vertex.meta.description)
            .number(twin as u64)
            .finish(),
        hasher("place").number(place as u64).finish(),
    ]
}

/// A value on one line, of bounded length.
fn shortened(value: String) -> String {
    let escaped = |text: &str| {
        let mut line = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        line
    };
    if value.chars().count() <= LONGEST {
        return escaped(&value);
    }
    let start: String = value.chars().take(LONGEST / 2).collect();
    let start = escaped(&start);
    format!("{start}… ({})", &oci::Digest::sha256(&value).hex()[..16])
}

fn short(key: &CacheKey) -> String {
    store_key(*key).to_string()[..12].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each change as `name: before → after`.
    #[track_caller]
    fn check(changes: &[(&str, Option<&str>, Option<&str>)], expected: &[&str]) {
        let text = |text: &Option<&str>| text.map(str::to_string);
        let changes = changes.iter().map(|(name, before, after)| InputChange {
            name: name.to_string(),
            before: text(before),
            after: text(after),
        });
        let shown: Vec<String> = for_people(changes.collect())
            .into_iter()
            .map(|input| {
                let side = |value: Option<String>| value.unwrap_or("-".into());
                format!(
                    "{}: {} → {}",
                    input.name,
                    side(input.before),
                    side(input.after)
                )
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_nearest_cause_is_told() {
        let base = ("base", Some("aa [1/2] RUN a"), Some("bb [1/2] RUN a"));
        check(&[base], &["the result of [1/2] RUN a: - → -"]);
        check(
            &[("base", Some("aa RUN a"), Some("bb RUN b"))],
            &["the step before: RUN a → RUN b"],
        );
        check(
            &[("/src/a", Some("1"), Some("2")), base],
            &["/src/a: 1 → 2"],
        );
        check(&[("/a", Some("1 0644"), Some("2 0644"))], &["/a: 1 → 2"]);
        check(
            &[
                ("/a", Some("1 0644"), Some("2 0755")),
                ("/b", None, Some("3 0644")),
            ],
            &["/a: 1 0644 → 2 0755", "/b: - → 3"],
        );
        check(
            &[
                ("command", None, Some("x")),
                ("instruction", Some("file"), Some("exec")),
                base,
            ],
            &["instruction: file → exec"],
        );
    }
}
