//! Overlay file systems over any number of layers.

use super::attach::{interface_missing, move_mount, proc_path};
use super::filesystem::{FsOption, classic_mount, mount_new};
use super::{Attributes, MountError};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The layers of an overlay.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// Read-only layers, bottom first, mounted directories; at least one (two without `upper`).
    pub lowers: &'a [OwnedFd],
    /// The directory that takes the writes and the kernel's working directory beside it.
    pub upper: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Marks in `user.overlay.*`.
    pub userxattr: bool,
}

/// Mounts an overlay at `at`.
///
/// Writes are never synced by the mount itself (`volatile`, where the kernel has it): who wants the
/// upper directory on disk calls `syncfs`. Directory redirects, metadata-only copies and the inode
/// index are off, so that the upper directory holds nothing but plain entries, whiteouts and opaque
/// directories.
///
/// # Errors
/// [`MountError`].
pub fn mount_overlay(
    overlay: Overlay<'_>,
    attributes: Attributes,
    at: BorrowedFd<'_>,
) -> Result<(), MountError> {
    let mut refused = None;
    for volatile in [true, false] {
        match mount_new("overlay", &options(overlay, volatile), attributes) {
            Ok(mount) => return move_mount(mount.as_fd(), at),
            // An unknown option: an older kernel, which gets fewer.
            Err(error) if error.errno() == libc::EINVAL => refused = Some(error),
            Err(error) if interface_missing(Errno::from_raw_os_error(error.errno())) => {
                refused = Some(error);
                break;
            }
            Err(error) => return Err(error),
        }
        if overlay.upper.is_none() {
            break;
        }
    }
    // Before 6.7 layers cannot be added one by one. Short names keep 200 of them below the page
    // that `mount(2)` takes.
    match (
        classic_mount("overlay", &classic_options(overlay), attributes, at),
        refused,
    ) {
        (Ok(()), _) => Ok(()),
        // The first message says more.
        (Err(_), Some(first)) => Err(first),
        (Err(error), None) => Err(error),
    }
}

fn common_options(overlay: Overlay<'_>) -> Vec<FsOption> {
    let mut options = Vec::with_capacity(overlay.lowers.len() + 6);
    if overlay.userxattr {
        // The kernel turns the other features off by itself and refuses to be told so.
        options.push(FsOption::Flag("userxattr"));
    } else {
        for key in ["redirect_dir", "metacopy", "index"] {
            options.push(FsOption::Value(key, "off".to_owned()));
        }
    }
    if let Some((upper, work)) = overlay.upper {
        options.push(FsOption::Value("upperdir", proc_path(upper)));
        options.push(FsOption::Value("workdir", proc_path(work)));
    }
    options
}

fn options(overlay: Overlay<'_>, volatile: bool) -> Vec<FsOption> {
    let mut options = common_options(overlay);
    // Added top-most first.
    for lower in overlay.lowers.iter().rev() {
        options.push(FsOption::Value("lowerdir+", proc_path(lower.as_fd())));
    }
    if volatile && overlay.upper.is_some() {
        options.push(FsOption::Flag("volatile"));
    }
    options
}

fn classic_options(overlay: Overlay<'_>) -> Vec<FsOption> {
    let mut options = common_options(overlay);
    let lowers = overlay.lowers.iter().rev();
    let lowers: Vec<_> = lowers.map(|lower| proc_path(lower.as_fd())).collect();
    options.push(FsOption::Value("lowerdir", lowers.join(":")));
    options
}
