//! What a container sees: the entries of all layers on top of each other, as they were shipped.
//!
//! [`layer::Stack`] shows the same tree with the times that steps saw; here files have the times
//! of the tars, since that is what is compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use layer::{Change, Kind, RelPath};

use super::entries::{Entries, Found, puts, shared_time, unreadable};
use super::{Aspect, Reason, only_in};
use crate::error::StepError;

/// A merged tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged(BTreeMap<RelPath, Inode>);

#[derive(Clone, Debug)]
struct Inode {
    /// A `Put`, the same one for all names of the inode and for whoever shares its layer.
    put: Arc<Change>,
    /// The name that this one is a hard link to.
    link: Option<RelPath>,
    /// Its time is that of everything in its layer, and follows from the content of that.
    layer_time: bool,
}

impl Merged {
    /// Puts a layer on top.
    pub(super) fn apply(&mut self, layer: Entries) {
        let layer_time = shared_time(&layer).is_some();
        for (path, change) in &layer {
            let stays = match change {
                Change::Put { node, opaque, .. } => {
                    node.kind == Kind::Directory && !opaque && self.is_directory(path)
                }
                Change::Link { .. } | Change::Whiteout => false,
            };
            if !stays {
                self.remove(path);
            }
        }
        let mut links = Vec::new();
        for (path, change) in layer {
            match change {
                Change::Whiteout => {}
                Change::Link { to } => links.push((path, to)),
                put @ Change::Put { .. } => {
                    let inode = Inode {
                        put: Arc::new(put),
                        link: None,
                        layer_time,
                    };
                    self.0.insert(path, inode);
                }
            }
        }
        for (path, to) in links {
            if let Some(inode) = self.0.get(&to).cloned() {
                let link = Some(to);
                self.0.insert(path, Inode { link, ..inode });
            }
        }
    }

    fn is_directory(&self, path: &RelPath) -> bool {
        let put = self.0.get(path).map(|inode| &*inode.put);
        matches!(put, Some(Change::Put { node, .. }) if node.kind == Kind::Directory)
    }

    /// Removes what is at a path and below it.
    fn remove(&mut self, path: &RelPath) {
        let below = self.0.range(path.clone()..).map(|(path, _)| path);
        let below = below.take_while(|other| other.starts_with(path));
        for path in below.cloned().collect::<Vec<_>>() {
            self.0.remove(&path);
        }
    }
}

/// Paths that differ, and how.
pub(super) fn differences(a: &Merged, b: &Merged) -> Result<Vec<(String, Vec<Reason>)>, StepError> {
    let mut found = Found::default();
    let (mut left, mut right) = (a.0.iter().peekable(), b.0.iter().peekable());
    while let Some(path) = match (left.peek(), right.peek()) {
        (Some((a, _)), Some((b, _))) => Some((*a).min(*b)),
        (a, b) => a.or(b).map(|(path, _)| *path),
    } {
        let one = left.next_if(|(other, _)| *other == path);
        let two = right.next_if(|(other, _)| *other == path);
        let reasons = match (one, two) {
            (Some((_, a)), Some((_, b))) => inodes(a, b).map_err(unreadable(path))?,
            (one, _) => vec![only_in(one.is_some())],
        };
        found.add(path, reasons);
    }
    Ok(found.items)
}

fn inodes(a: &Inode, b: &Inode) -> std::io::Result<Vec<Reason>> {
    let mut reasons = Vec::new();
    if !Arc::ptr_eq(&a.put, &b.put) {
        reasons = puts(&a.put, &b.put, !(a.layer_time && b.layer_time))?;
    }
    if a.link != b.link {
        let name = |link: &Option<RelPath>| match link {
            Some(to) => format!("hard link to {to}"),
            None => "no hard link".into(),
        };
        let text = format!("{} → {}", name(&a.link), name(&b.link));
        reasons.push(Aspect::Link.because(text));
    }
    Ok(reasons)
}
