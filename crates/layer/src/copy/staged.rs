//! The tree that a layer under construction makes: what the base has, overlaid with the changes so
//! far. It knows paths and inodes and nothing of sources or flags.
//!
//! Slots are made only for what is changed and for what lies on the way there. A directory that is
//! new has nothing of the base below it, so that filling it never asks the base.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use super::CopyError;
use crate::owner::Ids;
use crate::resolve::{Links, Resolved, resolve_with};
use crate::{Change, Data, Kind, Metadata, Node, RelPath, Time, View, Xattrs};

/// Position of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(usize);

/// Names of one inode of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group(usize);

/// A regular file or special node to be put.
pub(super) struct Put {
    pub(super) node: Node,
    pub(super) data: Option<Data>,
    pub(super) group: Option<Group>,
}

pub(super) struct Staged {
    base: Option<Arc<dyn View>>,
    now: Time,
    slots: Vec<Slot>,
    groups: usize,
}

struct Slot {
    /// What is there now; `None` when it is gone.
    node: Option<Node>,
    data: Option<Data>,
    group: Option<Group>,
    /// The layer has an entry that says more than what the base has.
    changed: bool,
    /// What the base has at this path.
    below: Below,
    /// Path, of directories only.
    path: RelPath,
    children: BTreeMap<Vec<u8>, SlotId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Nothing,
    /// Something that is no directory.
    Other,
    /// A directory whose entries show.
    Shown,
    /// A directory whose entries are hidden by what this layer has put there.
    Hidden,
}

impl Staged {
    pub(super) const ROOT: SlotId = SlotId(0);

    pub(super) fn new(base: Option<Arc<dyn View>>, now: Time) -> Result<Staged, CopyError> {
        let mut staged = Staged {
            base,
            now,
            slots: Vec::new(),
            groups: 0,
        };
        let root = staged.look_below(&RelPath::root())?;
        let root = root.unwrap_or_else(|| directory(0o755, Ids::default(), now));
        staged.push(root, Below::Shown, RelPath::root());
        Ok(staged)
    }

    pub(super) fn base(&self) -> Option<&Arc<dyn View>> {
        self.base.as_ref()
    }

    /// A name for an inode that will have several paths.
    pub(super) fn new_group(&mut self) -> Group {
        self.groups += 1;
        Group(self.groups)
    }

    /// The group of a slot that holds no directory, made when it has none.
    pub(super) fn group_of(&mut self, slot: SlotId) -> Group {
        let group = self.slots[slot.0].group.unwrap_or_else(|| self.new_group());
        self.slots[slot.0].group = Some(group);
        group
    }

    pub(super) fn node(&self, slot: SlotId) -> Option<&Node> {
        self.slots[slot.0].node.as_ref()
    }

    /// The data of a slot that this layer put; `None` for one of the base.
    pub(super) fn data(&self, slot: SlotId) -> Option<&Data> {
        self.slots[slot.0].data.as_ref()
    }

    pub(super) fn is_changed(&self, slot: SlotId) -> bool {
        self.slots[slot.0].changed
    }

    /// The path of a name in a directory.
    pub(super) fn path_of(&self, directory: SlotId, name: &[u8]) -> RelPath {
        join(&self.slots[directory.0].path, name)
    }

    /// The time of what has no source.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    pub(super) fn is_dir(&self, slot: SlotId) -> bool {
        self.node(slot).is_some_and(|n| n.kind == Kind::Directory)
    }

    /// Where a path leads now.
    pub(super) fn resolve(&self, path: &[u8], links: Links) -> Result<Resolved, CopyError> {
        Ok(resolve_with(path, links, |p| self.lookup(p))?)
    }

    /// The node at a path, nothing followed.
    pub(super) fn lookup(&self, path: &RelPath) -> io::Result<Option<Node>> {
        let mut slot = &self.slots[Self::ROOT.0];
        for name in path.components() {
            if let Some(child) = slot.children.get(name) {
                slot = &self.slots[child.0];
            } else if slot.below == Below::Shown {
                return self
                    .base
                    .as_ref()
                    .map_or(Ok(None), |base| base.lookup(path));
            } else {
                return Ok(None);
            }
        }
        Ok(slot.node.clone())
    }

    /// The slot of something that exists in `directory`.
    pub(super) fn child(
        &mut self,
        directory: SlotId,
        name: &[u8],
    ) -> Result<Option<SlotId>, CopyError> {
        let slot = &self.slots[directory.0];
        if let Some(&child) = slot.children.get(name) {
            return Ok(self.slots[child.0].node.is_some().then_some(child));
        }
        if slot.below != Below::Shown || self.base.is_none() {
            return Ok(None);
        }
        let path = join(&slot.path, name);
        let Some(node) = self.look_below(&path)? else {
            return Ok(None);
        };
        let is_dir = node.kind == Kind::Directory;
        let (below, path) = if is_dir {
            (Below::Shown, path)
        } else {
            (Below::Other, RelPath::root())
        };
        let child = self.push(node, below, path);
        self.slots[directory.0]
            .children
            .insert(name.to_vec(), child);
        Ok(Some(child))
    }

    /// The slot at a path that holds no links.
    pub(super) fn slot(&mut self, path: &RelPath) -> Result<Option<SlotId>, CopyError> {
        let mut slot = Self::ROOT;
        for name in path.components() {
            match self.child(slot, name)? {
                Some(child) => slot = child,
                None => return Ok(None),
            }
        }
        Ok(Some(slot))
    }

    /// The directory at a path that holds no links, made together with its parents where missing.
    pub(super) fn make_directories(
        &mut self,
        path: &RelPath,
        mode: u32,
        owner: Ids,
    ) -> Result<SlotId, CopyError> {
        let mut slot = Self::ROOT;
        for name in path.components() {
            slot = match self.child(slot, name)? {
                Some(child) if self.is_dir(child) => child,
                Some(_) => {
                    let obstacle = join(&self.slots[slot.0].path, name);
                    return Err(CopyError::NotADirectory {
                        path: path.clone(),
                        obstacle,
                    });
                }
                None => self.put_directory(slot, name, directory(mode, owner, self.now)),
            };
        }
        Ok(slot)
    }

    /// Puts a new directory where none is; whatever else is there goes. The caller has looked.
    pub(super) fn put_directory(&mut self, parent: SlotId, name: &[u8], node: Node) -> SlotId {
        let path = join(&self.slots[parent.0].path, name);
        let child = self.put(
            parent,
            name,
            Put {
                node,
                data: None,
                group: None,
            },
        );
        self.slots[child.0].path = path;
        child
    }

    /// Puts an inode; whatever is there goes. The caller has looked for it with [`Staged::child`].
    pub(super) fn put(&mut self, parent: SlotId, name: &[u8], put: Put) -> SlotId {
        self.touch(parent);
        let child = match self.slots[parent.0].children.get(name) {
            Some(&child) => child,
            None => {
                let child = self.push_slot(Slot::empty(Below::Nothing));
                self.slots[parent.0].children.insert(name.to_vec(), child);
                child
            }
        };
        let slot = &mut self.slots[child.0];
        if slot.below == Below::Shown {
            slot.below = Below::Hidden;
        }
        slot.children.clear();
        slot.changed = true;
        slot.node = Some(put.node);
        slot.data = put.data;
        slot.group = put.group;
        child
    }

    /// Takes a name away, with everything below it.
    pub(super) fn remove(&mut self, parent: SlotId, name: &[u8]) -> Result<(), CopyError> {
        if let Some(child) = self.child(parent, name)? {
            self.touch(parent);
            let slot = &mut self.slots[child.0];
            let below = if slot.below == Below::Shown {
                Below::Hidden
            } else {
                slot.below
            };
            *slot = Slot {
                changed: true,
                ..Slot::empty(below)
            };
        }
        Ok(())
    }

    /// Hides what the base has in a directory.
    pub(super) fn make_opaque(&mut self, directory: SlotId) {
        let slot = &mut self.slots[directory.0];
        slot.changed = true;
        slot.children.clear();
        if slot.below == Below::Shown {
            slot.below = Below::Hidden;
        }
    }

    /// Changes the metadata of an inode that exists.
    pub(super) fn change(&mut self, slot: SlotId, change: impl FnOnce(&mut Metadata)) {
        let slot = &mut self.slots[slot.0];
        if let Some(node) = &mut slot.node {
            change(&mut node.metadata);
            slot.changed = true;
        }
    }

    /// Sets the time of a directory that is in the layer anyhow because of what was put into it.
    pub(super) fn set_time(&mut self, directory: SlotId, time: Time) {
        if let Some(node) = &mut self.slots[directory.0].node {
            node.metadata.mtime = time;
        }
    }

    /// The layer: every changed slot, and every directory of the base on the way to one. The root
    /// is never part of it.
    pub(super) fn into_changes(mut self) -> Vec<(RelPath, Change)> {
        let mut out: Vec<(RelPath, Change)> = Vec::with_capacity(self.slots.len());
        let mut leaders = HashMap::new();
        let children = std::mem::take(&mut self.slots[Self::ROOT.0].children);
        // Directories that are being listed. With one of the base goes where its entry stands: it
        // is taken back when none follows.
        let mut open = vec![(RelPath::root(), children.into_iter(), None)];
        while let Some((dir, children, unchanged)) = open.last_mut() {
            let Some((name, child)) = children.next() else {
                if unchanged.is_some_and(|at: usize| out.len() == at + 1) {
                    out.pop();
                }
                open.pop();
                continue;
            };
            let path = join(dir, &name);
            let slot = std::mem::replace(&mut self.slots[child.0], Slot::empty(Below::Nothing));
            match slot.node {
                None if slot.below == Below::Nothing => {}
                None => out.push((path, Change::Whiteout)),
                Some(node) if node.kind == Kind::Directory => {
                    let unchanged = (!slot.changed).then_some(out.len());
                    let opaque = slot.below == Below::Hidden;
                    let change = Change::Put {
                        node,
                        opaque,
                        data: None,
                    };
                    out.push((path.clone(), change));
                    open.push((path, slot.children.into_iter(), unchanged));
                }
                Some(_) if !slot.changed => {}
                Some(node) => {
                    let leader = slot.group.and_then(|g| leaders.get(&g)).cloned();
                    let put = Change::Put {
                        node,
                        opaque: false,
                        data: slot.data,
                    };
                    let change = leader.map_or(put, |to| Change::Link { to });
                    if let Some(group) = slot.group {
                        leaders.entry(group).or_insert_with(|| path.clone());
                    }
                    out.push((path, change));
                }
            }
        }
        out
    }

    /// A name came into a directory, or went: its time is now, unless this layer made it.
    fn touch(&mut self, directory: SlotId) {
        let now = self.now;
        let slot = &mut self.slots[directory.0];
        if let Some(node) = slot.node.as_mut().filter(|_| !slot.changed) {
            node.metadata.mtime = now;
        }
    }

    fn look_below(&self, path: &RelPath) -> Result<Option<Node>, CopyError> {
        let Some(base) = &self.base else {
            return Ok(None);
        };
        let node = base.lookup(path);
        node.map_err(|source| CopyError::Read {
            path: path.clone(),
            source,
        })
    }

    fn push(&mut self, node: Node, below: Below, path: RelPath) -> SlotId {
        self.push_slot(Slot {
            node: Some(node),
            path,
            ..Slot::empty(below)
        })
    }

    fn push_slot(&mut self, slot: Slot) -> SlotId {
        self.slots.push(slot);
        SlotId(self.slots.len() - 1)
    }
}

impl Slot {
    fn empty(below: Below) -> Slot {
        Slot {
            node: None,
            data: None,
            group: None,
            changed: false,
            below,
            path: RelPath::root(),
            children: BTreeMap::new(),
        }
    }
}

/// A directory that has no source.
pub(super) fn directory(mode: u32, owner: Ids, mtime: Time) -> Node {
    let metadata = Metadata {
        mode,
        uid: owner.uid,
        gid: owner.gid,
        mtime,
        xattrs: Xattrs::new(),
    };
    Node {
        kind: Kind::Directory,
        metadata,
        links: None,
    }
}

/// Names come from trees and from paths that were taken apart, so that joining them cannot fail.
fn join(path: &RelPath, name: &[u8]) -> RelPath {
    path.join(name).expect("a name of a tree is a component")
}
