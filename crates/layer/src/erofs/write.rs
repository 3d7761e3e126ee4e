//! Writing an index from front to back, while its entries come in path order.
//!
//! A directory's inode is written when the directory begins and completed when it ends: then its
//! names are known, and stand behind its contents. So what is held in memory is the names of the
//! directories from the root to the entry at hand.

use super::format::{
    BLOCK, INODE_LEN, INODES_AT, Layout, PAGE, RawInode, SLOT, SUPERBLOCK_AT, Superblock,
    chunk_format, encode_chunk, encode_device, entry_type, type_bits,
};
use super::inode::{self, check, too_large};
use super::out::Out;
use super::{IndexChange, IndexEntry, IndexError, Put, dirent};
use crate::{Kind, Metadata, Node, RelPath};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;

/// Writes the index of a layer whose uncompressed tar is `tar_len` bytes long to `out`, which is
/// empty.
///
/// `entries` are sorted by path, each path once. Directories that are missing are made up: 0755,
/// owned by root, at the epoch. Attributes that do not belong to an image (see
/// [`xattr`](crate::xattr)) are left out.
///
/// # Errors
/// When the entries contradict each other or do not fit the format, and when writing fails.
pub fn write_index(entries: &[IndexEntry], tar_len: u64, out: &File) -> Result<(), IndexError> {
    let mut further = HashMap::new();
    for entry in entries {
        if let IndexChange::Link { to } = &entry.change {
            *further.entry(to.clone()).or_default() += 1;
        }
    }
    let mut writer = IndexWriter::new(out, tar_len, further)?;
    for IndexEntry { path, change } in entries {
        match change {
            IndexChange::Whiteout => writer.whiteout(path)?,
            IndexChange::Link { to } => writer.link(path, to)?,
            IndexChange::Put {
                node,
                opaque,
                data_offset,
            } => writer.put(
                path,
                Put {
                    node,
                    opaque: *opaque,
                    data_offset: *data_offset,
                },
            )?,
        }
    }
    writer.finish()
}

/// An index that is being written.
pub(crate) struct IndexWriter<'a> {
    out: Out<'a>,
    tar_len: u64,
    /// The files that have several names.
    shared: HashMap<RelPath, Shared>,
    /// The directories from the root to the last entry.
    open: Vec<Directory>,
    previous: Option<RelPath>,
    inodes: u32,
    /// Tells this image from others.
    identity: Sha256,
}

/// An inode with several names.
struct Shared {
    /// How many names follow the first.
    further: u32,
    /// Once it was put: where it is, and what.
    inode: Option<(u64, u8)>,
}

/// A directory whose names are not complete.
struct Directory {
    path: RelPath,
    position: u64,
    inode: RawInode,
    /// Names one behind the other, and where each is.
    names: Vec<u8>,
    entries: Vec<Name>,
}

#[derive(Clone, Copy)]
struct Name {
    start: usize,
    len: usize,
    nid: u64,
    file_type: u8,
}

impl<'a> IndexWriter<'a> {
    /// Begins an index. `further` says how many names follow the first of those files that have
    /// several.
    pub(crate) fn new(
        out: &'a File,
        tar_len: u64,
        further: HashMap<RelPath, u32>,
    ) -> Result<IndexWriter<'a>, IndexError> {
        if tar_len.div_ceil(BLOCK) >= u64::from(u32::MAX) {
            return Err(too_large(&RelPath::root(), "the tar"));
        }
        let shared = |(path, further)| {
            let inode = None;
            (path, Shared { further, inode })
        };
        let mut writer = IndexWriter {
            out: Out::new(out),
            tar_len,
            shared: further.into_iter().map(shared).collect(),
            open: Vec::new(),
            previous: None,
            inodes: 0,
            identity: Sha256::new(),
        };
        // The superblock is filled in at the end.
        writer.out.pad_to(INODES_AT).map_err(IndexError::Write)?;
        Ok(writer)
    }

    /// The path is this inode. A character device 0:0 is a whiteout for overlayfs, and becomes one.
    pub(crate) fn put(&mut self, path: &RelPath, put: Put<'_>) -> Result<(), IndexError> {
        self.come_to(path, put.node.kind == Kind::Directory)?;
        check(path, &put, self.tar_len)?;
        match &put.node.kind {
            Kind::CharDevice { major: 0, minor: 0 } => self.device(path),
            Kind::Directory => self.open_directory(path, &put.node.metadata, put.opaque),
            _ => self.file(path, &put),
        }
    }

    /// The path is gone.
    pub(crate) fn whiteout(&mut self, path: &RelPath) -> Result<(), IndexError> {
        self.come_to(path, false)?;
        self.device(path)
    }

    /// The path is one more name of the inode that was put at `to`.
    pub(crate) fn link(&mut self, path: &RelPath, to: &RelPath) -> Result<(), IndexError> {
        self.come_to(path, false)?;
        let found = self.shared.get(to).and_then(|shared| shared.inode);
        let Some((nid, file_type)) = found else {
            return Err(IndexError::Link {
                path: path.clone(),
                to: to.clone(),
            });
        };
        self.name(path, nid, file_type);
        Ok(())
    }

    /// Nothing follows.
    pub(crate) fn finish(mut self) -> Result<(), IndexError> {
        if self.open.is_empty() {
            self.make_up(&RelPath::root())?;
        }
        let root = (self.open[0].position / SLOT) as u16;
        while let Some(directory) = self.open.pop() {
            self.close(directory)?;
        }
        self.end(root).map_err(IndexError::Write)
    }

    fn end(&mut self, root: u16) -> std::io::Result<()> {
        let len = self.out.position().next_multiple_of(PAGE);
        self.out.pad_to(len)?;
        let superblock = Superblock {
            root,
            inodes: self.inodes.into(),
            blocks: (len / BLOCK) as u32,
            uuid: self.uuid(len),
            tar_blocks: self.tar_len.div_ceil(BLOCK) as u32,
        };
        self.out.replace(SUPERBLOCK_AT, &superblock.encode())?;
        self.out.flush()
    }

    /// Leaves the directories that do not hold `path`, and makes up those that are missing.
    fn come_to(&mut self, path: &RelPath, is_directory: bool) -> Result<(), IndexError> {
        if let Some(previous) = &self.previous
            && previous >= path
        {
            return Err(IndexError::Order {
                path: path.clone(),
                previous: previous.clone(),
            });
        }
        if path.is_root() {
            self.previous = Some(RelPath::root());
            return match is_directory {
                true => Ok(()),
                false => Err(IndexError::Root),
            };
        }
        if self.open.is_empty() {
            self.make_up(&RelPath::root())?;
        }
        while let Some(directory) = self.open.pop_if(|open| !path.starts_with(&open.path)) {
            self.close(directory)?;
        }
        let parent = path.parent().unwrap_or_default();
        let entered = self
            .open
            .last()
            .map_or(0, |open| open.path.as_bytes().len());
        for end in ends(parent.as_bytes()).filter(|&end| end > entered) {
            let missing = RelPath::new(&parent.as_bytes()[..end]).map_err(|_| IndexError::Root)?;
            if self.previous.as_ref() == Some(&missing) {
                return Err(IndexError::Parent { path: path.clone() });
            }
            self.make_up(&missing)?;
        }
        self.previous = Some(path.clone());
        Ok(())
    }

    /// A directory that no entry put: 0755, owned by root, at the epoch.
    fn make_up(&mut self, path: &RelPath) -> Result<(), IndexError> {
        let metadata = Metadata {
            mode: 0o755,
            ..Metadata::default()
        };
        self.open_directory(path, &metadata, false)
    }

    fn open_directory(
        &mut self,
        path: &RelPath,
        metadata: &Metadata,
        opaque: bool,
    ) -> Result<(), IndexError> {
        let xattrs = inode::xattrs(path, metadata, opaque)?;
        let mut inode = self.inode(type_bits(&Kind::Directory), metadata, xattrs.len());
        inode.nlink = 2;
        let position = self.write(&inode, &xattrs, 0)?;
        if let Some(parent) = self.open.last_mut() {
            parent.inode.nlink += 1;
        }
        self.name(path, position / SLOT, entry_type(inode.mode));
        self.open.push(Directory {
            path: path.clone(),
            position,
            inode,
            names: Vec::new(),
            entries: Vec::new(),
        });
        Ok(())
    }

    /// Writes the names of a directory and completes its inode.
    fn close(&mut self, mut directory: Directory) -> Result<(), IndexError> {
        let nid = directory.position / SLOT;
        let parent = self.open.last().map_or(nid, |open| open.position / SLOT);
        let mut body = Vec::with_capacity(directory.names.len() + 16 * directory.entries.len());
        dirent::encode(directory.all(nid, parent), &mut body);
        let mut write = || {
            self.out
                .pad_to(self.out.position().next_multiple_of(BLOCK))?;
            directory.inode.union = (self.out.position() / BLOCK) as u32;
            directory.inode.size = body.len() as u64;
            self.out.put(&body)?;
            // The kernel takes the last name to end with the block, or with a zero before that.
            self.out
                .pad_to(self.out.position().next_multiple_of(BLOCK))?;
            self.out
                .replace(directory.position, &directory.inode.encode())
        };
        write().map_err(IndexError::Write)?;
        self.identify(directory.position, directory.inode.size, 0);
        Ok(())
    }

    /// What overlayfs takes for a whiteout.
    fn device(&mut self, path: &RelPath) -> Result<(), IndexError> {
        let node = Node {
            kind: Kind::CharDevice { major: 0, minor: 0 },
            metadata: Metadata::default(),
            links: None,
        };
        let put = Put {
            node: &node,
            opaque: false,
            data_offset: None,
        };
        self.file(path, &put)
    }

    /// Anything but a directory.
    fn file(&mut self, path: &RelPath, put: &Put<'_>) -> Result<(), IndexError> {
        let Node { kind, metadata, .. } = put.node;
        let xattrs = inode::xattrs(path, metadata, false)?;
        let mut inode = self.inode(type_bits(kind), metadata, xattrs.len());
        let data_offset = put.data_offset.unwrap_or(0);
        if let Some(shared) = self.shared.get(path) {
            inode.nlink += shared.further;
        }
        let position = match kind {
            Kind::Symlink { target } => self.symlink(&mut inode, &xattrs, target)?,
            &Kind::File { size } if size > 0 => {
                inode.layout = Layout::Chunks;
                inode.size = size;
                inode.union = chunk_format(size).into();
                let position = self.write(&inode, &xattrs, 0)?;
                self.chunks(size, data_offset)?;
                position
            }
            &(Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }) => {
                inode.union = encode_device(major, minor).unwrap_or(0);
                self.write(&inode, &xattrs, 0)?
            }
            _ => self.write(&inode, &xattrs, 0)?,
        };
        let file_type = entry_type(inode.mode);
        self.identify(position, inode.size, data_offset);
        self.name(path, position / SLOT, file_type);
        if let Some(shared) = self.shared.get_mut(path).filter(|_| !is_whiteout(kind)) {
            shared.inode = Some((position / SLOT, file_type));
        }
        Ok(())
    }

    fn symlink(
        &mut self,
        inode: &mut RawInode,
        xattrs: &[u8],
        target: &[u8],
    ) -> Result<u64, IndexError> {
        let head_len = (INODE_LEN + xattrs.len()) as u64;
        let size = target.len() as u64;
        inode.layout = inode::place(0, head_len, size).layout;
        inode.size = size;
        let own = match inode.layout {
            Layout::Inline => target.len() - target.len() % BLOCK as usize,
            Layout::Plain | Layout::Chunks => target.len(),
        };
        let (blocks, tail) = target.split_at(own);
        if !blocks.is_empty() {
            let mut write = || {
                self.out
                    .pad_to(self.out.position().next_multiple_of(BLOCK))?;
                inode.union = (self.out.position() / BLOCK) as u32;
                self.out.put(blocks)
            };
            write().map_err(IndexError::Write)?;
        }
        let position = self.write(inode, xattrs, size)?;
        self.out.put(tail).map_err(IndexError::Write)?;
        Ok(position)
    }

    /// Says where the bytes of a file are in the tar, behind its inode.
    fn chunks(&mut self, size: u64, data_offset: u64) -> Result<(), IndexError> {
        let (at, count) = inode::chunks(self.out.position(), size);
        let first = (data_offset / BLOCK) as u32;
        let mut write = || {
            self.out.pad_to(at)?;
            for number in 0..count {
                self.out.put(&encode_chunk(first, number, size))?;
            }
            Ok(())
        };
        write().map_err(IndexError::Write)
    }

    fn inode(&mut self, kind: u16, metadata: &Metadata, xattr_len: usize) -> RawInode {
        self.inodes += 1;
        RawInode {
            layout: Layout::Plain,
            xattr_len,
            mode: kind | (metadata.mode & 0o7777) as u16,
            size: 0,
            union: 0,
            number: self.inodes,
            uid: metadata.uid,
            gid: metadata.gid,
            seconds: metadata.mtime.seconds,
            nanos: metadata.mtime.nanos,
            nlink: 1,
        }
    }

    /// Writes an inode that `body` bytes may follow, and says where.
    fn write(&mut self, inode: &RawInode, xattrs: &[u8], body: u64) -> Result<u64, IndexError> {
        let head_len = (INODE_LEN + xattrs.len()) as u64;
        let position = inode::place(self.out.position(), head_len, body).position;
        let mut write = || {
            self.out.pad_to(position)?;
            self.out.put(&inode.encode())?;
            self.out.put(xattrs)
        };
        write().map_err(IndexError::Write)?;
        Ok(position)
    }

    /// Puts a name into the directory that is open.
    fn name(&mut self, path: &RelPath, nid: u64, file_type: u8) {
        if let (Some(parent), Some(name)) = (self.open.last_mut(), path.name()) {
            parent.entries.push(Name {
                start: parent.names.len(),
                len: name.len(),
                nid,
                file_type,
            });
            parent.names.extend_from_slice(name);
        }
    }

    fn identify(&mut self, position: u64, size: u64, data_offset: u64) {
        for number in [position, size, data_offset] {
            self.identity.update(number.to_le_bytes());
        }
    }

    /// Tells this image from others to overlayfs, which wants different lower file systems to have
    /// different ids. Identity matters, not secrecy, so not everything goes in.
    fn uuid(&mut self, len: u64) -> [u8; 16] {
        self.identify(self.tar_len, len, 0);
        let digest = self.identity.finalize_reset();
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&digest[..16]);
        // The bits by which RFC 9562 marks a version 8 id: made by a rule of one's own.
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}

impl Directory {
    /// The names as they stand in the blocks: `.` and `..` are in their places (names like `.!`
    /// sort between them).
    fn all(&self, nid: u64, parent: u64) -> impl Iterator<Item = dirent::Entry<'_>> {
        let file_type = entry_type(self.inode.mode);
        let dot = |name, nid| dirent::Entry {
            name,
            nid,
            file_type,
        };
        let (this, above) = (dot(b".".as_slice(), nid), dot(b"..".as_slice(), parent));
        let start = |name: &[u8]| self.entries.partition_point(|n| self.bytes(n) < name);
        let (names, rest) = self.entries.split_at(start(this.name));
        let (between, after) = rest.split_at(start(above.name) - names.len());
        let entry = |name: &Name| dirent::Entry {
            name: self.bytes(name),
            nid: name.nid,
            file_type: name.file_type,
        };
        let (between, after) = (between.iter().map(entry), after.iter().map(entry));
        let before = names.iter().map(entry);
        before
            .chain([this])
            .chain(between)
            .chain([above])
            .chain(after)
    }

    fn bytes(&self, name: &Name) -> &[u8] {
        &self.names[name.start..name.start + name.len]
    }
}

fn is_whiteout(kind: &Kind) -> bool {
    *kind == Kind::CharDevice { major: 0, minor: 0 }
}

/// The lengths at which a component of a clean path ends.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let whole = (!path.is_empty()).then_some(path.len());
    slashes.map(|(at, _)| at).chain(whole)
}
