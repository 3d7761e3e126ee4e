//! Two layers, entry by entry; and two files, respect by respect.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::FileExt;

use layer::{Change, Content, Data, Kind, Metadata, Node, RelPath, Time};

use super::{Aspect, Reason, only_in, times};
use crate::error::StepError;

/// The entries of a layer.
pub(super) type Entries = BTreeMap<RelPath, Change>;

/// Bytes of two files that are compared at a time.
const PIECE: usize = 256 * 1024;

/// Entries that differ, and how: at least one, since the layers are known to differ. The time that
/// all entries of a layer share follows from its content: it is named only where nothing else is.
pub(super) fn differences(
    a: &Entries,
    b: &Entries,
) -> Result<Vec<(String, Vec<Reason>)>, StepError> {
    let times = shared_time(a).zip(shared_time(b));
    let mut found = Found::default();
    let paths: BTreeSet<&RelPath> = a.keys().chain(b.keys()).collect();
    for path in paths {
        let reasons = match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) => changes(a, b, times.is_none()).map_err(unreadable(path))?,
            (Some(Change::Whiteout), None) => {
                vec![Aspect::Added.because("deleted in the first only")]
            }
            (None, Some(Change::Whiteout)) => {
                vec![Aspect::Removed.because("deleted in the second only")]
            }
            (a, _) => vec![only_in(a.is_some())],
        };
        found.add(path, reasons);
    }
    let mut found = found.items;
    if found.is_empty() {
        found.push(match times {
            Some((a, b)) if a != b => ("all files".into(), vec![time(a, b)]),
            _ => (
                "the archive".into(),
                vec![Aspect::Form.because("written in another form")],
            ),
        });
    }
    Ok(found)
}

/// What was found, in order of paths. What is below something that only one side has goes without
/// saying.
#[derive(Default)]
pub(super) struct Found {
    pub(super) items: Vec<(String, Vec<Reason>)>,
    /// The last path that only one side has, and which side.
    alone: Option<(RelPath, Aspect)>,
}

impl Found {
    pub(super) fn add(&mut self, path: &RelPath, reasons: Vec<Reason>) {
        let only = match reasons.as_slice() {
            [] => return,
            [Reason { aspect, .. }] if matches!(aspect, Aspect::Added | Aspect::Removed) => {
                Some(*aspect)
            }
            _ => None,
        };
        if let (Some((above, side)), Some(aspect)) = (&self.alone, only)
            && path.starts_with(above)
            && *side == aspect
        {
            return;
        }
        self.alone = only
            .map(|aspect| (path.clone(), aspect))
            .or(self.alone.take());
        self.items.push((path.to_string(), reasons));
    }
}

pub(super) fn unreadable(path: &RelPath) -> impl FnOnce(io::Error) -> StepError {
    StepError::failed(format!("compare {path}"))
}

/// The time that all entries have, if they do.
pub(super) fn shared_time(entries: &Entries) -> Option<Time> {
    let mut times = entries.values().filter_map(|change| match change {
        Change::Put { node, .. } => Some(node.metadata.mtime),
        Change::Link { .. } | Change::Whiteout => None,
    });
    let first = times.next()?;
    times.all(|time| time == first).then_some(first)
}

fn changes(a: &Change, b: &Change, with_time: bool) -> io::Result<Vec<Reason>> {
    use Change::{Link, Put, Whiteout};
    Ok(match (a, b) {
        (Put { opaque, .. }, Put { opaque: other, .. }) => {
            let mut reasons = puts(a, b, with_time)?;
            if opaque != other {
                let side = if *opaque { "first" } else { "second" };
                let text = format!("hides what is below it in the {side} only");
                reasons.push(Aspect::Kind.because(text));
            }
            reasons
        }
        (Link { to: a }, Link { to: b }) if a == b => Vec::new(),
        (Whiteout, Whiteout) => Vec::new(),
        (Link { to: a }, Link { to: b }) => {
            vec![Aspect::Link.because(format!("hard link to {a} → {b}"))]
        }
        (a, b) => vec![Aspect::Kind.because(format!("{} → {}", word(a), word(b)))],
    })
}

/// How two inodes differ, their bytes included. Other changes than `Put` have no inode.
pub(super) fn puts(a: &Change, b: &Change, with_time: bool) -> io::Result<Vec<Reason>> {
    let (
        Change::Put {
            node: a,
            data: of_a,
            ..
        },
        Change::Put {
            node: b,
            data: of_b,
            ..
        },
    ) = (a, b)
    else {
        return Ok(Vec::new());
    };
    let mut reasons = nodes(a, b, with_time);
    if let (Some(Data::Open(a)), Some(Data::Open(b))) = (of_a, of_b)
        && let Some(at) = first_difference(a, b)?
    {
        let mut text = format!("content differs from byte {at} on");
        if let Some((one, other)) = times(a, b, at)? {
            text += &format!(" (a time: {one} → {other})");
        }
        reasons.insert(0, Aspect::Content.because(text));
        if a.len != b.len {
            let text = format!("{} bytes → {} bytes", a.len, b.len);
            reasons.insert(0, Aspect::Content.because(text));
        }
    }
    Ok(reasons)
}

fn nodes(a: &Node, b: &Node, with_time: bool) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let aspect = match (&a.kind, &b.kind) {
        (Kind::File { .. }, Kind::File { .. }) => None,
        (a, b) if a == b => None,
        (Kind::Symlink { .. }, Kind::Symlink { .. }) => Some(Aspect::Link),
        _ => Some(Aspect::Kind),
    };
    if let Some(aspect) = aspect {
        reasons.push(aspect.because(format!("{} → {}", kind(&a.kind), kind(&b.kind))));
    }
    let (a, b) = (&a.metadata, &b.metadata);
    if a.mode != b.mode {
        reasons.push(Aspect::Mode.because(format!("mode {:o} → {:o}", a.mode, b.mode)));
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        let text = format!("owner {}:{} → {}:{}", a.uid, a.gid, b.uid, b.gid);
        reasons.push(Aspect::Owner.because(text));
    }
    reasons.extend(attributes(a, b));
    if with_time && a.mtime != b.mtime {
        reasons.push(time(a.mtime, b.mtime));
    }
    reasons
}

/// The extended attributes that differ, by name.
fn attributes(a: &Metadata, b: &Metadata) -> Option<Reason> {
    let names: BTreeSet<&Vec<u8>> = a.xattrs.keys().chain(b.xattrs.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|&name| a.xattrs.get(name) != b.xattrs.get(name));
    let names: Vec<_> = differ.map(|name| String::from_utf8_lossy(name)).collect();
    let text = format!("attribute {} differs", names.join(", "));
    (!names.is_empty()).then(|| Aspect::Attributes.because(text))
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

fn time(a: Time, b: Time) -> Reason {
    let text = |time: Time| {
        let whole = oci::Timestamp::from_unix(time.seconds);
        whole.map_or_else(|_| time.seconds.to_string(), |time| time.to_string())
    };
    Aspect::Time.because(format!("modified {} → {}", text(a), text(b)))
}

/// The times that two files have where they begin to differ, if they have.
fn times(a: &Content, b: &Content, at: u64) -> io::Result<Option<(String, String)>> {
    let start = at.saturating_sub(times::WINDOW as u64);
    let window = |content: &Content| {
        let left = usize::try_from(content.len.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(2 * times::WINDOW)];
        let read = content
            .file
            .read_exact_at(&mut bytes, content.offset + start);
        read.map(|()| bytes)
    };
    let position = usize::try_from(at - start).unwrap_or(times::WINDOW);
    Ok(times::at(&window(a)?, &window(b)?, position))
}

/// The first byte that differs; where one ends if the other goes on.
fn first_difference(a: &Content, b: &Content) -> io::Result<Option<u64>> {
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
