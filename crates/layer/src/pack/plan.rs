//! Where everything goes in the tar, before any byte is read.

use super::PackError;
use crate::model::{Change, ContentDigest, Data, Kind, Metadata, Node, RelPath, Time, Xattrs};
use crate::pyc;
use crate::tar::{Header, OPAQUE_MARKER, TRAILER, TypeFlag, WHITEOUT_PREFIX, encode, padded};
use crate::times::Times;
use sha2::{Digest, Sha256};

/// Compiled Python files are rewritten in memory; larger ones are left alone.
const LARGEST_COMPILED: u64 = 4 << 20;

/// One change's place in the tar.
#[derive(Debug)]
pub(super) struct Planned {
    /// Which change.
    change: usize,
    /// Where its headers begin.
    pub(super) offset: u64,
    /// Bytes of its headers.
    header_len: u64,
    /// Bytes of its data.
    pub(super) data_len: u64,
    /// For a compiled Python file: the entry of its source.
    pub(super) source: Option<usize>,
}

impl Planned {
    pub(super) fn data_offset(&self) -> u64 {
        self.offset + self.header_len
    }

    /// Where the next entry begins.
    pub(super) fn end(&self) -> u64 {
        self.data_offset() + padded(self.data_len)
    }
}

/// A layout for a changeset.
pub(super) struct Plan<'a> {
    changes: &'a [(RelPath, Change)],
    /// In order of the tar. Sockets and their links have none.
    pub(super) entries: Vec<Planned>,
}

/// Which times headers get.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) times: Times,
    pub(super) layer: Time,
}

impl<'a> Plan<'a> {
    /// Lays out `changes`. The lengths of headers depend on the policy for times, not on the
    /// layer's own.
    pub(super) fn new(
        changes: &'a [(RelPath, Change)],
        times: Times,
    ) -> Result<Plan<'a>, PackError> {
        check_order(changes)?;
        let mut plan = Plan {
            changes,
            entries: Vec::with_capacity(changes.len()),
        };
        let clock = Clock {
            times,
            layer: crate::times::layer_time(&[0; 32]),
        };
        let mut offset = 0;
        for (index, (path, change)) in changes.iter().enumerate() {
            let Some(node) = plan.inode(path, change)? else {
                continue;
            };
            check_names(path)?;
            let data_len = data_len(path, change)?;
            let mut planned = Planned {
                change: index,
                offset,
                header_len: 0,
                data_len,
                source: None,
            };
            planned.header_len = headers(path, change, node, clock)?.len() as u64;
            offset = planned.end();
            plan.entries.push(planned);
        }
        if times != Times::Preserve {
            plan.find_sources();
        }
        Ok(plan)
    }

    /// Bytes of the whole tar.
    pub(super) fn tar_len(&self) -> u64 {
        self.entries.last().map_or(0, Planned::end) + TRAILER
    }

    pub(super) fn change(&self, entry: &Planned) -> (&'a RelPath, &'a Change) {
        let (path, change) = &self.changes[entry.change];
        (path, change)
    }

    pub(super) fn change_index(entry: &Planned) -> usize {
        entry.change
    }

    /// One place for each change, filled for files of no bytes.
    pub(super) fn digests_of_empty_files(&self) -> Vec<Option<ContentDigest>> {
        let empty = ContentDigest(Sha256::digest(b"").into());
        let digest = |change: &Change| match change {
            Change::Put { node, .. } if node.kind == (Kind::File { size: 0 }) => Some(empty),
            _ => None,
        };
        self.changes
            .iter()
            .map(|(_, change)| digest(change))
            .collect()
    }

    /// Bytes of a regular file's data, where there are any.
    pub(super) fn data(&self, entry: &Planned) -> Option<&'a Data> {
        match &self.changes[entry.change].1 {
            Change::Put { data, .. } if entry.data_len > 0 => data.as_ref(),
            _ => None,
        }
    }

    /// The true time of the source of a compiled Python file.
    pub(super) fn source_time(&self, entry: &Planned) -> Option<Time> {
        match &self.changes[self.entries[entry.source?].change].1 {
            Change::Put { node, .. } => Some(node.metadata.mtime),
            Change::Link { .. } | Change::Whiteout => None,
        }
    }

    /// The header blocks of an entry, a marker of opacity included.
    pub(super) fn headers(&self, entry: &Planned, clock: Clock) -> Result<Vec<u8>, PackError> {
        let (path, change) = self.change(entry);
        headers(path, change, self.inode(path, change)?.flatten(), clock)
    }

    /// The inode that an entry's header describes: `Some(None)` for a whiteout, `None` when there
    /// is no entry.
    #[expect(
        clippy::option_option,
        reason = "no entry, an entry without inode, with one"
    )]
    fn inode(
        &self,
        path: &RelPath,
        change: &'a Change,
    ) -> Result<Option<Option<&'a Node>>, PackError> {
        let to = match change {
            Change::Whiteout if path.is_root() => return Err(PackError::Root),
            Change::Whiteout => return Ok(Some(None)),
            Change::Put { node, .. } if path.is_root() && node.kind != Kind::Directory => {
                return Err(PackError::Root);
            }
            Change::Put { node, .. } if node.kind == Kind::Socket => return Ok(None),
            Change::Put { node, .. } => return Ok(Some(Some(node))),
            Change::Link { to } => to,
        };
        let found = self.changes.binary_search_by(|(other, _)| other.cmp(to));
        match found.map(|index| &self.changes[index].1) {
            Ok(Change::Put { node, .. }) if node.kind == Kind::Socket => Ok(None),
            Ok(Change::Put { node, .. }) if node.kind != Kind::Directory && to < path => {
                Ok(Some(Some(node)))
            }
            _ => Err(PackError::Link {
                path: path.clone(),
                to: to.clone(),
            }),
        }
    }

    fn find_sources(&mut self) {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let (path, _) = self.change(entry);
            if entry.data_len == 0 || entry.data_len > LARGEST_COMPILED {
                continue;
            }
            let Some(source) = pyc::source_path(path) else {
                continue;
            };
            let found = self
                .entries
                .binary_search_by(|other| self.changes[other.change].0.cmp(&source));
            let is_file = |found: usize| {
                let (_, change) = self.change(&self.entries[found]);
                matches!(change, Change::Put { node, .. } if matches!(node.kind, Kind::File { .. }))
            };
            self.entries[index].source = found.ok().filter(|&found| is_file(found));
        }
    }
}

fn check_order(changes: &[(RelPath, Change)]) -> Result<(), PackError> {
    match changes.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        Some(pair) => Err(PackError::Order {
            path: pair[1].0.clone(),
        }),
        None => Ok(()),
    }
}

fn check_names(path: &RelPath) -> Result<(), PackError> {
    if path
        .components()
        .any(|name| name.starts_with(WHITEOUT_PREFIX))
    {
        return Err(PackError::ReservedName { path: path.clone() });
    }
    Ok(())
}

fn data_len(path: &RelPath, change: &Change) -> Result<u64, PackError> {
    match change {
        Change::Put { node, data, .. } => match (&node.kind, data) {
            (&Kind::File { size }, None) if size > 0 => {
                Err(PackError::NoData { path: path.clone() })
            }
            (&Kind::File { size }, _) => Ok(size),
            _ => Ok(0),
        },
        Change::Link { .. } | Change::Whiteout => Ok(0),
    }
}

fn headers(
    path: &RelPath,
    change: &Change,
    node: Option<&Node>,
    clock: Clock,
) -> Result<Vec<u8>, PackError> {
    let encoded = match (change, node) {
        (Change::Link { to }, Some(node)) => inode(path.as_bytes(), node, Some(to), clock),
        (Change::Put { opaque: true, .. }, Some(node)) => {
            let name = [path.as_bytes(), b"/", OPAQUE_MARKER].concat();
            let name = name.strip_prefix(b"/").unwrap_or(&name);
            inode(path.as_bytes(), node, None, clock).and_then(|mut blocks| {
                blocks.extend(marker(name, clock)?);
                Ok(blocks)
            })
        }
        (_, Some(node)) => inode(path.as_bytes(), node, None, clock),
        (_, None) => marker(&whiteout_path(path), clock),
    };
    encoded.map_err(|source| PackError::Header {
        path: path.clone(),
        source,
    })
}

fn whiteout_path(path: &RelPath) -> Vec<u8> {
    let bytes = path.as_bytes();
    let slash = bytes.iter().rposition(|&byte| byte == b'/');
    let (dir, name) = bytes.split_at(slash.map_or(0, |slash| slash + 1));
    [dir, WHITEOUT_PREFIX, name].concat()
}

/// The header of an inode's first or, with `link`, further name.
///
/// A further name repeats the attributes: readers that set the owner of every entry lose file
/// capabilities where they are not set again.
fn inode(
    path: &[u8],
    node: &Node,
    link: Option<&RelPath>,
    clock: Clock,
) -> Result<Vec<u8>, crate::tar::HeaderError> {
    let Metadata {
        mode,
        uid,
        gid,
        mtime,
        ref xattrs,
    } = node.metadata;
    let mut header = Header {
        path,
        type_flag: TypeFlag::File,
        link: b"",
        mode,
        uid,
        gid,
        size: 0,
        mtime: clock.times.of(mtime, clock.layer),
        device: (0, 0),
        xattrs,
    };
    let with_slash;
    match (&node.kind, link) {
        (_, Some(to)) => {
            header.type_flag = TypeFlag::HardLink;
            header.link = to.as_bytes();
        }
        (Kind::Directory, None) => {
            header.type_flag = TypeFlag::Directory;
            with_slash = match path {
                b"" => b"./".to_vec(),
                path => [path, b"/"].concat(),
            };
            header.path = &with_slash;
        }
        (&Kind::File { size }, None) => header.size = size,
        (Kind::Symlink { target }, None) => {
            header.type_flag = TypeFlag::Symlink;
            header.link = target;
        }
        (&Kind::CharDevice { major, minor }, None) => {
            header.type_flag = TypeFlag::CharDevice;
            header.device = (major, minor);
        }
        (&Kind::BlockDevice { major, minor }, None) => {
            header.type_flag = TypeFlag::BlockDevice;
            header.device = (major, minor);
        }
        (Kind::Fifo | Kind::Socket, None) => header.type_flag = TypeFlag::Fifo,
    }
    encode(&header)
}

/// An empty file without owner or permissions, whose name says something.
fn marker(path: &[u8], clock: Clock) -> Result<Vec<u8>, crate::tar::HeaderError> {
    encode(&Header {
        path,
        type_flag: TypeFlag::File,
        link: b"",
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: clock.times.of_markers(clock.layer),
        device: (0, 0),
        xattrs: &Xattrs::new(),
    })
}
