//! A layer that is a directory: what overlayfs leaves in an upper directory.
//!
//! Whiteouts are character devices 0:0, or, in directories that say so, empty files with an
//! attribute (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use super::{Found, LayerName, Place};
use crate::host::{HostView, kind_of, node_of};
use crate::root::Root;
use crate::walk::{Descend, Listed, preorder};
use crate::xattr::{self, Marks, OverlayMarks};
use crate::{Change, Content, Data, Kind, LinkId, Metadata, Node, RelPath, View};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use sys::fs::{FileType, Stat, Target};

#[derive(Debug)]
pub(crate) struct Upper {
    view: Arc<HostView>,
    marks: Marks,
}

/// What one entry of an upper directory says.
enum Entry {
    Whiteout,
    Put { node: Node, opaque: bool },
}

impl Upper {
    pub(super) fn open(path: &Path, marks: Marks) -> io::Result<Upper> {
        Ok(Upper {
            view: Arc::new(HostView::open(path, None, None)?),
            marks,
        })
    }

    pub(super) fn changes(&self) -> io::Result<Vec<(RelPath, Change)>> {
        let entries = preorder(&RelPath::root(), |directory| self.list(directory))?;
        let mut leaders: HashMap<LinkId, RelPath> = HashMap::new();
        let mut changes = Vec::with_capacity(entries.len());
        for (path, entry) in entries {
            let change = match entry {
                Entry::Whiteout => Change::Whiteout,
                Entry::Put { node, opaque } => self.put(&path, node, opaque, &mut leaders),
            };
            changes.push((path, change));
        }
        Ok(changes)
    }

    pub(super) fn root(&self) -> io::Result<(Place, bool)> {
        let marks = self.marks_of(&RelPath::root())?;
        Ok((place(marks), marks.opaque))
    }

    pub(super) fn find(&self, parent: Place, path: &RelPath) -> io::Result<Option<Found>> {
        let Some(stat) = self.root_dir().stat(path)? else {
            return Ok(None);
        };
        if stat.kind == FileType::Directory {
            let marks = self.marks_of(path)?;
            return Ok(Some(Found::Directory {
                place: place(marks),
                opaque: marks.opaque,
            }));
        }
        let whiteout = is_device_whiteout(&stat)
            || (parent.xattr_whiteouts && stat.size == 0 && self.marks_of(path)?.whiteout);
        Ok(Some(match whiteout {
            true => Found::Whiteout,
            false => Found::Other(place(OverlayMarks::default())),
        }))
    }

    pub(super) fn names(&self, directory: Place, path: &RelPath) -> io::Result<Vec<LayerName>> {
        let mut names = Vec::new();
        for entry in self.root_dir().entries(path)? {
            let suspect = match entry.kind {
                FileType::CharacterDevice | FileType::Unknown => true,
                FileType::RegularFile => directory.xattr_whiteouts,
                _ => false,
            };
            let mut whiteout = false;
            if suspect {
                let child = path.join(&entry.name).map_err(io::Error::other)?;
                whiteout = matches!(self.find(directory, &child)?, Some(Found::Whiteout));
            }
            let name = entry.name.into_vec();
            names.push(LayerName { name, whiteout });
        }
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    pub(super) fn node(&self, layer: u64, path: &RelPath) -> io::Result<Node> {
        let failed = |error: io::Error| crate::root::PathError::new("look up", path, error);
        let stat = self.root_dir().stat(path)?;
        let stat = stat.ok_or_else(|| failed(sys::Errno::NOENT.into()))?;
        let read = || {
            let kind = match path.is_root() {
                true => Kind::Directory,
                false => {
                    let (parent, name) = self.root_dir().parent(path)?;
                    kind_of(parent.as_fd(), name, &stat)?
                }
            };
            let marked = |target: Target<'_>| xattr::read_with_marks(target, Some(self.marks));
            let (xattrs, marks) = self.root_dir().with_target(path, marked)?;
            Ok(owned(node_of(&stat, kind, xattrs), marks))
        };
        let mut node = read().map_err(failed)?;
        if let Some(links) = &mut node.links {
            links.device = layer;
        }
        Ok(node)
    }

    pub(super) fn content(&self, path: &RelPath) -> io::Result<Content> {
        self.view.open(path)
    }

    fn root_dir(&self) -> &Root {
        self.view.root()
    }

    fn marks_of(&self, path: &RelPath) -> io::Result<OverlayMarks> {
        let marks = self
            .root_dir()
            .with_target(path, |target| xattr::read_marks(target, self.marks));
        marks.map_err(|error| crate::root::PathError::new("read marks of", path, error).into())
    }

    fn list(&self, directory: &RelPath) -> io::Result<Vec<Listed<Entry>>> {
        let parent = self.marks_of(directory)?;
        let opened = self.root_dir().open_directory(directory)?;
        let mut entries = sys::fs::read_dir(&opened)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = directory.join(&entry.name).map_err(io::Error::other)?;
            let item = self
                .entry(opened.as_fd(), &entry.name, parent)
                .map_err(|error| crate::root::PathError::new("read", &path, error))?;
            let descend = Descend::into_directory(
                matches!(&item, Entry::Put { node, .. } if node.kind == Kind::Directory),
            );
            listed.push(Listed {
                path,
                item,
                descend,
            });
        }
        Ok(listed)
    }

    fn entry(&self, dir: BorrowedFd<'_>, name: &[u8], parent: OverlayMarks) -> io::Result<Entry> {
        let stat = sys::fs::stat_at(dir, name)?;
        if is_device_whiteout(&stat) {
            return Ok(Entry::Whiteout);
        }
        let target = Target::Name(dir, name);
        let (xattrs, marks) = xattr::read_with_marks(target, Some(self.marks))?;
        if parent.xattr_whiteouts && marks.whiteout && stat.size == 0 {
            return Ok(Entry::Whiteout);
        }
        let kind = kind_of(dir, name, &stat)?;
        Ok(Entry::Put {
            opaque: marks.opaque && kind == Kind::Directory,
            node: owned(node_of(&stat, kind, xattrs), marks),
        })
    }

    fn put(
        &self,
        path: &RelPath,
        mut node: Node,
        opaque: bool,
        leaders: &mut HashMap<LinkId, RelPath>,
    ) -> Change {
        if let Some(links) = node.links.take() {
            if let Some(leader) = leaders.get(&links) {
                return Change::Link { to: leader.clone() };
            }
            leaders.insert(links, path.clone());
        }
        let data = matches!(node.kind, Kind::File { .. }).then(|| Data::InView {
            view: Arc::clone(&self.view) as Arc<dyn View>,
            path: path.clone(),
            expect: None,
        });
        Change::Put { node, opaque, data }
    }
}

/// With the owner that is written down for it, unless the kernel knows of another.
fn owned(mut node: Node, marks: OverlayMarks) -> Node {
    let Metadata { uid, gid, .. } = &mut node.metadata;
    if let (Some(owner), (0, 0)) = (marks.owner, (*uid, *gid)) {
        (*uid, *gid) = owner;
    }
    node
}

fn place(marks: OverlayMarks) -> Place {
    Place {
        nid: 0,
        xattr_whiteouts: marks.xattr_whiteouts,
    }
}

fn is_device_whiteout(stat: &Stat) -> bool {
    stat.kind == FileType::CharacterDevice && stat.rdev == (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the owner of a file that has 7:8 written down, as one layer sees it.
    #[track_caller]
    fn check(marks: Marks, expect: (u32, u32)) {
        let place = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(place.path().join("f")).expect("a file");
        let target = Target::File(file.as_fd());
        sys::fs::record_owner(target, FileType::RegularFile, (7, 8)).expect("attributes");
        let upper = Upper::open(place.path(), marks).expect("it opens");
        let path = RelPath::new("f").expect("a path");
        let found = upper.node(0, &path).expect("it is there");
        let changes = upper.changes().expect("it is read");
        let [(_, Change::Put { node, .. })] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        for node in [&found, node] {
            assert_eq!((node.metadata.uid, node.metadata.gid), expect, "{marks:?}");
            assert!(node.metadata.xattrs.is_empty());
        }
    }

    #[test]
    fn owners_that_are_written_down_count_where_the_kernel_knows_none() {
        let own = (
            sys::process::geteuid().as_raw(),
            sys::process::getegid().as_raw(),
        );
        check(Marks::Trusted, own);
        check(Marks::User, if own == (0, 0) { (7, 8) } else { own });
    }
}
