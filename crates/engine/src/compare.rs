//! How two images differ: platforms, configs field by field, layers entry by entry.
//!
//! What is compared are the tars as they are shipped, times and all, so equal means equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use layer::apply::{Limits, archive_changes};
use layer::{Change, Content, Data, Kind, Node, RelPath, Time, Times};
use oci::ImageConfig;
use serde_json::Value;
use store::{Image, ImageManifest};

use crate::Engine;
use crate::error::{BuildError, StepError};
use crate::event::Events;
use crate::resolve;

/// Bytes of two files that are compared at a time.
const PIECE: usize = 256 * 1024;

/// One difference between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The platform, when there are several.
    pub platform: Option<String>,
    /// `config`, or a layer and the instruction that made it.
    pub place: String,
    /// The field, or the file.
    pub item: String,
    /// What is different about it.
    pub reason: String,
}

type Entries = BTreeMap<RelPath, Change>;

impl Engine {
    /// Compares an image of this store with one of `other`, both by name or id.
    ///
    /// # Errors
    /// When one does not exist or cannot be read.
    pub fn compare(
        &self,
        one: &str,
        (other, two): (&Engine, &str),
        events: &Events,
    ) -> Result<Vec<Difference>, BuildError> {
        let (a, b) = (self.find_image(one)?, other.find_image(two)?);
        let mut found = Vec::new();
        let several = a.manifests.len() > 1 || b.manifests.len() > 1;
        let names = |image: &Image| -> BTreeSet<String> {
            let platforms = image.manifests.iter();
            platforms.map(|image| image.platform.to_string()).collect()
        };
        for name in names(&a).union(&names(&b)) {
            let find = |image: &Image| {
                let mut all = image.manifests.clone().into_iter();
                all.find(|image| image.platform.to_string() == *name)
            };
            let mut differences = match (find(&a), find(&b)) {
                (Some(a), Some(b)) => platform((self, &a), (other, &b), events)
                    .map_err(|error| BuildError::store("compare the images", error))?,
                (a, _) => vec![Difference {
                    platform: None,
                    place: "image".into(),
                    item: name.clone(),
                    reason: only_in(a.is_some()),
                }],
            };
            if several {
                for difference in &mut differences {
                    difference.platform = Some(name.clone());
                }
            }
            found.append(&mut differences);
        }
        Ok(found)
    }
}

fn only_in(first: bool) -> String {
    format!("only in the {}", if first { "first" } else { "second" })
}

/// Compares the images of one platform.
fn platform(
    (one, a): (&Engine, &ImageManifest),
    (other, b): (&Engine, &ImageManifest),
    events: &Events,
) -> Result<Vec<Difference>, StepError> {
    let config = |engine: &Engine, image| {
        let found = resolve::config(&engine.store, image, "the image");
        found.map_err(StepError::failed("read the image's config"))
    };
    let (config_a, config_b) = (config(one, a)?, config(other, b)?);
    let mut found = configs(config_a.bytes(), config_b.bytes());
    let names = step_names(config_a.value());
    for number in 0..a.layers.len().max(b.layers.len()) {
        let name = names.get(number).map_or("", String::as_str);
        let place = format!("layer {} ({name})", number + 1);
        match (a.layers.get(number), b.layers.get(number)) {
            (Some(a), Some(b)) if a.diff_id == b.diff_id => {}
            (Some(a), Some(b)) => {
                let entries_a = entries(one, a.id, events)?;
                let entries_b = entries(other, b.id, events)?;
                let differences = layers(&entries_a, &entries_b)?;
                found.extend(differences.into_iter().map(|(item, reason)| Difference {
                    platform: None,
                    place: place.clone(),
                    item,
                    reason,
                }));
            }
            (a, _) => found.push(Difference {
                platform: None,
                place,
                item: "all of it".into(),
                reason: only_in(a.is_some()),
            }),
        }
    }
    Ok(found)
}

/// The instruction of every layer.
fn step_names(config: &ImageConfig) -> Vec<String> {
    let made = config.history.iter().filter(|entry| !entry.empty_layer);
    made.map(|entry| entry.created_by.clone()).collect()
}

/// Fields that differ. Layers are named elsewhere, with the reason.
fn configs(a: &[u8], b: &[u8]) -> Vec<Difference> {
    let fields = |bytes: &[u8]| {
        let mut fields = BTreeMap::new();
        flatten(
            "",
            &serde_json::from_slice(bytes).unwrap_or_default(),
            &mut fields,
        );
        fields.retain(|name, _| !name.starts_with("rootfs.diff_ids"));
        fields
    };
    let (a, b) = (fields(a), fields(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name));
    differ
        .map(|name| {
            let text = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
            Difference {
                platform: None,
                place: "config".into(),
                item: name.clone(),
                reason: format!("{} → {}", text(a.get(name)), text(b.get(name))),
            }
        })
        .collect()
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

/// The entries of a layer's tar.
fn entries(engine: &Engine, id: store::LayerId, events: &Events) -> Result<Entries, StepError> {
    let failed = || format!("read layer {id}");
    let layers = engine.new_layers(events);
    layers.ensure(&[id])?;
    let packed = layers.packed(id, Times::Layer)?;
    let file = File::open(&packed.tar).map_err(StepError::failed(failed()))?;
    let content = Content {
        file: Arc::new(file),
        offset: 0,
        len: packed.tar_len,
    };
    let scratch = layers.scratch_file()?;
    let changes = archive_changes(&content, &scratch, &Limits::default())
        .map_err(StepError::failed(failed()))?;
    Ok(changes.into_iter().collect())
}

/// Entries that differ, and how. The time that all entries of a layer share follows from its
/// content: it is named only where nothing else is.
fn layers(a: &Entries, b: &Entries) -> Result<Vec<(String, String)>, StepError> {
    let times = shared_time(a).zip(shared_time(b));
    let mut found = Vec::new();
    let paths: BTreeSet<&RelPath> = a.keys().chain(b.keys()).collect();
    for path in paths {
        let reason = match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) => changes(a, b, times.is_none())
                .map_err(StepError::failed(format!("compare {path}")))?,
            (a, _) => Some(only_in(a.is_some())),
        };
        found.extend(reason.map(|reason| (path.to_string(), reason)));
    }
    if found.is_empty() {
        found.push(match times {
            Some((a, b)) if a != b => ("all files".into(), time_reason(a, b)),
            _ => ("the archive".into(), "written in another form".into()),
        });
    }
    Ok(found)
}

fn shared_time(entries: &Entries) -> Option<Time> {
    let mut times = entries.values().filter_map(|change| match change {
        Change::Put { node, .. } => Some(node.metadata.mtime),
        Change::Link { .. } | Change::Whiteout => None,
    });
    let first = times.next()?;
    times.all(|time| time == first).then_some(first)
}

fn changes(a: &Change, b: &Change, with_time: bool) -> std::io::Result<Option<String>> {
    use Change::{Link, Put, Whiteout};
    let reasons = match (a, b) {
        (
            Put {
                node: a,
                data: of_a,
                ..
            },
            Put {
                node: b,
                data: of_b,
                ..
            },
        ) => {
            let mut reasons = nodes(a, b, with_time);
            if let (Some(Data::Open(a)), Some(Data::Open(b))) = (of_a, of_b)
                && let Some(at) = first_difference(a, b)?
            {
                reasons.push(format!("content differs from byte {at} on"));
            }
            reasons
        }
        (Link { to: a }, Link { to: b }) if a == b => Vec::new(),
        (Whiteout, Whiteout) => Vec::new(),
        (Link { to: a }, Link { to: b }) => vec![format!("link to {a} → {b}")],
        (a, b) => vec![format!("{} → {}", word(a), word(b))],
    };
    Ok((!reasons.is_empty()).then(|| reasons.join(", ")))
}

fn nodes(a: &Node, b: &Node, with_time: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut compare = |what: &str, one: String, other: String| {
        if one != other {
            reasons.push(format!("{what} {one} → {other}"));
        }
    };
    compare("kind", kind(&a.kind), kind(&b.kind));
    let (a, b) = (&a.metadata, &b.metadata);
    compare("mode", format!("{:o}", a.mode), format!("{:o}", b.mode));
    let owner = |uid: u32, gid: u32| format!("{uid}:{gid}");
    compare("owner", owner(a.uid, a.gid), owner(b.uid, b.gid));
    if a.xattrs != b.xattrs {
        reasons.push("extended attributes differ".into());
    }
    if with_time && a.mtime != b.mtime {
        reasons.push(time_reason(a.mtime, b.mtime));
    }
    reasons
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Directory => "directory".into(),
        Kind::File { size } => format!("file of {size} bytes"),
        Kind::Symlink { target } => format!("link to {}", String::from_utf8_lossy(target)),
        Kind::CharDevice { major, minor } => format!("character device {major}:{minor}"),
        Kind::BlockDevice { major, minor } => format!("block device {major}:{minor}"),
        Kind::Fifo => "pipe".into(),
        Kind::Socket => "socket".into(),
    }
}

fn word(change: &Change) -> String {
    match change {
        Change::Put { node, .. } => kind(&node.kind),
        Change::Link { to } => format!("hard link to {to}"),
        Change::Whiteout => "deletion".into(),
    }
}

fn time_reason(a: Time, b: Time) -> String {
    let text = |time: Time| {
        let whole = oci::Timestamp::from_unix(time.seconds);
        whole.map_or_else(|_| time.seconds.to_string(), |time| time.to_string())
    };
    format!("modified {} → {}", text(a), text(b))
}

/// The first byte that differs; where one ends if the other goes on.
fn first_difference(a: &Content, b: &Content) -> std::io::Result<Option<u64>> {
    let common = a.len.min(b.len);
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < common {
        let count = usize::try_from(common - at).map_or(PIECE, |left| left.min(PIECE));
        a.file.read_exact_at(&mut one[..count], a.offset + at)?;
        b.file.read_exact_at(&mut other[..count], b.offset + at)?;
        if let Some(place) = (0..count).find(|&place| one[place] != other[place]) {
            return Ok(Some(at + place as u64));
        }
        at += count as u64;
    }
    Ok((a.len != b.len).then_some(common))
}
