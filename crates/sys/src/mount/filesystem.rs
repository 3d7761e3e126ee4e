//! Making an instance of a file system, by `fsopen` or by `mount(2)`.

use super::attach::{classic_flags, interface_missing, move_mount, proc_path};
use super::{Attributes, MountError};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One mount option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsOption {
    /// A word alone.
    Flag(&'static str),
    /// `key=value`; the value has at most 255 bytes.
    Value(&'static str, String),
}

/// Makes a file system and returns it as a detached mount.
///
/// # Errors
/// [`MountError::Filesystem`]; its errno is `ENOSYS` where there is only `mount(2)`.
pub fn mount_new(
    filesystem: &str,
    options: &[FsOption],
    attributes: Attributes,
) -> Result<OwnedFd, MountError> {
    let failed = |errno: Errno, context: Option<BorrowedFd<'_>>| MountError::Filesystem {
        filesystem: filesystem.to_owned(),
        message: context.map(kernel_message).unwrap_or_default(),
        source: errno.into(),
    };
    let context = rustix::mount::fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| failed(errno, None))?;
    if !options
        .iter()
        .any(|option| matches!(option, FsOption::Value("source", _)))
    {
        // What `mount` and `df` show.
        rustix::mount::fsconfig_set_string(&context, "source", filesystem)
            .map_err(|errno| failed(errno, Some(context.as_fd())))?;
    }
    for option in options {
        match option {
            FsOption::Flag(key) => rustix::mount::fsconfig_set_flag(&context, *key),
            FsOption::Value(key, value) => {
                rustix::mount::fsconfig_set_string(&context, *key, value.as_str())
            }
        }
        .map_err(|errno| failed(errno, Some(context.as_fd())))?;
    }
    rustix::mount::fsconfig_create(&context)
        .map_err(|errno| failed(errno, Some(context.as_fd())))?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| failed(errno, Some(context.as_fd())))
}

/// Makes a file system and attaches it at `at`.
///
/// # Errors
/// [`MountError::Filesystem`] or [`MountError::Attach`].
pub fn mount_filesystem(
    filesystem: &str,
    options: &[FsOption],
    attributes: Attributes,
    at: BorrowedFd<'_>,
) -> Result<(), MountError> {
    match mount_new(filesystem, options, attributes) {
        Ok(mount) => move_mount(mount.as_fd(), at),
        Err(error) if interface_missing(Errno::from_raw_os_error(error.errno())) => {
            classic_mount(filesystem, options, attributes, at)
        }
        Err(error) => Err(error),
    }
}

/// `mount(2)` with the options as one comma-separated text.
pub(super) fn classic_mount(
    filesystem: &str,
    options: &[FsOption],
    attributes: Attributes,
    at: BorrowedFd<'_>,
) -> Result<(), MountError> {
    let mut source = filesystem;
    let mut words = Vec::new();
    for option in options {
        match option {
            FsOption::Value("source", value) => source = value,
            FsOption::Flag(key) => words.push((*key).to_owned()),
            FsOption::Value(key, value) => words.push(format!("{key}={value}")),
        }
    }
    let failed = |errno: Errno| MountError::Filesystem {
        filesystem: filesystem.to_owned(),
        message: String::new(),
        source: errno.into(),
    };
    let data = std::ffi::CString::new(words.join(",")).map_err(|_| failed(Errno::INVAL))?;
    let flags = classic_flags(attributes);
    rustix::mount::mount(source, proc_path(at), filesystem, flags, data.as_c_str()).map_err(failed)
}

/// What the kernel logged to a file system context, without the severity letters.
fn kernel_message(context: BorrowedFd<'_>) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(len) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..len]);
        let line = line.trim_end();
        lines.push(line.get(2..).unwrap_or(line).to_owned());
    }
    lines.join("; ")
}
