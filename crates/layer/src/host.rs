//! A directory of this machine as a [`View`]: a build context, or a layer that is a directory.
//!
//! Files are read in place. Nothing leads out of the directory: symbolic links are shown, never
//! followed, and a path through one is not found. Names are any bytes. Owners, times and kinds are
//! shown as they are; what of it matters is for `copy` and `checksum` to say.
//!
//! A view is for one build. It may answer for a file as it was when it first looked at it, so a new
//! build opens a new view; whoever reads bytes under a digest checks them against it.

use crate::root::{PathError, Root, is_absence, open_file};
use crate::scan::{Digests, Directory, Name};
use crate::stat_index::{Known, Stamp, StatIndex, Windows};
use crate::{
    Content, ContentDigest, Filter, Kind, LinkId, Metadata, Node, RelPath, Time, View, Xattrs,
    xattr,
};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use sys::fs::{FileType, Stat, Target};

/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 4;

/// Bytes read at a time.
const BUFFER: u64 = 64 * 1024;

/// A file changed whenever it was read.
#[derive(Debug, thiserror::Error)]
#[error("digest {path}: it changed while it was read, {ATTEMPTS} times in a row")]
struct Moving {
    path: RelPath,
}

/// A host directory, without what a filter leaves out.
pub struct HostView {
    root: Root,
    filter: Option<Arc<dyn Filter>>,
    stats: Option<Arc<StatIndex>>,
    windows: Windows,
}

impl std::fmt::Debug for HostView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("HostView");
        debug.field("root", &self.root).finish_non_exhaustive()
    }
}

impl HostView {
    /// Opens the directory at `root`, whose own path may lead through symbolic links.
    ///
    /// `stats` remembers digests of files of this directory, and only of this one.
    ///
    /// # Errors
    /// When `root` is no directory or cannot be opened.
    pub fn open(
        root: &Path,
        filter: Option<Arc<dyn Filter>>,
        stats: Option<Arc<StatIndex>>,
    ) -> io::Result<HostView> {
        Ok(HostView {
            root: Root::open(root)?,
            filter,
            stats,
            windows: Windows::default(),
        })
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// The inode `name` of the directory `dir`, which is at `path`, without its bytes.
    fn node(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &RelPath,
        stat: &Stat,
    ) -> io::Result<Node> {
        let kind = kind_of(dir, name, stat)?;
        let xattrs = match self.known(path, stat) {
            Some(known) if !known.has_xattrs => Xattrs::new(),
            _ if stat.kind == FileType::Symlink => Xattrs::new(),
            _ => xattr::read(Target::Name(dir, name))?,
        };
        Ok(node_of(stat, kind, xattrs))
    }

    /// The inode `name` of the directory `dir`, which is at `path`, and the digest of its bytes if
    /// it is a regular file: from the stat index, from another of its names, or read. A file that
    /// is not the same before and after is read again.
    fn digested(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &RelPath,
        digests: &Digests,
    ) -> io::Result<(Node, Option<ContentDigest>)> {
        for _ in 0..ATTEMPTS {
            // Before the stamps are taken: see `stat_index` on what this clock must be.
            let began = now();
            let stat = sys::fs::stat_at(dir, name)?;
            let kind = kind_of(dir, name, &stat)?;
            if let Some(known) = self.known(path, &stat) {
                let xattrs = match known.has_xattrs {
                    true => xattr::read(Target::Name(dir, name))?,
                    false => Xattrs::new(),
                };
                return Ok((node_of(&stat, kind, xattrs), Some(known.digest)));
            }
            let node = node_of(&stat, kind, Xattrs::new());
            if !matches!(node.kind, Kind::File { .. }) || digests.known(&node).is_some() {
                let digest = digests.known(&node);
                return Ok((self.node(dir, name, path, &stat)?, digest));
            }
            let Some((xattrs, digest)) = self.read(dir, name, path, &stat, began)? else {
                continue;
            };
            digests.learn(&node, digest);
            let metadata = Metadata {
                xattrs,
                ..node.metadata
            };
            return Ok((Node { metadata, ..node }, Some(digest)));
        }
        Err(io::Error::other(Moving { path: path.clone() }))
    }

    /// Attributes and digest of a regular file that had the stamps of `stat` just before; `None`
    /// when it is another file, or has other stamps, afterwards.
    fn read(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &RelPath,
        stat: &Stat,
        began: Time,
    ) -> io::Result<Option<(Xattrs, ContentDigest)>> {
        let mut file = match open_file(dir, name) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let digest = hash(&mut file, stat.size)?;
        let xattrs = xattr::read(Target::File(file.as_fd()))?;
        let stamp = Stamp::of(stat);
        let unchanged = Stamp::of(&sys::fs::stat(&file)?) == stamp;
        let Some(digest) = digest.filter(|_| unchanged) else {
            return Ok(None);
        };
        if let Some(stats) = &self.stats
            && self.windows.of(stat.device, &file)?.admits(&stamp, began)
        {
            let has_xattrs = !xattrs.is_empty();
            stats.learn(path, stamp, Known { digest, has_xattrs });
        }
        Ok(Some((xattrs, digest)))
    }

    fn known(&self, path: &RelPath, stat: &Stat) -> Option<Known> {
        if stat.kind != FileType::RegularFile {
            return None;
        }
        self.stats.as_ref()?.find(path, &Stamp::of(stat))
    }

    /// Whether the filter lets `path` be seen. A directory that is excluded is seen when something
    /// in it is included.
    fn shows(&self, path: &RelPath, is_dir: bool) -> io::Result<bool> {
        Ok(match self.sees(path, is_dir) {
            Sight::None => false,
            Sight::IfFilled => self.holds_something(path)?,
            Sight::Full => true,
        })
    }

    fn sees(&self, path: &RelPath, is_dir: bool) -> Sight {
        match &self.filter {
            Some(filter) if filter.excludes(path, is_dir) => match is_dir && !filter.prunes(path) {
                true => Sight::IfFilled,
                false => Sight::None,
            },
            _ => Sight::Full,
        }
    }

    fn holds_something(&self, directory: &RelPath) -> io::Result<bool> {
        let mut pending = vec![directory.clone()];
        while let Some(directory) = pending.pop() {
            for name in self.names(&self.root.open_directory(&directory)?, &directory)? {
                match name.if_filled {
                    true => pending.push(directory.join(&name.name).map_err(io::Error::other)?),
                    false => return Ok(true),
                }
            }
        }
        Ok(false)
    }

    /// The names of an open directory that the filter does not leave out at first sight, sorted.
    fn names(&self, opened: &OwnedFd, directory: &RelPath) -> io::Result<Vec<Name>> {
        let mut entries = sys::fs::read_dir(opened)
            .map_err(|error| PathError::new("read directory", directory, error))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut names = Vec::with_capacity(entries.len());
        for entry in entries {
            names.extend(self.name(opened, directory, entry.name, entry.kind)?);
        }
        Ok(names)
    }

    /// A name of an open directory, unless the filter leaves it out at first sight or it went away.
    fn name(
        &self,
        opened: &OwnedFd,
        directory: &RelPath,
        name: Box<[u8]>,
        kind: FileType,
    ) -> io::Result<Option<Name>> {
        let path = || directory.join(&name).map_err(io::Error::other);
        let is_dir = match kind {
            FileType::Unknown => match sys::fs::stat_at(opened, &*name) {
                Ok(stat) => stat.kind == FileType::Directory,
                Err(error) if is_absence(&error) => return Ok(None),
                Err(error) => return Err(PathError::new("read", &path()?, error).into()),
            },
            kind => kind == FileType::Directory,
        };
        let sight = match self.filter {
            Some(_) => self.sees(&path()?, is_dir),
            None => Sight::Full,
        };
        Ok((sight != Sight::None).then_some(Name {
            name,
            is_dir,
            if_filled: sight == Sight::IfFilled,
        }))
    }
}

/// How much of a path the filter lets be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    None,
    /// A directory, if something in it is seen.
    IfFilled,
    Full,
}

impl View for HostView {
    fn lookup(&self, path: &RelPath) -> io::Result<Option<Node>> {
        let Some(stat) = self.root.stat(path)? else {
            return Ok(None);
        };
        if path.is_root() {
            let xattrs = self.root.xattrs(path)?;
            return Ok(Some(node_of(&stat, Kind::Directory, xattrs)));
        }
        if !self.shows(path, stat.kind == FileType::Directory)? {
            return Ok(None);
        }
        let read = || {
            let (parent, name) = self.root.parent(path)?;
            self.node(parent.as_fd(), name, path, &stat)
        };
        match read() {
            Ok(node) => Ok(Some(node)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(PathError::new("look up", path, error).into()),
        }
    }

    fn read_dir(&self, path: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for name in self.names(&self.root.open_directory(path)?, path)? {
            let path = path.join(&name.name).map_err(io::Error::other)?;
            if !name.if_filled || self.holds_something(&path)? {
                names.push(name.name.into_vec());
            }
        }
        Ok(names)
    }

    fn open(&self, path: &RelPath) -> io::Result<Content> {
        let (file, len) = self.root.open_sized(path)?;
        Ok(Content {
            file: Arc::new(file),
            offset: 0,
            len,
        })
    }

    fn digest(&self, path: &RelPath, _node: &Node) -> io::Result<ContentDigest> {
        let digest = || {
            let (parent, name) = self.root.parent(path)?;
            let (_, digest) = self.digested(parent.as_fd(), name, path, &Digests::default())?;
            digest.ok_or_else(|| sys::Errno::INVAL.into())
        };
        digest().map_err(|error: io::Error| match error.raw_os_error() {
            Some(_) => PathError::new("digest", path, error).into(),
            None => error,
        })
    }

    fn walk(&self, top: &RelPath) -> io::Result<Vec<(RelPath, Node)>> {
        crate::scan::gather(self, top)
    }

    fn enter<'a>(
        &'a self,
        path: &RelPath,
        only: Option<&[u8]>,
    ) -> io::Result<Box<dyn Directory + 'a>> {
        let opened = self.root.open_directory_bare(path)?;
        let names = match only {
            Some(name) => {
                let name = self.name(&opened, path, name.into(), FileType::Unknown)?;
                name.into_iter().collect()
            }
            None => self.names(&opened, path)?,
        };
        Ok(Box::new(HostDirectory {
            view: self,
            opened,
            names,
        }))
    }
}

/// A directory that is being read.
struct HostDirectory<'a> {
    view: &'a HostView,
    opened: OwnedFd,
    names: Vec<Name>,
}

impl Directory for HostDirectory<'_> {
    fn names(&self) -> &[Name] {
        &self.names
    }

    fn read(
        &self,
        position: usize,
        path: &RelPath,
        digests: Option<&Digests>,
    ) -> io::Result<Option<(Node, Option<ContentDigest>)>> {
        let (dir, name) = (self.opened.as_fd(), &*self.names[position].name);
        let read = match digests {
            Some(digests) => self.view.digested(dir, name, path, digests),
            None => sys::fs::stat_at(dir, name)
                .and_then(|stat| Ok((self.view.node(dir, name, path, &stat)?, None))),
        };
        match read {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What the inode `name` of `dir` is; reads the target of a symbolic link.
pub(crate) fn kind_of(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> io::Result<Kind> {
    let (major, minor) = stat.rdev;
    Ok(match stat.kind {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File { size: stat.size },
        FileType::Symlink => Kind::Symlink {
            target: sys::fs::readlinkat(dir, name, Vec::new())?.into_bytes(),
        },
        FileType::CharacterDevice => Kind::CharDevice { major, minor },
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return Err(io::ErrorKind::Unsupported.into()),
    })
}

pub(crate) fn node_of(stat: &Stat, kind: Kind, xattrs: Xattrs) -> Node {
    let shared = stat.nlink > 1 && kind != Kind::Directory;
    Node {
        kind,
        metadata: Metadata {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            mtime: Time {
                seconds: stat.mtime.seconds,
                nanos: stat.mtime.nanos,
            },
            xattrs,
        },
        links: shared.then_some(LinkId {
            device: stat.device,
            inode: stat.inode,
        }),
    }
}

/// SHA-256 of an open file of `size` bytes; `None` when it has more or fewer.
fn hash(file: &mut File, size: u64) -> io::Result<Option<ContentDigest>> {
    // One byte more than expected, so that growth is seen, and the end without another read.
    let mut buffer = vec![0; (size + 1).min(BUFFER) as usize];
    let mut hasher = Sha256::new();
    let mut total = 0;
    while total <= size {
        let count = match file.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        total += count as u64;
        // A read of a regular file is short at its end only.
        if count < buffer.len() {
            break;
        }
    }
    Ok((total == size).then(|| ContentDigest(hasher.finalize().into())))
}

fn now() -> Time {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Time {
            seconds: since.as_secs() as i64,
            nanos: since.subsec_nanos(),
        },
        // A clock before 1970 vouches for nothing.
        Err(_) => Time::default(),
    }
}
