//! Why a step was not in the cache: what its key was made of the last time, and what of it changed.

use graph::Op;
use solver::{CacheKey, KeyHasher, KeyPart, KeyParts, VertexIndex};
use store::StepRecord;

use super::session::{Session, store_key};
use crate::event::{ChangedInput, MissReason};

/// Characters of a value that are kept; a longer one is represented by its digest.
const LONGEST: usize = 120;
/// Changed inputs that are named.
const MOST: usize = 8;

/// What a key is made of, as names and values for people.
pub(super) fn key_inputs(
    session: &Session<'_>,
    index: VertexIndex,
    parts: &KeyParts,
) -> Vec<(String, String)> {
    let vertex = session.vertex(index);
    let op = graph::op_inputs_for_explain(&vertex.op);
    let mut list: Vec<(String, String)> = op
        .into_iter()
        .map(|(name, value)| (name, shortened(value)))
        .collect();
    for (input, part) in parts.inputs.iter().enumerate() {
        let from = vertex
            .inputs
            .get(input)
            .map(|input| session.definition.vertex(input.edge));
        let name = from.map_or_else(String::new, |vertex| vertex.meta.name.clone());
        match part {
            KeyPart::Chained(key) => list.push((format!("base {name}"), short(key))),
            KeyPart::Content(sum) => match session.known_checksum(index, input) {
                Some(checksum) => list.extend(checksum.inputs.0.iter().map(|input| {
                    let whole = if input.whole { " (whole)" } else { "" };
                    let digest: String = input
                        .digest
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect();
                    (format!("{}{whole}", input.path), digest)
                })),
                None => list.push((format!("content of {name}"), short(sum))),
            },
            KeyPart::Unkeyed => {}
        }
    }
    list
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
    if !matches!(vertex.op, Op::Exec(_) | Op::File(_)) {
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
    let changes = before
        .changes(&now)
        .into_iter()
        .take(MOST)
        .map(|change| ChangedInput {
            name: change.name,
            before: change.before,
            after: change.after,
        });
    Some(MissReason::Changed(changes.collect()))
}

/// What tells a step from others across builds: its text in its stage, or else its place there.
fn identities(session: &Session<'_>, index: VertexIndex) -> [CacheKey; 2] {
    let vertex = session.vertex(index);
    let stage = vertex.meta.stage.clone().unwrap_or_default();
    let place = session.definition.vertices()[..index.0]
        .iter()
        .filter(|v| v.meta.stage == vertex.meta.stage)
        .count();
    let hasher = |kind| {
        KeyHasher::new("kiln.step", 1)
            .text(&session.project)
            .text(&stage)
            .text(kind)
    };
    [
        hasher("text").text(&vertex.meta.description).finish(),
        hasher("place").number(place as u64).finish(),
    ]
}

fn shortened(value: String) -> String {
    if value.chars().count() <= LONGEST {
        return value;
    }
    let start: String = value.chars().take(LONGEST / 2).collect();
    format!("{start}… ({})", &oci::Digest::sha256(&value).hex()[..16])
}

fn short(key: &CacheKey) -> String {
    store_key(*key).to_string()[..12].to_string()
}
