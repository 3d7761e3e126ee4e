//! Mounting trees: a scratch file system to mount things in, layers, stacks of them.
//!
//! Everything but pooled layers is first mounted inside the *staging* file system, on top of `/` in the
//! container's mount namespace: reachable by descriptor only, so that paths of the machine keep
//! working, and no directory of the machine is needed as a mount point.

use super::target::{REFER, Shape};
use crate::message::{During, SetUpError};
use crate::pool::Pool;
use crate::spec::DeviceNode;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use sys::fs::{CWD, FileType, Mode, OFlags};
use sys::mount::{Attributes, FsOption, Lower, Overlay, RootMount};

/// The scratch file system. It is of a kind that is never swapped out, for it holds secrets.
pub(crate) struct Staging {
    root: OwnedFd,
    used: u32,
    pool: Option<Pool>,
}

impl Staging {
    /// Mounts it. The mount namespace must be the container's own, `pool` that of this namespace.
    pub(crate) fn new(pool: Option<Pool>) -> Result<Staging, SetUpError> {
        let options = [FsOption::Value("mode", "0755".to_owned())];
        let step = || "mount the staging file system".to_owned();
        let slash = match &pool {
            // On top of `/` too, so that one cover is to be taken away.
            Some(pool) => pool.staging().during(step)?,
            None => open_path(Path::new("/")).during(step)?,
        };
        let root = match sys::mount::mount_new("ramfs", &options, Attributes::empty()) {
            Ok(mount) => {
                sys::mount::move_mount(mount.as_fd(), slash.as_fd()).during(step)?;
                mount
            }
            Err(error) if error.errno() == sys::Errno::NOSYS.raw_os_error() => {
                sys::mount::mount_filesystem("ramfs", &options, Attributes::empty(), slash.as_fd())
                    .during(step)?;
                // `..` of the root enters what is mounted on it.
                open_path(Path::new("/..")).during(step)?
            }
            Err(error) => return Err(error).during(step),
        };
        Ok(Staging {
            root,
            used: 0,
            pool,
        })
    }

    /// A new empty directory.
    pub(crate) fn directory(&mut self) -> Result<StagedPath<'_>, SetUpError> {
        let name = self.next_name();
        sys::fs::mkdirat(&self.root, name.as_str(), Mode::from_raw_mode(0o755))
            .during(|| "make a staging directory".to_owned())?;
        Ok(StagedPath {
            staging: &self.root,
            name,
        })
    }

    /// A new file with this content.
    pub(crate) fn file(
        &mut self,
        content: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> std::io::Result<OwnedFd> {
        use std::io::Write;
        let name = self.next_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = sys::fs::openat(&self.root, name.as_str(), flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(fd);
        file.write_all(content)?;
        sys::fs::set_owner(&file, c"", uid, gid)?;
        sys::fs::set_permissions(&file, mode)?;
        self.refer(&name)
    }

    /// A new device node.
    pub(crate) fn node(&mut self, node: DeviceNode) -> std::io::Result<OwnedFd> {
        let name = self.next_name();
        let kind = match node.block {
            true => FileType::BlockDevice,
            false => FileType::CharacterDevice,
        };
        let numbers = (node.major, node.minor);
        sys::fs::make_device(&self.root, name.as_str(), kind, node.mode, numbers)?;
        sys::fs::set_owner(&self.root, name.as_str(), node.uid, node.gid)?;
        self.refer(&name)
    }

    fn refer(&self, name: &str) -> std::io::Result<OwnedFd> {
        Ok(sys::fs::openat(&self.root, name, REFER, Mode::empty())?)
    }

    fn next_name(&mut self) -> String {
        self.used += 1;
        self.used.to_string()
    }
}

/// A directory of the staging file system that something gets mounted on.
pub(crate) struct StagedPath<'a> {
    staging: &'a OwnedFd,
    name: String,
}

impl StagedPath<'_> {
    /// The directory; once something is mounted on it, the root of that.
    pub(crate) fn open(&self) -> Result<OwnedFd, SetUpError> {
        sys::fs::openat(self.staging, self.name.as_str(), REFER, Mode::empty())
            .during(|| "open a staging directory".to_owned())
    }
}

/// A mounted tree.
pub(crate) struct Mounted {
    /// Its root.
    pub(crate) root: OwnedFd,
    /// The directory that takes the writes, if there is one.
    pub(crate) upper: Option<OwnedFd>,
}

/// Mounts a tree in the staging file system. `stubs` are paths that become visible in it where it
/// has nothing else, as far as that is possible without changing it.
pub(crate) fn mount_tree(
    staging: &mut Staging,
    tree: &RootMount,
    stubs: &[(&Path, Shape)],
    attributes: Attributes,
) -> Result<Mounted, SetUpError> {
    match tree {
        RootMount::Bind { source, readonly } => {
            bind_tree(staging, source, attributes | protection(*readonly))
        }
        RootMount::Overlay {
            lowers,
            upper,
            work,
            userxattr,
        } => {
            let step = || format!("mount the layers with upper directory {}", upper.display());
            settle_work(work);
            let upper_fd = open_path(upper).during(step)?;
            let work_fd = open_path(work).during(step)?;
            let layers = lower_layers(staging, lowers, stubs)?;
            let overlay = Overlay {
                lowers: &layers,
                upper: Some((upper_fd.as_fd(), work_fd.as_fd())),
                userxattr: *userxattr,
            };
            let at = staging.directory()?;
            sys::mount::mount_overlay(overlay, attributes, at.open()?.as_fd()).during(step)?;
            Ok(Mounted {
                root: at.open()?,
                upper: Some(upper_fd),
            })
        }
        RootMount::ReadOnly { lowers, userxattr } => {
            // The layer of stubs also makes two of one: an overlay without upper needs that.
            let layers = lower_layers(staging, lowers, stubs)?;
            let overlay = Overlay {
                lowers: &layers,
                upper: None,
                userxattr: *userxattr,
            };
            let at = staging.directory()?;
            let attributes = attributes | protection(true);
            sys::mount::mount_overlay(overlay, attributes, at.open()?.as_fd())
                .during(|| "mount read-only layers".to_owned())?;
            Ok(Mounted {
                root: at.open()?,
                upper: None,
            })
        }
    }
}

fn bind_tree(
    staging: &mut Staging,
    source: &Path,
    attributes: Attributes,
) -> Result<Mounted, SetUpError> {
    let step = || format!("bind-mount {}", source.display());
    let source_fd = open_path(source).during(step)?;
    let at = staging.directory()?;
    sys::mount::bind(source_fd.as_fd(), true, attributes, at.open()?.as_fd()).during(step)?;
    Ok(Mounted {
        root: at.open()?,
        upper: (!attributes.contains(protection(true))).then_some(source_fd),
    })
}

/// What makes a mount read-only.
pub(crate) fn protection(readonly: bool) -> Attributes {
    match readonly {
        true => Attributes::MOUNT_ATTR_RDONLY,
        false => Attributes::empty(),
    }
}

/// The lower layers, bottom first: the stubs under everything else, so that whatever the image has
/// wins, then the tree's own.
fn lower_layers(
    staging: &mut Staging,
    lowers: &[Lower],
    stubs: &[(&Path, Shape)],
) -> Result<Vec<OwnedFd>, SetUpError> {
    let mut layers = Vec::with_capacity(lowers.len() + 1);
    let bottom = staging.directory()?.open()?;
    for (path, shape) in stubs {
        // Best effort: what is still missing in the merged tree is made there.
        make_stub(&bottom, path, *shape).ok();
    }
    layers.push(bottom);
    for lower in lowers {
        layers.push(match lower {
            Lower::Dir(path) => {
                open_path(path).during(|| format!("open layer {}", path.display()))?
            }
            Lower::Erofs { index, tar } => {
                match staging.pool.as_ref().and_then(|pool| pool.find(index)) {
                    Some(layer) => layer,
                    None => {
                        let at = staging.directory()?;
                        sys::mount::mount_erofs(index, tar, at.open()?.as_fd())
                            .during(|| format!("mount layer {}", index.display()))?;
                        at.open()?
                    }
                }
            }
        });
    }
    Ok(layers)
}

fn make_stub(bottom: &OwnedFd, path: &Path, shape: Shape) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Component;
    let mut at = bottom.try_clone()?;
    let names: Vec<_> = path
        .components()
        .filter(|component| !matches!(component, Component::RootDir | Component::CurDir))
        .collect();
    for (position, name) in names.iter().enumerate() {
        let Component::Normal(name) = name else {
            return Ok(());
        };
        let name = name.as_bytes();
        if shape == Shape::Directory || position + 1 < names.len() {
            match sys::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                Err(sys::Errno::EXIST) => {}
                other => other?,
            }
        } else {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            sys::fs::openat(&at, name, flags, Mode::from_raw_mode(0o644))?;
            return Ok(());
        }
        at = sys::fs::openat(&at, name, REFER | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(())
}

/// Opens a path of the machine to refer to it, links followed.
pub(crate) fn open_path(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(sys::fs::openat(CWD, path, REFER, Mode::empty())?)
}

/// Forgets that an earlier run's overlay was volatile, so that its directories can be mounted
/// again. Done now and not after the run, since most working directories are thrown away then.
fn settle_work(work: &Path) {
    // Absent after no run, and where the kernel has no volatile mounts.
    std::fs::remove_dir_all(work.join("work/incompat")).ok();
}
