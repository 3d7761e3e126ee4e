//! Where everything of an index goes: the pass before the bytes.
//!
//! Entries come in path order; here they become inodes in path order (missing parents are made
//! up), directories get their names, and every inode its position.

use super::format::{
    BLOCK, CHUNK_LEN, INODE_LEN, INODES_AT, Layout, NAME_MAX, PAGE, SLOT, TARGET_MAX,
    XATTR_HEADER_LEN, chunk_count, encode_device, entry_type, split_xattr, type_bits,
};
use super::{IndexChange, IndexEntry, IndexError, dirent};
use crate::model::compare_paths;
use crate::{Kind, Metadata, Node, RelPath, xattr};

/// The mark of an opaque directory, and its value.
pub(super) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// One inode of the image.
pub(super) struct Planned<'a> {
    /// `None`: a whiteout, or a directory that no entry put.
    pub(super) node: Option<&'a Node>,
    pub(super) opaque: bool,
    pub(super) data_offset: u64,
    /// Type and permission bits.
    pub(super) mode: u16,
    pub(super) nlink: u32,
    /// Bytes: of a file, a link target, a directory's blocks; otherwise 0.
    pub(super) size: u64,
    pub(super) xattr_len: usize,
    pub(super) layout: Layout,
    /// Of the inode, in bytes.
    pub(super) position: u64,
    /// Number of the block with the full blocks of a directory, or a long link target.
    pub(super) block: u32,
    /// The directory that holds its (first) name; the root is its own.
    pub(super) parent: u32,
}

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    /// Whose it is: a number of [`Plan::inodes`].
    pub(super) inode: u32,
}

/// The whole image.
pub(super) struct Plan<'a> {
    /// In path order, the root first.
    pub(super) inodes: Vec<Planned<'a>>,
    names: Vec<Name<'a>>,
    /// The names of inode `n` are `names[first[n]..first[n + 1]]`.
    first: Vec<u32>,
    /// Bytes of the image.
    pub(super) len: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(entries: &'a [IndexEntry], tar_len: u64) -> Result<Plan<'a>, IndexError> {
        let tar_blocks = tar_len.div_ceil(BLOCK);
        if tar_blocks >= u64::from(u32::MAX) {
            return Err(too_large(&RelPath::root(), "the tar"));
        }
        let mut collected = Collector::default();
        collected.collect(entries, tar_len)?;
        let Collector {
            inodes,
            names,
            parents,
            ..
        } = collected;
        let (names, first) = group(inodes.len(), &names, &parents);
        let mut plan = Plan {
            inodes,
            names,
            first,
            len: 0,
        };
        plan.place();
        Ok(plan)
    }

    /// The names in directory `inode`, sorted, without `.` and `..`.
    pub(super) fn names(&self, inode: usize) -> &[Name<'a>] {
        &self.names[self.first[inode] as usize..self.first[inode + 1] as usize]
    }

    /// The names in directory `inode` as they stand in its blocks: `.` and `..` are in their places
    /// (names like `.!` sort between them).
    pub(super) fn all_names(&self, inode: usize) -> impl Iterator<Item = Name<'a>> + '_ {
        let name = |bytes, inode| Name { bytes, inode };
        let this = name(b".".as_slice(), inode as u32);
        let above = name(b"..".as_slice(), self.inodes[inode].parent);
        let names = self.names(inode);
        let (before, rest) = names.split_at(names.partition_point(|n| n.bytes < this.bytes));
        let (between, after) = rest.split_at(rest.partition_point(|n| n.bytes < above.bytes));
        let (before, between) = (before.iter().copied(), between.iter().copied());
        before
            .chain([this])
            .chain(between)
            .chain([above])
            .chain(after.iter().copied())
    }

    /// Gives every inode its size, layout and position.
    fn place(&mut self) {
        let mut position = INODES_AT;
        let mut blocks = 0;
        for number in 0..self.inodes.len() {
            if self.inodes[number].is_directory() {
                let names = self.all_names(number).map(|name| name.bytes);
                self.inodes[number].size = dirent::size(names);
            }
            let inode = &mut self.inodes[number];
            let (start, end) = inode.settle(position.next_multiple_of(SLOT));
            inode.position = start;
            inode.block = blocks;
            blocks += inode.own_blocks() as u32;
            position = end;
        }
        let first_block = position.div_ceil(BLOCK);
        for inode in &mut self.inodes {
            inode.block += first_block as u32;
        }
        let end = (first_block + u64::from(blocks)) * BLOCK;
        self.len = end.next_multiple_of(PAGE);
    }
}

impl Planned<'_> {
    pub(super) fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == type_bits(&Kind::Directory)
    }

    /// Number in directory entries.
    pub(super) fn nid(&self) -> u64 {
        self.position / SLOT
    }

    pub(super) fn file_type(&self) -> u8 {
        entry_type(self.mode)
    }

    /// Bytes of the inode and its attributes.
    pub(super) fn head_len(&self) -> u64 {
        (INODE_LEN + self.xattr_len) as u64
    }

    /// How many full blocks this inode has outside the inode area.
    pub(super) fn own_blocks(&self) -> u64 {
        match self.layout {
            Layout::Plain => self.size.div_ceil(BLOCK),
            Layout::Inline => self.size / BLOCK,
            Layout::Chunks => 0,
        }
    }

    /// Chooses the layout, and the first place from `earliest` on where the inode fits. Returns
    /// where it begins and where what belongs to it ends.
    fn settle(&mut self, earliest: u64) -> (u64, u64) {
        if self.layout == Layout::Chunks {
            let chunks = (earliest + self.head_len()).next_multiple_of(CHUNK_LEN as u64);
            return (earliest, chunks + chunk_count(self.size) * CHUNK_LEN as u64);
        }
        let tail = self.size % BLOCK;
        if tail > 0 {
            // A tail must not cross a block. One that fits nowhere gets a block of its own.
            for slot in 0..BLOCK / SLOT {
                let start = earliest + slot * SLOT;
                let tail_at = start + self.head_len();
                if tail_at % BLOCK + tail <= BLOCK {
                    self.layout = Layout::Inline;
                    return (start, tail_at + tail);
                }
            }
        }
        (earliest, earliest + self.head_len())
    }
}

/// The first half of the pass: inodes and names, in path order.
#[derive(Default)]
struct Collector<'a> {
    inodes: Vec<Planned<'a>>,
    /// The path of each inode.
    paths: Vec<&'a [u8]>,
    names: Vec<Name<'a>>,
    /// The directory of each name.
    parents: Vec<u32>,
    /// The directories from the root to where the last entry was put.
    open: Vec<u32>,
}

impl<'a> Collector<'a> {
    fn collect(&mut self, entries: &'a [IndexEntry], tar_len: u64) -> Result<(), IndexError> {
        let mut previous: Option<&'a RelPath> = None;
        if entries.first().is_none_or(|entry| !entry.path.is_root()) {
            self.open.push(0);
            self.add(b"", made_up_directory(0));
        }
        for entry in entries {
            if let Some(previous) = previous.filter(|previous| **previous >= entry.path) {
                return Err(IndexError::Order {
                    path: entry.path.clone(),
                    previous: previous.clone(),
                });
            }
            self.put(entry, previous, tar_len)?;
            previous = Some(&entry.path);
        }
        Ok(())
    }

    fn put(
        &mut self,
        entry: &'a IndexEntry,
        previous: Option<&'a RelPath>,
        tar_len: u64,
    ) -> Result<(), IndexError> {
        let path = entry.path.as_bytes();
        if entry.path.is_root() {
            let inode = planned(entry, 0, tar_len)?.filter(Planned::is_directory);
            self.open.push(0);
            self.add(path, inode.ok_or(IndexError::Root)?);
            return Ok(());
        }
        let parent = self.enter_parent(&entry.path, previous)?;
        let number = match planned(entry, parent, tar_len)? {
            Some(inode) => {
                if inode.is_directory() {
                    self.inodes[parent as usize].nlink += 1;
                    self.open.push(self.inodes.len() as u32);
                }
                self.add(path, inode)
            }
            None => self.link(entry)?,
        };
        self.name(last_component(path), number, parent);
        Ok(())
    }

    /// Leaves the directories that do not hold `path`, makes up those that are missing, and returns
    /// the one that holds it.
    fn enter_parent(
        &mut self,
        path: &'a RelPath,
        previous: Option<&'a RelPath>,
    ) -> Result<u32, IndexError> {
        let bytes = path.as_bytes();
        let mut entered = loop {
            // The root is an ancestor of everything, so the stack never runs empty.
            let Some(&top) = self.open.last() else {
                return Err(IndexError::Root);
            };
            let ancestor = self.paths[top as usize];
            if is_ancestor(ancestor, bytes) {
                break ancestor.len();
            }
            self.open.pop();
        };
        loop {
            let parent = self.open.last().copied().unwrap_or(0);
            let start = if entered == 0 { 0 } else { entered + 1 };
            let Some(len) = bytes[start..].iter().position(|&byte| byte == b'/') else {
                return Ok(parent);
            };
            entered = start + len;
            let missing = &bytes[..entered];
            if previous.is_some_and(|previous| previous.as_bytes() == missing) {
                return Err(IndexError::Parent { path: path.clone() });
            }
            self.inodes[parent as usize].nlink += 1;
            let number = self.add(missing, made_up_directory(parent));
            self.open.push(number);
            self.name(&bytes[start..entered], number, parent);
        }
    }

    /// The inode that a hard link names.
    fn link(&mut self, entry: &IndexEntry) -> Result<u32, IndexError> {
        let IndexChange::Link { to } = &entry.change else {
            return Err(IndexError::Root);
        };
        let found = self
            .paths
            .binary_search_by(|path| compare_paths(path, to.as_bytes()))
            .ok()
            .filter(|&number| {
                let inode = &self.inodes[number];
                inode.node.is_some() && !inode.is_directory()
            });
        let Some(number) = found else {
            return Err(IndexError::Link {
                path: entry.path.clone(),
                to: to.clone(),
            });
        };
        self.inodes[number].nlink += 1;
        Ok(number as u32)
    }

    fn add(&mut self, path: &'a [u8], inode: Planned<'a>) -> u32 {
        self.inodes.push(inode);
        self.paths.push(path);
        self.inodes.len() as u32 - 1
    }

    fn name(&mut self, bytes: &'a [u8], inode: u32, parent: u32) {
        self.names.push(Name { bytes, inode });
        self.parents.push(parent);
    }
}

/// Sorts names by directory, keeping their order within one (a counting sort). Returns them, and
/// where the names of each directory begin.
fn group<'a>(inodes: usize, names: &[Name<'a>], parents: &[u32]) -> (Vec<Name<'a>>, Vec<u32>) {
    let mut first = vec![0u32; inodes + 1];
    for &parent in parents {
        first[parent as usize + 1] += 1;
    }
    for number in 0..inodes {
        first[number + 1] += first[number];
    }
    let mut next = first.clone();
    let mut grouped = names.to_vec();
    for (name, &parent) in names.iter().zip(parents) {
        grouped[next[parent as usize] as usize] = *name;
        next[parent as usize] += 1;
    }
    (grouped, first)
}

/// The inode that an entry puts; `None` for a hard link.
fn planned<'a>(
    entry: &'a IndexEntry,
    parent: u32,
    tar_len: u64,
) -> Result<Option<Planned<'a>>, IndexError> {
    let path = &entry.path;
    if path.name().is_some_and(|name| name.len() > NAME_MAX) {
        return Err(too_large(path, "a name"));
    }
    let (node, opaque, data_offset) = match &entry.change {
        IndexChange::Link { .. } => return Ok(None),
        IndexChange::Whiteout => return Ok(Some(whiteout(parent))),
        IndexChange::Put {
            node,
            opaque,
            data_offset,
        } => (node, *opaque, *data_offset),
    };
    let mut size = 0;
    let mut layout = Layout::Plain;
    match &node.kind {
        Kind::CharDevice { major: 0, minor: 0 } => return Ok(Some(whiteout(parent))),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            encode_device(*major, *minor).ok_or_else(|| too_large(path, "a device number"))?;
        }
        Kind::Symlink { target } if target.len() > TARGET_MAX => {
            return Err(too_large(path, "a link target"));
        }
        Kind::Symlink { target } => size = target.len() as u64,
        Kind::File { size: len } if *len > 0 => {
            check_data(path, *len, data_offset, tar_len)?;
            size = *len;
            layout = Layout::Chunks;
        }
        Kind::File { .. } | Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    let opaque = opaque && node.kind == Kind::Directory;
    Ok(Some(Planned {
        node: Some(node),
        opaque,
        data_offset: data_offset.unwrap_or(0),
        mode: type_bits(&node.kind) | (node.metadata.mode & 0o7777) as u16,
        nlink: if node.kind == Kind::Directory { 2 } else { 1 },
        size,
        xattr_len: xattr_len(path, &node.metadata, opaque)?,
        layout,
        position: 0,
        block: 0,
        parent,
    }))
}

fn check_data(
    path: &RelPath,
    size: u64,
    offset: Option<u64>,
    tar_len: u64,
) -> Result<(), IndexError> {
    let fits = offset.is_some_and(|offset| {
        offset % BLOCK == 0 && offset.checked_add(size).is_some_and(|end| end <= tar_len)
    });
    if fits {
        return Ok(());
    }
    Err(IndexError::Data {
        path: path.clone(),
        size,
        offset,
        tar_len,
    })
}

/// The attributes of an inode as the image has them: index, rest of the name, value. Those that
/// belong to no image are left out; above all overlayfs' own, which the kernel would obey.
pub(super) fn image_xattrs(
    metadata: &Metadata,
    opaque: bool,
) -> impl Iterator<Item = (u8, &[u8], &[u8])> {
    let kept = metadata
        .xattrs
        .iter()
        .filter(|(name, _)| xattr::is_kept(name));
    let mark = opaque.then_some(OPAQUE);
    kept.map(|(name, value)| (name.as_slice(), value.as_slice()))
        .chain(mark)
        .filter_map(|(name, value)| {
            let (index, rest) = split_xattr(name)?;
            Some((index, rest, value))
        })
}

fn xattr_len(path: &RelPath, metadata: &Metadata, opaque: bool) -> Result<usize, IndexError> {
    let mut len = 0;
    for (_, name, value) in image_xattrs(metadata, opaque) {
        if name.len() > NAME_MAX || value.len() > usize::from(u16::MAX) {
            return Err(too_large(path, "an attribute"));
        }
        len += (4 + name.len() + value.len()).next_multiple_of(4);
    }
    match len {
        0 => Ok(0),
        len if len / 4 >= usize::from(u16::MAX) => Err(too_large(path, "the attributes")),
        len => Ok(XATTR_HEADER_LEN + len),
    }
}

fn whiteout<'a>(parent: u32) -> Planned<'a> {
    let device = Kind::CharDevice { major: 0, minor: 0 };
    Planned {
        mode: type_bits(&device),
        nlink: 1,
        ..made_up_directory(parent)
    }
}

/// A directory that no entry put: 0755, owned by root, at the epoch.
fn made_up_directory<'a>(parent: u32) -> Planned<'a> {
    Planned {
        node: None,
        opaque: false,
        data_offset: 0,
        mode: type_bits(&Kind::Directory) | 0o755,
        nlink: 2,
        size: 0,
        xattr_len: 0,
        layout: Layout::Plain,
        position: 0,
        block: 0,
        parent,
    }
}

fn too_large(path: &RelPath, what: &'static str) -> IndexError {
    IndexError::TooLarge {
        path: path.clone(),
        what,
    }
}

fn is_ancestor(ancestor: &[u8], path: &[u8]) -> bool {
    ancestor.is_empty()
        || path
            .strip_prefix(ancestor)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn last_component(path: &[u8]) -> &[u8] {
    let start = path.iter().rposition(|&byte| byte == b'/');
    &path[start.map_or(0, |slash| slash + 1)..]
}
