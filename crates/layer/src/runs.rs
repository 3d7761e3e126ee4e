//! Holes and data of a range of a file, piece by piece.

use crate::model::Content;
use rustix::fs::SeekFrom;
use std::io;
use std::os::unix::fs::FileExt;
use sys::Errno;

/// Bytes that one piece of data has at most.
pub(crate) const PIECE: usize = 256 * 1024;

/// What follows in a range.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// This many zeros that the file system does not store.
    Hole(u64),
    /// Up to [`PIECE`] bytes.
    Data(Vec<u8>),
}

/// Reads a [`Content`] from its beginning to its end.
pub(crate) struct Runs<'a> {
    content: &'a Content,
    position: u64,
    /// Up to here there is data without a hole.
    data_until: u64,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(content: &'a Content) -> Runs<'a> {
        Runs {
            content,
            position: 0,
            data_until: 0,
        }
    }

    /// The next run; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read; `UnexpectedEof` when it is shorter than the range.
    pub(crate) fn next_run(&mut self) -> io::Result<Option<Run>> {
        let len = self.content.len;
        if self.position == len {
            return Ok(None);
        }
        if self.position == self.data_until {
            let data = self.seek(SeekFrom::Data)?;
            if data > self.position {
                let hole = data - self.position;
                self.position = data;
                self.data_until = data;
                return Ok(Some(Run::Hole(hole)));
            }
            self.data_until = self.seek(SeekFrom::Hole)?;
        }
        let left = self.data_until - self.position;
        let mut bytes = vec![0; usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))];
        let offset = self.content.offset + self.position;
        self.content.file.read_exact_at(&mut bytes, offset)?;
        self.position += bytes.len() as u64;
        Ok(Some(Run::Data(bytes)))
    }

    /// The next place of a kind, from here on and within the range. A file system that knows no
    /// holes has data everywhere.
    fn seek(&self, kind: impl Fn(u64) -> SeekFrom) -> io::Result<u64> {
        let Content { file, offset, len } = self.content;
        let wants_data = matches!(kind(0), SeekFrom::Data(_));
        match rustix::fs::seek(file, kind(offset + self.position)) {
            Ok(found) => Ok((found - offset).min(*len)),
            // No data up to the end of the file: a hole, unless the file ends before the range.
            Err(Errno::NXIO) => match file.metadata()?.len() >= offset + len {
                true => Ok(*len),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Err(Errno::INVAL) if wants_data => Ok(self.position),
            Err(Errno::INVAL) => Ok(*len),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn holes_are_not_read() {
        let file = tempfile::tempfile().unwrap();
        let mib = 1 << 20;
        file.write_all_at(b"head", 0).unwrap();
        file.write_all_at(b"tail", 64 * mib).unwrap();
        file.set_len(128 * mib).unwrap();
        let content = Content {
            file: Arc::new(file),
            offset: 2,
            len: 100 * mib,
        };
        let mut runs = Runs::new(&content);
        let (mut data, mut holes) = (Vec::new(), 0);
        while let Some(run) = runs.next_run().unwrap() {
            match run {
                Run::Hole(len) => holes += len,
                Run::Data(bytes) => data.extend(bytes),
            }
        }
        assert_eq!(data.len() as u64 + holes, 100 * mib);
        assert!(data.starts_with(b"ad\0") && holes > 90 * mib);
        assert!(data.windows(4).any(|bytes| bytes == b"tail"));
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        for offset in [0, 100] {
            let content = Content {
                file: Arc::new(file.try_clone().unwrap()),
                offset,
                len: 100,
            };
            let mut runs = Runs::new(&content);
            let result =
                std::iter::from_fn(|| runs.next_run().transpose()).collect::<io::Result<Vec<_>>>();
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
