//! The bytes of an index, front to back, as the plan has placed them.

use super::format::{
    BLOCK, CHUNK_LEN, INODE_LEN, INODES_AT, Layout, RawInode, SUPERBLOCK_AT, Superblock,
    XATTR_HEADER_LEN, chunk_count, chunk_format, encode_chunk, encode_device,
};
use super::plan::{Plan, Planned, image_xattrs};
use super::{IndexEntry, IndexError, dirent};
use crate::{Kind, Metadata};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// How many bytes are gathered before they are written.
const BUFFER: usize = 256 * 1024;

/// Writes the index of a layer whose uncompressed tar is `tar_len` bytes long.
///
/// `entries` are sorted by path, each path once. Directories that are missing are made up: 0755,
/// owned by root, at the epoch. Attributes that do not belong to an image (see
/// [`xattr`](crate::xattr)) are left out. Memory: about 130 bytes an entry beside the entries.
///
/// # Errors
/// When the entries contradict each other or do not fit the format, and when writing fails.
pub fn write_index(
    entries: &[IndexEntry],
    tar_len: u64,
    out: &mut (impl Write + ?Sized),
) -> Result<(), IndexError> {
    let plan = Plan::new(entries, tar_len)?;
    let mut image = Image {
        plan: &plan,
        out,
        buffer: Vec::with_capacity(BUFFER + 4096),
        position: 0,
        tail: Vec::new(),
    };
    image.write(tar_len).map_err(IndexError::Write)
}

struct Image<'p, 'w, W: ?Sized> {
    plan: &'p Plan<'p>,
    out: &'w mut W,
    buffer: Vec<u8>,
    /// Of what comes next.
    position: u64,
    /// The blocks of the directory at hand.
    tail: Vec<u8>,
}

impl<W: Write + ?Sized> Image<'_, '_, W> {
    fn write(&mut self, tar_len: u64) -> io::Result<()> {
        let plan = self.plan;
        let superblock = Superblock {
            root: plan.inodes[0].nid() as u16,
            inodes: plan.inodes.len() as u64,
            blocks: (plan.len / BLOCK) as u32,
            uuid: uuid(plan, tar_len),
            tar_blocks: tar_len.div_ceil(BLOCK) as u32,
        };
        self.pad_to(SUPERBLOCK_AT)?;
        self.put(&superblock.encode())?;
        self.pad_to(INODES_AT)?;
        for (number, inode) in plan.inodes.iter().enumerate() {
            self.inode(number, inode)?;
        }
        for (number, inode) in plan.inodes.iter().enumerate() {
            if inode.own_blocks() > 0 {
                self.pad_to(u64::from(inode.block) * BLOCK)?;
                self.render_body(number, inode);
                let full = match inode.layout {
                    Layout::Inline => self.tail.len() - self.tail.len() % BLOCK as usize,
                    _ => self.tail.len(),
                };
                self.put_body(0, full)?;
            }
        }
        self.pad_to(plan.len)?;
        self.out.write_all(&self.buffer)
    }

    fn inode(&mut self, number: usize, inode: &Planned<'_>) -> io::Result<()> {
        self.pad_to(inode.position)?;
        let metadata = inode.node.map(|node| &node.metadata);
        let raw = RawInode {
            layout: inode.layout,
            xattr_len: inode.xattr_len,
            mode: inode.mode,
            size: inode.size,
            union: union(inode),
            number: number as u32 + 1,
            uid: metadata.map_or(0, |metadata| metadata.uid),
            gid: metadata.map_or(0, |metadata| metadata.gid),
            seconds: metadata.map_or(0, |metadata| metadata.mtime.seconds),
            nanos: metadata.map_or(0, |metadata| metadata.mtime.nanos),
            nlink: inode.nlink,
        };
        self.put(&raw.encode())?;
        if let Some(metadata) = metadata.filter(|_| inode.xattr_len > 0) {
            self.xattrs(metadata, inode.opaque)?;
        }
        match inode.layout {
            Layout::Chunks => self.chunks(inode),
            Layout::Inline => {
                self.render_body(number, inode);
                let len = self.tail.len();
                self.put_body(len - len % BLOCK as usize, len)
            }
            Layout::Plain => Ok(()),
        }
    }

    fn xattrs(&mut self, metadata: &Metadata, opaque: bool) -> io::Result<()> {
        // No filter, no shared attributes.
        self.put(&[0; XATTR_HEADER_LEN])?;
        for (index, name, value) in image_xattrs(metadata, opaque) {
            let value_len = (value.len() as u16).to_le_bytes();
            self.put(&[name.len() as u8, index, value_len[0], value_len[1]])?;
            self.put(name)?;
            self.put(value)?;
            self.pad_to(self.position.next_multiple_of(4))?;
        }
        Ok(())
    }

    fn chunks(&mut self, inode: &Planned<'_>) -> io::Result<()> {
        self.pad_to(self.position.next_multiple_of(CHUNK_LEN as u64))?;
        let first = (inode.data_offset / BLOCK) as u32;
        for number in 0..chunk_count(inode.size) {
            self.put(&encode_chunk(first, number, inode.size))?;
        }
        Ok(())
    }

    /// Fills `tail` with the blocks of a directory, or a link target.
    fn render_body(&mut self, number: usize, inode: &Planned<'_>) {
        self.tail.clear();
        if inode.is_directory() {
            let plan = self.plan;
            let entries = plan.all_names(number).map(|name| {
                let target = &plan.inodes[name.inode as usize];
                dirent::Entry {
                    name: name.bytes,
                    nid: target.nid(),
                    file_type: target.file_type(),
                }
            });
            dirent::encode(entries, &mut self.tail);
        } else if let Some(Kind::Symlink { target }) = inode.node.map(|node| &node.kind) {
            self.tail.extend_from_slice(target);
        }
    }

    fn put_body(&mut self, start: usize, end: usize) -> io::Result<()> {
        let body = std::mem::take(&mut self.tail);
        let result = self.put(&body[start..end]);
        self.tail = body;
        result
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        if self.buffer.len() >= BUFFER {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        debug_assert!(position >= self.position, "the plan places front to back");
        while self.position < position {
            let step = (position - self.position).min(BLOCK);
            self.put(&ZEROS[..step as usize])?;
        }
        Ok(())
    }
}

/// What `i_u` means for this inode.
fn union(inode: &Planned<'_>) -> u32 {
    match inode.node.map(|node| &node.kind) {
        Some(Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }) => {
            encode_device(*major, *minor).unwrap_or(0)
        }
        _ if inode.layout == Layout::Chunks => chunk_format(inode.size).into(),
        _ if inode.own_blocks() > 0 => inode.block,
        _ => 0,
    }
}

/// Tells this image from others to overlayfs, which wants different lower file systems to have
/// different ids. Identity matters, not secrecy, so not everything goes in.
fn uuid(plan: &Plan<'_>, tar_len: u64) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(tar_len.to_le_bytes());
    hash.update(plan.len.to_le_bytes());
    for inode in &plan.inodes {
        let mut record = [0; 24];
        record[..8].copy_from_slice(&inode.position.to_le_bytes());
        record[8..16].copy_from_slice(&inode.size.to_le_bytes());
        record[16..].copy_from_slice(&inode.data_offset.to_le_bytes());
        hash.update(record);
    }
    let digest = hash.finalize();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    // The bits by which RFC 9562 marks a version 8 id: made by a rule of one's own.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

const _: () = assert!(INODE_LEN == 64);
