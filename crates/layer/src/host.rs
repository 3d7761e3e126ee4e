//! A directory of this machine as a [`View`]: a build context, or a layer that is a directory.
//!
//! Files are read in place. Nothing leads out of the directory: symbolic links are shown, never
//! followed, and a path through one is not found. Names are any bytes. Owners, times and kinds are
//! shown as they are; what of it matters is for `copy` and `checksum` to say.
//!
//! A view is for one build. It may answer for a file as it was when it first looked at it, so a new
//! build opens a new view; whoever reads bytes under a digest checks them against it.

use crate::root::{PathError, Root, is_absence};
use crate::stat_index::{Known, Stamp, StatIndex, ViewId, Window};
use crate::walk::{Descend, Listed, preorder};
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
const BUFFER: u64 = 128 * 1024;

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
    stats: Option<(Arc<StatIndex>, ViewId)>,
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
            stats: stats.map(|stats| {
                let id = stats.new_view();
                (stats, id)
            }),
        })
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// The inode `name` of the directory `dir`, which is at `path`.
    fn read(
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

    fn known(&self, path: &RelPath, stat: &Stat) -> Option<Known> {
        if stat.kind != FileType::RegularFile {
            return None;
        }
        let (stats, view) = self.stats.as_ref()?;
        stats.find(path, &Stamp::of(stat), *view)
    }

    /// Whether the filter lets `path` be seen. A directory that is excluded is seen when something
    /// in it is included.
    fn shows(&self, path: &RelPath, is_dir: bool) -> io::Result<bool> {
        Ok(match self.descend(path, is_dir) {
            None => false,
            Some(Descend::IfFilled) => self.holds_something(path)?,
            Some(_) => true,
        })
    }

    /// How a walk treats `path`; `None`: not at all.
    fn descend(&self, path: &RelPath, is_dir: bool) -> Option<Descend> {
        match &self.filter {
            Some(filter) if filter.excludes(path, is_dir) => {
                (is_dir && !filter.prunes(path)).then_some(Descend::IfFilled)
            }
            _ => Some(Descend::into_directory(is_dir)),
        }
    }

    fn holds_something(&self, directory: &RelPath) -> io::Result<bool> {
        let mut pending = vec![directory.clone()];
        while let Some(directory) = pending.pop() {
            for entry in self.entries(&directory)? {
                match entry.descend {
                    Descend::IfFilled => pending.push(entry.path),
                    Descend::Yes | Descend::No => return Ok(true),
                }
            }
        }
        Ok(false)
    }

    /// The names of a directory that the filter does not leave out at first sight, sorted.
    fn entries(&self, directory: &RelPath) -> io::Result<Vec<Listed<()>>> {
        let opened = self.root.open_directory(directory)?;
        self.entries_of(&opened, directory)
    }

    fn entries_of(&self, opened: &OwnedFd, directory: &RelPath) -> io::Result<Vec<Listed<()>>> {
        let mut entries = sys::fs::read_dir(opened)
            .map_err(|error| PathError::new("read directory", directory, error))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = directory.join(&entry.name).map_err(io::Error::other)?;
            let is_dir = match entry.kind {
                FileType::Unknown => match sys::fs::stat_at(opened, &*entry.name) {
                    Ok(stat) => stat.kind == FileType::Directory,
                    Err(error) if is_absence(&error) => continue,
                    Err(error) => return Err(PathError::new("read", &path, error).into()),
                },
                kind => kind == FileType::Directory,
            };
            if let Some(descend) = self.descend(&path, is_dir) {
                listed.push(Listed {
                    path,
                    item: (),
                    descend,
                });
            }
        }
        Ok(listed)
    }

    fn list(&self, directory: &RelPath) -> io::Result<Vec<Listed<Node>>> {
        let opened = self.root.open_directory(directory)?;
        let names = self.entries_of(&opened, directory)?;
        let mut listed = Vec::with_capacity(names.len());
        for Listed { path, descend, .. } in names {
            let name = path.name().unwrap_or_default();
            let read = sys::fs::stat_at(&opened, name)
                .and_then(|stat| self.read(opened.as_fd(), name, &path, &stat));
            match read {
                // A directory may have become something else since it was listed.
                Ok(item) => listed.push(Listed {
                    descend: match item.kind {
                        Kind::Directory => descend,
                        _ => Descend::No,
                    },
                    path,
                    item,
                }),
                Err(error) if is_absence(&error) => {}
                Err(error) => return Err(PathError::new("read", &path, error).into()),
            }
        }
        Ok(listed)
    }

    /// Reads a file, making sure that it is the same file before and after.
    fn read_digest(&self, path: &RelPath) -> io::Result<ContentDigest> {
        for _ in 0..ATTEMPTS {
            // Before the stamps are taken: see `stat_index` on what this clock must be.
            let began = now();
            let mut file = self.root.open_file(path)?;
            let before = sys::fs::stat(&file)?;
            let digest = hash(&mut file, before.size)?;
            let after = sys::fs::stat(&file)?;
            let stamp = Stamp::of(&before);
            let Some(digest) = digest.filter(|_| Stamp::of(&after) == stamp) else {
                continue;
            };
            if let Some((stats, view)) = &self.stats
                && Window::of(&file)?.admits(&stamp, began)
            {
                let has_xattrs = !xattr::read(Target::Fd(file.as_fd()))?.is_empty();
                stats.learn(path, stamp, Known { digest, has_xattrs }, *view);
            }
            return Ok(digest);
        }
        Err(io::Error::other(Moving { path: path.clone() }))
    }
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
            self.read(parent.as_fd(), name, path, &stat)
        };
        match read() {
            Ok(node) => Ok(Some(node)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(PathError::new("look up", path, error).into()),
        }
    }

    fn read_dir(&self, path: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in self.entries(path)? {
            if entry.descend != Descend::IfFilled || self.holds_something(&entry.path)? {
                names.push(entry.path.name().unwrap_or_default().to_vec());
            }
        }
        Ok(names)
    }

    fn open(&self, path: &RelPath) -> io::Result<Content> {
        let file = self.root.open_file(path)?;
        let len = sys::fs::stat(&file)?.size;
        Ok(Content {
            file: Arc::new(file),
            offset: 0,
            len,
        })
    }

    fn digest(&self, path: &RelPath, _node: &Node) -> io::Result<ContentDigest> {
        if let Some((stats, view)) = &self.stats {
            if let Some(digest) = stats.seen(path, *view) {
                return Ok(digest);
            }
            if let Some(stat) = self.root.stat(path)?
                && let Some(known) = self.known(path, &stat)
            {
                return Ok(known.digest);
            }
        }
        self.read_digest(path)
    }

    fn walk(&self, top: &RelPath) -> io::Result<Vec<(RelPath, Node)>> {
        preorder(top, |directory| self.list(directory))
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
