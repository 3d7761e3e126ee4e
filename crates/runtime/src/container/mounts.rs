//! The mounts that the spec asks for, on top of the root.
//!
//! First the source of each is opened, when it is not known yet what the root looks like; then,
//! over the mounted root, each is attached in order.

use super::target::{REFER, Shape, Targets};
use super::tree::{Staging, mount_tree, open_path, protection};
use crate::message::{During, SetUpError};
use crate::spec::{Device, Mount, MountKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::fs::{FileType, Mode};
use sys::mount::{Attributes, FsOption};

const HARMLESS: Attributes = Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV);

/// A mount whose source is there.
pub(crate) struct Prepared<'a> {
    target: &'a Path,
    source: Source,
}

enum Source {
    Tmpfs(Vec<FsOption>),
    Bind {
        source: OwnedFd,
        shape: Shape,
        attributes: Attributes,
    },
}

impl<'a> Prepared<'a> {
    /// Opens, mounts or writes the source of a mount. `devices`: what becomes of device nodes in
    /// trees.
    pub(crate) fn mount(
        staging: &mut Staging,
        mount: &'a Mount,
        devices: Attributes,
    ) -> Result<Self, SetUpError> {
        let target = mount.target.as_path();
        match &mount.kind {
            MountKind::Tmpfs { size, mode } => {
                let mut options = vec![FsOption::Value("mode", format!("{mode:o}"))];
                options.extend(size.map(|size| FsOption::Value("size", size.to_string())));
                Ok(Prepared {
                    target,
                    source: Source::Tmpfs(options),
                })
            }
            MountKind::File {
                content,
                mode,
                uid,
                gid,
                readonly,
            } => {
                let source = staging
                    .file(content, *mode, (*uid, *gid))
                    .during(|| format!("write the file for {}", target.display()))?;
                // A script is a file that somebody means to run.
                let execution = match mode & 0o111 {
                    0 => Attributes::MOUNT_ATTR_NOEXEC,
                    _ => Attributes::empty(),
                };
                let attributes = HARMLESS | execution | protection(*readonly);
                Prepared::bind(target, source, attributes)
            }
            MountKind::Bind {
                source,
                readonly,
                nosuid,
                noexec,
            } => {
                // Whoever shows a part of `/dev` means its devices.
                let devices = match source.starts_with("/dev") {
                    true => Attributes::empty(),
                    false => devices,
                };
                let source = open_path(source)
                    .during(|| format!("open {} to mount it", source.display()))?;
                let restrictions = [
                    (*nosuid, Attributes::MOUNT_ATTR_NOSUID),
                    (*noexec, Attributes::MOUNT_ATTR_NOEXEC),
                ];
                let wanted = restrictions.iter().filter(|(wanted, _)| *wanted);
                let restrictions: Attributes = wanted.map(|(_, attribute)| *attribute).collect();
                let attributes = devices | restrictions | protection(*readonly);
                Prepared::bind(target, source, attributes)
            }
            MountKind::Tree {
                tree,
                path,
                readonly,
            } => {
                let root = mount_tree(staging, tree, &[], devices)?.root;
                let name = path.as_os_str().as_bytes();
                let source = sys::fs::open_in_root(&root, name, REFER, Mode::empty())
                    .during(|| format!("find {} to mount it", path.display()))?;
                Prepared::bind(target, source, protection(*readonly))
            }
        }
    }

    /// Opens a device node, or makes one.
    pub(crate) fn device(staging: &mut Staging, device: &'a Device) -> Result<Self, SetUpError> {
        const FORBIDDEN: Option<i32> = Some(sys::Errno::PERM.raw_os_error());
        let source = match device.node.map(|node| staging.node(node)) {
            Some(Err(error)) if error.raw_os_error() == FORBIDDEN => open_path(&device.source),
            Some(made) => made,
            None => open_path(&device.source),
        }
        .during(|| format!("open the device {}", device.source.display()))?;
        Prepared::bind(&device.target, source, Attributes::empty())
    }

    fn bind(target: &'a Path, source: OwnedFd, attributes: Attributes) -> Result<Self, SetUpError> {
        let kind = sys::fs::stat(&source)
            .during(|| format!("look at the source of {}", target.display()))?
            .kind;
        let shape = match kind {
            FileType::Directory => Shape::Directory,
            _ => Shape::File,
        };
        Ok(Prepared {
            target,
            source: Source::Bind {
                source,
                shape,
                attributes,
            },
        })
    }

    /// The mount point, and what it must be.
    pub(crate) fn stub(&self) -> (&'a Path, Shape) {
        match self.source {
            Source::Tmpfs(_) => (self.target, Shape::Directory),
            Source::Bind { shape, .. } => (self.target, shape),
        }
    }

    /// Mounts it over the root.
    pub(crate) fn attach(&self, targets: &mut Targets<'_>) -> Result<(), SetUpError> {
        let (target, shape) = self.stub();
        let step = || format!("mount on {}", target.display());
        let at = targets.open(target, shape).during(step)?;
        match &self.source {
            Source::Tmpfs(options) => {
                sys::mount::mount_filesystem("tmpfs", options, HARMLESS, at.as_fd()).during(step)
            }
            Source::Bind {
                source, attributes, ..
            } => sys::mount::bind(source.as_fd(), true, *attributes, at.as_fd()).during(step),
        }
    }
}
