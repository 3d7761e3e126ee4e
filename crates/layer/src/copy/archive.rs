//! Extracting an archive into the staged tree, as `ADD` does: the archive wins, links that exist
//! are followed inside the directory that it is extracted to, and directories merge.

use super::CopyError;
use super::place::overwrite;
use super::staged::{Put, SlotId, Staged};
use crate::owner::Ids;
use crate::resolve::{Links, Resolved, resolve_with};
use crate::{Change, Data, Kind, Node, RelPath};

/// Places `changes`, sorted by path, below the directory `root`.
pub(super) fn extract(
    staged: &mut Staged,
    root: &RelPath,
    changes: Vec<(RelPath, Change)>,
    chown: Option<Ids>,
) -> Result<(), CopyError> {
    // Entries of one directory follow each other.
    let mut last: Option<(RelPath, SlotId)> = None;
    for (path, change) in changes {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            continue;
        };
        let slot = match last.take() {
            Some((dir, slot)) if dir == parent => slot,
            _ => make_parent(staged, root, &parent)?,
        };
        last = Some((parent, slot));
        match change {
            Change::Put { node, opaque, data } => {
                let put = Put {
                    node: owned(node, chown),
                    data,
                    group: None,
                };
                if put.node.kind == Kind::Directory {
                    put_directory(staged, root, &path, slot, name, put.node, opaque)?;
                } else {
                    staged.child(slot, name)?;
                    staged.put(slot, name, put);
                }
            }
            Change::Link { to } => {
                let put = linked(staged, root, &path, &to, chown)?;
                staged.child(slot, name)?;
                staged.put(slot, name, put);
            }
            Change::Whiteout => staged.remove(slot, name)?,
        }
    }
    Ok(())
}

/// The directory that an entry goes into; parents that the archive does not mention are 0755, 0:0.
fn make_parent(staged: &mut Staged, root: &RelPath, parent: &RelPath) -> Result<SlotId, CopyError> {
    let parent = resolve_in(staged, root, parent, Links::All)?.path;
    staged.make_directories(&root.join_path(&parent), 0o755, Ids::default())
}

fn put_directory(
    staged: &mut Staged,
    root: &RelPath,
    path: &RelPath,
    parent: SlotId,
    name: &[u8],
    node: Node,
    opaque: bool,
) -> Result<(), CopyError> {
    let mut found = staged.child(parent, name)?;
    let is_link = |slot: &SlotId| {
        staged
            .node(*slot)
            .is_some_and(|n| matches!(n.kind, Kind::Symlink { .. }))
    };
    // A link to a directory stays, and the directory that it leads to is meant.
    if found.as_ref().is_some_and(is_link) {
        let target = resolve_in(staged, root, path, Links::All)?;
        if target.node.is_some_and(|n| n.kind == Kind::Directory) {
            found = staged.slot(&root.join_path(&target.path))?;
        }
    }
    let slot = match found {
        Some(slot) if staged.is_dir(slot) => {
            staged.change(slot, |metadata| overwrite(metadata, node.metadata));
            slot
        }
        _ => staged.put_directory(parent, name, node),
    };
    if opaque {
        staged.make_opaque(slot);
    }
    Ok(())
}

/// One more name of an inode that was extracted, or a copy of a file that was there before.
fn linked(
    staged: &mut Staged,
    root: &RelPath,
    path: &RelPath,
    to: &RelPath,
    chown: Option<Ids>,
) -> Result<Put, CopyError> {
    let target = root.join_path(&resolve_in(staged, root, to, Links::AllButLast)?.path);
    let found = staged.slot(&target)?.filter(|&slot| !staged.is_dir(slot));
    let (Some(slot), Some(node)) = (found, found.and_then(|s| staged.node(s)).cloned()) else {
        let path = root.join_path(path);
        return Err(CopyError::LinkTarget { path, to: target });
    };
    if staged.is_changed(slot) {
        let data = staged.data(slot).cloned();
        return Ok(Put {
            node,
            data,
            group: Some(staged.group_of(slot)),
        });
    }
    let is_file = matches!(node.kind, Kind::File { .. });
    let view = staged.base().filter(|_| is_file).cloned();
    let data = view.map(|view| Data::InView {
        view,
        path: target,
        expect: None,
    });
    Ok(Put {
        node: Node {
            links: None,
            ..owned(node, chown)
        },
        data,
        group: None,
    })
}

fn resolve_in(
    staged: &mut Staged,
    root: &RelPath,
    path: &RelPath,
    links: Links,
) -> Result<Resolved, CopyError> {
    Ok(resolve_with(path.as_bytes(), links, |p| {
        staged.lookup(&root.join_path(p))
    })?)
}

fn owned(mut node: Node, chown: Option<Ids>) -> Node {
    if let Some(Ids { uid, gid }) = chown {
        node.metadata.uid = uid;
        node.metadata.gid = gid;
    }
    node
}
