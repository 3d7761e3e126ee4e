//! An index file, read in pieces. Those that were used last are kept.
//!
//! Opening a stack of many layers reads next to nothing, a look-up reads a few pieces, and a walk of
//! an index of any length holds a few megabytes of it.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// A multiple of the block, so that no block lies in two pieces.
const PIECE: u64 = 64 * 1024;

/// Pieces that are kept, each in one place.
const KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct Pieces {
    file: File,
    len: u64,
    kept: Vec<Mutex<Option<Kept>>>,
}

/// A piece, and its number.
type Kept = (u64, Arc<[u8]>);

/// Bytes of an index.
#[derive(Debug)]
pub(super) enum Bytes {
    Within {
        piece: Arc<[u8]>,
        range: Range<usize>,
    },
    Across(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Within { piece, range } => &piece[range.clone()],
            Bytes::Across(bytes) => bytes,
        }
    }
}

impl Pieces {
    pub(super) fn new(file: File) -> io::Result<Pieces> {
        let len = file.metadata()?.len();
        let count = usize::try_from(len.div_ceil(PIECE)).map_err(io::Error::other)?;
        Ok(Pieces {
            file,
            len,
            kept: std::iter::repeat_with(Mutex::default)
                .take(count.min(KEPT))
                .collect(),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `at` on; `None` when the file ends before.
    pub(super) fn bytes(&self, at: u64, len: usize) -> io::Result<Option<Bytes>> {
        let end = at.checked_add(len as u64).filter(|&end| end <= self.len);
        let Some(end) = end else { return Ok(None) };
        if len == 0 {
            return Ok(Some(Bytes::Across(Vec::new())));
        }
        let (first, last) = (at / PIECE, (end - 1) / PIECE);
        let offset = (at % PIECE) as usize;
        if first == last {
            let (piece, range) = (self.piece(first)?, offset..offset + len);
            return Ok(Some(Bytes::Within { piece, range }));
        }
        let mut bytes = Vec::with_capacity(len);
        for number in first..=last {
            let start = if number == first { offset } else { 0 };
            let piece = &self.piece(number)?[start..];
            bytes.extend_from_slice(&piece[..piece.len().min(len - bytes.len())]);
        }
        Ok(Some(Bytes::Across(bytes)))
    }

    fn piece(&self, number: u64) -> io::Result<Arc<[u8]>> {
        let place = &self.kept[number as usize % self.kept.len()];
        let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, piece)) = &*kept
            && *at == number
        {
            return Ok(Arc::clone(piece));
        }
        let at = number * PIECE;
        let mut bytes = vec![0; (self.len - at).min(PIECE) as usize];
        self.file.read_exact_at(&mut bytes, at)?;
        let piece: Arc<[u8]> = bytes.into();
        *kept = Some((number, Arc::clone(&piece)));
        Ok(piece)
    }
}
