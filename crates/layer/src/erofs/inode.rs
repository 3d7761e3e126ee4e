//! What an inode of the image is made of, and what has no place in one.

use super::format::{
    BLOCK, CHUNK_LEN, Layout, NAME_MAX, SLOT, TARGET_MAX, XATTR_HEADER_LEN, chunk_count,
    encode_device, split_xattr,
};
use super::{IndexError, Put};
use crate::{Kind, Metadata, RelPath, xattr};

/// The mark of an opaque directory, and its value.
pub(super) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// Where an inode goes, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) layout: Layout,
    /// Where it begins.
    pub(super) position: u64,
}

/// Chooses the layout of an inode of `head_len` bytes, attributes included, that `size` bytes
/// belong to, and the first place from `earliest` on where it fits.
pub(super) fn place(earliest: u64, head_len: u64, size: u64) -> Placed {
    let earliest = earliest.next_multiple_of(SLOT);
    let tail = size % BLOCK;
    // A tail must not cross a block. One that fits nowhere gets a block of its own.
    let fits = |position: &u64| (position + head_len) % BLOCK + tail <= BLOCK;
    let places = (0..BLOCK / SLOT).map(|slot| earliest + slot * SLOT);
    let inline = places.into_iter().find(fits).filter(|_| tail > 0);
    match inline {
        Some(position) => Placed {
            layout: Layout::Inline,
            position,
        },
        None => Placed {
            layout: Layout::Plain,
            position: earliest,
        },
    }
}

/// The bytes after an inode that ends at `end` that say where the `size` bytes of a file are.
pub(super) fn chunks(end: u64, size: u64) -> (u64, u64) {
    (end.next_multiple_of(CHUNK_LEN as u64), chunk_count(size))
}

/// Whether the format has room for what is put at `path`.
pub(super) fn check(path: &RelPath, put: &Put<'_>, tar_len: u64) -> Result<(), IndexError> {
    if path.name().is_some_and(|name| name.len() > NAME_MAX) {
        return Err(too_large(path, "a name"));
    }
    match &put.node.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            encode_device(*major, *minor).ok_or_else(|| too_large(path, "a device number"))?;
        }
        Kind::Symlink { target } if target.len() > TARGET_MAX => {
            return Err(too_large(path, "a link target"));
        }
        Kind::File { size } if *size > 0 => check_data(path, *size, put.data_offset, tar_len)?,
        _ => {}
    }
    Ok(())
}

fn check_data(
    path: &RelPath,
    size: u64,
    offset: Option<u64>,
    tar_len: u64,
) -> Result<(), IndexError> {
    let fits = offset.is_some_and(|offset| {
        offset % BLOCK == 0 && offset.checked_add(size).is_some_and(|end| end <= tar_len)
    });
    if fits {
        return Ok(());
    }
    Err(IndexError::Data {
        path: path.clone(),
        size,
        offset,
        tar_len,
    })
}

/// The attributes of an inode as they stand in the image, with their header; nothing when there
/// are none. Those that belong to no image are left out; above all overlayfs' own, which the kernel
/// would obey.
pub(super) fn xattrs(
    path: &RelPath,
    metadata: &Metadata,
    opaque: bool,
) -> Result<Vec<u8>, IndexError> {
    let kept = metadata
        .xattrs
        .iter()
        .filter(|(name, _)| xattr::is_kept(name))
        .map(|(name, value)| (name.as_slice(), value.as_slice()));
    let mut out = Vec::new();
    for (name, value) in kept.chain(opaque.then_some(OPAQUE)) {
        let Some((index, rest)) = split_xattr(name) else {
            continue;
        };
        if rest.len() > NAME_MAX || value.len() > usize::from(u16::MAX) {
            return Err(too_large(path, "an attribute"));
        }
        if out.is_empty() {
            // No filter, no shared attributes.
            out.resize(XATTR_HEADER_LEN, 0);
        }
        let value_len = (value.len() as u16).to_le_bytes();
        out.extend_from_slice(&[rest.len() as u8, index, value_len[0], value_len[1]]);
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    if out.len() / 4 >= usize::from(u16::MAX) {
        return Err(too_large(path, "the attributes"));
    }
    Ok(out)
}

pub(super) fn too_large(path: &RelPath, what: &'static str) -> IndexError {
    IndexError::TooLarge {
        path: path.clone(),
        what,
    }
}
