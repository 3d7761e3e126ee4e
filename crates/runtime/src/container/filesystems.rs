//! What every container has beside its root: `/proc`, `/dev`, `/sys`, and the parts of them that
//! are hidden or write-protected.

use super::target::{REFER, Shape, Targets};
use super::tree::{Staging, open_path};
use crate::message::{During, SetUpError};
use crate::spec::{DEFAULT_SHM_SIZE, DeviceNode, Network, ProcessSpec};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::fs::{CWD, FileType, Mode, OFlags};
use sys::mount::{Attributes, FsOption, MountError};

/// Directories that are mount points in every container.
pub(crate) const MOUNT_POINTS: [&str; 3] = ["/proc", "/dev", "/sys"];

const NOSUID: Attributes = Attributes::MOUNT_ATTR_NOSUID;
const NODEV: Attributes = Attributes::MOUNT_ATTR_NODEV;
const NOEXEC: Attributes = Attributes::MOUNT_ATTR_NOEXEC;
const RDONLY: Attributes = Attributes::MOUNT_ATTR_RDONLY;
const INERT: Attributes = NOSUID.union(NODEV).union(NOEXEC);

/// Device nodes of every container: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Symbolic links in `/dev`.
const DEVICE_LINKS: [(&str, &str); 6] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// docker's masked paths.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// docker's write-protected paths.
const PROTECTED: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What a spec says of the surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Bytes of `/dev/shm`.
    shm_size: u64,
    masked_paths: bool,
    all_devices: bool,
    /// A network namespace of its own.
    pub(crate) own_network: bool,
}

impl Surroundings {
    /// What most steps of a build want.
    pub(crate) const USUAL: Surroundings = Surroundings {
        shm_size: DEFAULT_SHM_SIZE,
        masked_paths: true,
        all_devices: false,
        own_network: false,
    };

    pub(crate) fn of(spec: &ProcessSpec) -> Surroundings {
        Surroundings {
            shm_size: spec.shm_size,
            masked_paths: spec.security.masked_paths,
            all_devices: spec.security.all_devices,
            own_network: spec.network != Network::Host,
        }
    }
}

/// Mounts `/proc`, `/dev` and `/sys`, and hides and write-protects what is to be.
pub(crate) fn mount_all(
    base: BorrowedFd<'_>,
    staging: &mut Staging,
    wanted: Surroundings,
) -> Result<(), SetUpError> {
    let targets = &mut Targets::new(base, None);
    let proc = target(targets, "/proc")?;
    sys::mount::mount_filesystem("proc", &[], INERT, proc.as_fd())
        .during(|| "mount /proc".to_owned())?;
    mount_dev(targets, staging, wanted)?;
    mount_sys(targets, wanted)?;
    match wanted.masked_paths {
        true => mask(targets, staging),
        false => Ok(()),
    }
}

/// Moves what [`mount_all`] mounted from `base` to the root.
pub(crate) fn move_all(base: BorrowedFd<'_>, targets: &mut Targets<'_>) -> Result<(), SetUpError> {
    for path in MOUNT_POINTS {
        let step = || format!("mount {path}");
        let name = path.trim_start_matches('/');
        let mount = sys::fs::openat(base, name, REFER, Mode::empty()).during(step)?;
        let at = target(targets, path)?;
        sys::mount::move_tree(mount.as_fd(), at.as_fd()).during(step)?;
    }
    Ok(())
}

fn target(targets: &mut Targets<'_>, path: &str) -> Result<OwnedFd, SetUpError> {
    targets
        .open(Path::new(path), Shape::Directory)
        .during(|| format!("make the mount point {path}"))
}

fn value(key: &'static str, value: impl ToString) -> FsOption {
    FsOption::Value(key, value.to_string())
}

fn mount_dev(
    targets: &mut Targets<'_>,
    staging: &mut Staging,
    wanted: Surroundings,
) -> Result<(), SetUpError> {
    let at = target(targets, "/dev")?;
    let options = [value("mode", "755"), value("size", "65536k")];
    let attributes = NOSUID | made_devices(wanted.all_devices);
    let step = || "mount /dev".to_owned();
    sys::mount::mount_filesystem("tmpfs", &options, attributes, at.as_fd()).during(step)?;
    let dev = target(targets, "/dev")?;
    for (name, major, minor) in DEVICES {
        device(staging, dev.as_fd(), name, (major, minor))
            .during(|| format!("make /dev/{name}"))?;
    }
    for (name, link) in DEVICE_LINKS {
        sys::fs::symlinkat(link, &dev, name).during(|| format!("make /dev/{name}"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        sys::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).during(step)?;
    }
    let inside = |name: &str| sys::fs::openat(&dev, name, REFER, Mode::empty()).during(step);
    mount_pts(inside("pts")?.as_fd()).during(|| "mount /dev/pts".to_owned())?;
    let options = [value("mode", "1777"), value("size", wanted.shm_size)];
    sys::mount::mount_filesystem("tmpfs", &options, INERT, inside("shm")?.as_fd())
        .during(|| "mount /dev/shm".to_owned())?;
    sys::mount::mount_filesystem("mqueue", &[], INERT, inside("mqueue")?.as_fd())
        .during(|| "mount /dev/mqueue".to_owned())?;
    if wanted.all_devices {
        all_devices(dev.as_fd()).during(|| "show the machine's devices".to_owned())?;
    }
    Ok(())
}

/// What keeps device nodes from being opened that come with the layers or are made by the
/// container's root: those in `/dev` are mounts of their own.
pub(crate) fn made_devices(all_devices: bool) -> Attributes {
    match all_devices {
        true => Attributes::empty(),
        false => NODEV,
    }
}

/// A device node; in a user namespace, where none can be made, the machine's own.
fn device(
    staging: &mut Staging,
    dev: BorrowedFd<'_>,
    name: &str,
    numbers: (u32, u32),
) -> io::Result<()> {
    let (major, minor) = numbers;
    let node = DeviceNode {
        block: false,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    match staging.node(node) {
        Err(error) if error.raw_os_error() == Some(sys::Errno::PERM.raw_os_error()) => {
            show_machines_device(dev, name)
        }
        made => show_device(dev, name, made?),
    }
}

fn show_machines_device(dev: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    show_device(dev, name, open_path(&Path::new("/dev").join(name))?)
}

fn show_device(dev: BorrowedFd<'_>, name: &str, source: OwnedFd) -> io::Result<()> {
    match sys::fs::stat(&source)?.kind {
        FileType::Directory => sys::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?,
        _ => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            sys::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666))?;
        }
    }
    let at = sys::fs::openat(dev, name, REFER, Mode::empty())?;
    sys::mount::bind(source.as_fd(), true, Attributes::empty(), at.as_fd())
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

/// Shows everything of the machine's `/dev` that the container has not got already.
fn all_devices(dev: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let machine = sys::fs::openat(CWD, "/dev", flags, Mode::empty())?;
    for entry in sys::fs::read_dir(&machine)? {
        let shown = matches!(
            entry.kind,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Directory
        );
        let Ok(name) = std::str::from_utf8(&entry.name) else {
            continue;
        };
        if shown && name != "console" && sys::fs::stat_at(dev, name).is_err() {
            show_machines_device(dev, name)?;
        }
    }
    Ok(())
}

fn mount_pts(at: BorrowedFd<'_>) -> Result<(), MountError> {
    let mut options = vec![
        FsOption::Flag("newinstance"),
        value("ptmxmode", "0666"),
        value("mode", "0620"),
        value("gid", 5),
    ];
    let attributes = NOSUID | NOEXEC;
    match sys::mount::mount_filesystem("devpts", &options, attributes, at) {
        // Group 5 (tty) is not mapped into this user namespace.
        Err(error) if error.errno() == sys::Errno::INVAL.raw_os_error() => {
            options.pop();
            sys::mount::mount_filesystem("devpts", &options, attributes, at)
        }
        other => other,
    }
}

fn mount_sys(targets: &mut Targets<'_>, wanted: Surroundings) -> Result<(), SetUpError> {
    let attributes = match wanted.masked_paths {
        true => INERT | RDONLY,
        false => INERT,
    };
    let at = target(targets, "/sys")?;
    match sys::mount::mount_filesystem("sysfs", &[], attributes, at.as_fd()) {
        Ok(()) => {}
        // The network namespace belongs to another user namespace: its devices are the machine's.
        Err(error) if error.errno() == sys::Errno::PERM.raw_os_error() => {
            let machine = open_path(Path::new("/sys")).during(|| "open /sys".to_owned())?;
            return sys::mount::bind(machine.as_fd(), true, attributes, at.as_fd())
                .during(|| "bind-mount /sys".to_owned());
        }
        Err(error) => return Err(error).during(|| "mount /sys".to_owned()),
    }
    let Some(at) = targets
        .existing(Path::new("/sys/fs/cgroup"))
        .during(|| "open /sys/fs/cgroup".to_owned())?
    else {
        return Ok(());
    };
    match sys::mount::mount_filesystem("cgroup2", &[], attributes, at.as_fd()) {
        // Not there, or not for this user: a container can do without.
        Err(error)
            if [sys::Errno::PERM, sys::Errno::BUSY, sys::Errno::NODEV]
                .iter()
                .any(|errno| errno.raw_os_error() == error.errno()) =>
        {
            Ok(())
        }
        other => other.during(|| "mount /sys/fs/cgroup".to_owned()),
    }
}

/// Hides and write-protects the parts of `/proc` and `/sys` that docker does.
pub(crate) fn mask(targets: &Targets<'_>, staging: &mut Staging) -> Result<(), SetUpError> {
    let null = targets
        .existing(Path::new("/dev/null"))
        .during(|| "open /dev/null".to_owned())?;
    let empty = staging.directory()?.open()?;
    for path in MASKED {
        let step = || format!("mask {path}");
        let Some(fd) = targets.existing(Path::new(path)).during(step)? else {
            continue;
        };
        match (sys::fs::stat(&fd).during(step)?.kind, &null) {
            (FileType::Directory, _) => {
                sys::mount::bind(empty.as_fd(), false, RDONLY, fd.as_fd()).during(step)?;
            }
            (_, Some(null)) => {
                sys::mount::bind(null.as_fd(), false, Attributes::empty(), fd.as_fd())
                    .during(step)?;
            }
            (_, None) => {}
        }
    }
    for path in PROTECTED {
        let step = || format!("write-protect {path}");
        if let Some(fd) = targets.existing(Path::new(path)).during(step)? {
            sys::mount::protect(fd.as_fd(), INERT | RDONLY).during(step)?;
        }
    }
    Ok(())
}
