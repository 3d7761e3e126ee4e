//! The entries of an archive, one after the other, become one set of changes.
//!
//! This is the meaning of a layer's tar, as a pure function: later entries replace earlier ones,
//! whiteouts speak of the layers below only, paths are confined, and a path that leads through a
//! symbolic link of the same archive lands where the link points, inside the root. Links of the
//! layers below are not known here and not followed.

use super::ApplyError;
use crate::model::{Kind, Metadata, Node, RelPath, Xattrs};
use crate::tar::{Entry, EntryKind, FileData, OPAQUE_MARKER, WHITEOUT_PREFIX};
use crate::xattr;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Names of AUFS' own that old layers have. They mean nothing (OCI image-spec, "Whiteouts").
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// Bytes that Linux takes in one name.
const LONGEST_NAME: usize = 255;

/// Symbolic links that one path may lead through, as in Linux.
const MOST_LINKS: usize = 40;

/// Whether names that begin with `.wh.` say that something is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// They do: the archive is a layer.
    Meant,
    /// They are names like others.
    Names,
}

/// What an archive does to one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    Put {
        node: Node,
        opaque: bool,
        data: Option<FileData>,
    },
    Link {
        to: RelPath,
    },
    Whiteout,
}

/// Takes entries in order of the archive.
pub(super) struct Merger {
    whiteouts: Whiteouts,
    /// Names and the inodes they stand for. A directory may have children and no name here.
    names: BTreeMap<RelPath, usize>,
    inodes: Vec<(Node, Option<FileData>)>,
    gone: BTreeSet<RelPath>,
    opaque: BTreeSet<RelPath>,
    /// A directory as the last entry named it, and where it is.
    last_parent: Option<(RelPath, RelPath)>,
}

impl Merger {
    pub(super) fn new(whiteouts: Whiteouts) -> Merger {
        Merger {
            whiteouts,
            names: BTreeMap::new(),
            inodes: Vec::new(),
            gone: BTreeSet::new(),
            opaque: BTreeSet::new(),
            last_parent: None,
        }
    }

    /// Takes the next entry.
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), ApplyError> {
        let path = clamp(&entry.path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return self.add_root(entry);
        };
        if self.whiteouts == Whiteouts::Meant {
            if path.components().any(is_aufs) && name != OPAQUE_MARKER {
                return Ok(());
            }
            if parent.components().any(|n| n.starts_with(WHITEOUT_PREFIX)) {
                return Err(refused(&path, "it lies below a whiteout"));
            }
            let parent = self.resolve_parent(&path, parent.clone())?;
            if name == OPAQUE_MARKER {
                self.opaque.insert(parent);
                return Ok(());
            }
            if let Some(name) = name.strip_prefix(WHITEOUT_PREFIX) {
                let gone = parent.join(name).ok().filter(|_| !name.is_empty());
                self.gone
                    .insert(gone.ok_or(refused(&path, "it whites out no name"))?);
                return Ok(());
            }
        }
        let parent = self.resolve_parent(&path, parent)?;
        let place = parent
            .join(name)
            .map_err(|_| refused(&path, "its name is no name"))?;
        self.put(&path, place, entry)
    }

    fn add_root(&mut self, entry: Entry) -> Result<(), ApplyError> {
        let root = RelPath::root();
        if entry.kind != EntryKind::Directory {
            return Err(refused(&root, "only a directory can be the root"));
        }
        let inode = self.inode(Kind::Directory, entry.metadata, None);
        self.names.insert(root, inode);
        Ok(())
    }

    fn put(&mut self, path: &RelPath, place: RelPath, entry: Entry) -> Result<(), ApplyError> {
        let (kind, data) = match entry.kind {
            EntryKind::HardLink(target) => return self.link(path, place, &target),
            EntryKind::Directory => (Kind::Directory, None),
            EntryKind::File(data) => (Kind::File { size: data.size }, Some(data)),
            EntryKind::Symlink(target) => (Kind::Symlink { target }, None),
            EntryKind::CharDevice(major, minor) => (Kind::CharDevice { major, minor }, None),
            EntryKind::BlockDevice(major, minor) => (Kind::BlockDevice { major, minor }, None),
            EntryKind::Fifo => (Kind::Fifo, None),
        };
        let is_directory = kind == Kind::Directory;
        let inode = self.inode(kind, entry.metadata, data);
        self.name(place, inode, is_directory);
        Ok(())
    }

    /// One more name for the inode that an earlier entry put.
    fn link(&mut self, path: &RelPath, place: RelPath, target: &[u8]) -> Result<(), ApplyError> {
        let target = clamp(target)?;
        let (Some(parent), Some(name)) = (target.parent(), target.name()) else {
            return Err(refused(path, "it is a hard link to the root"));
        };
        let target = self.resolve(path, &parent)?.join(name);
        let target = target.map_err(|_| refused(path, "it is a hard link to no name"))?;
        let Some(&inode) = self.names.get(&target) else {
            return Err(refused(path, "it is a hard link to nothing in the archive"));
        };
        if self.inodes[inode].0.kind == Kind::Directory {
            return Err(refused(path, "it is a hard link to a directory"));
        }
        if place != target {
            self.name(place, inode, false);
        }
        Ok(())
    }

    fn inode(&mut self, kind: Kind, metadata: Metadata, data: Option<FileData>) -> usize {
        let xattrs: Xattrs = metadata
            .xattrs
            .into_iter()
            .filter_map(|(name, value)| {
                let value = xattr::image_value(&name, &value)?.into_owned();
                Some((name, value))
            })
            .collect();
        let metadata = Metadata { xattrs, ..metadata };
        let links = None;
        let node = Node {
            kind,
            metadata,
            links,
        };
        self.inodes.push((node, data));
        self.inodes.len() - 1
    }

    /// Gives `place` to an inode. Only a directory over a directory keeps what is below.
    fn name(&mut self, place: RelPath, inode: usize, is_directory: bool) {
        if !is_directory
            || self
                .kind(&place)
                .is_some_and(|kind| *kind != Kind::Directory)
        {
            let below: Vec<RelPath> = self
                .names
                .range(&place..)
                .map(|(path, _)| path)
                .take_while(|path| path.starts_with(&place))
                .cloned()
                .collect();
            for path in below {
                self.names.remove(&path);
                self.last_parent = None;
            }
            // A directory's path may lead elsewhere now.
            if !matches!(self.inodes[inode].0.kind, Kind::File { .. }) {
                self.last_parent = None;
            }
        }
        self.names.insert(place, inode);
    }

    fn kind(&self, path: &RelPath) -> Option<&Kind> {
        let &inode = self.names.get(path)?;
        Some(&self.inodes[inode].0.kind)
    }

    fn resolve_parent(&mut self, path: &RelPath, parent: RelPath) -> Result<RelPath, ApplyError> {
        if let Some((named, place)) = &self.last_parent
            && *named == parent
        {
            return Ok(place.clone());
        }
        let place = self.resolve(path, &parent)?;
        self.last_parent = Some((parent, place.clone()));
        Ok(place)
    }

    /// Where a directory is, symbolic links of the archive followed.
    fn resolve(&self, path: &RelPath, directory: &RelPath) -> Result<RelPath, ApplyError> {
        let mut rest: Vec<Vec<u8>> = directory.components().rev().map(<[u8]>::to_vec).collect();
        let mut place = RelPath::root();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    place = place.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = place
                .join(&name)
                .map_err(|_| refused(path, "it leads through no name"))?;
            match self.kind(&next) {
                None | Some(Kind::Directory) => place = next,
                Some(Kind::Symlink { target }) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(refused(path, "it leads through too many links"));
                    }
                    if target.starts_with(b"/") {
                        place = RelPath::root();
                    }
                    rest.extend(target.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(_) => return Err(refused(path, "its parent is no directory")),
            }
        }
        Ok(place)
    }

    /// All changes, sorted by path. The first path of an inode puts it, others link to that.
    pub(super) fn finish(mut self) -> Vec<(RelPath, Merged)> {
        let gone = std::mem::take(&mut self.gone);
        for path in &gone {
            // Something new is where the old is gone: a directory hides what it replaces.
            if self.is_directory(path) {
                self.opaque.insert(path.clone());
            }
        }
        let opaque = std::mem::take(&mut self.opaque);
        let opaque: BTreeSet<RelPath> = opaque
            .into_iter()
            .filter(|path| self.kind(path).is_none_or(|kind| *kind == Kind::Directory))
            .filter(|path| self.is_reachable(path, &gone))
            .collect();
        let mut merged: BTreeMap<RelPath, Merged> = opaque
            .iter()
            .map(|path| (path.clone(), implied_directory()))
            .collect();
        for path in &gone {
            let is_hidden = ancestors(path).any(|ancestor| opaque.contains(&ancestor));
            let is_new = self.names.contains_key(path) || self.is_directory(path);
            if !is_hidden && !is_new && self.is_reachable(path, &gone) {
                merged.insert(path.clone(), Merged::Whiteout);
            }
        }
        let mut inodes: Vec<_> = self.inodes.into_iter().map(Some).collect();
        let mut leaders: HashMap<usize, RelPath> = HashMap::new();
        for (path, inode) in self.names {
            let change = match inodes[inode].take() {
                Some((node, data)) => {
                    leaders.insert(inode, path.clone());
                    let opaque = opaque.contains(&path);
                    Merged::Put { node, opaque, data }
                }
                None => Merged::Link {
                    to: leaders[&inode].clone(),
                },
            };
            merged.insert(path, change);
        }
        merged.into_iter().collect()
    }

    /// Whether the archive has a directory there, be it only by what it has in it.
    fn is_directory(&self, path: &RelPath) -> bool {
        match self.kind(path) {
            Some(kind) => *kind == Kind::Directory,
            None => {
                let mut below = self.names.range(path..);
                below.next().is_some_and(|(next, _)| next.starts_with(path))
            }
        }
    }

    /// Whether every directory above the path is one that the archive does not replace or remove.
    fn is_reachable(&self, path: &RelPath, gone: &BTreeSet<RelPath>) -> bool {
        ancestors(path).all(|ancestor| {
            let is_gone = gone.contains(&ancestor) && !self.is_directory(&ancestor);
            !is_gone
                && self
                    .kind(&ancestor)
                    .is_none_or(|kind| *kind == Kind::Directory)
        })
    }
}

fn ancestors(path: &RelPath) -> impl Iterator<Item = RelPath> {
    std::iter::successors(path.parent(), RelPath::parent)
}

fn is_aufs(name: &[u8]) -> bool {
    name.starts_with(AUFS_PREFIX)
}

/// A directory that the archive has no entry for.
fn implied_directory() -> Merged {
    let mode = 0o755;
    Merged::Put {
        node: Node {
            kind: Kind::Directory,
            metadata: Metadata {
                mode,
                ..Metadata::default()
            },
            links: None,
        },
        opaque: true,
        data: None,
    }
}

/// Confines a path textually and looks at the length of its names.
fn clamp(path: &[u8]) -> Result<RelPath, ApplyError> {
    let clamped = RelPath::clamp(path).map_err(|_| ApplyError::Entry {
        path: String::from_utf8_lossy(path).into_owned(),
        reason: "its path has a NUL byte",
    })?;
    let is_long = clamped.components().any(|name| name.len() > LONGEST_NAME);
    match is_long {
        true => Err(refused(&clamped, "a name is longer than 255 bytes")),
        false => Ok(clamped),
    }
}

fn refused(path: &RelPath, reason: &'static str) -> ApplyError {
    ApplyError::Entry {
        path: path.to_string(),
        reason,
    }
}
