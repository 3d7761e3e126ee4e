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

use super::blocks::{Blocks, MOST};
use super::unfinished::unfinish;
use super::{CompressError, Tar, write_error};
use crate::ordered::{self, Stop};
use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Number of the form of our members: a change of the places of cuts, of the compressor or its
/// version gets another one.
pub(super) const WRITER: u32 = 3;

/// Magic, deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block.
const END: [u8; 2] = [3, 0];

/// Identity of a compressed block: the form and level, and the digest of what was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey([u8; 32]);

impl BlockKey {
    /// The key as bytes, evenly distributed.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn new(level: u32, block: &[u8]) -> BlockKey {
        let mut hasher = Sha256::new_with_prefix(b"kiln gzip block\n");
        hasher.update(WRITER.to_le_bytes());
        hasher.update(level.to_le_bytes());
        hasher.update(block);
        BlockKey(hasher.finalize().into())
    }
}

/// Remembers compressed blocks. It may forget any of them at any time.
pub trait BlockCache: Send + Sync {
    /// The block that was put under this key, exactly; other bytes damage the blob. Called by
    /// several threads.
    fn get(&self, key: &BlockKey) -> Option<Vec<u8>>;

    /// Takes note of a block at this offset of the blob that is being written. Called in order of
    /// offsets, for blocks that came out of the cache too.
    fn put(&self, key: &BlockKey, offset: u64, block: &[u8]);
}

/// Shorter blocks are compressed as quickly as they are found.
const WORTH_KEEPING: usize = 64 * 1024;

/// A block before and after compression.
struct Block {
    raw: Vec<u8>,
    deflated: Vec<u8>,
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
        |raw, sink| {
            let block = deflater.block(raw, cache).map_err(Stop::Error)?;
            Ok(sink.put(block)?)
        },
        |block| {
            take(&block.raw);
            crc.combine(&block.crc);
            if let (Some(cache), Some(key)) = (cache, &block.key) {
                cache.put(key, offset, &block.deflated);
            }
            offset += block.deflated.len() as u64;
            out.write_all(&block.deflated).map_err(write_error)
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
    hole: OnceLock<Vec<u8>>,
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

    fn block(&self, raw: Vec<u8>, cache: Option<&dyn BlockCache>) -> Result<Block, CompressError> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&raw);
        let is_hole = raw.len() == MOST && raw.iter().all(|&byte| byte == 0);
        if is_hole {
            let deflated = match self.hole.get() {
                Some(known) => known.clone(),
                None => {
                    let deflated = self.deflate(&raw)?;
                    self.hole.get_or_init(|| deflated).clone()
                }
            };
            return Ok(Block {
                raw,
                deflated,
                crc,
                key: None,
            });
        }
        let cache = cache.filter(|_| raw.len() >= WORTH_KEEPING);
        let key = cache.map(|_| BlockKey::new(self.level, &raw));
        let known = cache.zip(key).and_then(|(cache, key)| cache.get(&key));
        let deflated = known.map_or_else(|| self.deflate(&raw), Ok)?;
        Ok(Block {
            raw,
            deflated,
            crc,
            key,
        })
    }

    fn deflate(&self, raw: &[u8]) -> Result<Vec<u8>, CompressError> {
        let failed = |source| CompressError::Compressor {
            format: "gzip",
            source,
        };
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let known = idle().pop();
        let mut compressor = known.unwrap_or_else(|| Compressor::new(self.own_level));
        let mut deflated = vec![0; compressor.deflate_compress_bound(raw.len())];
        let len = compressor
            .deflate_compress(raw, &mut deflated)
            .map_err(|error| failed(io::Error::other(error)))?;
        idle().push(compressor);
        deflated.truncate(len);
        unfinish(&mut deflated)
            .ok_or_else(|| failed(io::Error::other("the compressor's stream has no end")))?;
        Ok(deflated)
    }
}
