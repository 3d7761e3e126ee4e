//! A stranger's layer becomes a stored one: verified, uncompressed, with the entries of its index.
//!
//! ```text
//!  blob ─ read, hash ─► decompress ─┬► hash (DiffId)
//!         one thread     another    └► write to the stored tar, parse, merge (see `merge`)
//! ```
//!
//! The stored file begins with the very bytes that hash to the `DiffId`. Sparse files, whose
//! bytes do not lie in one piece there, follow behind the tar with their holes as holes:
//!
//! ```text
//! 0            tar_len      next 4096                    stored_len
//! │ the tar      │ (hole)       │ sparse file │ sparse file │
//! ```
//!
//! Nothing is unpacked and no path of the archive ever reaches a file system here.

mod archive;
mod merge;
mod stream;

pub use archive::{archive_changes, is_archive, layer_changes};

use crate::compress::Format;
use crate::erofs::{IndexChange, IndexEntry};
use crate::mismatch::Mismatch;
use crate::tar::{self, FileData, ReadError};
use merge::{Merged, Merger, Whiteouts};
use oci::{DiffId, Digest};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Where sparse files begin and end: pages, so that holes can be holes.
const PAGE: u64 = 4096;

/// What a stranger's archive may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Limits of the archive itself.
    pub archive: tar::Limits,
    /// Bytes other than zeros that each byte of a compressed stream may become.
    pub ratio: u64,
    /// Bytes from which on that counts: small streams may be as dense as they like.
    pub small: u64,
}

impl Default for Limits {
    /// Deflate cannot exceed 1,032; real layers stay far below.
    fn default() -> Limits {
        Limits {
            archive: tar::Limits::default(),
            ratio: 2000,
            small: 1 << 30,
        }
    }
}

/// What a layer must turn out to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Digest of the blob as it is read.
    pub blob: Option<Digest>,
    /// Digest of the tar in it.
    pub diff_id: Option<DiffId>,
}

/// A layer that was stored.
#[derive(Debug)]
pub struct Applied {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_len: u64,
    /// Bytes of the stored file, sparse files behind the tar included. This is the length that
    /// [`crate::erofs::write_index`] wants.
    pub stored_len: u64,
    /// Digest of what was read.
    pub blob: Digest,
    /// Bytes that were read.
    pub blob_size: u64,
    /// How they were compressed.
    pub format: Format,
    /// What [`crate::erofs::write_index`] takes.
    pub index: Vec<IndexEntry>,
}

/// Why a layer or archive was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The blob could not be read.
    #[error("read the compressed layer")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The blob is no proper stream of its format.
    #[error("decompress {format:?} data")]
    Decode {
        /// What its first bytes said.
        format: Format,
        /// What is wrong.
        source: io::Error,
    },
    /// The stream becomes far more than any real one.
    #[error("{compressed} compressed bytes became more than {limit} times as many")]
    Bomb {
        /// How many were read by then.
        compressed: u64,
        /// The limit.
        limit: u64,
    },
    /// The tar is malformed or beyond a limit.
    #[error("read the archive")]
    Archive {
        /// What is wrong.
        #[from]
        source: ReadError,
    },
    /// An entry contradicts others or has no place in a layer.
    #[error("archive entry {path}: {reason}")]
    Entry {
        /// Its path, lossily decoded.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The bytes are not those that were asked for.
    #[error("verify the {what}")]
    Digest {
        /// The blob or the layer.
        what: &'static str,
        /// What was asked for, and what came.
        source: Box<Mismatch>,
    },
    /// The layer could not be stored.
    #[error("store the layer")]
    Write {
        /// Why.
        source: io::Error,
    },
}

/// Stores the layer that `blob` is, in whatever compression, in `tar`, which is emptied first.
///
/// # Errors
/// When the blob cannot be read or is not what was expected, when its archive is malformed,
/// ambiguous, contradictory or beyond a limit, or when `tar` cannot be written. `tar` has no
/// meaning then.
pub fn apply(
    blob: impl Read + Send,
    tar: &File,
    expected: Expected,
    limits: &Limits,
) -> Result<Applied, ApplyError> {
    let mut merger = Merger::new(Whiteouts::Meant);
    let stored = stream::store(blob, tar, expected, limits, |entry| merger.add(entry))?;
    for (what, expected, found) in [
        ("blob", expected.blob, stored.blob),
        (
            "layer",
            expected.diff_id.map(|id| id.digest()),
            stored.diff_id.digest(),
        ),
    ] {
        if let Some(expected) = expected {
            Mismatch::check(expected, found)
                .map_err(|source| ApplyError::Digest { what, source })?;
        }
    }
    let mut tail = Tail::behind(tar, stored.tar_len);
    let index = merger
        .finish()
        .into_iter()
        .map(|(path, merged)| {
            let change = match merged {
                Merged::Whiteout => IndexChange::Whiteout,
                Merged::Link { to } => IndexChange::Link { to },
                Merged::Put { node, opaque, data } => IndexChange::Put {
                    node,
                    opaque,
                    data_offset: match data {
                        Some(data) if data.size > 0 => Some(tail.offset_of(tar, &data)?),
                        _ => None,
                    },
                },
            };
            Ok(IndexEntry { path, change })
        })
        .collect::<Result<_, ApplyError>>()?;
    Ok(Applied {
        diff_id: stored.diff_id,
        tar_len: stored.tar_len,
        stored_len: tail.end,
        blob: stored.blob,
        blob_size: stored.blob_size,
        format: stored.format,
        index,
    })
}

/// The place behind a tar where sparse files are laid out.
struct Tail<'a> {
    file: &'a File,
    end: u64,
}

impl<'a> Tail<'a> {
    fn behind(file: &'a File, tar_len: u64) -> Tail<'a> {
        Tail { file, end: tar_len }
    }

    /// Where a file of an archive in `from` lies in one piece: there, or copied here.
    fn offset_of(&mut self, from: &File, data: &FileData) -> Result<u64, ApplyError> {
        let Some(map) = &data.sparse else {
            return Ok(data.offset);
        };
        let begin = self.end.next_multiple_of(PAGE);
        let mut stored = data.offset;
        for segment in map {
            let written = copy(from, stored, self.file, begin + segment.offset, segment.len);
            written.map_err(|source| ApplyError::Write { source })?;
            stored += segment.len;
        }
        self.end = (begin + data.size).next_multiple_of(PAGE);
        self.file
            .set_len(self.end)
            .map_err(|source| ApplyError::Write { source })?;
        Ok(begin)
    }
}

fn copy(from: &File, mut source: u64, to: &File, mut target: u64, len: u64) -> io::Result<()> {
    let mut left = len;
    let mut buffer = vec![0; usize::try_from(len).map_or(1 << 18, |len| len.min(1 << 18))];
    while left > 0 {
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        from.read_exact_at(&mut buffer[..count], source)?;
        to.write_all_at(&buffer[..count], target)?;
        source += count as u64;
        target += count as u64;
        left -= count as u64;
    }
    Ok(())
}
