//! Archives as changes, in place: those that `ADD` extracts, in which nothing is a whiteout, and
//! the tars of layers.

use super::merge::{Merged, Merger, Whiteouts};
use super::{ApplyError, Expected, Limits, Tail, stream};
use crate::compress::{Format, decoder};
use crate::model::{Change, Content, Data, RelPath};
use crate::tar::{self, FileData, Reader};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that are read at a time.
const BUFFER: usize = 64 * 1024;

/// Whether a file is a tar archive, compressed or not, judged by its first header. A compressed
/// file that holds something else is none, and neither is an archive without entries.
///
/// # Errors
/// When the file cannot be read.
pub fn is_archive(content: &Content) -> io::Result<bool> {
    let mut start = vec![0; usize::try_from(content.len.min(tar::BLOCK)).unwrap_or(0)];
    content.file.read_exact_at(&mut start, content.offset)?;
    let format = Format::detect(&start);
    let mut block = Vec::new();
    if format == Format::Plain {
        block = start;
    } else {
        let source = BufReader::with_capacity(BUFFER, Range::of(content));
        let plain = decoder(format, source)?;
        // A stream that cannot be decompressed is no archive.
        if plain.take(tar::BLOCK).read_to_end(&mut block).is_err() {
            return Ok(false);
        }
    }
    Ok(tar::is_header(&block))
}

/// What extracting an archive puts where, sorted by path, below a root of its own.
///
/// The bytes of an uncompressed archive are used in place. Others go to `scratch`, which is
/// emptied first and must live as long as the changes, and so do sparse files.
///
/// # Errors
/// When the archive cannot be read, is malformed, ambiguous, contradictory or beyond a limit, or
/// when `scratch` cannot be written.
pub fn archive_changes(
    archive: &Content,
    scratch: &Arc<File>,
    limits: &Limits,
) -> Result<Vec<(RelPath, Change)>, ApplyError> {
    read(archive, scratch, limits, Whiteouts::Names)
}

/// What a layer's tar does to the tree below it, whiteouts and all; otherwise as
/// [`archive_changes`]. The times are those of the tar.
///
/// # Errors
/// As for [`archive_changes`].
pub fn layer_changes(
    tar: &Content,
    scratch: &Arc<File>,
    limits: &Limits,
) -> Result<Vec<(RelPath, Change)>, ApplyError> {
    read(tar, scratch, limits, Whiteouts::Meant)
}

fn read(
    archive: &Content,
    scratch: &Arc<File>,
    limits: &Limits,
    whiteouts: Whiteouts,
) -> Result<Vec<(RelPath, Change)>, ApplyError> {
    let mut start = vec![0; archive.len.min(Format::MAGIC as u64) as usize];
    let read = archive.file.read_exact_at(&mut start, archive.offset);
    read.map_err(|source| ApplyError::Read { source })?;
    let mut merger = Merger::new(whiteouts);
    if Format::detect(&start) == Format::Plain {
        let source = BufReader::with_capacity(BUFFER, Range::of(archive));
        let mut reader = Reader::new(source, limits.archive);
        while let Some(mut entry) = reader.next_entry()? {
            if let tar::EntryKind::File(data) = &mut entry.kind {
                data.offset += archive.offset;
            }
            merger.add(entry)?;
        }
        scratch
            .set_len(0)
            .map_err(|source| ApplyError::Write { source })?;
        return changes(merger, &archive.file, Tail::behind(scratch, 0), scratch);
    }
    let source = Range::of(archive);
    let expected = Expected::default();
    let stored = stream::store(source, scratch, expected, limits, |entry| merger.add(entry))?;
    let tail = Tail::behind(scratch, stored.tar_len);
    changes(merger, scratch, tail, scratch)
}

fn changes(
    merger: Merger,
    archive: &Arc<File>,
    mut tail: Tail<'_>,
    scratch: &Arc<File>,
) -> Result<Vec<(RelPath, Change)>, ApplyError> {
    let mut data = |data: &FileData| -> Result<Data, ApplyError> {
        let offset = tail.offset_of(archive, data)?;
        let file = match data.sparse {
            Some(_) => scratch,
            None => archive,
        };
        Ok(Data::Open(Content {
            file: Arc::clone(file),
            offset,
            len: data.size,
        }))
    };
    merger
        .finish()
        .into_iter()
        .map(|(path, merged)| {
            let change = match merged {
                Merged::Whiteout => Change::Whiteout,
                Merged::Link { to } => Change::Link { to },
                Merged::Put {
                    node,
                    opaque,
                    data: file,
                } => Change::Put {
                    node,
                    opaque,
                    data: file.as_ref().map(&mut data).transpose()?,
                },
            };
            Ok((path, change))
        })
        .collect()
}

/// Reads a [`Content`] from its beginning.
struct Range<'a> {
    content: &'a Content,
    position: u64,
}

impl<'a> Range<'a> {
    fn of(content: &'a Content) -> Range<'a> {
        Range {
            content,
            position: 0,
        }
    }
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.len - self.position;
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let offset = self.content.offset + self.position;
        let count = self.content.file.read_at(&mut buffer[..count], offset)?;
        self.position += count as u64;
        Ok(count)
    }
}
