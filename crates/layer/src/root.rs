//! Confined access to everything beneath one directory.
//!
//! Every path is a [`RelPath`] and is opened beneath the root's descriptor with `openat2`
//! (`RESOLVE_BENEATH`, no symbolic links, no magic links): nothing is followed, so nothing leads
//! out. Directories that were opened are kept in a small cache, so that work in path order costs
//! one system call an inode. This module follows no links on purpose; see `resolve`.

use crate::{Kind, Metadata, RelPath, Time, Xattrs, xattr};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use sys::Errno;
use sys::fs::{
    AtFlags, CWD, Entry, FileType, Mode, OFlags, ResolveFlags, Stat, Target, openat, openat2,
};

/// Directories kept open: enough for a few walkers at different places of a tree, few enough to
/// leave the usual limit of 1,024 descriptors to others.
const OPEN_DIRECTORIES: usize = 32;

/// What was attempted on which path below a root.
///
/// Converts into an [`io::Error`] of the same kind.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}")]
pub struct PathError {
    /// A verb: `read`, `make directory`.
    pub action: &'static str,
    /// The path below the root.
    pub path: RelPath,
    /// Why it failed.
    pub source: io::Error,
}

impl PathError {
    /// Says which `action` on `path` failed.
    pub fn new(action: &'static str, path: &RelPath, source: impl Into<io::Error>) -> PathError {
        PathError {
            action,
            path: path.clone(),
            source: source.into(),
        }
    }
}

impl From<PathError> for io::Error {
    fn from(error: PathError) -> io::Error {
        io::Error::new(error.source.kind(), error)
    }
}

/// A directory, and confined access to what is beneath it.
#[derive(Debug)]
pub struct Root {
    directory: Arc<OwnedFd>,
    /// The most recently used is last, the rest in no strict order.
    open: Mutex<VecDeque<(RelPath, Arc<OwnedFd>)>>,
}

impl Root {
    /// Opens the directory at `path`, which is trusted: symbolic links in it are followed.
    ///
    /// # Errors
    /// When it is no directory or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root::new(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Takes a directory that is open already (`O_PATH` is enough).
    pub fn new(directory: OwnedFd) -> Root {
        Root {
            directory: Arc::new(directory),
            open: Mutex::new(VecDeque::with_capacity(OPEN_DIRECTORIES + 1)),
        }
    }

    /// The directory at `path`, as an `O_PATH` descriptor.
    ///
    /// # Errors
    /// When it is no directory, or the path leads through a symbolic link (`ELOOP`).
    pub fn directory(&self, path: &RelPath) -> io::Result<Arc<OwnedFd>> {
        if path.is_root() {
            return Ok(Arc::clone(&self.directory));
        }
        if let Some(found) = self.cached(path) {
            return Ok(found);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = Arc::new(open(&self.directory, path.as_bytes(), flags)?);
        let mut cache = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push_back((path.clone(), Arc::clone(&opened)));
        if cache.len() > OPEN_DIRECTORIES {
            cache.pop_front();
        }
        Ok(opened)
    }

    /// The directory that holds `path`, and the name of `path` in it.
    ///
    /// # Errors
    /// As for [`Root::directory`]; `EINVAL` for the root, which has no parent.
    pub fn parent<'p>(&self, path: &'p RelPath) -> io::Result<(Arc<OwnedFd>, &'p [u8])> {
        match (path.parent(), path.name()) {
            (Some(parent), Some(name)) => Ok((self.directory(&parent)?, name)),
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Metadata of the inode at `path`; `None` when there is none, or the path leads through
    /// something that is no directory.
    ///
    /// # Errors
    /// When a directory on the way cannot be searched.
    pub fn stat(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        let found = match path.is_root() {
            true => sys::fs::stat(&self.directory),
            false => self
                .parent(path)
                .and_then(|(directory, name)| sys::fs::stat_at(directory, name)),
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(PathError::new("look up", path, error).into()),
        }
    }

    /// Opens the directory at `path` for reading what is in it.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    pub fn open_directory(&self, path: &RelPath) -> io::Result<OwnedFd> {
        self.open_directory_bare(path)
            .map_err(|error| PathError::new("open directory", path, error).into())
    }

    /// [`Root::open_directory`] for those who say themselves what failed.
    pub(crate) fn open_directory_bare(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let name = match path.is_root() {
            true => b".",
            false => path.as_bytes(),
        };
        open(&self.directory, name, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The entries of the directory at `path`, in the order of the file system.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    pub fn entries(&self, path: &RelPath) -> io::Result<Vec<Entry>> {
        let opened = self.open_directory(path)?;
        sys::fs::read_dir(opened)
            .map_err(|error| PathError::new("read directory", path, error).into())
    }

    /// Opens the regular file at `path` for reading. Never waits for a writer of a named pipe.
    ///
    /// # Errors
    /// When it is no regular file or cannot be opened.
    pub fn open_file(&self, path: &RelPath) -> io::Result<File> {
        Ok(self.open_sized(path)?.0)
    }

    /// [`Root::open_file`], with the length that the file has.
    pub(crate) fn open_sized(&self, path: &RelPath) -> io::Result<(File, u64)> {
        // By the whole path: cheaper than finding its directory among those that are open.
        let opened = || {
            if path.is_root() {
                return Err(Errno::ISDIR.into());
            }
            let file = open_file(self.directory.as_fd(), path.as_bytes())?;
            let stat = sys::fs::stat(&file)?;
            match stat.kind {
                FileType::RegularFile => Ok((file, stat.size)),
                FileType::Directory => Err(Errno::ISDIR.into()),
                _ => Err(Errno::INVAL.into()),
            }
        };
        opened().map_err(|error: io::Error| PathError::new("open", path, error).into())
    }

    /// The target of the symbolic link at `path`.
    ///
    /// # Errors
    /// When it is no symbolic link.
    pub fn read_link(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        let read = || {
            let (parent, name) = self.parent(path)?;
            Ok(sys::fs::readlinkat(parent, name, Vec::new())?.into_bytes())
        };
        read().map_err(|error: io::Error| PathError::new("read link", path, error).into())
    }

    /// The attributes of the inode at `path` that belong to an image (see [`xattr`]).
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn xattrs(&self, path: &RelPath) -> io::Result<Xattrs> {
        self.with_target(path, xattr::read)
            .map_err(|error| PathError::new("read attributes of", path, error).into())
    }

    /// Names an inode for the calls on extended attributes.
    pub(crate) fn with_target<T>(
        &self,
        path: &RelPath,
        call: impl FnOnce(Target<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        if path.is_root() {
            return call(Target::Fd(self.directory.as_fd()));
        }
        let (parent, name) = self.parent(path)?;
        call(Target::Name(parent.as_fd(), name))
    }

    /// Makes the directory `path`; its parent exists. Permissions are set by
    /// [`Root::set_metadata`] and until then admit the owner only.
    ///
    /// # Errors
    /// When something is there already, or the parent is missing.
    pub fn make_directory(&self, path: &RelPath) -> io::Result<()> {
        self.make("make directory", path, |parent, name| {
            Ok(sys::fs::mkdirat(parent, name, Mode::RWXU)?)
        })
    }

    /// Makes an empty regular file at `path`, open for writing.
    ///
    /// # Errors
    /// When something is there already, or the parent is missing.
    pub fn create_file(&self, path: &RelPath) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        match openat2(&self.directory, path.as_bytes(), flags, mode, CONFINED) {
            Ok(file) => Ok(File::from(file)),
            Err(errno) => Err(PathError::new("create", path, errno).into()),
        }
    }

    /// Makes the symbolic link, device, named pipe or socket that `kind` says at `path`.
    ///
    /// # Errors
    /// When something is there already, the parent is missing, or devices may not be made here;
    /// `EINVAL` for directories and regular files, which have their own calls.
    pub fn make_special(&self, path: &RelPath, kind: &Kind) -> io::Result<()> {
        self.make("make", path, |parent, name| match kind {
            Kind::Symlink { target } => Ok(sys::fs::symlinkat(target.as_slice(), parent, name)?),
            &Kind::CharDevice { major, minor } => {
                let device = (major, minor);
                sys::fs::make_device(parent, name, FileType::CharacterDevice, 0o600, device)
            }
            &Kind::BlockDevice { major, minor } => {
                let device = (major, minor);
                sys::fs::make_device(parent, name, FileType::BlockDevice, 0o600, device)
            }
            Kind::Fifo => sys::fs::make_fifo(parent, name, 0o600),
            Kind::Socket => sys::fs::make_socket(parent, name, 0o600),
            Kind::Directory | Kind::File { .. } => Err(Errno::INVAL.into()),
        })
    }

    /// Makes `path` one more name of the inode at `existing`, which is not followed.
    ///
    /// # Errors
    /// When something is at `path` already, or `existing` is missing or a directory.
    pub fn link(&self, existing: &RelPath, path: &RelPath) -> io::Result<()> {
        self.make("link", path, |parent, name| {
            let (from, old) = self.parent(existing)?;
            Ok(sys::fs::linkat(from, old, parent, name, AtFlags::empty())?)
        })
    }

    /// Gives the inode at `path` its owner, attributes, permissions and modification time, in the
    /// order in which none undoes another.
    ///
    /// # Errors
    /// When one of them is refused.
    pub fn set_metadata(&self, path: &RelPath, kind: &Kind, metadata: &Metadata) -> io::Result<()> {
        self.set_owner(path, metadata.uid, metadata.gid)?;
        for (name, value) in &metadata.xattrs {
            self.set_xattr(path, name, value)?;
        }
        if !matches!(kind, Kind::Symlink { .. }) {
            self.set_permissions(path, metadata.mode)?;
        }
        self.set_mtime(path, metadata.mtime)
    }

    /// Sets owner and group of the inode at `path`; not of what a link there points to.
    ///
    /// # Errors
    /// When the process may not.
    pub fn set_owner(&self, path: &RelPath, uid: u32, gid: u32) -> io::Result<()> {
        let set =
            |directory: BorrowedFd<'_>, name: &[u8]| sys::fs::set_owner(directory, name, uid, gid);
        self.change("set the owner of", path, set)
    }

    /// Sets the permission bits (0 to 0o7777) of what is at `path`, which is no symbolic link.
    ///
    /// # Errors
    /// When the process may not.
    pub fn set_permissions(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        let set = |directory: BorrowedFd<'_>, name: &[u8]| match name {
            b"" => sys::fs::set_permissions(directory, mode),
            name => sys::fs::set_permissions(open(&directory, name, OFlags::PATH)?, mode),
        };
        self.change("set the permissions of", path, set)
    }

    /// Sets the modification time of the inode at `path`; not of what a link there points to.
    ///
    /// # Errors
    /// When the process may not.
    pub fn set_mtime(&self, path: &RelPath, mtime: Time) -> io::Result<()> {
        let time = sys::fs::Time {
            seconds: mtime.seconds,
            nanos: mtime.nanos,
        };
        let set =
            |directory: BorrowedFd<'_>, name: &[u8]| sys::fs::set_times(directory, name, time);
        self.change("set the time of", path, set)
    }

    /// Sets one extended attribute of the inode at `path`.
    ///
    /// # Errors
    /// When the process may not, or the file system has none.
    pub fn set_xattr(&self, path: &RelPath, name: &[u8], value: &[u8]) -> io::Result<()> {
        self.with_target(path, |target| sys::fs::set_xattr(target, name, value))
            .map_err(|error| PathError::new("set an attribute of", path, error).into())
    }

    /// Removes what is at `path`, a directory with everything in it. Absence is success.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(&self, path: &RelPath) -> io::Result<()> {
        let Some(stat) = self.stat(path)? else {
            return Ok(());
        };
        let mut flags = AtFlags::empty();
        if stat.kind == FileType::Directory {
            for entry in self.entries(path)? {
                let child = path.join(&entry.name).map_err(io::Error::other)?;
                self.remove(&child)?;
            }
            self.forget(path);
            flags = AtFlags::REMOVEDIR;
        }
        self.make("remove", path, |parent, name| {
            Ok(sys::fs::unlinkat(parent, name, flags)?)
        })
    }

    fn make<T>(
        &self,
        action: &'static str,
        path: &RelPath,
        call: impl FnOnce(BorrowedFd<'_>, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        self.parent(path)
            .and_then(|(parent, name)| call(parent.as_fd(), name))
            .map_err(|error| PathError::new(action, path, error).into())
    }

    /// Like `make`, but the root may be changed too: it is the directory with an empty name.
    fn change(
        &self,
        action: &'static str,
        path: &RelPath,
        call: impl FnOnce(BorrowedFd<'_>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match path.is_root() {
            true => call(self.directory.as_fd(), b"")
                .map_err(|error| PathError::new(action, path, error).into()),
            false => self.make(action, path, call),
        }
    }

    fn cached(&self, path: &RelPath) -> Option<Arc<OwnedFd>> {
        let mut cache = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let position = cache.iter().rposition(|(open, _)| open == path)?;
        let found = Arc::clone(&cache[position].1);
        let last = cache.len() - 1;
        cache.swap(position, last);
        Some(found)
    }

    fn forget(&self, directory: &RelPath) {
        let mut cache = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|(open, _)| !open.starts_with(directory));
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Whether an error of opening or `stat` means that there is nothing at the path.
pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

/// Opens `name`, which may be a path, in a directory for reading, whatever it is, without waiting.
pub(crate) fn open_file(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(open(&directory, name, flags)?))
}

/// Nothing is followed, and nothing leads out.
const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

fn open(directory: &impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(directory, path, flags, Mode::empty(), CONFINED)?)
}
