//! Header blocks of the canonical form: ustar when it reaches, PAX when it does not.
//!
//! Only what a layer needs: numeric owners, modification times, extended attributes. The rules
//! that choose the form and spell the fields are those of Go's `archive/tar`.

use super::header::{
    DEV_MAJOR, DEV_MINOR, GID, LINK_NAME, MAGIC, MAGIC_USTAR, MODE, MTIME, NAME, PREFIX, SIZE,
    TYPE_FLAG, UID, fits_octal, put_octal, seal,
};
use super::{BLOCK, header::Block, pax};
use crate::model::{Time, Xattrs};
use std::collections::BTreeMap;

/// Bytes that the records of one entry may have: what Go's reader takes.
const PAX_LIMIT: usize = 1 << 20;

/// The kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TypeFlag {
    /// A regular file.
    File = b'0',
    /// One more name of an earlier entry.
    HardLink = b'1',
    /// A symbolic link.
    Symlink = b'2',
    /// A character device.
    CharDevice = b'3',
    /// A block device.
    BlockDevice = b'4',
    /// A directory.
    Directory = b'5',
    /// A named pipe.
    Fifo = b'6',
}

/// The fields of an entry's header.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// Path as it is written: relative, a directory's with a `/` at the end.
    pub path: &'a [u8],
    /// What the entry is.
    pub type_flag: TypeFlag,
    /// Target of a symbolic link, or path of the earlier entry of a hard link; else empty.
    pub link: &'a [u8],
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data that follow.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Major and minor number of a device; else zeros.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: &'a Xattrs,
}

/// A header that the format cannot express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The records do not fit into an extended header.
    #[error("{bytes} bytes of extended header, more than the {PAX_LIMIT} that readers take")]
    TooLong {
        /// Their size.
        bytes: usize,
    },
    /// A PAX key ends at the first `=`.
    #[error("extended attribute {name:?} has a `=` or NUL in its name")]
    XattrName {
        /// The name, lossily decoded.
        name: String,
    },
    /// A text has a NUL byte.
    #[error("NUL byte in a path or link target")]
    Nul,
    /// A size or device number is too large.
    #[error("{field} {value} is too large for a tar header")]
    Number {
        /// Which one.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

/// The blocks that come before the entry's data: an extended header if one is needed, and the
/// header.
///
/// # Errors
/// When no form of the format can express a field.
pub fn encode(header: &Header<'_>) -> Result<Vec<u8>, HeaderError> {
    let size = i64::try_from(header.size).map_err(|_| HeaderError::Number {
        field: "size",
        value: header.size,
    })?;
    for (field, value) in [
        ("major device number", header.device.0),
        ("minor device number", header.device.1),
    ] {
        if !fits_octal(DEV_MAJOR.len(), i64::from(value)) {
            return Err(HeaderError::Number {
                field,
                value: u64::from(value),
            });
        }
    }
    if header.path.contains(&0) || header.link.contains(&0) {
        return Err(HeaderError::Nul);
    }
    let split = split_path(header.path);
    let (records, ustar_reaches) = records(header, size, split.is_some())?;
    if ustar_reaches {
        let (prefix, name) = split.unwrap_or((b"", header.path));
        return Ok(block(header, size, prefix, name).to_vec());
    }
    let mut out = extended_header(header.path, &records)?;
    out.extend_from_slice(&block(header, size, b"", header.path));
    Ok(out)
}

/// The records that say what ustar does not, and whether ustar says it all.
fn records(
    header: &Header<'_>,
    size: i64,
    path_splits: bool,
) -> Result<(Vec<u8>, bool), HeaderError> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut ustar_reaches = true;
    let long = |text: &[u8], room: usize| text.len() > room || !text.is_ascii();
    if long(header.path, NAME.len()) {
        ustar_reaches &= path_splits;
        records.insert(b"path".to_vec(), header.path.to_vec());
    }
    if long(header.link, LINK_NAME.len()) {
        ustar_reaches = false;
        records.insert(b"linkpath".to_vec(), header.link.to_vec());
    }
    for (key, room, value) in [
        (&b"uid"[..], UID.len(), i64::from(header.uid)),
        (b"gid", GID.len(), i64::from(header.gid)),
        (b"size", SIZE.len(), size),
    ] {
        if !fits_octal(room, value) {
            ustar_reaches = false;
            records.insert(key.to_vec(), value.to_string().into_bytes());
        }
    }
    if header.mtime.nanos != 0 || !fits_octal(MTIME.len(), header.mtime.seconds) {
        ustar_reaches = false;
        let time = pax::format_time(header.mtime);
        records.insert(b"mtime".to_vec(), time.into_bytes());
    }
    for (name, value) in header.xattrs {
        if name.contains(&b'=') || name.contains(&0) {
            return Err(HeaderError::XattrName {
                name: String::from_utf8_lossy(name).into_owned(),
            });
        }
        ustar_reaches = false;
        records.insert([pax::XATTR, name].concat(), value.clone());
    }
    let mut out = Vec::new();
    for (key, value) in &records {
        pax::push(&mut out, key, value);
    }
    Ok((out, ustar_reaches))
}

/// An `x` entry with these records.
fn extended_header(path: &[u8], records: &[u8]) -> Result<Vec<u8>, HeaderError> {
    if records.len() > PAX_LIMIT {
        return Err(HeaderError::TooLong {
            bytes: records.len(),
        });
    }
    let mut block: Block = [0; 512];
    let name = extended_header_name(path);
    block[..name.len()].copy_from_slice(&name);
    put_octal(&mut block[MODE], 0);
    put_octal(&mut block[UID], 0);
    put_octal(&mut block[GID], 0);
    put_octal(&mut block[SIZE], records.len() as u64);
    put_octal(&mut block[MTIME], 0);
    block[TYPE_FLAG] = b'x';
    block[MAGIC].copy_from_slice(MAGIC_USTAR);
    seal(&mut block);
    let mut out = block.to_vec();
    out.extend_from_slice(records);
    out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
    Ok(out)
}

/// `dir/PaxHeaders.0/file`, shown by readers that know no PAX.
fn extended_header_name(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (dir, file) = path.split_at(slash.map_or(0, |slash| slash + 1));
    let parts = [dir, b"PaxHeaders.0/", file].concat();
    let mut name = ascii(&parts);
    name.truncate(NAME.len());
    while name.last() == Some(&b'/') {
        name.pop();
    }
    name
}

fn block(header: &Header<'_>, size: i64, prefix: &[u8], name: &[u8]) -> Block {
    let mut block: Block = [0; 512];
    put_text(&mut block[NAME], name);
    put_text(&mut block[LINK_NAME], header.link);
    for (range, value) in [
        (MODE, i64::from(header.mode)),
        (UID, i64::from(header.uid)),
        (GID, i64::from(header.gid)),
        (SIZE, size),
        (MTIME, header.mtime.seconds),
        (DEV_MAJOR, i64::from(header.device.0)),
        (DEV_MINOR, i64::from(header.device.1)),
    ] {
        // What does not fit is in the records and zero here.
        let fits = fits_octal(range.len(), value);
        let value = if fits { value.unsigned_abs() } else { 0 };
        put_octal(&mut block[range], value);
    }
    block[TYPE_FLAG] = header.type_flag as u8;
    block[MAGIC].copy_from_slice(MAGIC_USTAR);
    put_text(&mut block[PREFIX], prefix);
    seal(&mut block);
    block
}

/// Writes what fits of the ASCII part of a text.
fn put_text(field: &mut [u8], text: &[u8]) {
    let text = ascii(text);
    let len = text.len().min(field.len());
    field[..len].copy_from_slice(&text[..len]);
    // Readers that know no PAX take a file for a directory when its cut name ends in a slash.
    if text.len() > field.len() && field[len - 1] == b'/' {
        let end = field.iter().rposition(|&byte| byte != b'/');
        field[end.map_or(0, |end| end + 1)] = 0;
    }
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Prefix and name of a path of 101 to 256 ASCII bytes that has a slash in the right place.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME.len() || !path.is_ascii() {
        return None;
    }
    let end = if path.len() > PREFIX.len() + 1 {
        PREFIX.len() + 1
    } else if path.ends_with(b"/") {
        path.len() - 1
    } else {
        path.len()
    };
    let slash = path[..end].iter().rposition(|&byte| byte == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    let fits = !prefix.is_empty() && !name.is_empty() && name.len() <= NAME.len();
    fits.then_some((prefix, name))
}
