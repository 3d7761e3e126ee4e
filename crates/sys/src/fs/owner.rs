//! Owners that the kernel cannot be told: in a user namespace of one id every inode belongs to that
//! id, so the owner it is meant to have is written down in an attribute of the inode. There it
//! outlives renames, further names and the copies that overlayfs makes.
//!
//! | inode | attribute | value |
//! |---|---|---|
//! | regular file, directory | `user.kiln.owner` | user and group, 32 bits each, little endian |
//! | anything else | `security.capability` | the same in the words for two sets, and a mark in the third |
//!
//! The kernel keeps `user.*` for files and directories. File capabilities it takes for everything,
//! and they mean nothing to it but on a file that is executed.

use super::xattr::{Target, get_xattr, remove_xattr, set_xattr};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::io;

/// The attribute of regular files and directories.
pub const OWNER_ATTRIBUTE: &[u8] = b"user.kiln.owner";

/// The attribute of all other inodes.
const CAPABILITY: &[u8] = b"security.capability";

/// `VFS_CAP_REVISION_2`, no flag.
const REVISION: u32 = 0x0200_0000;
/// The highest capabilities of the permitted set: there are none by these numbers.
const MARK: u32 = u32::from_le_bytes(*b"kiln");

/// The owner, and group, that are written down for an inode of this kind; `None` if the kernel's
/// are right.
///
/// # Errors
/// The errno of `getxattr(2)`.
pub fn recorded_owner(target: Target<'_>, kind: FileType) -> io::Result<Option<(u32, u32)>> {
    let name = attribute(kind);
    Ok(get_xattr(target, name)?.and_then(|value| owner_in(name, &value)))
}

/// Writes an owner and group down for an inode of this kind. For 0:0, which the one id is inside of
/// the namespace, what was written is taken away.
///
/// # Errors
/// The errno of `setxattr(2)` or `removexattr(2)`.
pub fn record_owner(target: Target<'_>, kind: FileType, owner: (u32, u32)) -> io::Result<()> {
    let name = attribute(kind);
    if owner != (0, 0) {
        return set_xattr(target, name, &value(name, owner));
    }
    // A link may have capabilities of its own that are no record; they mean nothing.
    match remove_xattr(target, name) {
        Err(error) if is_absence(&error) => Ok(()),
        removed => removed,
    }
}

/// Writes 0:0 down for a regular file, which does not change whose it is: a program gave it the
/// owner that it sees everywhere.
///
/// # Errors
/// The errno of `setxattr(2)`.
pub fn record_seen_owner(target: Target<'_>) -> io::Result<()> {
    set_xattr(target, OWNER_ATTRIBUTE, &value(OWNER_ATTRIBUTE, (0, 0)))
}

/// The owner and group that an attribute with this value writes down, if it is one that does.
pub fn owner_in(name: &[u8], value: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| {
        let bytes = value.get(at * 4..at * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if name == OWNER_ATTRIBUTE && value.len() == 8 {
        return Some((word(0)?, word(1)?));
    }
    // With a root id behind it, where another namespace looks at it.
    let is_record = name == CAPABILITY && value.len() >= 20 && word(3)? == MARK && word(4)? == 0;
    is_record.then_some((word(1)?, word(2)?))
}

fn attribute(kind: FileType) -> &'static [u8] {
    match kind {
        FileType::RegularFile | FileType::Directory => OWNER_ATTRIBUTE,
        _ => CAPABILITY,
    }
}

fn value(name: &[u8], (uid, gid): (u32, u32)) -> Vec<u8> {
    let words: &[u32] = match name == OWNER_ATTRIBUTE {
        true => &[uid, gid],
        false => &[REVISION, uid, gid, MARK, 0],
    };
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NODATA | Errno::OPNOTSUPP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: FileType, owner: (u32, u32)) {
        let name = attribute(kind);
        assert_eq!(owner_in(name, &value(name, owner)), Some(owner));
        // As `security.capability` reads from outside of the namespace.
        let mut with_root = value(name, owner);
        with_root.extend(1000u32.to_le_bytes());
        let is_capability = name == CAPABILITY;
        assert_eq!(
            owner_in(name, &with_root),
            is_capability.then_some(owner),
            "{kind:?}"
        );
    }

    #[test]
    fn what_was_written_is_read() {
        for kind in [
            FileType::RegularFile,
            FileType::Directory,
            FileType::Symlink,
            FileType::Fifo,
        ] {
            check(kind, (33, 44));
            check(kind, (0, u32::MAX - 1));
        }
    }

    #[test]
    fn capabilities_of_programs_are_no_owner() {
        // cap_net_bind_service, effective and permitted.
        let words = [REVISION | 1, 1 << 10, 0, 0, 0];
        let real: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(owner_in(CAPABILITY, &real), None);
        assert_eq!(owner_in(OWNER_ATTRIBUTE, b"33"), None);
        assert_eq!(owner_in(b"user.other", &[0; 8]), None);
    }
}
