//! A packed layer: a tar, read through its index.

use super::{Found, LayerName, Place};
use crate::erofs::{Dirent, Index, Inode};
use crate::root::PathError;
use crate::{Change, ChangeList, Content, Data, Kind, LinkId, Node, ReadChanges, RelPath};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use sys::Errno;

#[derive(Debug)]
pub(crate) struct Packed {
    index: Index,
    tar: Arc<File>,
}

impl Packed {
    pub(super) fn open(tar: &Path, index: &Path) -> io::Result<Packed> {
        Ok(Packed {
            index: Index::open(index)?,
            tar: Arc::new(File::open(tar)?),
        })
    }

    pub(super) fn root(&self) -> io::Result<(Place, bool)> {
        let root = self.index.root()?;
        Ok((place(&root), self.index.is_opaque(&root)?))
    }

    pub(super) fn find(&self, parent: Place, path: &RelPath) -> io::Result<Option<Found>> {
        let parent = self.index.inode(parent.nid)?;
        let name = path.name().unwrap_or_default();
        let Some(inode) = self.index.lookup(&parent, name)? else {
            return Ok(None);
        };
        Ok(Some(if inode.is_whiteout() {
            Found::Whiteout
        } else if inode.is_directory() {
            Found::Directory {
                place: place(&inode),
                opaque: self.index.is_opaque(&inode)?,
            }
        } else {
            Found::Other(place(&inode))
        }))
    }

    pub(super) fn names(&self, directory: Place) -> io::Result<Vec<LayerName>> {
        let directory = self.index.inode(directory.nid)?;
        self.index
            .entries(&directory)?
            .into_iter()
            .map(|entry| {
                let whiteout = entry.is_char_device && self.index.inode(entry.nid)?.is_whiteout();
                let name = entry.name;
                Ok(LayerName { name, whiteout })
            })
            .collect()
    }

    pub(super) fn node(&self, layer: u64, place: Place) -> io::Result<Node> {
        let inode = self.index.inode(place.nid)?;
        let shared = inode.nlink() > 1 && !inode.is_directory();
        let links = shared.then_some(LinkId {
            device: layer,
            inode: inode.nid,
        });
        Ok(Node {
            kind: self.index.kind(&inode)?,
            metadata: self.index.metadata(&inode)?.0,
            links,
        })
    }

    pub(super) fn content(&self, path: &RelPath, place: Place) -> io::Result<Content> {
        let inode = self.index.inode(place.nid)?;
        if !inode.is_regular() {
            return Err(PathError::new("open", path, Errno::INVAL).into());
        }
        self.data(&inode)
    }

    fn data(&self, inode: &Inode) -> io::Result<Content> {
        Ok(Content {
            file: Arc::clone(&self.tar),
            offset: self.index.data_offset(inode)?,
            len: inode.size(),
        })
    }

    fn change(
        &self,
        path: &RelPath,
        inode: &Inode,
        leaders: &mut HashMap<u64, RelPath>,
    ) -> io::Result<Change> {
        if inode.is_whiteout() {
            return Ok(Change::Whiteout);
        }
        if inode.nlink() > 1 && !inode.is_directory() {
            if let Some(leader) = leaders.get(&inode.nid) {
                return Ok(Change::Link { to: leader.clone() });
            }
            leaders.insert(inode.nid, path.clone());
        }
        let kind = self.index.kind(inode)?;
        let (metadata, opaque) = self.index.metadata(inode)?;
        let data = match kind {
            Kind::File { .. } => Some(Data::Open(self.data(inode)?)),
            _ => None,
        };
        let links = None;
        Ok(Change::Put {
            node: Node {
                kind,
                metadata,
                links,
            },
            opaque,
            data,
        })
    }
}

impl ChangeList for Packed {
    fn read(&self) -> ReadChanges<'_> {
        let mut walk = Walk {
            packed: self,
            open: Vec::new(),
            leaders: HashMap::new(),
        };
        let root = self.index.root();
        match root.and_then(|root| walk.enter(RelPath::root(), root)) {
            Ok(()) => Box::new(walk),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

/// Goes through a layer in path order.
struct Walk<'a> {
    packed: &'a Packed,
    /// The directories from the root to the entry at hand, and what is still to come of each.
    open: Vec<(RelPath, Inode, std::vec::IntoIter<Dirent>)>,
    /// The first names of inodes that have several.
    leaders: HashMap<u64, RelPath>,
}

impl Walk<'_> {
    fn enter(&mut self, path: RelPath, directory: Inode) -> io::Result<()> {
        let entries = self.packed.index.entries(&directory)?;
        self.open.push((path, directory, entries.into_iter()));
        Ok(())
    }

    fn step(&mut self) -> io::Result<Option<(RelPath, Change)>> {
        loop {
            let Some((dir, directory, entries)) = self.open.last_mut() else {
                return Ok(None);
            };
            let Some(entry) = entries.next() else {
                self.open.pop();
                continue;
            };
            let path = dir.join(&entry.name).map_err(io::Error::other)?;
            let inode = self.packed.index.child(directory, entry.nid)?;
            let change = self.packed.change(&path, &inode, &mut self.leaders)?;
            if inode.is_directory() {
                self.enter(path.clone(), inode)?;
            }
            return Ok(Some((path, change)));
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = io::Result<(RelPath, Change)>;

    fn next(&mut self) -> Option<Self::Item> {
        // Nothing follows an error.
        let step = self.step().inspect_err(|_| self.open.clear());
        step.transpose()
    }
}

fn place(inode: &Inode) -> Place {
    Place {
        nid: inode.nid,
        xattr_whiteouts: false,
    }
}
