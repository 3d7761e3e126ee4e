//! One zstd frame, always made by libzstd's multi-threaded path, whose output does not depend on
//! how many threads there are (the single-threaded path makes other bytes).

use super::{CHUNK, CompressError, Tar, write_error};
use crate::ordered;
use std::io::{self, Write};
use zstd::stream::raw::CParameter;

/// Number of the form of our frames: another version of libzstd or other parameters get another.
pub(super) const WRITER: u32 = 1;

/// log2 of the window: 8 MiB is the largest that every reader must take (RFC 8878, 3.1.1.1.2).
const WINDOW_LOG: u32 = 23;

/// Bytes that one thread compresses at a time. libzstd's own choice for this window, 32 MiB, takes
/// hundreds of megabytes of memory.
const JOB: u32 = 8 << 20;

/// Jobs are held in memory, several for each worker.
const MOST_WORKERS: usize = 4;

/// Compresses the tar, whose bytes `take` is shown.
pub(super) fn compress(
    tar: &Tar<'_>,
    level: i32,
    take: &mut dyn FnMut(&[u8]),
    out: &mut dyn Write,
) -> Result<(), CompressError> {
    if !(1..=22).contains(&level) {
        return Err(CompressError::Level {
            format: "zstd",
            level: level.into(),
        });
    }
    let failed = |source| CompressError::Compressor {
        format: "zstd",
        source,
    };
    let mut encoder = encoder(level, tar.len, out).map_err(failed)?;
    let mut offset = 0;
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        buffer.clear();
        match tar.read(offset, CHUNK, &mut buffer)? {
            0 => break,
            count => offset += count as u64,
        }
        take(&buffer);
        encoder.write_all(&buffer).map_err(write_error)?;
    }
    encoder.finish().map_err(write_error)?;
    Ok(())
}

fn encoder<W: Write>(
    level: i32,
    len: u64,
    out: W,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let workers = ordered::threads().min(MOST_WORKERS);
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.set_pledged_src_size(Some(len))?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(true)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
    encoder.set_parameter(CParameter::JobSize(JOB))?;
    Ok(encoder)
}
