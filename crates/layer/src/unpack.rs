//! Changes written out as a directory: for machines that cannot mount EROFS, and for exports.
//!
//! Everything happens below the root's descriptor (see [`Root`]) and nothing is followed.
//! The changes are read once. Each directory is made when it comes, what is in it on all cores, then
//! further names, and last, deepest first, the metadata of directories: writing into one changes
//! its time, and may be forbidden by its mode.

use crate::changes::{ChangeList, ReadChanges};
use crate::model::{Change, Content, Data, Kind, Metadata, Node, RelPath};
use crate::ordered::{self, Stop};
use crate::root::Root;
use crate::runs::{Run, Runs};
use crate::xattr::Marks;
use std::fs::{File, Permissions};
use std::io;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::{Mutex, PoisonError};
use sys::Errno;
use sys::fs::{FileType, Target};

/// Bytes below which asking the file system to share, or for holes, costs more than copying.
const WORTH_ASKING: u64 = 64 * 1024;

/// Inodes that one thread makes in a row.
const UNIT: usize = 32;

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
    /// Go on without devices and report it, but fail for owners: in a user namespace nobody can make
    /// device nodes.
    NoDevices,
    /// Go on and report it: in a user namespace with one id nothing can be given away, and device
    /// nodes cannot be made.
    Report,
    /// The same, and write owners down where [`Tree::Dir`](crate::Tree) finds them.
    Record,
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
    /// Inodes whose owner is another one, but for those that have it written down.
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
    /// The list of changes cannot be read.
    #[error("read the list of changes")]
    List(#[source] io::Error),
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
    changes: &(impl ChangeList + ?Sized),
    root: &Root,
    options: UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let writer = Writer {
        root,
        options,
        report: Mutex::default(),
    };
    let mut units = Units {
        writer: &writer,
        changes: changes.read(),
        open: Vec::new(),
        directories: Vec::new(),
        links: Vec::new(),
    };
    ordered::run(
        NonZero::new(ordered::threads()).unwrap_or(NonZero::<usize>::MIN),
        &mut units,
        |unit: Vec<(RelPath, Change)>, _| {
            let mut made = unit.iter().map(|(path, change)| writer.inode(path, change));
            made.try_for_each(|made| made.map_err(Stop::Error))
        },
        |()| Ok(()),
    )?;
    for (path, to) in &units.links {
        writer.link(to, path)?;
    }
    for (path, node) in units.directories.iter().rev() {
        writer.metadata(path, node)?;
    }
    drop(units);
    let mut report = writer
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    report.owners.sort_unstable();
    report.devices.sort_unstable();
    Ok(report)
}

/// What is to be made, some inodes at a time. Makes the directories as they come.
struct Units<'a> {
    writer: &'a Writer<'a>,
    changes: ReadChanges<'a>,
    /// The directories from the root to the last change, without the root.
    open: Vec<RelPath>,
    /// All directories that have an entry, and all further names: those come last.
    directories: Vec<(RelPath, Node)>,
    links: Vec<(RelPath, RelPath)>,
}

impl Units<'_> {
    fn take(&mut self, path: RelPath, change: Change) -> Result<Option<Placed>, UnpackError> {
        while self.open.pop_if(|open| !path.starts_with(open)).is_some() {}
        if let Some(parent) = path.parent() {
            self.imply(&parent)?;
        }
        match change {
            Change::Link { to } => self.links.push((path, to)),
            Change::Put { node, opaque, .. } if node.kind == Kind::Directory => {
                if !path.is_root() {
                    at(&path, self.writer.root.make_directory(&path))?;
                    self.open.push(path.clone());
                }
                if let (true, Deletions::Overlay(marks)) = (opaque, self.writer.options.deletions) {
                    let name = [marks.prefix(), b"opaque"].concat();
                    at(&path, self.writer.root.set_xattr(&path, &name, b"y"))?;
                }
                self.directories.push((path, node));
            }
            change => return Ok(Some((path, change))),
        }
        Ok(None)
    }

    /// Makes a directory that has no entry, and those above it.
    fn imply(&mut self, directory: &RelPath) -> Result<(), UnpackError> {
        let made = self.open.last().cloned().unwrap_or_default();
        let above = std::iter::successors(Some(directory.clone()), RelPath::parent);
        let mut missing: Vec<_> = above.take_while(|path| *path != made).collect();
        while let Some(directory) = missing.pop() {
            let root = self.writer.root;
            at(&directory, root.make_directory(&directory))?;
            at(&directory, root.set_permissions(&directory, 0o755))?;
            self.open.push(directory);
        }
        Ok(())
    }
}

/// A change with its path.
type Placed = (RelPath, Change);

impl Iterator for Units<'_> {
    type Item = Result<Vec<Placed>, UnpackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut unit = Vec::with_capacity(UNIT);
        while unit.len() < UNIT {
            let Some(change) = self.changes.next() else {
                break;
            };
            let change = change.map_err(UnpackError::List);
            match change.and_then(|(path, change)| self.take(path, change)) {
                Ok(inode) => unit.extend(inode),
                Err(error) => return Some(Err(error)),
            }
        }
        (!unit.is_empty()).then_some(Ok(unit))
    }
}

struct Writer<'a> {
    root: &'a Root,
    options: UnpackOptions,
    report: Mutex<Unpacked>,
}

impl Writer<'_> {
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
                    self.file_metadata(path, &file, &node.metadata)
                }
                kind @ (Kind::CharDevice { .. } | Kind::BlockDevice { .. }) => {
                    match self.root.make_special(path, kind) {
                        Err(error) if self.does_without(&error) => {
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

    /// [`Writer::metadata`] of a file that is open.
    fn file_metadata(
        &self,
        path: &RelPath,
        file: &File,
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        let target = Target::File(file.as_fd());
        match sys::fs::set_owner(file, "", metadata.uid, metadata.gid) {
            Err(error) if self.tolerates(&error) => {
                self.keep_owner(path, metadata, FileType::RegularFile, |record| {
                    record(target)
                })?;
            }
            set => at(path, set)?,
        }
        for (name, value) in &metadata.xattrs {
            at(path, sys::fs::set_xattr(target, name, value))?;
        }
        at(
            path,
            file.set_permissions(Permissions::from_mode(metadata.mode)),
        )?;
        let mtime = sys::fs::Time {
            seconds: metadata.mtime.seconds,
            nanos: metadata.mtime.nanos,
        };
        at(path, sys::fs::set_times(file, "", mtime))
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
                let kind = match node.kind {
                    Kind::Directory => FileType::Directory,
                    // No regular file comes here.
                    _ => FileType::Unknown,
                };
                self.keep_owner(path, &node.metadata, kind, |record| {
                    self.root.with_target(path, record)
                })?;
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

    /// Keeps the owner of an inode that could not get it, as the options say; `on` makes a call on
    /// the inode.
    fn keep_owner(
        &self,
        path: &RelPath,
        metadata: &Metadata,
        kind: FileType,
        on: impl FnOnce(&dyn Fn(Target<'_>) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<(), UnpackError> {
        if self.options.refused == Refused::Record {
            let owner = (metadata.uid, metadata.gid);
            return at(
                path,
                on(&|target| sys::fs::record_owner(target, kind, owner)),
            );
        }
        self.note(|report| report.owners.push(path.clone()));
        Ok(())
    }

    /// Whether an error of an owner is one that the options put up with: not permitted, or an id
    /// that the user namespace does not have.
    fn tolerates(&self, error: &io::Error) -> bool {
        matches!(self.options.refused, Refused::Report | Refused::Record) && is_refusal(error)
    }

    /// Whether a device that cannot be made is left out.
    fn does_without(&self, error: &io::Error) -> bool {
        self.options.refused != Refused::Fail && is_refusal(error)
    }

    fn note(&self, add: impl FnOnce(&mut Unpacked)) {
        add(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether the kernel does not permit something, or does not know an id.
fn is_refusal(error: &io::Error) -> bool {
    let inner = |error: &io::Error| {
        let source = error.get_ref().and_then(|inner| inner.source());
        let source = source.and_then(|source| source.downcast_ref::<io::Error>());
        source.and_then(Errno::from_io_error)
    };
    let errno = Errno::from_io_error(error).or_else(|| inner(error));
    matches!(errno, Some(Errno::PERM | Errno::INVAL))
}

fn at<T>(path: &RelPath, result: io::Result<T>) -> Result<T, UnpackError> {
    result.map_err(|source| UnpackError::Write {
        path: path.clone(),
        source,
    })
}

/// Writes a file's bytes. Of larger files: shared blocks where the file system can, holes as holes.
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
    if size < WORTH_ASKING {
        let mut bytes = vec![0; size as usize];
        let read = content.file.read_exact_at(&mut bytes, content.offset);
        read.map_err(unreadable)?;
        return at(path, file.write_all_at(&bytes, 0));
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
    let is_whole = content.offset == 0 && content.file.metadata()?.len() == content.len;
    Ok(is_whole && sys::fs::clone_file(content.file.as_fd(), to.as_fd())?)
}
