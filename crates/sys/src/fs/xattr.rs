//! Extended attributes of an inode that is named by directory and name, or by descriptor.
//!
//! The kernel refuses `fgetxattr` on `O_PATH` descriptors and has no `*at` calls before 6.13, so
//! most calls go through `/proc/self/fd`, where the last component is never followed. A file that
//! is open for reading or writing needs no path.

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whose attributes are meant.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The inode behind a descriptor, which may be an `O_PATH` one, even of a symbolic link.
    Fd(BorrowedFd<'a>),
    /// The inode behind a descriptor that is no `O_PATH` one: quicker.
    File(BorrowedFd<'a>),
    /// The name (one component) in a directory; a symbolic link is not followed.
    Name(BorrowedFd<'a>, &'a [u8]),
}

impl Target<'_> {
    fn path(self) -> io::Result<CString> {
        let mut path = b"/proc/self/fd/".to_vec();
        match self {
            Target::Fd(fd) | Target::File(fd) => {
                path.extend_from_slice(fd.as_raw_fd().to_string().as_bytes());
            }
            Target::Name(dir, name) => {
                if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." {
                    return Err(Errno::INVAL.into());
                }
                path.extend_from_slice(dir.as_raw_fd().to_string().as_bytes());
                path.push(b'/');
                path.extend_from_slice(name);
            }
        }
        CString::new(path).map_err(|_| Errno::INVAL.into())
    }

    /// Whether the path's last component is the kernel's own link, which must be followed.
    fn follows(self) -> bool {
        !matches!(self, Target::Name(..))
    }
}

/// Names of all attributes, in the order of the file system. None where the file system has no
/// attributes.
///
/// # Errors
/// The errno of `listxattr(2)` other than `EOPNOTSUPP`.
pub fn list_xattrs(target: Target<'_>) -> io::Result<Vec<Vec<u8>>> {
    let names = match target {
        Target::File(fd) => fill(|buffer| rustix::fs::flistxattr(fd, buffer)),
        Target::Fd(_) => {
            let path = target.path()?;
            fill(|buffer| rustix::fs::listxattr(&path, buffer))
        }
        Target::Name(..) => {
            let path = target.path()?;
            fill(|buffer| rustix::fs::llistxattr(&path, buffer))
        }
    };
    match names {
        Ok(names) => Ok(names
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect()),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

/// The value of one attribute; `None` when it is not there.
///
/// # Errors
/// The errno of `getxattr(2)` other than `ENODATA` and `EOPNOTSUPP`.
pub fn get_xattr(target: Target<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = target.path()?;
    let value = fill(|buffer| match target.follows() {
        true => rustix::fs::getxattr(&path, name, buffer),
        false => rustix::fs::lgetxattr(&path, name, buffer),
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Creates or replaces an attribute.
///
/// # Errors
/// The errno of `setxattr(2)`.
pub fn set_xattr(target: Target<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let path = target.path()?;
    let flags = XattrFlags::empty();
    match target.follows() {
        true => rustix::fs::setxattr(&path, name, value, flags)?,
        false => rustix::fs::lsetxattr(&path, name, value, flags)?,
    }
    Ok(())
}

/// Removes an attribute.
///
/// # Errors
/// The errno of `removexattr(2)`; `ENODATA` when it is not there.
pub fn remove_xattr(target: Target<'_>, name: &[u8]) -> io::Result<()> {
    let path = target.path()?;
    match target.follows() {
        true => rustix::fs::removexattr(&path, name)?,
        false => rustix::fs::lremovexattr(&path, name)?,
    }
    Ok(())
}

/// Calls with a growing buffer until the answer fits. The kernel's own bound is 64 KiB.
fn fill(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 64 * 1024 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}
