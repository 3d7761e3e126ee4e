//! Changes written out as a directory: for machines that cannot mount EROFS, and for exports.
//!
//! Everything happens below the root's descriptor (see [`Root`]) and nothing is followed.
//! Directories come first, then files on all cores, then further names, and last, deepest first,
//! the metadata of directories: writing into one changes its time, and may be forbidden by its
//! mode.

use crate::model::{Change, Content, Data, Kind, Metadata, Node, RelPath};
use crate::root::Root;
use crate::runs::{Run, Runs};
use crate::xattr::Marks;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use sys::Errno;

/// Bytes below which asking the file system to share costs more than copying.
const WORTH_SHARING: u64 = 64 * 1024;

/// What stands for deletions in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletions {
    /// What overlayfs reads: character devices 0:0, and a mark on opaque directories.
    Overlay(Marks),
    /// Nothing: the directory is a whole tree. A whiteout is an error, opacity has no meaning.
    None,
}

/// What to do when an owner or a device is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Fail.
    Fail,
    /// Go on and report it: in a user namespace with one id nothing can be given away, and device
    /// nodes cannot be made.
    Report,
}

/// How a directory is written.
#[derive(Clone, Copy, Debug)]
pub struct UnpackOptions {
    /// What stands for deletions.
    pub deletions: Deletions,
    /// Owners and devices that are refused.
    pub refused: Refused,
}

/// What is not in the directory as the changes have it. Sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Inodes whose owner is another one.
    pub owners: Vec<RelPath>,
    /// Devices that are missing.
    pub devices: Vec<RelPath>,
}

/// Why a directory could not be written.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A path could not be written.
    #[error("write {path}")]
    Write {
        /// Where.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// The bytes of a file could not be read.
    #[error("read the content of {path}")]
    Read {
        /// Of which file.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// A file has another size than its metadata says.
    #[error("{path} changed while it was read")]
    Changed {
        /// Which one.
        path: RelPath,
    },
    /// A whole tree has no place for a whiteout.
    #[error("{path} is a deletion in something that is no layer")]
    Whiteout {
        /// Where.
        path: RelPath,
    },
}

/// Writes `changes`, sorted by path, into the empty directory `root`.
///
/// Directories that the changes imply but do not put get mode 0755. File systems that can share
/// blocks do.
///
/// # Errors
/// When something cannot be written or read. What was written by then stays.
pub fn unpack(
    changes: &[(RelPath, Change)],
    root: &Root,
    options: UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let writer = Writer {
        root,
        options,
        report: Mutex::default(),
    };
    writer.directories(changes)?;
    changes
        .par_iter()
        .with_min_len(32)
        .try_for_each(|(path, change)| writer.inode(path, change))?;
    for (path, change) in changes {
        if let Change::Link { to } = change {
            writer.link(to, path)?;
        }
    }
    for (path, change) in changes.iter().rev() {
        if let Change::Put { node, .. } = change
            && node.kind == Kind::Directory
        {
            writer.metadata(path, node)?;
        }
    }
    let mut report = writer
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    report.owners.sort_unstable();
    report.devices.sort_unstable();
    Ok(report)
}

struct Writer<'a> {
    root: &'a Root,
    options: UnpackOptions,
    report: Mutex<Unpacked>,
}

impl Writer<'_> {
    /// Makes every directory, implied ones too.
    fn directories(&self, changes: &[(RelPath, Change)]) -> Result<(), UnpackError> {
        let mut made = BTreeSet::from([RelPath::root()]);
        for (path, change) in changes {
            let is_directory =
                matches!(change, Change::Put { node, .. } if node.kind == Kind::Directory);
            let first = if is_directory {
                Some(path.clone())
            } else {
                path.parent()
            };
            let mut missing: Vec<RelPath> = std::iter::successors(first, RelPath::parent)
                .take_while(|path| !made.contains(path))
                .collect();
            while let Some(directory) = missing.pop() {
                at(&directory, self.root.make_directory(&directory))?;
                if !(is_directory && directory == *path) {
                    at(&directory, self.root.set_permissions(&directory, 0o755))?;
                }
                made.insert(directory);
            }
            if let (Change::Put { opaque: true, .. }, Deletions::Overlay(marks)) =
                (change, self.options.deletions)
            {
                let name = [marks.prefix(), b"opaque"].concat();
                at(path, self.root.set_xattr(path, &name, b"y"))?;
            }
        }
        Ok(())
    }

    /// Makes anything but directories and further names.
    fn inode(&self, path: &RelPath, change: &Change) -> Result<(), UnpackError> {
        match change {
            Change::Link { .. } => Ok(()),
            Change::Whiteout if self.options.deletions == Deletions::None => {
                Err(UnpackError::Whiteout { path: path.clone() })
            }
            Change::Whiteout => {
                let whiteout = Kind::CharDevice { major: 0, minor: 0 };
                at(path, self.root.make_special(path, &whiteout))
            }
            Change::Put { node, data, .. } => match &node.kind {
                Kind::Directory => Ok(()),
                Kind::File { size } => {
                    let file = at(path, self.root.create_file(path))?;
                    if let (Some(data), true) = (data, *size > 0) {
                        fill(path, &file, data, *size)?;
                    }
                    drop(file);
                    self.metadata(path, node)
                }
                kind @ (Kind::CharDevice { .. } | Kind::BlockDevice { .. }) => {
                    match self.root.make_special(path, kind) {
                        Err(error) if self.tolerates(&error) => {
                            self.note(|report| report.devices.push(path.clone()));
                            Ok(())
                        }
                        made => at(path, made).and_then(|()| self.metadata(path, node)),
                    }
                }
                kind => {
                    at(path, self.root.make_special(path, kind))?;
                    self.metadata(path, node)
                }
            },
        }
    }

    fn link(&self, to: &RelPath, path: &RelPath) -> Result<(), UnpackError> {
        let is_missing = {
            let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            report.devices.contains(to)
        };
        if is_missing {
            self.note(|report| report.devices.push(path.clone()));
            return Ok(());
        }
        at(path, self.root.link(to, path))
    }

    /// Owner first: giving an inode away clears its capabilities and its setuid bit.
    fn metadata(&self, path: &RelPath, node: &Node) -> Result<(), UnpackError> {
        let Metadata {
            uid,
            gid,
            mode,
            mtime,
            ref xattrs,
        } = node.metadata;
        match self.root.set_owner(path, uid, gid) {
            Err(error) if self.tolerates(&error) => {
                self.note(|report| report.owners.push(path.clone()));
            }
            set => at(path, set)?,
        }
        for (name, value) in xattrs {
            at(path, self.root.set_xattr(path, name, value))?;
        }
        if !matches!(node.kind, Kind::Symlink { .. }) {
            at(path, self.root.set_permissions(path, mode))?;
        }
        at(path, self.root.set_mtime(path, mtime))
    }

    /// Whether an error is one that the options put up with: not permitted, or an id that the
    /// user namespace does not have.
    fn tolerates(&self, error: &io::Error) -> bool {
        let inner = |error: &io::Error| {
            let source = error.get_ref().and_then(|inner| inner.source());
            let source = source.and_then(|source| source.downcast_ref::<io::Error>());
            source.and_then(Errno::from_io_error)
        };
        let errno = Errno::from_io_error(error).or_else(|| inner(error));
        self.options.refused == Refused::Report && matches!(errno, Some(Errno::PERM | Errno::INVAL))
    }

    fn note(&self, add: impl FnOnce(&mut Unpacked)) {
        add(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn at<T>(path: &RelPath, result: io::Result<T>) -> Result<T, UnpackError> {
    result.map_err(|source| UnpackError::Write {
        path: path.clone(),
        source,
    })
}

/// Writes a file's bytes: shared blocks where the file system can, holes as holes.
fn fill(path: &RelPath, file: &File, data: &Data, size: u64) -> Result<(), UnpackError> {
    let unreadable = |source| UnpackError::Read {
        path: path.clone(),
        source,
    };
    let content = match data {
        Data::Inline(bytes) if bytes.len() as u64 == size => {
            return at(path, file.write_all_at(bytes, 0));
        }
        Data::Inline(_) => return Err(UnpackError::Changed { path: path.clone() }),
        Data::Open(content) => content.clone(),
        Data::InView {
            view, path: there, ..
        } => view.open(there).map_err(unreadable)?,
    };
    if content.len != size {
        return Err(UnpackError::Changed { path: path.clone() });
    }
    if at(path, share(&content, file))? {
        return Ok(());
    }
    let mut runs = Runs::new(&content);
    let mut position = 0;
    while let Some(run) = runs.next_run().map_err(unreadable)? {
        position += match run {
            Run::Hole(len) => len,
            Run::Data(bytes) => {
                at(path, file.write_all_at(&bytes, position))?;
                bytes.len() as u64
            }
        };
    }
    at(path, file.set_len(size))
}

/// Makes `to` share the blocks of a whole file; `false` where that cannot be.
fn share(content: &Content, to: &File) -> io::Result<bool> {
    let is_whole = content.offset == 0
        && content.len >= WORTH_SHARING
        && content.file.metadata()?.len() == content.len;
    Ok(is_whole && sys::fs::clone_file(content.file.as_fd(), to.as_fd())?)
}
