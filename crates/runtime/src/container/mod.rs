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

pub(crate) use init::{Role, split};
pub(crate) use target::clean_up;

use crate::message::{During, Failure, Notice, SetUpError};
use crate::spec::{Io, Network, ProcessSpec};
use crate::wire;
use mounts::Prepared;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use sys::fs::Mode;
use sys::mount::Attributes;
use target::{Shape, Targets};
use tree::{Staging, mount_tree};

/// Becomes the program. Returns only to say why that failed.
pub(crate) fn become_program(
    spec: &ProcessSpec,
    channel: &mut UnixStream,
    stdin: Option<OwnedFd>,
) -> Failure {
    match set_up(spec, channel, stdin) {
        Ok(ready) => ready.start(),
        Err(error) => error.into(),
    }
}

fn set_up(
    spec: &ProcessSpec,
    channel: &mut UnixStream,
    stdin: Option<OwnedFd>,
) -> Result<program::Ready, SetUpError> {
    sys::process::die_with_parent().during(|| "tie the container to its helper".to_owned())?;
    sys::process::umask(Mode::empty());
    if !spec.hostname.is_empty() {
        sys::process::sethostname(spec.hostname.as_bytes())
            .during(|| format!("set the host name {:?}", spec.hostname))?;
    }
    if spec.network != Network::Host {
        sys::net::loopback_up().during(|| "bring the loopback device up".to_owned())?;
    }
    sys::mount::make_private().during(|| "make the mounts private".to_owned())?;
    build_tree(spec, channel)?;
    if let Network::Connected(_) = spec.network {
        connect(channel)?;
    }
    program::create_directory(&spec.cwd)
        .during(|| format!("make the working directory {}", spec.cwd.display()))?;
    sys::process::umask(Mode::from_raw_mode(0o022));
    streams::set_up(spec, channel, stdin)?;
    program::prepare(spec)
}

/// Mounts everything and makes it the root of this process.
fn build_tree(spec: &ProcessSpec, channel: &mut UnixStream) -> Result<(), SetUpError> {
    let mut staging = Staging::new()?;
    let devices = spec.devices.iter().map(Prepared::device);
    let mut prepared = devices.collect::<Result<Vec<_>, _>>()?;
    for mount in &spec.mounts {
        prepared.push(Prepared::mount(&mut staging, mount)?);
    }
    let fixed = filesystems::MOUNT_POINTS.map(|path| (Path::new(path), Shape::Directory));
    let stubs: Vec<_> = fixed
        .into_iter()
        .chain(prepared.iter().map(Prepared::stub))
        .collect();
    let root = mount_tree(&mut staging, &spec.root, &stubs)?;
    let upper = root.upper.as_ref().map(AsFd::as_fd);
    let mut targets = Targets::new(root.root.as_fd(), upper);
    filesystems::mount_all(&mut targets, spec)?;
    for mount in &prepared {
        mount.attach(&mut targets)?;
    }
    if spec.security.masked_paths {
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
    // The staging file system covers the old root.
    sys::mount::pivot_into(root.root.as_fd(), 1).during(|| "change the root".to_owned())
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
