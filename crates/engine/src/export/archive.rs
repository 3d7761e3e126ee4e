//! A tar of files that are whole elsewhere already: headers are written, the kernel copies the
//! rest, and nothing is hashed. Whose files they are and what they mean is the caller's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use layer::tar::{BLOCK, Header, TRAILER, TypeFlag, encode};
use layer::{Time, Xattrs};

/// Where a file comes from.
pub(super) enum Origin {
    Bytes(Arc<[u8]>),
    File(PathBuf),
}

/// Files by their paths, which are relative and separated by `/`.
pub(super) type Files = BTreeMap<String, Origin>;

const ZEROS: [u8; TRAILER as usize] = [0; TRAILER as usize];

/// Writes files and the directories they are in, sorted by path, to a file or pipe.
///
/// # Errors
/// When a file cannot be read, or `out` not written: what it has then is no archive.
pub(super) fn write(files: &Files, mut out: &File) -> io::Result<()> {
    let mut directories = BTreeSet::new();
    for (path, origin) in files {
        for (end, _) in path.match_indices('/') {
            let directory = &path[..=end];
            if directories.insert(directory) {
                out.write_all(&header(directory, TypeFlag::Directory, 0)?)?;
            }
        }
        match origin {
            Origin::Bytes(bytes) => {
                let len = bytes.len() as u64;
                let padding = &ZEROS[..padding(len)];
                let header = header(path, TypeFlag::File, len)?;
                out.write_all(&[&header, &bytes[..], padding].concat())?;
            }
            Origin::File(from) => {
                let from = File::open(from)?;
                let len = from.metadata()?.len();
                out.write_all(&header(path, TypeFlag::File, len)?)?;
                let copied = io::copy(&mut from.take(len), &mut out)?;
                if copied != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                out.write_all(&ZEROS[..padding(len)])?;
            }
        }
    }
    out.write_all(&ZEROS)
}

fn header(path: &str, type_flag: TypeFlag, size: u64) -> io::Result<Vec<u8>> {
    let mode = match type_flag {
        TypeFlag::Directory => 0o755,
        _ => 0o644,
    };
    let header = Header {
        path: path.as_bytes(),
        type_flag,
        link: b"",
        mode,
        uid: 0,
        gid: 0,
        size,
        mtime: Time::default(),
        device: (0, 0),
        xattrs: &Xattrs::new(),
    };
    encode(&header).map_err(io::Error::other)
}

/// Zeros between a file's end and the next header.
fn padding(len: u64) -> usize {
    (len.next_multiple_of(BLOCK) - len) as usize
}
