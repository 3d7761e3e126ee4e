//! The mounts that the spec asks for, on top of the root.

use super::target::{REFER, Shape, Targets};
use super::tree::{Staging, mount_tree, open_path};
use crate::message::{During, SetUpError};
use crate::spec::{Device, Mount, MountKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::fs::{FileType, Mode};
use sys::mount::{Attributes, FsOption};

const HARMLESS: Attributes = Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV);

/// Whether a mount's target is a directory, as far as that is known before anything is mounted.
pub(crate) fn target_is_directory(mount: &Mount) -> bool {
    match &mount.kind {
        MountKind::Tmpfs { .. } => true,
        MountKind::File { .. } => false,
        MountKind::Bind { source, .. } => source.is_dir(),
        // A file inside a tree is rare; then the stub is made in the merged tree.
        MountKind::Tree { path, .. } => path == Path::new("/"),
    }
}

/// Mounts one.
pub(crate) fn mount_one(
    targets: &mut Targets<'_>,
    staging: &mut Staging,
    mount: &Mount,
) -> Result<(), SetUpError> {
    let target = &mount.target;
    let step = || format!("mount on {}", target.display());
    match &mount.kind {
        MountKind::Tmpfs { size, mode } => {
            let mut options = vec![FsOption::Value("mode", format!("{mode:o}"))];
            options.extend(size.map(|size| FsOption::Value("size", size.to_string())));
            let at = targets.open(target, Shape::Directory).during(step)?;
            sys::mount::mount_filesystem("tmpfs", &options, HARMLESS, at.as_fd()).during(step)
        }
        MountKind::File {
            content,
            mode,
            uid,
            gid,
            readonly,
        } => {
            let file = staging.file(content, *mode, (*uid, *gid)).during(step)?;
            let attributes = HARMLESS | Attributes::MOUNT_ATTR_NOEXEC | protection(*readonly);
            attach(targets, target, &file, attributes)
        }
        MountKind::Bind { source, readonly } => {
            let source =
                open_path(source).during(|| format!("open {} to mount it", source.display()))?;
            attach(targets, target, &source, protection(*readonly))
        }
        MountKind::Tree {
            tree,
            path,
            readonly,
        } => {
            let mounted = mount_tree(staging, tree, &[])?;
            let source = sys::fs::open_in_root(
                &mounted.root,
                path.as_os_str().as_bytes(),
                REFER,
                Mode::empty(),
            )
            .during(|| format!("find {} to mount it", path.display()))?;
            attach(targets, target, &source, protection(*readonly))
        }
    }
}

/// Shows an extra device node.
pub(crate) fn mount_device(targets: &mut Targets<'_>, device: &Device) -> Result<(), SetUpError> {
    let source = open_path(&device.source)
        .during(|| format!("open the device {}", device.source.display()))?;
    attach(targets, &device.target, &source, Attributes::empty())
}

fn protection(readonly: bool) -> Attributes {
    match readonly {
        true => Attributes::MOUNT_ATTR_RDONLY,
        false => Attributes::empty(),
    }
}

fn attach(
    targets: &mut Targets<'_>,
    target: &Path,
    source: &OwnedFd,
    attributes: Attributes,
) -> Result<(), SetUpError> {
    let step = || format!("mount on {}", target.display());
    let shape = match sys::fs::stat(source).during(step)?.kind {
        FileType::Directory => Shape::Directory,
        _ => Shape::File,
    };
    let at = targets.open(target, shape).during(step)?;
    sys::mount::bind(source.as_fd(), true, attributes, at.as_fd()).during(step)
}
