//! One gzip member, made of blocks that are compressed independently of each other.
//!
//! ```text
//! header (10) │ block │ block │ … │ 03 00 │ CRC-32, length
//!              raw deflate, no reference to earlier blocks,
//!              ended by an empty stored block on a byte boundary
//! ```
//!
//! Any reader takes it: it is a plain member with flushes in it. Members of one block each would be
//! simpler, but some readers stop at the end of the first (Python's `tarfile` in stream mode, Rust
//! programs that use flate2's `GzDecoder`). Since a block's bytes depend on nothing but its content
//! and the level, blocks are compressed on all cores and can be kept (see [`BlockCache`]). Measured
//! against blocks that refer to the 32 KiB before them, this costs less than half a percent of size
//! at these block lengths.
//!
//! What is compressed, and known again, of blocks that have headers is a template without the digits
//! that depend on the layer's time; they are filled in afterwards:
//!
//! ```text
//! block ─► template ─► libdeflate ─► transcode ─► fill with this layer's digits ─► member
//!                  └─► cache: the same with some other layer's digits ─┘
//! ```

use super::blocks::{Blocks, MOST};
use super::deflate::{Deflated, transcode, unfinish};
use super::template::Template;
use super::{CompressError, Tar, write_error};
use crate::ordered::{self, Stop};
use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Number of the form of our members: a change of the places of cuts, of the compressor or its
/// version gets another one.
pub(super) const WRITER: u32 = 4;

/// Magic, deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block.
const END: [u8; 2] = [3, 0];

/// Identity of a compressed block: the form and level, and the digest of what was compressed, which
/// are its bytes without the digits of blanks, and where those are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey([u8; 32]);

impl BlockKey {
    /// The key as bytes, evenly distributed.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn new(level: u32, block: &Template) -> BlockKey {
        let mut hasher = Sha256::new_with_prefix(b"kiln gzip block\n");
        hasher.update(WRITER.to_le_bytes());
        hasher.update(level.to_le_bytes());
        if !block.blanks().is_empty() {
            hasher.update(block.blanks().identity());
        }
        hasher.update(block.bytes());
        BlockKey(hasher.finalize().into())
    }
}

/// Remembers compressed blocks. It may forget any of them at any time.
pub trait BlockCache: Send + Sync {
    /// The block that was put under this key, exactly; other bytes damage the blob. Called by
    /// several threads.
    fn get(&self, key: &BlockKey) -> Option<Deflated>;

    /// Takes note of a block at this offset of the blob that is being written. Called in order of
    /// offsets, for blocks that came out of the cache too.
    fn put(&self, key: &BlockKey, offset: u64, block: &Deflated);
}

/// Shorter blocks are compressed as quickly as they are found.
const WORTH_KEEPING: usize = 64 * 1024;

/// A block before and after compression.
struct Block {
    raw: Vec<u8>,
    deflated: Deflated,
    crc: crc32fast::Hasher,
    key: Option<BlockKey>,
}

/// Compresses the tar, whose bytes `take` is shown.
pub(super) fn compress(
    tar: &Tar<'_>,
    level: u32,
    cache: Option<&dyn BlockCache>,
    take: &mut dyn FnMut(&[u8]),
    out: &mut dyn Write,
) -> Result<(), CompressError> {
    let deflater = Deflater::new(level)?;
    out.write_all(&HEADER).map_err(write_error)?;
    let mut offset = HEADER.len() as u64;
    let mut crc = crc32fast::Hasher::new();
    let threads = NonZero::new(ordered::threads()).unwrap_or(NonZero::<usize>::MIN);
    ordered::run(
        threads,
        Blocks::new(tar),
        |template, sink| {
            let block = deflater.block(template, cache).map_err(Stop::Error)?;
            Ok(sink.put(block)?)
        },
        |block| {
            take(&block.raw);
            crc.combine(&block.crc);
            if let (Some(cache), Some(key)) = (cache, &block.key) {
                cache.put(key, offset, &block.deflated);
            }
            offset += block.deflated.bytes.len() as u64;
            out.write_all(&block.deflated.bytes).map_err(write_error)
        },
    )?;
    let [a, b, c, d, ..] = tar.len.to_le_bytes();
    let end = [&END[..], &crc.finalize().to_le_bytes(), &[a, b, c, d]].concat();
    out.write_all(&end).map_err(write_error)
}

/// Compresses blocks on any number of threads.
struct Deflater {
    level: u32,
    /// The same level as its library wants it.
    own_level: CompressionLvl,
    /// Compressors that nobody uses right now: making one costs a megabyte of fresh memory.
    idle: Mutex<Vec<Compressor>>,
    /// The longest block of zeros, compressed: holes of sparse files are many of them.
    hole: OnceLock<Deflated>,
}

impl Deflater {
    fn new(level: u32) -> Result<Deflater, CompressError> {
        let no_such_level = || CompressError::Level {
            format: "gzip",
            level: level.into(),
        };
        let own_level = match i32::try_from(level) {
            Ok(own @ 0..=9) => CompressionLvl::new(own).map_err(|_| no_such_level())?,
            _ => return Err(no_such_level()),
        };
        Ok(Deflater {
            level,
            own_level,
            idle: Mutex::default(),
            hole: OnceLock::new(),
        })
    }

    fn block(
        &self,
        template: Template,
        cache: Option<&dyn BlockCache>,
    ) -> Result<Block, CompressError> {
        let bytes = template.bytes();
        let is_hole = bytes.len() == MOST && bytes.iter().all(|&byte| byte == 0);
        let cache = cache.filter(|_| !is_hole && bytes.len() >= WORTH_KEEPING);
        let key = cache.map(|_| BlockKey::new(self.level, &template));
        let known = match cache.zip(key) {
            _ if is_hole => self.hole.get().cloned(),
            Some((cache, key)) => cache.get(&key),
            None => None,
        };
        let filled = known.and_then(|known| known.fill(template.digits()));
        let deflated = filled.map_or_else(|| self.deflate(&template), Ok)?;
        if is_hole {
            self.hole.get_or_init(|| deflated.clone());
        }
        let raw = template.fill();
        let mut crc = crc32fast::Hasher::new();
        crc.update(&raw);
        Ok(Block {
            raw,
            deflated,
            crc,
            key,
        })
    }

    fn deflate(&self, template: &Template) -> Result<Deflated, CompressError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let known = idle().pop();
        let mut compressor = known.unwrap_or_else(|| Compressor::new(self.own_level));
        let mut bytes = vec![0; compressor.deflate_compress_bound(template.bytes().len())];
        let len = compressor
            .deflate_compress(template.bytes(), &mut bytes)
            .map_err(|error| failed(io::Error::other(error)))?;
        idle().push(compressor);
        bytes.truncate(len);
        let deflated = if template.blanks().is_empty() {
            unfinish(&mut bytes).map(|()| Deflated {
                bytes,
                slots: Vec::new(),
            })
        } else {
            transcode(&bytes, template).and_then(|block| block.fill(template.digits()))
        };
        deflated.ok_or_else(|| failed(io::Error::other("the compressor's stream is none")))
    }
}

fn failed(source: io::Error) -> CompressError {
    CompressError::Compressor {
        format: "gzip",
        source,
    }
}
