//! The words that everything in this crate is said in: paths, metadata, nodes, content, views.
//!
//! No IO happens here. A tree is anything that implements [`View`]; a layer is a sorted list of
//! [`Change`]s.

use crate::scan::{Asked, Directory};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A path below some root: components joined by `/`, none of them empty, `.` or `..`, no NUL.
/// The empty path is the root itself. Bytes, not text: file names need not be UTF-8.
///
/// Ordering is by components, so a directory comes right before everything below it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Vec<u8>);

/// A text that is no [`RelPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} has a component that is empty, `.` or `..`, or a NUL byte")]
pub struct InvalidPath {
    /// The offending path, lossily decoded.
    pub path: String,
}

impl RelPath {
    /// The root.
    pub fn root() -> RelPath {
        RelPath(Vec::new())
    }

    /// Takes a path that is relative and clean already.
    ///
    /// # Errors
    /// When a component is empty, `.` or `..`, or holds a NUL byte.
    pub fn new(path: impl Into<Vec<u8>>) -> Result<RelPath, InvalidPath> {
        let path = path.into();
        let clean = path.is_empty()
            || path
                .split(|&b| b == b'/')
                .all(|c| !matches!(c, b"" | b"." | b".."))
                && !path.contains(&0);
        if clean {
            Ok(RelPath(path))
        } else {
            Err(InvalidPath {
                path: String::from_utf8_lossy(&path).into_owned(),
            })
        }
    }

    /// Cleans any path: drops empty and `.` components and leading `/`, resolves `..` textually
    /// and clamps it at the root.
    ///
    /// # Errors
    /// When it holds a NUL byte.
    pub fn clamp(path: &[u8]) -> Result<RelPath, InvalidPath> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        RelPath::new(parts.join(&b'/'))
    }

    /// The bytes, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|c| !c.is_empty())
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(RelPath(self.0[..end].to_vec()))
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// When `name` is no single component.
    pub fn join(&self, name: &[u8]) -> Result<RelPath, InvalidPath> {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if name.contains(&b'/') {
            return Err(InvalidPath {
                path: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
        RelPath::new(bytes)
    }

    /// `other` below this path.
    pub fn join_path(&self, other: &RelPath) -> RelPath {
        match (self.is_root(), other.is_root()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => RelPath([self.0.as_slice(), b"/", other.0.as_slice()].concat()),
        }
    }

    /// Whether this is `ancestor` or below it.
    pub fn starts_with(&self, ancestor: &RelPath) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(ancestor.0.as_slice())
                .is_some_and(|rest| rest.first().is_none_or(|&b| b == b'/'))
    }

    /// What is left of this path below `ancestor`; `None` when it is not below it.
    pub fn strip(&self, ancestor: &RelPath) -> Option<RelPath> {
        if !self.starts_with(ancestor) {
            return None;
        }
        let rest = &self.0[ancestor.0.len()..];
        Some(RelPath(rest.strip_prefix(b"/").unwrap_or(rest).to_vec()))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &RelPath) -> std::cmp::Ordering {
        compare_paths(&self.0, &other.0)
    }
}

/// Compares clean paths component by component. Equal to comparing bytes with `/` below every
/// other byte, because no component holds a NUL.
pub(crate) fn compare_paths(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &RelPath) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl std::fmt::Debug for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// Extended attributes by name, sorted by name.
pub type Xattrs = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;

/// What an inode carries beside its kind.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes that belong to the image (see `xattr` for which do).
    pub xattrs: Xattrs,
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of this many bytes.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Its target, as stored.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// An inode as a [`View`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// What it carries.
    pub metadata: Metadata,
    /// Equal for two paths of one view exactly when they are hard links to one inode.
    /// `None` when the inode has one name.
    pub links: Option<LinkId>,
}

/// Identity of an inode with several names, within one view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    /// Device, or number of the layer.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// The bytes of a regular file: a range of an open file, readable from many threads.
#[derive(Clone, Debug)]
pub struct Content {
    /// The file that holds the bytes.
    pub file: Arc<File>,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub len: u64,
}

/// A file tree that can be looked at: a host directory, or a stack of layers.
///
/// Nothing is followed: a path that leads through a symbolic link is not found (see `resolve`
/// for following links inside the root).
pub trait View: Send + Sync {
    /// The inode at `path`, or `None` when there is none.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn lookup(&self, path: &RelPath) -> io::Result<Option<Node>>;

    /// Names in the directory at `path`, sorted by bytes.
    ///
    /// # Errors
    /// When it is no directory, or cannot be read.
    fn read_dir(&self, path: &RelPath) -> io::Result<Vec<Vec<u8>>>;

    /// The bytes of the regular file at `path`.
    ///
    /// # Errors
    /// When it is no regular file, or cannot be read.
    fn open(&self, path: &RelPath) -> io::Result<Content>;

    /// SHA-256 of the bytes of the regular file at `path`, whose inode `lookup` showed as `node`.
    /// A view that remembers digests answers without reading.
    ///
    /// # Errors
    /// When it is no regular file, cannot be read, or changed while it was read.
    fn digest(&self, path: &RelPath, node: &Node) -> io::Result<ContentDigest>;

    /// Everything below the directory at `path`, without `path` itself, in path order.
    ///
    /// # Errors
    /// When it is no directory, or something in it cannot be read.
    fn walk(&self, path: &RelPath) -> io::Result<Vec<(RelPath, Node)>> {
        crate::walk::walk(self, path)
    }

    /// Begins to read the directory at `path`, or `only` one name of it.
    ///
    /// # Errors
    /// When it is no directory, or cannot be read.
    fn enter<'a>(
        &'a self,
        path: &RelPath,
        only: Option<&[u8]>,
    ) -> io::Result<Box<dyn Directory + 'a>> {
        Ok(Box::new(Asked::new(self, path, only)?))
    }
}

/// SHA-256 of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContentDigest(pub [u8; 32]);

impl ContentDigest {
    /// That of no bytes.
    pub const EMPTY: ContentDigest = ContentDigest([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);
}

/// Where the bytes of a file that is put into a layer come from. Opened only when they are
/// written, so that a layer may have more files than a process may have descriptors.
#[derive(Clone)]
pub enum Data {
    /// In memory (here-documents).
    Inline(Arc<[u8]>),
    /// A range of a file that is open already.
    Open(Content),
    /// A file of a view.
    InView {
        /// The view.
        view: Arc<dyn View>,
        /// The file's path in it.
        path: RelPath,
        /// What its bytes hashed to when the key was computed. Other bytes are an error.
        expect: Option<ContentDigest>,
    },
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Data::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Data::Open(content) => write!(f, "Open({} bytes)", content.len),
            Data::InView { path, .. } => write!(f, "InView({path})"),
        }
    }
}

/// One entry of a layer: what it does to one path of the tree below.
#[derive(Clone, Debug)]
pub enum Change {
    /// The path is this inode now. A directory merges with the one below unless `opaque`.
    Put {
        /// The new inode. `links` is ignored: see `Change::Link`.
        node: Node,
        /// Hides what the layers below have in this directory.
        opaque: bool,
        /// The bytes, for a regular file.
        data: Option<Data>,
    },
    /// The path is one more name of the inode that an earlier path of the same layer put.
    Link {
        /// That earlier path.
        to: RelPath,
    },
    /// The path is gone.
    Whiteout,
}
