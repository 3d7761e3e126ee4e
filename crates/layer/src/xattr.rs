//! Which extended attributes belong to an image, and in which form they are kept.
//!
//! | name | kept |
//! |---|---|
//! | `security.capability` | yes, in its version 2 form: the root id of a user namespace means nothing elsewhere |
//! | `system.posix_acl_access`, `system.posix_acl_default` | yes |
//! | `user.*` | yes, but for `user.overlay.*`, and the owners that kiln writes down ([`sys::fs::OWNER_ATTRIBUTE`]) |
//! | `trusted.*`, `security.selinux`, `security.ima`, anything else | no: they belong to the host |
//!
//! The marks that overlayfs leaves in its directories are read here too, and owners that the kernel
//! could not be told; they never become attributes of an image.

use crate::Xattrs;
use std::borrow::Cow;
use std::io;
use sys::fs::Target;

/// File capabilities.
pub const CAPABILITY: &[u8] = b"security.capability";

/// Under which prefix an overlay mount keeps its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Marks {
    /// `trusted.overlay.`: mounts made by root in the initial user namespace.
    Trusted,
    /// `user.overlay.`: mounts with the option `userxattr`.
    User,
}

impl Marks {
    /// The prefix, with its final dot.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Marks::Trusted => b"trusted.overlay.",
            Marks::User => b"user.overlay.",
        }
    }
}

/// What the attributes of an inode say that belong to no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct OverlayMarks {
    /// The directory hides what is below it.
    pub opaque: bool,
    /// The directory may hold whiteouts that are empty files with an attribute.
    pub xattr_whiteouts: bool,
    /// The empty file is such a whiteout.
    pub whiteout: bool,
    /// User and group that are written down for an inode which the kernel could not give them.
    pub owner: Option<(u32, u32)>,
}

/// The form in which the attribute `name` with `value` belongs to an image; `None` when it does
/// not.
pub fn image_value<'a>(name: &[u8], value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    if name == CAPABILITY {
        let is_owner = sys::fs::owner_in(name, value).is_some();
        return (!is_owner).then(|| without_root_id(value));
    }
    is_kept(name).then_some(Cow::Borrowed(value))
}

/// Whether an attribute of this name belongs to an image.
pub fn is_kept(name: &[u8]) -> bool {
    match name {
        CAPABILITY | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        sys::fs::OWNER_ATTRIBUTE => false,
        _ => name.starts_with(b"user.") && !name.starts_with(Marks::User.prefix()),
    }
}

/// Reads the attributes of an inode that belong to an image.
pub(crate) fn read(target: Target<'_>) -> io::Result<Xattrs> {
    Ok(read_with_marks(target, None)?.0)
}

/// Reads the attributes of an inode that belong to an image, and overlayfs' marks under one prefix.
pub(crate) fn read_with_marks(
    target: Target<'_>,
    marks: Option<Marks>,
) -> io::Result<(Xattrs, OverlayMarks)> {
    let mut kept = Xattrs::new();
    let mut found = OverlayMarks::default();
    for name in sys::fs::list_xattrs(target)? {
        if is_kept(&name) || name == sys::fs::OWNER_ATTRIBUTE {
            let Some(value) = sys::fs::get_xattr(target, &name)? else {
                continue;
            };
            if marks == Some(Marks::User) {
                found.owner = sys::fs::owner_in(&name, &value).or(found.owner);
            }
            if let Some(value) = image_value(&name, &value) {
                kept.insert(name, value.into_owned());
            }
        } else if let Some(mark) = marks.and_then(|marks| name.strip_prefix(marks.prefix())) {
            found.add(mark, || sys::fs::get_xattr(target, &name))?;
        }
    }
    Ok((kept, found))
}

/// Reads overlayfs' marks under one prefix.
pub(crate) fn read_marks(target: Target<'_>, marks: Marks) -> io::Result<OverlayMarks> {
    let mut found = OverlayMarks::default();
    for name in sys::fs::list_xattrs(target)? {
        if let Some(mark) = name.strip_prefix(marks.prefix()) {
            found.add(mark, || sys::fs::get_xattr(target, &name))?;
        }
    }
    Ok(found)
}

impl OverlayMarks {
    fn add(
        &mut self,
        mark: &[u8],
        value: impl FnOnce() -> io::Result<Option<Vec<u8>>>,
    ) -> io::Result<()> {
        match mark {
            b"opaque" => match value()?.as_deref() {
                Some(b"y") => self.opaque = true,
                Some(b"x") => self.xattr_whiteouts = true,
                _ => {}
            },
            b"whiteout" => self.whiteout = true,
            _ => {}
        }
        Ok(())
    }
}

/// `vfs_cap_data` (capabilities(7)): a little-endian word whose top byte is the revision, two
/// pairs of capability words, and in revision 3 the root id.
fn without_root_id(value: &[u8]) -> Cow<'_, [u8]> {
    match value {
        [_, _, _, 3, ..] if value.len() == 24 => {
            let mut version2 = value[..20].to_vec();
            version2[3] = 2;
            Cow::Owned(version2)
        }
        _ => Cow::Borrowed(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, value: &[u8], expect: Option<&[u8]>) {
        assert_eq!(
            image_value(name.as_bytes(), value).as_deref(),
            expect,
            "{name}"
        );
    }

    #[test]
    fn table_of_kept_names() {
        check("user.mime_type", b"text", Some(b"text"));
        check("user.overlay.opaque", b"y", None);
        check("user.overlayed", b"y", Some(b"y"));
        check("user.kiln.owner", &[0; 8], None);
        check(
            "security.capability",
            b"\0\0\0\x02\x21\0\0\0\x21\0\0\0kiln\0\0\0\0",
            None,
        );
        check("trusted.overlay.opaque", b"y", None);
        check("trusted.mine", b"y", None);
        check("security.selinux", b"system_u", None);
        check("security.ima", b"\x01", None);
        check("system.posix_acl_access", b"\x02", Some(b"\x02"));
        check("system.posix_acl_default", b"\x02", Some(b"\x02"));
        check("system.nfs4_acl", b"\x02", None);
    }

    #[test]
    fn capabilities_lose_their_root_id() {
        let mut version3 = vec![1, 0, 0, 3];
        version3.extend([0x20, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut version2 = version3.clone();
        version2[3] = 2;
        version3.extend(100_000u32.to_le_bytes());
        check("security.capability", &version3, Some(&version2));
        check("security.capability", &version2, Some(&version2));
        check("security.capability", b"\x01", Some(b"\x01"));
    }
}
