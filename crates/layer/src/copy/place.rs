//! Where the nodes of a source go: `COPY`, `WORKDIR` and here-documents over the staged tree.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::archive;
use super::staged::{Contents, Group, Inside, Put, SlotId, Staged, directory};
use super::{Copy, CopyError, Mkdir, Mkfile, Target};
use crate::entries::{Entry, EntryReader};
use crate::owner::Ids;
use crate::resolve::{Links, ResolveError};
use crate::select::Match;
use crate::{Data, Kind, Metadata, Node, RelPath, View};

/// `COPY` and `ADD`.
pub(super) fn copy(staged: &mut Staged, copy: Copy) -> Result<(), CopyError> {
    let Copy {
        view,
        selection,
        target,
        chown,
        reset_owner,
        archives,
    } = copy;
    let mut archives: HashMap<_, _> = archives.into_iter().collect();
    let placing = Arc::new(Placing {
        view,
        nothing: Arc::from([]),
        owner: chown.or(reset_owner.then(Ids::default)),
        parents_owner: chown.unwrap_or_default(),
        target,
        source: staged.new_group(),
    });
    for (i, one) in selection.matches.into_iter().enumerate() {
        if let Some(changes) = archives.remove(&i) {
            let root = placing.target.resolve(staged)?;
            staged.make_directories(&root, 0o755, placing.parents_owner)?;
            archive::extract(staged, &root, changes, chown)?;
        } else if one.node().kind == Kind::Directory {
            placing.directory(staged, &one)?;
        } else {
            placing.single(staged, &one)?;
        }
    }
    Ok(())
}

/// `WORKDIR`.
pub(super) fn mkdir(staged: &mut Staged, mkdir: &Mkdir) -> Result<(), CopyError> {
    let path = staged.resolve(&mkdir.path, Links::All)?.path;
    staged.make_directories(&path, mkdir.mode & 0o777, mkdir.owner)?;
    Ok(())
}

/// A here-document: placed as a file of its name would be.
pub(super) fn mkfile(staged: &mut Staged, mkfile: Mkfile) -> Result<(), CopyError> {
    let Mkfile {
        name,
        data,
        target,
        owner,
    } = mkfile;
    let mut node = directory(0o644, owner, staged.now());
    node.kind = Kind::File {
        size: data.len() as u64,
    };
    target.change_mode(&mut node);
    let source_path = RelPath::clamp(&name).map_err(ResolveError::from)?;
    let (parent, name) = target.place(staged, source_path.name().unwrap_or_default(), owner)?;
    let put = Put {
        node,
        data: Some(Data::Inline(data)),
        group: None,
    };
    put_file(staged, parent, &name, put, &source_path)
}

impl Target {
    /// Where the destination is now.
    fn resolve(&self, staged: &mut Staged) -> Result<RelPath, CopyError> {
        Ok(staged.resolve(&self.dest, self.links())?.path)
    }

    fn links(&self) -> Links {
        if self.follow_links {
            Links::All
        } else {
            Links::None
        }
    }

    fn parents_mode(&self) -> u32 {
        self.mode
            .as_ref()
            .map_or(0o755, |mode| mode.of_created_parents())
    }

    fn change_mode(&self, node: &mut Node) {
        if let (Some(change), false) = (&self.mode, matches!(node.kind, Kind::Symlink { .. })) {
            let is_dir = node.kind == Kind::Directory;
            node.metadata.mode = change.apply(node.metadata.mode, is_dir);
        }
    }

    /// Makes what has to be there before anything is placed, and says where the destination is:
    /// itself when it was written as a directory, else its parent.
    fn prepare(&self, staged: &mut Staged, owner: Ids) -> Result<RelPath, CopyError> {
        let written = RelPath::clamp(&self.dest).map_err(ResolveError::from)?;
        let needed = match written.parent() {
            Some(parent) if !self.dest_is_dir => parent,
            _ => written,
        };
        let needed = staged.resolve(needed.as_bytes(), self.links())?.path;
        staged.make_directories(&needed, self.parents_mode(), owner)?;
        self.resolve(staged)
    }

    /// Directory and name under which one file of that name is placed.
    fn place(
        &self,
        staged: &mut Staged,
        name: &[u8],
        owner: Ids,
    ) -> Result<(SlotId, Vec<u8>), CopyError> {
        let dest = self.prepare(staged, owner)?;
        if let Some(slot) = staged.slot(&dest)?
            && staged.is_dir(slot)
        {
            return Ok((slot, name.to_vec()));
        }
        // The root is a directory, so that there are parent and name.
        let parent = dest.parent().unwrap_or_default();
        let parent = staged.make_directories(&parent, self.parents_mode(), owner)?;
        Ok((parent, dest.name().unwrap_or_default().to_vec()))
    }
}

struct Placing {
    view: Arc<dyn View>,
    nothing: Arc<[u8]>,
    target: Target,
    /// What replaces the owners of the sources.
    owner: Option<Ids>,
    parents_owner: Ids,
    /// Stands for this source.
    source: Group,
}

impl Placing {
    /// A source that is no directory.
    fn single(&self, staged: &mut Staged, one: &Match) -> Result<(), CopyError> {
        let (parent, name) = self.target.place(staged, &one.name, self.parents_owner)?;
        for entry in one.entries.iter() {
            self.node(staged, parent, &name, listed(&one.path, entry)?)?;
        }
        Ok(())
    }

    /// The contents of a source directory.
    fn directory(self: &Arc<Self>, staged: &mut Staged, one: &Match) -> Result<(), CopyError> {
        let dest = self.target.prepare(staged, self.parents_owner)?;
        let top = match staged.slot(&dest)? {
            Some(slot) if staged.is_dir(slot) => slot,
            Some(_) => {
                return Err(CopyError::DirectoryOverFile {
                    source_path: one.path.clone(),
                    path: dest,
                });
            }
            None => {
                staged.make_directories(&dest, self.target.parents_mode(), self.parents_owner)?
            }
        };
        let mut entries = one.entries.iter();
        if let Some(itself) = entries.next() {
            listed(&one.path, itself)?;
        }
        if staged.is_empty(top)? {
            staged.fill(top, self.contents(&one.path, entries, 0));
        } else {
            self.merge(staged, top, one, entries)?;
        }
        staged.set_time(top, one.node().metadata.mtime);
        Ok(())
    }

    /// The contents of a source directory, among what is there already.
    fn merge(
        self: &Arc<Self>,
        staged: &mut Staged,
        top: SlotId,
        one: &Match,
        mut entries: EntryReader,
    ) -> Result<(), CopyError> {
        // `parents[depth]` is the directory that entries of depth + 1 go into.
        let mut parents = vec![top];
        // What is deeper is in a directory that was filled as a whole.
        let mut deepest = usize::MAX;
        while let Some(entry) = entries.next() {
            let entry = listed(&one.path, entry)?;
            if entry.depth > deepest {
                continue;
            }
            deepest = usize::MAX;
            let depth = entry.depth;
            parents.truncate(depth);
            let parent = parents[depth - 1];
            let name = entry.path.name().unwrap_or_default().to_vec();
            if entry.node.kind != Kind::Directory {
                self.node(staged, parent, &name, entry)?;
                continue;
            }
            parents.push(match staged.child(parent, &name)? {
                Some(slot) => self.over(staged, slot, parent, &name, entry)?,
                None => {
                    let slot = staged.put_directory(parent, &name, self.effective(entry.node));
                    staged.fill(slot, self.contents(&one.path, entries.rest(), depth));
                    deepest = depth;
                    slot
                }
            });
        }
        Ok(())
    }

    /// What follows a directory of this depth in the list of the source at `top`, as far as it is
    /// in that directory.
    fn contents(self: &Arc<Self>, top: &RelPath, entries: EntryReader, depth: usize) -> Contents {
        let (placing, top) = (Arc::clone(self), top.clone());
        let inside = move |entry| match listed(&top, entry) {
            Ok(entry) if entry.depth <= depth => None,
            Ok(entry) => Some(Ok(Inside {
                depth: entry.depth - depth,
                name: entry.path.name().unwrap_or_default().to_vec(),
                put: placing.put(entry),
            })),
            Err(error) => Some(Err(error)),
        };
        Box::new(entries.map_while(inside))
    }

    /// A directory of the source where something is.
    fn over(
        &self,
        staged: &mut Staged,
        slot: SlotId,
        parent: SlotId,
        name: &[u8],
        entry: Entry,
    ) -> Result<SlotId, CopyError> {
        if !staged.is_dir(slot) {
            return Err(CopyError::DirectoryOverFile {
                source_path: entry.path,
                path: staged.path_of(parent, name),
            });
        }
        if entry.passage {
            // One that only leads somewhere gives its mode, unless there is another for the files,
            // and nothing else.
            let mode = entry.node.metadata.mode;
            if self.target.mode.is_none() {
                staged.change(slot, |metadata| metadata.mode = mode);
            }
        } else {
            let node = self.effective(entry.node);
            staged.change(slot, |metadata| overwrite(metadata, node.metadata));
        }
        Ok(slot)
    }

    fn node(
        &self,
        staged: &mut Staged,
        parent: SlotId,
        name: &[u8],
        entry: Entry,
    ) -> Result<(), CopyError> {
        let path = entry.path.clone();
        put_file(staged, parent, name, self.put(entry), &path)
    }

    /// What an entry becomes.
    fn put(&self, entry: Entry) -> Put {
        let data = match entry.node.kind {
            Kind::File { size: 0 } => Some(Data::Inline(Arc::clone(&self.nothing))),
            Kind::File { .. } => Some(Data::InView {
                view: Arc::clone(&self.view),
                path: entry.path,
                expect: entry.digest,
            }),
            _ => None,
        };
        Put {
            group: entry.node.links.map(|inode| self.source.of_inode(inode)),
            node: self.effective(entry.node),
            data,
        }
    }

    /// The node with the metadata that it gets.
    fn effective(&self, mut node: Node) -> Node {
        node.links = None;
        if let Some(Ids { uid, gid }) = self.owner {
            node.metadata.uid = uid;
            node.metadata.gid = gid;
        }
        self.target.change_mode(&mut node);
        node
    }
}

/// An entry of the list of the source at `top`.
fn listed(top: &RelPath, entry: io::Result<Entry>) -> Result<Entry, CopyError> {
    entry.map_err(|source| CopyError::Sources {
        path: top.clone(),
        source,
    })
}

/// A directory takes another's metadata; attributes that only it has stay.
pub(super) fn overwrite(metadata: &mut Metadata, mut source: Metadata) {
    let mut xattrs = std::mem::take(&mut metadata.xattrs);
    xattrs.append(&mut source.xattrs);
    *metadata = Metadata { xattrs, ..source };
}

fn put_file(
    staged: &mut Staged,
    parent: SlotId,
    name: &[u8],
    put: Put,
    source_path: &RelPath,
) -> Result<(), CopyError> {
    if let Some(slot) = staged.child(parent, name)?
        && staged.is_dir(slot)
    {
        let path = staged.path_of(parent, name);
        return Err(CopyError::FileOverDirectory {
            source_path: source_path.clone(),
            path,
        });
    }
    staged.put(parent, name, put);
    Ok(())
}
