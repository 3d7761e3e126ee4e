//! Layers as blobs: compressing a stored tar, and the streams of strangers decompressed.
//!
//! The bytes of a blob are a function of the tar, the format and the level: threads, cores and
//! what was compressed before change nothing. Which version of which compressor makes them is
//! pinned in `Cargo.toml`, and golden digests in the tests guard it.

mod blanks;
mod blocks;
mod decode;
mod deflate;
mod gzip;
mod template;
mod zstd;

pub use decode::{Format, decoder};
pub use deflate::Deflated;
pub use gzip::{BlockCache, BlockKey};

use crate::mismatch::Mismatch;
use oci::DiffId;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Bytes that are read at a time where nothing else decides.
const CHUNK: usize = 256 * 1024;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// One gzip member of the deflate level 0 to 9.
    Gzip {
        /// Higher is smaller and slower.
        level: u32,
    },
    /// One zstd frame with a window of 8 MiB of the level 1 to 22.
    Zstd {
        /// Higher is smaller and slower.
        level: i32,
    },
}

impl Compression {
    /// gzip at the lowest level at which this compressor makes blobs as small as Go's default
    /// level 6 does, give or take two percent.
    pub const GZIP: Compression = Compression::Gzip { level: 2 };

    /// zstd at its own default level.
    pub const ZSTD: Compression = Compression::Zstd { level: 3 };

    /// A name for the bytes that this makes of a tar: equal names, equal bytes.
    pub fn identity(self) -> String {
        match self {
            Compression::None => "none".into(),
            Compression::Gzip { level } => format!("gzip {level} writer {}", gzip::WRITER),
            Compression::Zstd { level } => format!("zstd {level} writer {}", zstd::WRITER),
        }
    }
}

/// Why a tar did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The format has no such level.
    #[error("{format} has no level {level}")]
    Level {
        /// Its name.
        format: &'static str,
        /// What was asked for.
        level: i64,
    },
    /// The tar could not be read.
    #[error("read the stored layer")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The stored tar is not what it was when it was written.
    #[error("read the stored layer, which is damaged")]
    Corrupt {
        /// Under which digest it is stored, and what it is.
        source: Box<Mismatch>,
    },
    /// The compressor failed.
    #[error("compress with {format}")]
    Compressor {
        /// Which one.
        format: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The blob could not be written.
    #[error("write the blob")]
    Write {
        /// Why.
        source: io::Error,
    },
}

/// Writes the first `tar_len` bytes of `tar` as a blob to `out`.
///
/// They are hashed and compared with `diff_id`, unless that is `None`: for a tar that this process
/// wrote, and hashed while it did. Uses all cores and a few megabytes for each. `cache` remembers
/// blocks of gzip members.
///
/// # Errors
/// When the tar cannot be read or is damaged, when `out` cannot be written, and for a level that
/// the format has not. What was written then is no blob.
pub fn compress(
    tar: &File,
    tar_len: u64,
    diff_id: Option<DiffId>,
    compression: Compression,
    cache: Option<&dyn BlockCache>,
    out: &mut dyn Write,
) -> Result<(), CompressError> {
    let tar = Tar {
        file: tar,
        len: tar_len,
    };
    let mut hasher = diff_id.map(|diff_id| oci::Hasher::like(&diff_id.digest()));
    let mut take = |bytes: &[u8]| {
        if let Some(hasher) = &mut hasher {
            hasher.update(bytes);
        }
    };
    match compression {
        Compression::None => store(&tar, &mut take, out)?,
        Compression::Gzip { level } => gzip::compress(&tar, level, cache, &mut take, out)?,
        Compression::Zstd { level } => zstd::compress(&tar, level, &mut take, out)?,
    }
    if let (Some(diff_id), Some(hasher)) = (diff_id, hasher) {
        Mismatch::check(diff_id.digest(), hasher.finish())
            .map_err(|source| CompressError::Corrupt { source })?;
    }
    out.flush().map_err(write_error)
}

fn write_error(source: io::Error) -> CompressError {
    CompressError::Write { source }
}

/// The tar at the beginning of a file.
struct Tar<'a> {
    file: &'a File,
    len: u64,
}

impl Tar<'_> {
    /// Appends up to `most` bytes from `offset` on; none at the end.
    fn read(&self, offset: u64, most: usize, buffer: &mut Vec<u8>) -> Result<usize, CompressError> {
        let left = self.len.saturating_sub(offset);
        let count = usize::try_from(left).map_or(most, |left| left.min(most));
        let start = buffer.len();
        buffer.resize(start + count, 0);
        self.file
            .read_exact_at(&mut buffer[start..], offset)
            .map_err(|source| CompressError::Read { source })?;
        Ok(count)
    }
}

fn store(
    tar: &Tar<'_>,
    take: &mut dyn FnMut(&[u8]),
    out: &mut dyn Write,
) -> Result<(), CompressError> {
    let mut offset = 0;
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        buffer.clear();
        match tar.read(offset, CHUNK, &mut buffer)? {
            0 => return Ok(()),
            count => offset += count as u64,
        }
        take(&buffer);
        out.write_all(&buffer).map_err(write_error)?;
    }
}
