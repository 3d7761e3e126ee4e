//! Reading an index that [`write_index`](super::write_index) wrote.
//!
//! Every position is checked against the file: a damaged index is an error, never a panic and
//! never an endless loop.

use super::dirent::{Block, Entry};
use super::format::{
    BLOCK, CHAR_DEVICE, CHUNK_LEN, INODE_LEN, Layout, RawInode, SLOT, SUPERBLOCK_AT, Superblock,
    TARGET_MAX, XATTR_HEADER_LEN, decode_chunk, decode_device, get, join_xattr,
};
use super::inode::OPAQUE;
use super::pieces::{Bytes, Pieces};
use crate::{Kind, Metadata, Time, Xattrs};
use std::fs::File;
use std::io;
use std::path::Path;

/// What an index has at one place cannot be right.
#[derive(Debug, thiserror::Error)]
#[error("read an index: {what} at byte {position} is damaged")]
struct Damaged {
    what: &'static str,
    position: u64,
}

/// An open index.
#[derive(Debug)]
pub(crate) struct Index {
    pieces: Pieces,
    superblock: Superblock,
}

/// A decoded inode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode {
    pub(crate) nid: u64,
    raw: RawInode,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dirent {
    pub(crate) name: Vec<u8>,
    pub(crate) nid: u64,
    /// Whiteouts are.
    pub(crate) is_char_device: bool,
}

impl Index {
    /// Opens the index at `path`, reading its superblock only.
    pub(crate) fn open(path: &Path) -> io::Result<Index> {
        let pieces = Pieces::new(File::open(path)?)?;
        let block = pieces.bytes(SUPERBLOCK_AT, BLOCK as usize)?;
        let superblock = block
            .and_then(|block| Superblock::decode(&get(&block, 0)))
            .filter(|superblock| u64::from(superblock.blocks) * BLOCK == pieces.len())
            .ok_or_else(|| damaged("the superblock", SUPERBLOCK_AT))?;
        Ok(Index { pieces, superblock })
    }

    pub(crate) fn root(&self) -> io::Result<Inode> {
        self.inode(self.superblock.root.into())
    }

    pub(crate) fn inode(&self, nid: u64) -> io::Result<Inode> {
        let position = nid.saturating_mul(SLOT);
        let bytes = self.bytes("an inode", position, INODE_LEN)?;
        let raw = RawInode::decode(&get(&bytes, 0)).ok_or_else(|| damaged("an inode", position))?;
        Ok(Inode { nid, raw })
    }

    /// The inode that an entry of directory `dir` names. A directory comes after the one that holds
    /// it, so no damage can make a circle.
    pub(crate) fn child(&self, dir: &Inode, nid: u64) -> io::Result<Inode> {
        let inode = self.inode(nid)?;
        match inode.is_directory() && nid <= dir.nid {
            true => Err(damaged("a directory", dir.position())),
            false => Ok(inode),
        }
    }

    /// The entry `name` of directory `dir`, by binary search.
    pub(crate) fn lookup(&self, dir: &Inode, name: &[u8]) -> io::Result<Option<Inode>> {
        // The first block whose first name comes after `name`; the one before it may have it.
        let (mut low, mut high) = (0, dir.blocks());
        while low < high {
            let middle = low + (high - low) / 2;
            let bytes = self.directory_block(dir, middle)?;
            if self.entry(&bytes, dir, 0)?.name <= name {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(block) = low.checked_sub(1) else {
            return Ok(None);
        };
        let bytes = self.directory_block(dir, block)?;
        let count = self.block(&bytes, dir)?.len();
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(&bytes, dir, middle)?;
            match entry.name.cmp(name) {
                std::cmp::Ordering::Equal => return self.child(dir, entry.nid).map(Some),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// The names in directory `dir`, sorted, without `.` and `..`.
    pub(crate) fn entries(&self, dir: &Inode) -> io::Result<Vec<Dirent>> {
        let mut entries = Vec::new();
        for number in 0..dir.blocks() {
            let bytes = self.directory_block(dir, number)?;
            for entry in 0..self.block(&bytes, dir)?.len() {
                let entry = self.entry(&bytes, dir, entry)?;
                if entry.name != b"." && entry.name != b".." {
                    entries.push(Dirent {
                        name: entry.name.to_vec(),
                        nid: entry.nid,
                        is_char_device: entry.file_type == CHAR_DEVICE,
                    });
                }
            }
        }
        let sorted = entries.is_sorted_by(|a, b| a.name < b.name);
        let clean = |entry: &Dirent| !entry.name.is_empty() && !entry.name.contains(&b'/');
        if !sorted || !entries.iter().all(clean) {
            return Err(damaged("a directory", dir.position()));
        }
        Ok(entries)
    }

    /// What `inode` is; reads the target of a symbolic link.
    pub(crate) fn kind(&self, inode: &Inode) -> io::Result<Kind> {
        let (major, minor) = decode_device(inode.raw.union);
        Ok(match inode.raw.mode & 0o170_000 {
            0o010_000 => Kind::Fifo,
            0o020_000 => Kind::CharDevice { major, minor },
            0o040_000 => Kind::Directory,
            0o060_000 => Kind::BlockDevice { major, minor },
            0o100_000 => Kind::File {
                size: inode.raw.size,
            },
            0o120_000 => Kind::Symlink {
                target: self.target(inode)?,
            },
            0o140_000 => Kind::Socket,
            _ => return Err(damaged("an inode's mode", inode.position())),
        })
    }

    /// What `inode` carries, and whether it is marked opaque.
    pub(crate) fn metadata(&self, inode: &Inode) -> io::Result<(Metadata, bool)> {
        let mut xattrs = self.xattrs(inode)?;
        let opaque = xattrs
            .remove(OPAQUE.0)
            .is_some_and(|value| value == OPAQUE.1);
        let metadata = Metadata {
            mode: u32::from(inode.raw.mode) & 0o7777,
            uid: inode.raw.uid,
            gid: inode.raw.gid,
            mtime: Time {
                seconds: inode.raw.seconds,
                nanos: inode.raw.nanos,
            },
            xattrs,
        };
        Ok((metadata, opaque))
    }

    /// Whether `inode` is marked opaque.
    pub(crate) fn is_opaque(&self, inode: &Inode) -> io::Result<bool> {
        Ok(inode.raw.xattr_len > 0 && self.metadata(inode)?.1)
    }

    /// Where in the tar the bytes of the regular file `inode` begin.
    pub(crate) fn data_offset(&self, inode: &Inode) -> io::Result<u64> {
        if inode.raw.size == 0 {
            return Ok(0);
        }
        let position = inode.body_at().next_multiple_of(CHUNK_LEN as u64);
        let bytes = self.bytes("a chunk", position, CHUNK_LEN)?;
        let block = decode_chunk(&get(&bytes, 0)).filter(|_| inode.raw.layout == Layout::Chunks);
        let offset = u64::from(block.ok_or_else(|| damaged("a chunk", position))?) * BLOCK;
        let tar_len = u64::from(self.superblock.tar_blocks) * BLOCK;
        match offset.checked_add(inode.raw.size) {
            Some(end) if end <= tar_len => Ok(offset),
            _ => Err(damaged("a chunk", position)),
        }
    }

    fn target(&self, inode: &Inode) -> io::Result<Vec<u8>> {
        let len = usize::try_from(inode.raw.size).unwrap_or(usize::MAX);
        if len > TARGET_MAX {
            return Err(damaged("a link target", inode.position()));
        }
        let mut target = Vec::with_capacity(len);
        for number in 0..inode.blocks() {
            target.extend_from_slice(&self.body_block("a link target", inode, number)?);
        }
        Ok(target)
    }

    fn xattrs(&self, inode: &Inode) -> io::Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        if inode.raw.xattr_len < XATTR_HEADER_LEN {
            return Ok(xattrs);
        }
        let position = inode.position() + INODE_LEN as u64;
        let bytes = self.bytes("attributes", position, inode.raw.xattr_len)?;
        let wrong = || damaged("attributes", position);
        let mut rest = &bytes[XATTR_HEADER_LEN..];
        while let [name_len, index, low, high, ..] = *rest {
            let (name_len, value_len) = (usize::from(name_len), u16::from_le_bytes([low, high]));
            let value_at = 4 + name_len;
            let end = value_at + usize::from(value_len);
            let name = rest.get(4..value_at).ok_or_else(wrong)?;
            let value = rest.get(value_at..end).ok_or_else(wrong)?;
            let name = join_xattr(index, name).ok_or_else(wrong)?;
            xattrs.insert(name, value.to_vec());
            rest = rest.get(end.next_multiple_of(4)..).ok_or_else(wrong)?;
        }
        Ok(xattrs)
    }

    fn directory_block(&self, dir: &Inode, number: u64) -> io::Result<Bytes> {
        self.body_block("a directory", dir, number)
    }

    fn block<'b>(&self, bytes: &'b [u8], dir: &Inode) -> io::Result<Block<'b>> {
        Block::new(bytes).ok_or_else(|| damaged("a directory", dir.position()))
    }

    fn entry<'b>(&self, bytes: &'b [u8], dir: &Inode, number: usize) -> io::Result<Entry<'b>> {
        let entry = self.block(bytes, dir)?.entry(number);
        entry.ok_or_else(|| damaged("a directory", dir.position()))
    }

    /// Block `number` of what belongs to an inode, or what the last block has of it.
    fn body_block(&self, what: &'static str, inode: &Inode, number: u64) -> io::Result<Bytes> {
        let len = (inode.raw.size - number * BLOCK).min(BLOCK);
        let position = match inode.raw.layout {
            Layout::Inline if len < BLOCK => inode.body_at(),
            Layout::Chunks => return Err(damaged(what, inode.position())),
            _ => (u64::from(inode.raw.union) + number).saturating_mul(BLOCK),
        };
        self.bytes(what, position, len as usize)
    }

    fn bytes(&self, what: &'static str, position: u64, len: usize) -> io::Result<Bytes> {
        let bytes = self.pieces.bytes(position, len)?;
        bytes.ok_or_else(|| damaged(what, position))
    }
}

impl Inode {
    pub(crate) fn is_directory(&self) -> bool {
        self.raw.mode & 0o170_000 == 0o040_000
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.raw.mode & 0o170_000 == 0o100_000
    }

    pub(crate) fn is_whiteout(&self) -> bool {
        self.raw.mode & 0o170_000 == 0o020_000 && self.raw.union == 0
    }

    /// Bytes of a regular file.
    pub(crate) fn size(&self) -> u64 {
        self.raw.size
    }

    /// How many names a file has; for a directory, two more than it has directories.
    pub(crate) fn nlink(&self) -> u32 {
        self.raw.nlink
    }

    fn position(&self) -> u64 {
        self.nid * SLOT
    }

    /// Where the chunks or the tail begin.
    fn body_at(&self) -> u64 {
        self.position() + (INODE_LEN + self.raw.xattr_len) as u64
    }

    fn blocks(&self) -> u64 {
        self.raw.size.div_ceil(BLOCK)
    }
}

fn damaged(what: &'static str, position: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damaged { what, position })
}
