//! An index file, read in pieces when they are first touched, and kept.
//!
//! Opening a stack of many layers reads next to nothing, a look-up reads a few pieces, a walk ends
//! up with the file in memory.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// A multiple of the block, so that no block lies in two pieces.
const PIECE: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Pieces {
    file: File,
    len: u64,
    pieces: Vec<OnceLock<Box<[u8]>>>,
}

impl Pieces {
    pub(super) fn new(file: File) -> io::Result<Pieces> {
        let len = file.metadata()?.len();
        let count = usize::try_from(len.div_ceil(PIECE)).map_err(io::Error::other)?;
        Ok(Pieces {
            file,
            len,
            pieces: std::iter::repeat_with(OnceLock::new).take(count).collect(),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `at` on; `None` when the file ends before.
    pub(super) fn bytes(&self, at: u64, len: usize) -> io::Result<Option<Cow<'_, [u8]>>> {
        let end = at.checked_add(len as u64).filter(|&end| end <= self.len);
        let Some(end) = end else { return Ok(None) };
        if len == 0 {
            return Ok(Some(Cow::Borrowed(&[])));
        }
        let (first, last) = (at / PIECE, (end - 1) / PIECE);
        let offset = (at % PIECE) as usize;
        if first == last {
            let piece = self.piece(first)?;
            return Ok(Some(Cow::Borrowed(&piece[offset..offset + len])));
        }
        let mut bytes = Vec::with_capacity(len);
        for number in first..=last {
            let start = if number == first { offset } else { 0 };
            let piece = &self.piece(number)?[start..];
            bytes.extend_from_slice(&piece[..piece.len().min(len - bytes.len())]);
        }
        Ok(Some(Cow::Owned(bytes)))
    }

    fn piece(&self, number: u64) -> io::Result<&[u8]> {
        let cell = &self.pieces[number as usize];
        if let Some(piece) = cell.get() {
            return Ok(piece);
        }
        let at = number * PIECE;
        let mut piece = vec![0; (self.len - at).min(PIECE) as usize].into_boxed_slice();
        self.file.read_exact_at(&mut piece, at)?;
        // Two threads may read the same piece; either result will do.
        Ok(cell.get_or_init(|| piece))
    }
}
