//! The tree that a layer under construction makes: what the base has, overlaid with the changes so
//! far. It knows paths and inodes and nothing of sources or flags.
//!
//! Slots are made only for what is changed and for what lies on the way there. A directory that is
//! new has nothing of the base below it, so that filling it never asks the base. One that is filled
//! from a source as a whole has no slots for its contents until somebody looks into it: they go from
//! the source's list to the layer's, so that a source may have more files than fit into memory.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use super::CopyError;
use crate::changes::{ChangeWriter, Changes};
use crate::owner::Ids;
use crate::resolve::{Links, Resolved, resolve_with};
use crate::spool::Scratch;
use crate::{Change, Data, Kind, LinkId, Metadata, Node, RelPath, Time, View, Xattrs};

/// Position of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(usize);

/// Names of one inode of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    number: usize,
    /// Which inode of a source, if the number is that of a source.
    inode: Option<LinkId>,
}

impl Group {
    /// The names of one inode of the source that has this number.
    pub(super) fn of_inode(self, inode: LinkId) -> Group {
        Group {
            inode: Some(inode),
            ..self
        }
    }
}

/// What is in a directory, in path order, without the directory.
pub(super) type Contents = Box<dyn Iterator<Item = Result<Inside, CopyError>>>;

/// A node in a directory that is filled as a whole.
pub(super) struct Inside {
    /// 1 for what is directly in the directory.
    pub(super) depth: usize,
    pub(super) name: Vec<u8>,
    pub(super) put: Put,
}

/// An inode to be put.
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
    /// What else is in the directory; there are no children then, and nothing of the base shows.
    contents: Option<Contents>,
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

    /// A new name for an inode that will have several paths, or for a source that has such.
    pub(super) fn new_group(&mut self) -> Group {
        self.groups += 1;
        Group {
            number: self.groups,
            inode: None,
        }
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
    pub(super) fn resolve(&mut self, path: &[u8], links: Links) -> Result<Resolved, CopyError> {
        Ok(resolve_with(path, links, |p| self.lookup(p))?)
    }

    /// The node at a path, nothing followed.
    pub(super) fn lookup(&mut self, path: &RelPath) -> io::Result<Option<Node>> {
        let mut id = Self::ROOT;
        for name in path.components() {
            self.unfold(id).map_err(io::Error::other)?;
            let slot = &self.slots[id.0];
            if let Some(&child) = slot.children.get(name) {
                id = child;
            } else if slot.below == Below::Shown {
                return self
                    .base
                    .as_ref()
                    .map_or(Ok(None), |base| base.lookup(path));
            } else {
                return Ok(None);
            }
        }
        Ok(self.slots[id.0].node.clone())
    }

    /// The slot of something that exists in `directory`.
    pub(super) fn child(
        &mut self,
        directory: SlotId,
        name: &[u8],
    ) -> Result<Option<SlotId>, CopyError> {
        self.unfold(directory)?;
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
        let (data, group) = (None, None);
        self.put(parent, name, Put { node, data, group })
    }

    /// Puts an inode; whatever is there goes. The caller has looked for it with [`Staged::child`].
    pub(super) fn put(&mut self, parent: SlotId, name: &[u8], put: Put) -> SlotId {
        self.touch(parent);
        self.insert(parent, name, put)
    }

    /// Whether a directory has nothing in it, and never had since this layer began.
    pub(super) fn is_empty(&self, directory: SlotId) -> Result<bool, CopyError> {
        let slot = &self.slots[directory.0];
        if !slot.children.is_empty() || slot.contents.is_some() {
            return Ok(false);
        }
        match &self.base {
            Some(base) if slot.below == Below::Shown => {
                let names = base
                    .read_dir(&slot.path)
                    .map_err(|source| CopyError::Read {
                        path: slot.path.clone(),
                        source,
                    })?;
                Ok(names.is_empty())
            }
            _ => Ok(true),
        }
    }

    /// Says what is in a directory that is empty. Its time stays.
    pub(super) fn fill(&mut self, directory: SlotId, contents: Contents) {
        self.slots[directory.0].contents = Some(contents);
    }

    /// Makes slots of what a directory was filled with.
    fn unfold(&mut self, directory: SlotId) -> Result<(), CopyError> {
        let Some(contents) = self.slots[directory.0].contents.take() else {
            return Ok(());
        };
        let mut parents = vec![directory];
        for inside in contents {
            let Inside { depth, name, put } = inside?;
            parents.truncate(depth);
            parents.push(self.insert(parents[depth - 1], &name, put));
        }
        Ok(())
    }

    fn insert(&mut self, parent: SlotId, name: &[u8], put: Put) -> SlotId {
        let child = match self.slots[parent.0].children.get(name) {
            Some(&child) => child,
            None => {
                let child = self.push_slot(Slot::empty(Below::Nothing));
                self.slots[parent.0].children.insert(name.to_vec(), child);
                child
            }
        };
        let path = match put.node.kind {
            Kind::Directory => join(&self.slots[parent.0].path, name),
            _ => RelPath::root(),
        };
        let slot = &mut self.slots[child.0];
        if slot.below == Below::Shown {
            slot.below = Below::Hidden;
        }
        *slot = Slot {
            node: Some(put.node),
            data: put.data,
            group: put.group,
            changed: true,
            path,
            ..Slot::empty(slot.below)
        };
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
        slot.contents = None;
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
    pub(super) fn into_changes(mut self, scratch: &Scratch) -> Result<Changes, CopyError> {
        let mut layer = Layer {
            list: ChangeWriter::new(scratch),
            leaders: HashMap::new(),
            waiting: Vec::new(),
        };
        let mut open = vec![self.listing(Self::ROOT, RelPath::root(), &mut layer)?];
        while let Some((dir, children)) = open.last_mut() {
            let Some((name, child)) = children.next() else {
                layer.waiting.pop_if(|(path, _)| path == dir);
                open.pop();
                continue;
            };
            let path = join(dir, &name);
            let slot = &mut self.slots[child.0];
            match slot.node.take() {
                None if slot.below == Below::Nothing => {}
                None => layer.push(&path, &Change::Whiteout)?,
                Some(node) if node.kind == Kind::Directory => {
                    let change = Change::Put {
                        node,
                        opaque: slot.below == Below::Hidden,
                        data: None,
                    };
                    match slot.changed {
                        true => layer.push(&path, &change)?,
                        false => layer.waiting.push((path.clone(), change)),
                    }
                    open.push(self.listing(child, path, &mut layer)?);
                }
                Some(_) if !slot.changed => {}
                Some(node) => {
                    let (data, group) = (slot.data.take(), slot.group);
                    layer.put(path, Put { node, data, group })?;
                }
            }
        }
        layer.list.finish().map_err(CopyError::List)
    }

    /// The slots in a directory. What it was filled with goes into the layer at once.
    fn listing(
        &mut self,
        directory: SlotId,
        path: RelPath,
        layer: &mut Layer,
    ) -> Result<
        (
            RelPath,
            std::collections::btree_map::IntoIter<Vec<u8>, SlotId>,
        ),
        CopyError,
    > {
        let slot = &mut self.slots[directory.0];
        let children = std::mem::take(&mut slot.children);
        let mut parents = vec![path];
        for inside in slot.contents.take().into_iter().flatten() {
            let Inside { depth, name, put } = inside?;
            parents.truncate(depth);
            let path = join(&parents[depth - 1], &name);
            layer.put(path.clone(), put)?;
            parents.push(path);
        }
        parents.truncate(1);
        Ok((parents.remove(0), children.into_iter()))
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

/// The changes of a layer, as they come.
struct Layer {
    list: ChangeWriter,
    /// The first names of inodes that have several.
    leaders: HashMap<Group, RelPath>,
    /// Directories of the base, each in the one before it, that are left out when nothing in them
    /// changed.
    waiting: Vec<(RelPath, Change)>,
}

impl Layer {
    fn put(&mut self, path: RelPath, put: Put) -> Result<(), CopyError> {
        let Put { node, data, group } = put;
        if let Some(to) = group.and_then(|group| self.leaders.get(&group)) {
            let to = to.clone();
            return self.push(&path, &Change::Link { to });
        }
        let opaque = false;
        self.push(&path, &Change::Put { node, opaque, data })?;
        if let Some(group) = group {
            self.leaders.insert(group, path);
        }
        Ok(())
    }

    fn push(&mut self, path: &RelPath, change: &Change) -> Result<(), CopyError> {
        for (path, change) in self.waiting.drain(..) {
            self.list.push(&path, &change).map_err(CopyError::List)?;
        }
        self.list.push(path, change).map_err(CopyError::List)
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
            contents: None,
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
