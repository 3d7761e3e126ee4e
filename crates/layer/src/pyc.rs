//! Python's compiled files, which name the modification time of their source (PEP 552).
//!
//! An image that gives the source another time gives it to the compiled file's header too, or the
//! interpreter would compile again at every start, and the image would depend on when its source
//! was written. Files that are checked by hash are left alone.

use crate::model::{RelPath, Time};
use crate::times::Times;
use std::io;
use std::ops::Range;

/// Where the header has its flags: zero when the source's time is what validates the file.
const FLAGS: Range<usize> = 4..8;

/// Where the header has the source's modification time: the low 32 bits, little endian.
const SOURCE_TIME: Range<usize> = 8..12;

/// Where the header has the source's length: the low 32 bits, little endian.
const SOURCE_SIZE: Range<usize> = 12..16;

/// Bytes of the header.
const HEADER: usize = 16;

/// A regular file in the layers below one that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBelow {
    /// Its modification time, as steps see it.
    pub mtime: Time,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time in the image: that in the tar of its layer.
    pub shipped: Time,
}

/// Finds the regular file that a path leads to in the layers below, symbolic links followed.
/// `None` when there is none.
pub type Below<'a> = dyn FnMut(&RelPath) -> io::Result<Option<FileBelow>> + 'a;

/// Nothing is below.
///
/// # Errors
/// None.
pub fn nothing_below(_: &RelPath) -> io::Result<Option<FileBelow>> {
    Ok(None)
}

/// What is known of the source of a compiled file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// Its true time.
    pub(crate) mtime: Time,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// The time it has in the image if it is of a layer below, and not of the same.
    pub(crate) shipped: Option<Time>,
}

impl Source {
    /// The time it has in the image, as far as that is known before the layer's own time is.
    pub(crate) fn known_time(&self, times: Times) -> Option<Time> {
        match (self.shipped, times) {
            (Some(shipped), _) => Some(shipped),
            (None, Times::Layer) => None,
            (None, times) => Some(times.of(self.mtime, Time::default())),
        }
    }

    /// The time it has in the image, in or on top of a layer whose own time is `layer`.
    pub(crate) fn time(&self, times: Times, layer: Time) -> Time {
        self.shipped.unwrap_or_else(|| times.of(self.mtime, layer))
    }

    /// Whether a compiled file with these bytes is valid now, and will not be in the image.
    pub(crate) fn moves_away_from(&self, bytes: &[u8], times: Times) -> bool {
        let stays = |time| low_bits(time) == low_bits(self.mtime);
        self.validates(bytes) && !self.known_time(times).is_some_and(stays)
    }

    /// Whether a compiled file with these bytes is valid as long as its source is as it is.
    fn validates(&self, bytes: &[u8]) -> bool {
        bytes.len() >= HEADER
            && &bytes[2..4] == b"\r\n"
            && bytes[FLAGS] == [0; 4]
            && bytes[SOURCE_TIME] == low_bits(self.mtime)
            && bytes[SOURCE_SIZE] == self.size.to_le_bytes()[..4]
    }
}

/// The source of a compiled file: `pkg/__pycache__/mod.cpython-312.opt-1.pyc` and `pkg/mod.pyc`
/// come from `pkg/mod.py`. `None` when the path is no compiled file's.
pub(crate) fn source_path(path: &RelPath) -> Option<RelPath> {
    let stem = path.name()?.strip_suffix(b".pyc")?;
    let dir = path.parent()?;
    let (dir, module) = if dir.name() == Some(b"__pycache__") {
        let dot = stem.iter().position(|&byte| byte == b'.')?;
        (dir.parent()?, &stem[..dot])
    } else {
        (dir, stem)
    };
    if module.is_empty() {
        return None;
    }
    dir.join(&[module, b".py"].concat()).ok()
}

/// Puts the source's new time into the header.
pub(crate) fn set_source_time(bytes: &mut [u8], source: Time) {
    bytes[SOURCE_TIME].copy_from_slice(&low_bits(source));
}

fn low_bits(time: Time) -> [u8; 4] {
    let [a, b, c, d, ..] = time.seconds.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, source: Option<&str>) {
        let source = source.map(|source| RelPath::new(source).unwrap());
        assert_eq!(source_path(&RelPath::new(path).unwrap()), source);
    }

    #[test]
    fn sources_of_compiled_files() {
        check("a/__pycache__/m.cpython-312.pyc", Some("a/m.py"));
        check("a/__pycache__/m.cpython-312.opt-1.pyc", Some("a/m.py"));
        check("__pycache__/m.cpython-312.pyc", Some("m.py"));
        check("a/m.pyc", Some("a/m.py"));
        check("m.pyc", Some("m.py"));
        check("a/__pycache__/m.pyc", None);
        check("a/m.py", None);
        check("a/.pyc", None);
    }

    #[test]
    fn only_files_checked_by_time_follow_their_source() {
        let source = |seconds, size| Source {
            mtime: Time { seconds, nanos: 5 },
            size,
            shipped: None,
        };
        let follows = |source: Source, bytes: &[u8]| source.moves_away_from(bytes, Times::Layer);
        let (seconds, size) = (0x1_6543_2100, 0x1_0000_0007);
        let mut bytes = b"\xcb\x0d\r\n\0\0\0\0\x00\x21\x43\x65\x07\0\0\0code".to_vec();
        assert!(follows(source(seconds, size), &bytes));
        assert!(!follows(source(seconds, size), &bytes[..12]));
        assert!(!follows(source(0, size), &bytes));
        assert!(!follows(source(seconds, 8), &bytes));
        set_source_time(&mut bytes, source(1, 0).mtime);
        assert_eq!(bytes[8..12], [1, 0, 0, 0]);
        assert!(follows(source(1, size), &bytes));
        bytes[4] = 1;
        assert!(!follows(source(1, size), &bytes));
    }

    #[test]
    fn nothing_is_written_that_is_there_already() {
        let bytes = b"\xcb\x0d\r\n\0\0\0\0\x64\0\0\0\x07\0\0\0".to_vec();
        let moves = |shipped: Option<i64>, times| {
            let time = |seconds| Time { seconds, nanos: 0 };
            let source = Source {
                mtime: Time {
                    seconds: 100,
                    nanos: 9,
                },
                size: 7,
                shipped: shipped.map(time),
            };
            source.moves_away_from(&bytes, times)
        };
        assert!(moves(None, Times::Layer));
        assert!(moves(None, Times::Clamp(99)));
        assert!(!moves(None, Times::Clamp(100)));
        assert!(moves(Some(99), Times::Clamp(100)));
        assert!(!moves(Some(100), Times::Layer));
    }
}
