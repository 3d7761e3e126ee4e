//! Python's compiled files, which name the modification time of their source (PEP 552).
//!
//! A layer that gives the source another time gives it to the compiled file's header too, or the
//! interpreter would compile again at every start. Files that are checked by hash are left alone.

use crate::model::{RelPath, Time};
use std::ops::Range;

/// Where the header has its flags: zero when the source's time is what validates the file.
const FLAGS: Range<usize> = 4..8;

/// Where the header has the source's modification time: the low 32 bits, little endian.
const SOURCE_TIME: Range<usize> = 8..12;

/// Bytes of the header.
const HEADER: usize = 16;

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

/// Whether a compiled file with these bytes is valid as long as its source has this time.
pub(crate) fn follows(bytes: &[u8], source: Time) -> bool {
    bytes.len() >= HEADER
        && &bytes[2..4] == b"\r\n"
        && bytes[FLAGS] == [0; 4]
        && bytes[SOURCE_TIME] == low_bits(source)
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
        let source = Time {
            seconds: 0x1_6543_2100,
            nanos: 5,
        };
        let mut bytes = b"\xcb\x0d\r\n\0\0\0\0\x00\x21\x43\x65\x07\0\0\0code".to_vec();
        assert!(follows(&bytes, source));
        assert!(!follows(&bytes[..12], source));
        assert!(!follows(&bytes, Time::default()));
        set_source_time(
            &mut bytes,
            Time {
                seconds: 1,
                nanos: 0,
            },
        );
        assert_eq!(bytes[8..12], [1, 0, 0, 0]);
        bytes[4] = 1;
        assert!(!follows(
            &bytes,
            Time {
                seconds: 1,
                nanos: 0
            }
        ));
    }
}
