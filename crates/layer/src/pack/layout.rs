//! Where everything goes in the tar: sizes are known before any byte is read, times do not matter.
//!
//! The list of changes is read as often as needed, so that nothing is kept of an entry that is not
//! special: only of hard links and of compiled Python files.

use super::PackError;
use crate::changes::{ChangeList, ReadChanges};
use crate::model::{Change, Data, Kind, Metadata, Node, RelPath, Time, Xattrs};
use crate::pyc::{self, Below};
use crate::tar::{Header, OPAQUE_MARKER, TRAILER, TypeFlag, WHITEOUT_PREFIX, encode, padded};
use crate::times::Times;
use std::collections::{HashMap, HashSet};

/// Compiled Python files are rewritten in memory; larger ones are left alone.
const LARGEST_COMPILED: u64 = 4 << 20;

/// Symbolic links in a row that lead to a source, at most.
const MOST_LINKS: usize = 4;

/// What entries have to know of others.
#[derive(Default)]
pub(super) struct Survey {
    /// How many names follow the first, of the inodes that have several.
    pub(super) further: HashMap<RelPath, u32>,
    /// Those inodes.
    leaders: HashMap<RelPath, Node>,
    /// The sources of compiled Python files.
    sources: HashMap<RelPath, pyc::Source>,
    /// Where those lead that are symbolic links.
    links: HashMap<RelPath, RelPath>,
}

impl Survey {
    /// Looks through `changes` for links and compiled files, and then, if there are any, for what
    /// they stand for, `below` for sources that the layer does not have.
    pub(super) fn new(
        changes: &(impl ChangeList + ?Sized),
        times: Times,
        below: &mut Below<'_>,
    ) -> Result<Survey, PackError> {
        let mut survey = Survey::default();
        let mut wanted: HashSet<RelPath> = HashSet::new();
        let mut previous: Option<RelPath> = None;
        for change in changes.read() {
            let (path, change) = change.map_err(PackError::List)?;
            if previous.is_some_and(|previous| previous >= path) {
                return Err(PackError::Order { path });
            }
            match change {
                Change::Link { to } => *survey.further.entry(to).or_default() += 1,
                Change::Put { node, .. } if times != Times::Preserve => {
                    wanted.extend(compiled_from(&path, &node));
                }
                Change::Put { .. } | Change::Whiteout => {}
            }
            previous = Some(path);
        }
        if survey.further.is_empty() && wanted.is_empty() {
            return Ok(survey);
        }
        let sources: Vec<RelPath> = wanted.iter().cloned().collect();
        survey.find(changes, wanted)?;
        for path in sources {
            survey.look_below(path, below)?;
        }
        Ok(survey)
    }

    /// Finds in the layer the leaders of links, and the `wanted` sources or where they lead.
    fn find(
        &mut self,
        changes: &(impl ChangeList + ?Sized),
        mut wanted: HashSet<RelPath>,
    ) -> Result<(), PackError> {
        for round in 0..=MOST_LINKS {
            let mut linked = HashSet::new();
            for change in changes.read() {
                let (path, Change::Put { node, .. }) = change.map_err(PackError::List)? else {
                    continue;
                };
                if wanted.contains(&path) {
                    linked.extend(self.source_found(&path, &node));
                }
                if round == 0 && self.further.contains_key(&path) && node.kind != Kind::Directory {
                    self.leaders.insert(path, node);
                }
            }
            wanted = linked;
            if wanted.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Takes down what is at the path of a source, and returns where that leads if it is a link.
    fn source_found(&mut self, path: &RelPath, node: &Node) -> Option<RelPath> {
        match &node.kind {
            &Kind::File { size } => {
                let source = pyc::Source {
                    mtime: node.metadata.mtime,
                    size,
                    shipped: None,
                };
                self.sources.insert(path.clone(), source);
                None
            }
            Kind::Symlink { target } => {
                let target = target_of(path, target)?;
                self.links.insert(path.clone(), target.clone());
                Some(target)
            }
            _ => None,
        }
    }

    /// Takes down the source at `path` if it is in the layers below, or leads there.
    fn look_below(&mut self, path: RelPath, below: &mut Below<'_>) -> Result<(), PackError> {
        let Some(path) = self.end(path).filter(|end| !self.sources.contains_key(end)) else {
            return Ok(());
        };
        let found = below(&path).map_err(|source| PackError::Below {
            path: path.clone(),
            source,
        })?;
        if let Some(file) = found {
            let source = pyc::Source {
                mtime: file.mtime,
                size: file.size,
                shipped: Some(file.shipped),
            };
            self.sources.insert(path, source);
        }
        Ok(())
    }

    /// The file that a source's path leads to: Python asks for the time of the file, not of the
    /// link.
    fn source(&self, path: RelPath) -> Option<pyc::Source> {
        self.sources.get(&self.end(path)?).copied()
    }

    /// Where links of the layer lead from `path`; `None` when they do not come to an end.
    fn end(&self, mut path: RelPath) -> Option<RelPath> {
        for _ in 0..=MOST_LINKS {
            match self.links.get(&path) {
                Some(target) => path = target.clone(),
                None => return Some(path),
            }
        }
        None
    }
}

/// What a symbolic link names, as far as its text says it.
fn target_of(link: &RelPath, target: &[u8]) -> Option<RelPath> {
    let directory = match target.starts_with(b"/") {
        true => RelPath::root(),
        false => link.parent()?,
    };
    RelPath::clamp(&[directory.as_bytes(), b"/", target].concat()).ok()
}

/// The path of the source that a file may have been compiled from.
fn compiled_from(path: &RelPath, node: &Node) -> Option<RelPath> {
    let fits = matches!(node.kind, Kind::File { size } if size > 0 && size <= LARGEST_COMPILED);
    fits.then(|| pyc::source_path(path)).flatten()
}

/// One change, and its place in the tar.
#[derive(Debug)]
pub(super) struct Entry {
    /// How many entries come before it.
    pub(super) number: usize,
    pub(super) path: RelPath,
    pub(super) change: Change,
    /// Its header blocks, a marker of opacity included.
    pub(super) header: Vec<u8>,
    /// Where they begin.
    pub(super) offset: u64,
    /// Bytes of its data.
    pub(super) data_len: u64,
    /// For a compiled Python file: its source.
    pub(super) source: Option<pyc::Source>,
}

impl Entry {
    pub(super) fn data_offset(&self) -> u64 {
        self.offset + self.header.len() as u64
    }

    /// Where the next entry begins.
    pub(super) fn end(&self) -> u64 {
        self.data_offset() + padded(self.data_len)
    }

    /// The bytes of a regular file, where there are any.
    pub(super) fn data(&self) -> Option<&Data> {
        match &self.change {
            Change::Put { data, .. } if self.data_len > 0 => data.as_ref(),
            _ => None,
        }
    }
}

/// Bytes of a tar whose last entry ends at `end`.
pub(super) fn tar_len(end: u64) -> u64 {
    end + TRAILER
}

/// Which times headers get.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) times: Times,
    pub(super) layer: Time,
}

/// The entries of a layer in order. Sockets and their links have none. The lengths of headers
/// depend on the policy for times, not on the layer's own.
pub(super) struct Layout<'a> {
    changes: ReadChanges<'a>,
    survey: &'a Survey,
    clock: Clock,
    number: usize,
    offset: u64,
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        changes: &'a (impl ChangeList + ?Sized),
        survey: &'a Survey,
        clock: Clock,
    ) -> Layout<'a> {
        Layout {
            changes: changes.read(),
            survey,
            clock,
            number: 0,
            offset: 0,
        }
    }

    /// The entry of a change; `None` when it has none.
    fn entry(&mut self, path: RelPath, change: Change) -> Result<Option<Entry>, PackError> {
        let Some(node) = self.inode(&path, &change)? else {
            return Ok(None);
        };
        check_names(&path)?;
        let data_len = data_len(&path, &change)?;
        let source = node
            .filter(|_| self.clock.times != Times::Preserve && data_len > 0)
            .and_then(|node| compiled_from(&path, node))
            .and_then(|source| self.survey.source(source));
        let entry = Entry {
            number: self.number,
            header: headers(&path, &change, node, self.clock)?,
            path,
            change,
            offset: self.offset,
            data_len,
            source,
        };
        self.number += 1;
        self.offset = entry.end();
        Ok(Some(entry))
    }

    /// The inode that an entry's header describes: `Some(None)` for a whiteout, `None` when there
    /// is no entry.
    #[expect(
        clippy::option_option,
        reason = "no entry, an entry without inode, with one"
    )]
    fn inode<'c>(
        &self,
        path: &RelPath,
        change: &'c Change,
    ) -> Result<Option<Option<&'c Node>>, PackError>
    where
        'a: 'c,
    {
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
        match self.survey.leaders.get(to).filter(|_| to < path) {
            Some(node) if node.kind == Kind::Socket => Ok(None),
            Some(node) => Ok(Some(Some(node))),
            None => Err(PackError::Link {
                path: path.clone(),
                to: to.clone(),
            }),
        }
    }
}

impl Iterator for Layout<'_> {
    type Item = Result<Entry, PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (path, change) = match self.changes.next()? {
                Ok(change) => change,
                Err(error) => return Some(Err(PackError::List(error))),
            };
            if let Some(entry) = self.entry(path, change).transpose() {
                return Some(entry);
            }
        }
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
