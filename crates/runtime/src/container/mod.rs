//! Inside the new namespaces: from a fresh copy of the helper to the program that was asked for.
//!
//! This is the only code that runs in the container before the program does. It has one thread,
//! and it reports to the helper over `channel`, which closes by itself when the program starts.

mod filesystems;
mod init;
mod mounts;
mod program;
mod streams;
mod target;
mod tree;

pub(crate) use filesystems::Surroundings;
pub(crate) use init::{Role, split};
pub(crate) use target::clean_up;

use crate::message::{During, Failure, Notice, SetUpError};
use crate::pool::Pool;
use crate::spec::{Io, Network, ProcessSpec};
use crate::wire;
use mounts::Prepared;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use sys::fs::Mode;
use sys::mount::Attributes;
use target::{Shape, Targets};
use tree::{Staging, mount_tree};

/// What a container stands on, whatever it runs: made before its spec is known, if need be.
pub(crate) struct Ground {
    staging: Staging,
    /// Where the surroundings wait for the root to be mounted.
    surroundings: OwnedFd,
}

/// Makes the ground. The first thing that a process does in its new namespaces; `pooled` says
/// whether they were copied from one with a [`Pool`].
pub(crate) fn prepare(wanted: Surroundings, pooled: bool) -> Result<Ground, SetUpError> {
    die_with_parent()?;
    sys::process::umask(Mode::empty());
    if wanted.own_network {
        sys::net::loopback_up().during(|| "bring the loopback device up".to_owned())?;
    }
    sys::mount::make_dependent().during(|| "part from the machine's mounts".to_owned())?;
    let pool = pooled.then(Pool::inherited).transpose();
    let mut staging = Staging::new(pool.during(|| "find the mounted layers".to_owned())?)?;
    let surroundings = staging.directory()?.open()?;
    filesystems::mount_all(surroundings.as_fd(), &mut staging, wanted)?;
    Ok(Ground {
        staging,
        surroundings,
    })
}

/// Becomes the program. Returns only to say why that failed.
pub(crate) fn become_program(
    spec: &ProcessSpec,
    ground: Ground,
    channel: &mut UnixStream,
    stdin: Option<OwnedFd>,
) -> Failure {
    match set_up(spec, ground, channel, stdin) {
        Ok(ready) => ready.start(),
        Err(error) => error.into(),
    }
}

fn set_up(
    spec: &ProcessSpec,
    ground: Ground,
    channel: &mut UnixStream,
    stdin: Option<OwnedFd>,
) -> Result<program::Ready, SetUpError> {
    // Not inherited from the init process, if there is one.
    die_with_parent()?;
    if !spec.hostname.is_empty() {
        sys::process::sethostname(spec.hostname.as_bytes())
            .during(|| format!("set the host name {:?}", spec.hostname))?;
    }
    build_tree(spec, ground, channel)?;
    if let Network::Connected(_) = spec.network {
        connect(channel)?;
    }
    create_directory(&spec.cwd)
        .during(|| format!("make the working directory {}", spec.cwd.display()))?;
    sys::process::umask(Mode::from_raw_mode(0o022));
    streams::set_up(spec, channel, stdin)?;
    program::prepare(spec, channel)
}

/// Makes a directory that is missing. Links are followed, also those that lead nowhere.
fn create_directory(path: &Path) -> io::Result<()> {
    let root = tree::open_path(Path::new("/"))?;
    Targets::new(root.as_fd(), None).open(path, Shape::Directory)?;
    Ok(())
}

fn die_with_parent() -> Result<(), SetUpError> {
    sys::process::die_with_parent().during(|| "tie the container to its helper".to_owned())
}

/// Mounts everything and makes it the root of this process.
fn build_tree(
    spec: &ProcessSpec,
    ground: Ground,
    channel: &mut UnixStream,
) -> Result<(), SetUpError> {
    let Ground {
        mut staging,
        surroundings,
    } = ground;
    let mut prepared = Vec::with_capacity(spec.devices.len() + spec.mounts.len());
    for device in &spec.devices {
        prepared.push(Prepared::device(&mut staging, device)?);
    }
    let made_devices = filesystems::made_devices(spec.security.all_devices);
    for mount in &spec.mounts {
        prepared.push(Prepared::mount(&mut staging, mount, made_devices)?);
    }
    let fixed = filesystems::MOUNT_POINTS.map(|path| (Path::new(path), Shape::Directory));
    let stubs: Vec<_> = fixed
        .into_iter()
        .chain(prepared.iter().map(Prepared::stub))
        .collect();
    let root = mount_tree(&mut staging, &spec.root, &stubs, made_devices)?;
    let upper = root.upper.as_ref().map(AsFd::as_fd);
    let mut targets = Targets::new(root.root.as_fd(), upper);
    filesystems::move_all(surroundings.as_fd(), &mut targets)?;
    for mount in &prepared {
        mount.attach(&mut targets)?;
    }
    // What is mounted there shows no more than what it lies on did.
    let covers_masks = |path: &Path| path.starts_with("/proc") || path.starts_with("/sys");
    if spec.security.masked_paths && prepared.iter().any(|mount| covers_masks(mount.stub().0)) {
        filesystems::mask(&targets, &mut staging)?;
    }
    let (made, directories) = targets
        .made()
        .during(|| "look at the mount targets".to_owned())?;
    if !made.is_empty() {
        let notice = Notice::Made {
            stubs: made,
            directories,
        };
        tell(channel, &notice)?;
    }
    if spec.readonly_root {
        sys::mount::set_attributes(root.root.as_fd(), Attributes::MOUNT_ATTR_RDONLY, false)
            .during(|| "write-protect the root".to_owned())?;
    }
    // The pool, or else the staging file system, covers the old root.
    sys::mount::pivot_into(root.root.as_fd(), 1).during(|| "change the root".to_owned())?;
    // Bind mounts of the machine's would go on following it.
    sys::mount::make_private().during(|| "make the mounts private".to_owned())
}

fn tell(channel: &mut UnixStream, notice: &Notice) -> Result<(), SetUpError> {
    wire::send(channel, notice, &[]).during(|| "report to the helper".to_owned())
}

/// Waits until the helper has connected this network namespace.
fn connect(channel: &mut UnixStream) -> Result<(), SetUpError> {
    tell(channel, &Notice::Connect)?;
    let mut connected = [0];
    channel
        .read_exact(&mut connected)
        .during(|| "wait for the network".to_owned())
}

/// Whether the spec asks for a terminal.
fn wants_terminal(spec: &ProcessSpec) -> bool {
    matches!(spec.io, Io::Terminal(_))
}
