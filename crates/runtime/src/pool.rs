//! Packed layers that stay mounted from one container to the next.
//!
//! The helper has a mount namespace of its own and in it, on top of `/`, a file system in memory:
//!
//! ```text
//! / ◄── pool ─┬─ staging                  where each container mounts its own scratch file system
//!             ├─ <device>-<inode>         the layer with that index
//!             └─ lock                     held while a layer is mounted
//! ```
//!
//! The namespaces of containers are copies of the helper's. What is mounted in the pool shows in
//! all of them, also in those that were made before, until they leave it behind with the old root.
//! So a layer is mounted once for all steps of a build, and what one step read of it is in memory
//! for the next.

use crate::spec::{MountKind, ProcessSpec};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use sys::fs::{CWD, Mode, OFlags};
use sys::mount::{Attributes, FsOption, Lower, RootMount};
use sys::process::Namespaces;

const STAGING: &str = "staging";
const LOCK: &str = "lock";
const REFER: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The pool of this process's mount namespace.
#[derive(Debug)]
pub(crate) struct Pool {
    root: OwnedFd,
}

impl Pool {
    /// Moves this process, which has one thread, to a mount namespace with a pool, which becomes
    /// its working directory.
    ///
    /// # Errors
    /// When the kernel refuses. The process may be in another namespace then, which looks the same.
    pub(crate) fn create() -> io::Result<Pool> {
        let namespaces = Namespaces {
            mount: true,
            ..Namespaces::default()
        };
        sys::process::unshare(namespaces, false)?;
        sys::mount::make_dependent()?;
        let options = [FsOption::Value("mode", "0755".to_owned())];
        let as_io = |error: sys::mount::MountError| io::Error::from_raw_os_error(error.errno());
        let root = sys::mount::mount_new("ramfs", &options, Attributes::empty()).map_err(as_io)?;
        sys::fs::mkdirat(&root, STAGING, Mode::from_raw_mode(0o755))?;
        let slash = sys::fs::openat(CWD, "/", REFER, Mode::empty())?;
        sys::mount::move_mount(root.as_fd(), slash.as_fd()).map_err(as_io)?;
        sys::process::fchdir(&root)?;
        if let Err(error) = sys::mount::share_working_directory() {
            std::env::set_current_dir("/")?;
            return Err(error);
        }
        Ok(Pool { root })
    }

    /// The pool of a namespace that was just copied, whose working directory is still the one that
    /// [`Pool::create`] left. Afterwards it is `/`.
    pub(crate) fn inherited() -> io::Result<Pool> {
        let root = sys::fs::openat(CWD, ".", REFER, Mode::empty())?;
        std::env::set_current_dir("/")?;
        Ok(Pool { root })
    }

    /// The directory that a container's scratch file system goes on.
    pub(crate) fn staging(&self) -> io::Result<OwnedFd> {
        Ok(sys::fs::openat(&self.root, STAGING, REFER, Mode::empty())?)
    }

    /// The root of a packed layer, if it is mounted here.
    pub(crate) fn find(&self, index: &Path) -> Option<OwnedFd> {
        let name = name(index).ok()?;
        let layer = sys::fs::openat(&self.root, name, REFER, Mode::empty()).ok()?;
        let (inside, outside) = (sys::fs::stat(&layer).ok()?, sys::fs::stat(&self.root).ok()?);
        (inside.device != outside.device).then_some(layer)
    }

    /// Mounts the packed layers of a spec that are not here yet. One that cannot be mounted is
    /// left out: the container tries again, and says why it cannot. Returns how many are here.
    pub(crate) fn provide(&self, spec: &ProcessSpec) -> u32 {
        let mut here = 0;
        let trees = spec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Tree { tree, .. } => Some(tree),
            _ => None,
        });
        for tree in std::iter::once(&spec.root).chain(trees) {
            let (RootMount::Overlay { lowers, .. } | RootMount::ReadOnly { lowers, .. }) = tree
            else {
                continue;
            };
            for lower in lowers {
                if let Lower::Erofs { index, tar } = lower
                    && (self.find(index).is_some() || self.mount(index, tar).is_ok())
                {
                    here += 1;
                }
            }
        }
        here
    }

    fn mount(&self, index: &Path, tar: &Path) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC;
        let lock = sys::fs::openat(&self.root, LOCK, flags, Mode::from_raw_mode(0o600))?;
        let lock = File::from(lock);
        lock.lock()?;
        // Somebody else may have mounted it meanwhile.
        if self.find(index).is_none() {
            let name = name(index)?;
            match sys::fs::mkdirat(&self.root, name.as_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(sys::Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let at = sys::fs::openat(&self.root, name, REFER, Mode::empty())?;
            sys::mount::mount_erofs(index, tar, at.as_fd())
                .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        }
        Ok(())
    }
}

/// A mounted index stays in use, so that no other file gets its number.
fn name(index: &Path) -> io::Result<String> {
    let stat = sys::fs::stat_at(CWD, index)?;
    Ok(format!("{:x}-{:x}", stat.device, stat.inode))
}
