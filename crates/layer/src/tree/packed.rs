//! A packed layer: a tar, read through its index.

use super::{Found, LayerName, Place};
use crate::erofs::{Index, Inode};
use crate::root::PathError;
use crate::walk::{Descend, Listed, preorder};
use crate::{Change, Content, Data, Kind, LinkId, Node, RelPath};
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

    pub(super) fn changes(&self) -> io::Result<Vec<(RelPath, Change)>> {
        let root = self.index.root()?;
        // The number of a directory is looked up again by path, which is cheap beside the rest.
        let inodes = preorder(&RelPath::root(), |directory| {
            self.list(self.descend(&root, directory)?, directory)
        })?;
        let mut leaders = HashMap::new();
        let mut changes = Vec::with_capacity(inodes.len());
        for (path, inode) in inodes {
            let change = self.change(&path, &inode, &mut leaders)?;
            changes.push((path, change));
        }
        Ok(changes)
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

    fn list(&self, directory: Inode, path: &RelPath) -> io::Result<Vec<Listed<Inode>>> {
        let entries = self.index.entries(&directory)?;
        let listed = entries.into_iter().map(|entry| {
            let path = path.join(&entry.name).map_err(io::Error::other)?;
            let item = self.index.child(&directory, entry.nid)?;
            let descend = Descend::into_directory(item.is_directory());
            Ok(Listed {
                path,
                item,
                descend,
            })
        });
        listed.collect()
    }

    /// The directory at `path`.
    fn descend(&self, root: &Inode, path: &RelPath) -> io::Result<Inode> {
        let mut inode = *root;
        for name in path.components() {
            let child = self.index.lookup(&inode, name)?;
            inode = child.ok_or_else(|| PathError::new("look up", path, Errno::NOENT))?;
        }
        Ok(inode)
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

fn place(inode: &Inode) -> Place {
    Place {
        nid: inode.nid,
        xattr_whiteouts: false,
    }
}
