//! Numbers of the on-disk format, and the encoders and decoders of its fixed records.
//!
//! All integers are little-endian. Names in comments are those of `fs/erofs/erofs_fs.h`.

use crate::Kind;

pub(super) const BLOCK_BITS: u32 = 9;
/// The unit of everything: of the image, of its directories, and of the tar.
pub(super) const BLOCK: u64 = 1 << BLOCK_BITS;
/// Images are filled up to a multiple of this, because some readers begin with a whole page.
pub(super) const PAGE: u64 = 4096;
pub(super) const SUPERBLOCK_AT: u64 = 1024;
pub(super) const SUPERBLOCK_LEN: usize = 128;
/// A device slot is as long as a superblock and follows it.
pub(super) const DEVICE_SLOT_LEN: usize = 128;
/// Where the inodes begin: the block after the superblock's.
pub(super) const INODES_AT: u64 = 1536;
/// `nid` counts slots of this many bytes.
pub(super) const SLOT: u64 = 32;
pub(super) const INODE_LEN: usize = 64;
pub(super) const XATTR_HEADER_LEN: usize = 12;
pub(super) const CHUNK_LEN: usize = 8;
pub(super) const DIRENT_LEN: usize = 12;
/// `EROFS_NAME_LEN`.
pub(super) const NAME_MAX: usize = 255;
/// A link target, by the rules of Linux.
pub(super) const TARGET_MAX: usize = 4095;
/// `EROFS_CHUNK_FORMAT_BLKBITS_MASK`: a chunk is at most 2^31 blocks.
pub(super) const CHUNK_BITS_MAX: u32 = 31;

const MAGIC: u32 = 0xE0F5_E1E2;
/// No `EROFS_FEATURE_COMPAT_SB_CHKSUM`: it covers one block only, and fsck.erofs (up to 1.8 at least)
/// reads past its buffer over a checksum in blocks as small as these.
const COMPATIBLE: u32 = 0;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE` and `_DEVICE_TABLE`.
const INCOMPATIBLE: u32 = 4 | 8;
/// The device that the tar is.
const TAR_DEVICE: u16 = 1;
/// `EROFS_CHUNK_FORMAT_INDEXES`.
const CHUNK_INDEXES: u16 = 0x20;

/// How the bytes of an inode are stored (`EROFS_INODE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks of their own.
    Plain = 0,
    /// Full blocks of their own, the rest after the inode.
    Inline = 2,
    /// In chunks of the tar.
    Chunks = 4,
}

/// What the superblock says that is not the same for every index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
    pub(super) tar_blocks: u32,
}

impl Superblock {
    /// The block that holds superblock and device slot.
    pub(super) fn encode(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        put(&mut block, 0, &MAGIC.to_le_bytes());
        put(&mut block, 8, &COMPATIBLE.to_le_bytes());
        block[12] = BLOCK_BITS as u8;
        put(&mut block, 14, &self.root.to_le_bytes());
        put(&mut block, 16, &self.inodes.to_le_bytes());
        put(&mut block, 36, &self.blocks.to_le_bytes());
        put(&mut block, 48, &self.uuid);
        put(&mut block, 80, &INCOMPATIBLE.to_le_bytes());
        put(&mut block, 86, &TAR_DEVICE.to_le_bytes());
        let slot = (SUPERBLOCK_AT as usize + SUPERBLOCK_LEN) / DEVICE_SLOT_LEN;
        put(&mut block, 88, &(slot as u16).to_le_bytes());
        // In the slot, the first 64 bytes are a tag that names the device to nobody here.
        put(
            &mut block,
            SUPERBLOCK_LEN + 64,
            &self.tar_blocks.to_le_bytes(),
        );
        block
    }

    /// `None` when this is no superblock that [`Superblock::encode`] made.
    pub(super) fn decode(block: &[u8; BLOCK as usize]) -> Option<Superblock> {
        let found = Superblock {
            root: u16::from_le_bytes(get(block, 14)),
            inodes: u64::from_le_bytes(get(block, 16)),
            blocks: u32::from_le_bytes(get(block, 36)),
            uuid: get(block, 48),
            tar_blocks: u32::from_le_bytes(get(block, SUPERBLOCK_LEN + 64)),
        };
        (found.encode() == *block).then_some(found)
    }
}

/// An extended inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawInode {
    pub(super) layout: Layout,
    /// Bytes of attributes after the inode: 0, or the header and what follows it.
    pub(super) xattr_len: usize,
    /// With the bits of the file type.
    pub(super) mode: u16,
    pub(super) size: u64,
    /// `i_u`: a block address, a device number, or a chunk format.
    pub(super) union: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    pub(super) nlink: u32,
}

impl RawInode {
    pub(super) fn encode(&self) -> [u8; INODE_LEN] {
        let mut raw = [0; INODE_LEN];
        // Bit 0: the extended form.
        let format = 1 | (self.layout as u16) << 1;
        let xattr_count = match self.xattr_len {
            0 => 0,
            len => 1 + (len - XATTR_HEADER_LEN) / 4,
        };
        put(&mut raw, 0, &format.to_le_bytes());
        put(&mut raw, 2, &(xattr_count as u16).to_le_bytes());
        put(&mut raw, 4, &self.mode.to_le_bytes());
        put(&mut raw, 8, &self.size.to_le_bytes());
        put(&mut raw, 16, &self.union.to_le_bytes());
        put(&mut raw, 20, &self.number.to_le_bytes());
        put(&mut raw, 24, &self.uid.to_le_bytes());
        put(&mut raw, 28, &self.gid.to_le_bytes());
        put(&mut raw, 32, &self.seconds.to_le_bytes());
        put(&mut raw, 40, &self.nanos.to_le_bytes());
        put(&mut raw, 44, &self.nlink.to_le_bytes());
        raw
    }

    /// `None` for forms that [`RawInode::encode`] does not make.
    pub(super) fn decode(raw: &[u8; INODE_LEN]) -> Option<RawInode> {
        let layout = match u16::from_le_bytes(get(raw, 0)) {
            0b0001 => Layout::Plain,
            0b0101 => Layout::Inline,
            0b1001 => Layout::Chunks,
            _ => return None,
        };
        let xattr_len = match u16::from_le_bytes(get(raw, 2)) {
            0 => 0,
            count => XATTR_HEADER_LEN + (usize::from(count) - 1) * 4,
        };
        let nanos = u32::from_le_bytes(get(raw, 40));
        (nanos < 1_000_000_000).then_some(RawInode {
            layout,
            xattr_len,
            mode: u16::from_le_bytes(get(raw, 4)),
            size: u64::from_le_bytes(get(raw, 8)),
            union: u32::from_le_bytes(get(raw, 16)),
            number: u32::from_le_bytes(get(raw, 20)),
            uid: u32::from_le_bytes(get(raw, 24)),
            gid: u32::from_le_bytes(get(raw, 28)),
            seconds: i64::from_le_bytes(get(raw, 32)),
            nanos,
            nlink: u32::from_le_bytes(get(raw, 44)),
        })
    }
}

/// The chunk format for a file of `size` bytes: the smallest chunk that holds all of it.
pub(super) fn chunk_format(size: u64) -> u16 {
    CHUNK_INDEXES | chunk_bits(size) as u16
}

/// How many chunks [`chunk_format`] cuts a file of `size` bytes into.
pub(super) fn chunk_count(size: u64) -> u64 {
    size.div_ceil(BLOCK << chunk_bits(size))
}

fn chunk_bits(size: u64) -> u32 {
    let blocks = size.div_ceil(BLOCK).max(1);
    blocks
        .next_power_of_two()
        .trailing_zeros()
        .min(CHUNK_BITS_MAX)
}

/// The position of chunk `number` of a file whose first block in the tar is `first`.
pub(super) fn encode_chunk(first: u32, number: u64, size: u64) -> [u8; CHUNK_LEN] {
    let mut raw = [0; CHUNK_LEN];
    let block = first.wrapping_add((number << chunk_bits(size)) as u32);
    put(&mut raw, 2, &TAR_DEVICE.to_le_bytes());
    put(&mut raw, 4, &block.to_le_bytes());
    raw
}

/// The block in the tar; `None` when the chunk is elsewhere.
pub(super) fn decode_chunk(raw: &[u8; CHUNK_LEN]) -> Option<u32> {
    let device = u16::from_le_bytes(get(raw, 2));
    (device == TAR_DEVICE).then(|| u32::from_le_bytes(get(raw, 4)))
}

/// The bits of `mode` that say what an inode is.
pub(super) fn type_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Fifo => 0o010_000,
        Kind::CharDevice { .. } => 0o020_000,
        Kind::Directory => 0o040_000,
        Kind::BlockDevice { .. } => 0o060_000,
        Kind::File { .. } => 0o100_000,
        Kind::Symlink { .. } => 0o120_000,
        Kind::Socket => 0o140_000,
    }
}

/// [`entry_type`] of a character device.
pub(super) const CHAR_DEVICE: u8 = 3;

/// `file_type` of a directory entry, from the type bits of a mode (`FT_*`).
pub(super) fn entry_type(mode: u16) -> u8 {
    match mode >> 12 {
        0o10 => 1,
        0o04 => 2,
        0o02 => CHAR_DEVICE,
        0o06 => 4,
        0o01 => 5,
        0o14 => 6,
        0o12 => 7,
        _ => 0,
    }
}

/// The kernel's `new_encode_dev`; `None` for numbers above 12 and 20 bits.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

pub(super) fn decode_device(raw: u32) -> (u32, u32) {
    ((raw >> 8) & 0xfff, (raw & 0xff) | (raw >> 12) & 0xf_ff00)
}

/// `EROFS_XATTR_INDEX_*` with the prefixes that they stand for. The ACLs come before what could
/// be a prefix of theirs.
const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Index and rest of an attribute's name; `None` when the format cannot name it.
pub(super) fn split_xattr(name: &[u8]) -> Option<(u8, &[u8])> {
    XATTR_PREFIXES.iter().find_map(|&(index, prefix)| {
        let rest = name.strip_prefix(prefix)?;
        // Only an ACL has its whole name as prefix.
        (rest.is_empty() != prefix.ends_with(b".")).then_some((index, rest))
    })
}

pub(super) fn join_xattr(index: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let (_, prefix) = XATTR_PREFIXES.iter().find(|(known, _)| *known == index)?;
    Some([prefix, rest].concat())
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A field of a record. `at` is a constant of the format, within the record.
pub(super) fn get<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&from[at..at + N]);
    field
}
