//! Becoming somebody else on this machine: root of a user namespace whose ids are nobody's outside.
//!
//! It takes root of the machine, who may map any ids. The process keeps its open files and loses
//! everything else that was root's to read: what it needs lies in a directory that is made its own,
//! and reachable.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use runtime::rootless::{self, Rung, Standing};
use sys::fs::{CWD, Mode, OFlags};
use sys::mount::{Attributes, FsOption};
use sys::process::Namespaces;

use crate::error::BuildError;
use crate::request::{BuildRequest, SecretSource};
use crate::step::exec::MAX_SECRET;

/// The first id outside, and how many there are: far from those that people, services and
/// containers have. 1,000,000,000 and the 1,000,000,000 that follow.
const FIRST: u32 = 1_000_000_000;

/// Why a second build cannot be another user's.
pub(super) fn impossible(standing: &Standing, request: &BuildRequest) -> Option<&'static str> {
    if standing.rung != Rung::Root {
        return Some("only root can become somebody else");
    }
    if standing.userxattr {
        return Some("kiln is root of a user namespace, which has no ids to spare");
    }
    // It belongs to this user, and whoever connects to it must be this user or root.
    (!request.ssh.is_empty()).then_some("the ssh agent answers nobody else")
}

/// What an id of the second build is outside: this much more.
pub(super) fn outside(standing: &Standing) -> u32 {
    match standing.rung {
        Rung::Root if !standing.userxattr => FIRST,
        _ => 0,
    }
}

/// Makes a directory or a plain file root's of the second build.
pub(super) fn give(standing: &Standing, path: &Path) -> io::Result<()> {
    let root = outside(standing);
    match root {
        0 => Ok(()),
        _ => std::os::unix::fs::lchown(path, Some(root), Some(root)),
    }
}

/// The same with everything below it, if it is there.
pub(super) fn give_all(standing: &Standing, path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(standing, &entry?.path())?;
        }
    }
    give(standing, path)
}

/// Takes along what only this user can read.
pub(super) fn read_secrets(request: &mut BuildRequest) {
    for secret in request.secrets.values_mut() {
        // What cannot be read here fails where it is wanted.
        if let SecretSource::File(path) = secret
            && fs::metadata(&*path).is_ok_and(|file| file.len() <= MAX_SECRET)
            && let Ok(value) = fs::read(&*path)
        {
            *secret = SecretSource::Value(value);
        }
    }
}

/// Becomes the other user, for good; `root` is the directory that it is to reach.
///
/// # Errors
/// When the kernel refuses. The process can do nothing useful then.
pub(super) fn become_it(root: &Path) -> Result<Standing, BuildError> {
    let failed = |error| BuildError::store("make the second build's directory reachable", error);
    uncover(root).map_err(failed)?;
    rootless::enter_mapped(FIRST, FIRST)
        .map_err(|error| BuildError::store("become another user", error))
}

/// Lets everybody reach a directory, in a mount namespace of this process: the first directory on
/// the way that not everybody may enter is covered by one that leads to this one alone.
fn uncover(path: &Path) -> io::Result<()> {
    let closed = |place: &&Path| {
        let metadata = fs::metadata(place);
        metadata.is_ok_and(|found| found.mode() & 0o001 == 0)
    };
    let above = path.parent().map(Path::ancestors).into_iter().flatten();
    // The last one is the topmost.
    let Some(cover) = above.filter(closed).last() else {
        return Ok(());
    };
    let namespaces = Namespaces {
        mount: true,
        ..Namespaces::default()
    };
    let as_io = |error: sys::mount::MountError| io::Error::from_raw_os_error(error.errno());
    let refer =
        |path: &Path| sys::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    sys::process::unshare(namespaces, false)?;
    sys::mount::make_private()?;
    let directory = refer(path)?;
    let options = [FsOption::Value("mode", "0755".to_owned())];
    let at = refer(cover)?;
    sys::mount::mount_filesystem("tmpfs", &options, Attributes::empty(), at.as_fd())
        .map_err(as_io)?;
    fs::create_dir_all(path)?;
    let below = path.ancestors().take_while(|place| *place != cover);
    for place in below {
        fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
    }
    let at = refer(path)?;
    sys::mount::bind(directory.as_fd(), true, Attributes::empty(), at.as_fd()).map_err(as_io)
}
