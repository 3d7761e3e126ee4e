//! Cloning, attaching, changing and detaching mounts.

use super::{Attributes, MountError};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

fn attach_error(operation: &'static str) -> impl Fn(Errno) -> MountError {
    move |errno| MountError::Attach {
        operation,
        source: errno.into(),
    }
}

/// A detached copy of the mount that `source` lies in, with `source` as its root; with the mounts
/// below it when `recursive`. It vanishes with its last descriptor unless it is attached.
///
/// # Errors
/// The errno of `open_tree(2)`; `ENOSYS` before Linux 5.2.
pub fn clone_tree(source: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(rustix::mount::open_tree(source, c"", flags)?)
}

/// Attaches a detached mount on top of the directory or file behind `at`.
///
/// # Errors
/// [`MountError::Attach`].
pub fn move_mount(mount: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", at, c"", flags).map_err(attach_error("attach a mount"))
}

/// Shows what is behind `source` also at `at`, with the given attributes set on every mount that
/// takes part.
///
/// # Errors
/// [`MountError::Attach`].
pub fn bind(
    source: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes,
    at: BorrowedFd<'_>,
) -> Result<(), MountError> {
    match clone_tree(source, recursive) {
        Ok(tree) => {
            if !attributes.is_empty() {
                set_attributes(tree.as_fd(), attributes, recursive).map_err(|source| {
                    MountError::Attach {
                        operation: "set the attributes of a bind mount",
                        source,
                    }
                })?;
            }
            move_mount(tree.as_fd(), at)
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            classic_bind(source, recursive, attributes, at)
        }
        Err(source) => Err(MountError::Attach {
            operation: "clone a mount",
            source,
        }),
    }
}

/// `mount --bind` and the remount that its attributes need. Attributes of mounts below stay.
fn classic_bind(
    source: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes,
    at: BorrowedFd<'_>,
) -> Result<(), MountError> {
    let (from, to) = (proc_path(source), proc_path(at));
    match recursive {
        true => rustix::mount::mount_bind_recursive(&from, &to),
        false => rustix::mount::mount_bind(&from, &to),
    }
    .map_err(attach_error("bind-mount"))?;
    if attributes.is_empty() {
        return Ok(());
    }
    // `at` still names the directory below the new mount; only a path look-up sees the mount.
    let path = rustix::fs::readlink(&to, Vec::new()).map_err(attach_error("bind-mount"))?;
    let flags = MountFlags::BIND | classic_flags(attributes);
    rustix::mount::mount_remount(&path, flags, c"").map_err(attach_error("protect a bind mount"))
}

pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

pub(super) fn classic_flags(attributes: Attributes) -> MountFlags {
    let mut flags = MountFlags::empty();
    for (attribute, flag) in [
        (Attributes::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (Attributes::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (Attributes::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (Attributes::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    ] {
        flags.set(flag, attributes.contains(attribute));
    }
    flags
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets attributes on the mount whose root is behind `mount`, and on those below it when
/// `recursive`.
///
/// # Errors
/// The errno of `mount_setattr(2)`; `ENOSYS` before Linux 5.12.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr {
        set: attributes.bits().into(),
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal and `attr` is a live struct of the size passed;
    // the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Shows what is behind `path` at itself again with attributes: write-protects a part of a mount.
///
/// # Errors
/// [`MountError::Attach`].
pub fn protect(path: BorrowedFd<'_>, attributes: Attributes) -> Result<(), MountError> {
    bind(path, true, attributes, path)
}

/// Cuts this mount namespace off from the one it was copied from.
///
/// # Errors
/// The errno of `mount(2)`.
pub fn make_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change(c"/", flags)?)
}

/// Keeps this mount namespace's changes from the one it was copied from, but follows those made
/// there: what is unmounted there does not stay in use here.
///
/// # Errors
/// The errno of `mount(2)`.
pub fn make_dependent() -> io::Result<()> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change(c"/", flags)?)
}

/// Shows what will be mounted below the working directory, the root of a mount, also in the
/// namespaces that are copied from this one.
///
/// # Errors
/// The errno of `mount(2)`.
pub fn share_working_directory() -> io::Result<()> {
    Ok(rustix::mount::mount_change(
        c".",
        MountPropagationFlags::SHARED,
    )?)
}

/// Moves a mount and those below it to the directory behind `at`.
///
/// # Errors
/// [`MountError::Attach`].
pub fn move_tree(mount: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<(), MountError> {
    match move_mount(mount, at) {
        // Shown there too is as good where nobody sees where it was.
        Err(error) if interface_missing(Errno::from_raw_os_error(error.errno())) => {
            bind(mount, true, Attributes::empty(), at)
        }
        other => other,
    }
}

/// Makes the mount whose root is behind `root` the root of the namespace and of this process, and
/// detaches the old one with everything on it. `covers` mounts were mounted on top of `/` itself;
/// they go too.
///
/// # Errors
/// [`MountError::Attach`].
pub fn pivot_into(root: BorrowedFd<'_>, covers: usize) -> Result<(), MountError> {
    rustix::process::fchdir(root).map_err(attach_error("enter the new root"))?;
    // Old and new root may be the same directory: the old root is then mounted on top of the new
    // one, and taking it away leaves the new one (pivot_root(2), notes).
    rustix::process::pivot_root(c".", c".").map_err(attach_error("pivot into the new root"))?;
    // Top-most first: what covered the old root, then the old root.
    for _ in 0..=covers {
        rustix::mount::unmount(c".", UnmountFlags::DETACH)
            .map_err(attach_error("detach the old root"))?;
    }
    rustix::process::chdir(c"/").map_err(attach_error("enter the new root"))
}

/// Takes the mount at `path` off the tree; it ends when nobody uses it any more.
///
/// # Errors
/// The errno of `umount2(2)`.
pub fn detach(path: impl rustix::path::Arg) -> io::Result<()> {
    Ok(rustix::mount::unmount(
        path,
        UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
    )?)
}

/// Whether the descriptor-based interface is missing or filtered away.
pub(super) fn interface_missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::OPNOTSUPP)
}

/// Opens a path that takes part in a mount (`O_PATH`).
///
/// # Errors
/// [`MountError::Open`].
pub fn open_part(path: &std::path::Path) -> Result<OwnedFd, MountError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| MountError::Open {
        path: path.display().to_string(),
        source: errno.into(),
    })
}
