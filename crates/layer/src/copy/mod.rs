//! What `COPY`, `ADD`, `WORKDIR` and here-documents do to a tree, as the changes of one layer.
//!
//! Planning touches no file and reads no clock: it looks at the tree below through a [`View`],
//! takes what `select` found in the sources, and says which inode each path becomes. The rules are
//! those of BuildKit's file operations:
//!
//! * A directory's contents go into the destination, anything else to the destination or, when
//!   that is a directory, below it. A destination that is made is 0755 and 0:0 (or as `--chmod`
//!   and `--chown` say), one that exists keeps what it has; either gets the time of the source.
//! * Directories below a source directory give their metadata to those that exist already.
//! * A file replaces anything but a directory, a directory nothing but a directory.
//! * Every directory on the way to a change is in the layer with the metadata that it has; its
//!   modification time is the caller's `now` when a name in it came, went or was replaced.
//! * Names of one inode of the sources stay names of one inode: the first path of them, in order,
//!   has the content.

mod archive;
mod place;
mod staged;

use std::io;
use std::sync::Arc;

use crate::chmod::ModeChange;
use crate::owner::Ids;
use crate::resolve::ResolveError;
use crate::select::Selection;
use crate::spool::Scratch;
use crate::{Change, Changes, RelPath, Time, View};

use staged::Staged;

/// One change to a tree, all names and inputs resolved.
#[derive(Clone, Debug)]
pub enum Action {
    /// Copies selected nodes.
    Copy(Copy),
    /// Makes a directory and its parents.
    Mkdir(Mkdir),
    /// Writes a file.
    Mkfile(Mkfile),
}

/// `COPY` or `ADD` from one input.
#[derive(Clone)]
pub struct Copy {
    /// The input.
    pub view: Arc<dyn View>,
    /// What of it. With the digests of a checksum, other bytes will be an error when the layer is
    /// written.
    pub selection: Selection,
    /// Where to.
    pub target: Target,
    /// `--chown`, resolved; `None` keeps the source's owners unless `reset_owner`.
    pub chown: Option<Ids>,
    /// The owners of the source mean nothing: 0:0 without `chown`.
    pub reset_owner: bool,
    /// Matches, by their position in [`Selection::matches`], that are archives and are extracted
    /// instead of copied: their entries as changes to an empty tree, sorted. Owners are those of
    /// the archive unless `chown`; `--chmod` does not apply.
    pub archives: Vec<(usize, Vec<(RelPath, Change)>)>,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copy")
            .field("selection", &self.selection)
            .field("target", &self.target)
            .field("chown", &self.chown)
            .field("reset_owner", &self.reset_owner)
            .field("archives", &self.archives)
            .finish_non_exhaustive()
    }
}

/// Where files go, and what that does to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path in the tree, cleaned and clamped at the root.
    pub dest: Vec<u8>,
    /// The destination was written as a directory: it is one, or is made one.
    pub dest_is_dir: bool,
    /// `--chmod`.
    pub mode: Option<ModeChange>,
    /// Follow symbolic links on the way to the destination, inside the tree.
    pub follow_links: bool,
}

/// A directory to make with its parents. One that exists stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mkdir {
    /// Path in the tree; links are followed.
    pub path: Vec<u8>,
    /// Permission bits of what is made.
    pub mode: u32,
    /// Owner of what is made.
    pub owner: Ids,
}

/// A file with given content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mkfile {
    /// Its name, when the destination is a directory.
    pub name: Vec<u8>,
    /// Its bytes.
    pub data: Arc<[u8]>,
    /// Where to. Without a mode the file is 0644.
    pub target: Target,
    /// Owner of the file and of parents that are made.
    pub owner: Ids,
}

/// Why actions do not fit the tree.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The destination leads through a loop of links, or the tree below cannot be read there.
    #[error("find the destination")]
    Destination(#[from] ResolveError),
    /// The tree below cannot be read.
    #[error("read {path} of the tree that is copied into")]
    Read {
        /// The node.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// The list of what was selected is in a temporary file that cannot be read.
    #[error("read the list of what is below {path}")]
    Sources {
        /// Where in the sources.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// The list of changes is long, and its temporary file cannot be written.
    #[error("write the list of changes")]
    List(#[source] io::Error),
    /// A file is in the way of a directory that is to be made or written into.
    #[error("make directory {path}: {obstacle} is not a directory")]
    NotADirectory {
        /// The directory.
        path: RelPath,
        /// What is in the way.
        obstacle: RelPath,
    },
    /// Row C8: a directory meets something else.
    #[error("copy directory {source_path}: cannot copy to non-directory: {path}")]
    DirectoryOverFile {
        /// Where in the sources.
        source_path: RelPath,
        /// Where in the tree.
        path: RelPath,
    },
    /// Row C8: something else meets a directory.
    #[error("copy {source_path}: cannot replace to directory {path} with file")]
    FileOverDirectory {
        /// Where in the sources.
        source_path: RelPath,
        /// Where in the tree.
        path: RelPath,
    },
    /// A hard link of an archive to something that does not exist, or to a directory.
    #[error("extract {path}: its hard link leads to {to}, which is no file")]
    LinkTarget {
        /// The link, in the tree.
        path: RelPath,
        /// Its target, in the tree.
        to: RelPath,
    },
}

/// The changes that `actions` in order make to the tree `base` (`None` is the empty tree): one
/// layer, sorted by path. New directories without a source get the time `now`. A long list goes to
/// `scratch`.
///
/// # Errors
/// See [`CopyError`].
pub fn plan(
    base: Option<&Arc<dyn View>>,
    actions: Vec<Action>,
    now: Time,
    scratch: &Scratch,
) -> Result<Changes, CopyError> {
    let mut staged = Staged::new(base.cloned(), now)?;
    for action in actions {
        match action {
            Action::Copy(copy) => place::copy(&mut staged, copy)?,
            Action::Mkdir(mkdir) => place::mkdir(&mut staged, &mkdir)?,
            Action::Mkfile(mkfile) => place::mkfile(&mut staged, mkfile)?,
        }
    }
    staged.into_changes(scratch)
}

#[cfg(test)]
mod tests;
