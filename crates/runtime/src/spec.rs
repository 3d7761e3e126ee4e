//! What is run: a process, the tree it sees and what it may do, as plain values.
//!
//! Names are resolved before they get here: users are numbers, mount sources are paths of the
//! machine, generated files are bytes.

use crate::capability::CapabilitySet;
use crate::cgroup::Cgroup;
use crate::network::Connector;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use sys::mount::RootMount;

/// One process and everything around it.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// The root file system. Its upper directory ends up with exactly what the process wrote.
    pub root: RootMount,
    /// Refuse writes to the root file system (mounts on it stay writable).
    pub readonly_root: bool,
    /// The program and its arguments; a program without `/` is looked for in `PATH` of `env`.
    pub args: Vec<OsString>,
    /// The whole environment. A later entry of a name replaces an earlier one.
    pub env: Vec<(OsString, OsString)>,
    /// Absolute working directory in the container; made (0755, 0:0) when it is not there.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: User,
    /// The user namespace has one id ([`Rung::Single`](crate::rootless::Rung)). Changes of owners
    /// are written down ([`sys::fs::record_owner`]), and a process is whatever user it says it is,
    /// though to the kernel all are one.
    pub one_id: bool,
    /// Host name in the process's own UTS namespace.
    pub hostname: String,
    /// Mounts over the root, in order; a later one may lie inside an earlier one.
    pub mounts: Vec<Mount>,
    /// Extra device nodes of the machine.
    pub devices: Vec<Device>,
    /// What network it sees.
    pub network: Network,
    /// What it is allowed to do.
    pub security: Security,
    /// Resource limits; the others are those of the caller.
    pub rlimits: Vec<Rlimit>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// Control groups to run in; `None` stays in the caller's.
    pub cgroup: Option<Cgroup>,
    /// Run a minimal init as process 1 that forwards signals and reaps orphans. Otherwise the
    /// program itself is process 1.
    pub init: bool,
    /// Seconds by which the clock on the wall is ahead of the machine's for this process and all
    /// that it starts (0: not at all). They are followed with `ptrace(2)`, and see no vDSO; what
    /// is theirs to find out by that, and times of files, are as they are.
    /// [`crate::Process::clock_refused`] tells where the kernel does not let it be done.
    pub clock_ahead: u32,
    /// Where its standard streams go.
    pub io: Io,
}

/// docker's default size of `/dev/shm`: 64 MiB.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

impl ProcessSpec {
    /// A sandboxed process with docker's defaults: root, no network, captured output.
    pub fn new(root: RootMount, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        ProcessSpec {
            root,
            readonly_root: false,
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            one_id: false,
            hostname: String::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            network: Network::None,
            security: Security::sandbox(),
            rlimits: Vec::new(),
            shm_size: DEFAULT_SHM_SIZE,
            cgroup: None,
            init: false,
            clock_ahead: 0,
            io: Io::Captured,
        }
    }
}

/// Numeric identity of a process. The default is root with group 0.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Something mounted over the root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the container. Links in it are followed inside the container's root. What
    /// is missing is made for the time of the run and taken away afterwards.
    pub target: PathBuf,
    /// What appears there.
    pub kind: MountKind,
}

/// The kinds of [`Mount`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A file, directory or socket of the machine, with the mounts below it.
    Bind {
        /// Absolute path on the machine.
        source: PathBuf,
        /// Refuse writes.
        readonly: bool,
        /// Setuid programs and file capabilities have no effect.
        nosuid: bool,
        /// Refuse to execute programs.
        noexec: bool,
    },
    /// A path of another tree. With an overlay whose upper directory the caller throws away,
    /// writes are allowed and lost.
    Tree {
        /// The tree.
        tree: RootMount,
        /// Absolute path inside it, links followed inside it; `/` is all of it.
        path: PathBuf,
        /// Refuse writes.
        readonly: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Bytes; `None` is half of the machine's memory.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file in memory that is never swapped out: a secret, or a generated `/etc/hosts`.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Refuse writes. Writes to a writable one are lost.
        readonly: bool,
    },
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute path on the machine.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// A node made for the container; `None` shows it the machine's. In a user namespace, where
    /// none can be made, it is the machine's all the same.
    pub node: Option<DeviceNode>,
}

/// What a new device node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// A block device; otherwise a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What network a process sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own, with nothing but loopback.
    None,
    /// The machine's.
    Host,
    /// Its own, connected through a user-space stack (see [`crate::network::connector`]).
    Connected(Connector),
}

/// What a process is allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// The most it (or any program it starts, setuid ones too) can have.
    pub capabilities: CapabilitySet,
    /// Filter system calls as docker's default profile does.
    pub seccomp: bool,
    /// Hide and write-protect the paths of `/proc` and `/sys` that docker does.
    pub masked_paths: bool,
    /// Setuid programs and file capabilities have no effect.
    pub no_new_privileges: bool,
    /// Show all devices of the machine.
    pub all_devices: bool,
}

impl Security {
    /// docker's default: 14 capabilities, its filter, its masks; setuid programs work.
    pub fn sandbox() -> Security {
        Security {
            capabilities: CapabilitySet::DOCKER_DEFAULT,
            seccomp: true,
            masked_paths: true,
            no_new_privileges: false,
            all_devices: false,
        }
    }

    /// `--security=insecure`: everything the caller has.
    pub fn insecure() -> Security {
        Security {
            capabilities: CapabilitySet::ALL,
            seccomp: false,
            masked_paths: false,
            no_new_privileges: false,
            all_devices: true,
        }
    }
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// What a limit is about (`getrlimit(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the kernel's RLIMIT of that name")]
pub enum Resource {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// A text that names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown resource {0:?}")]
pub struct UnknownResource(pub String);

impl FromStr for Resource {
    type Err = UnknownResource;

    /// Takes the names of `--ulimit`: `nofile`, `nproc`, …
    fn from_str(name: &str) -> Result<Resource, UnknownResource> {
        Ok(match name {
            "core" => Resource::Core,
            "cpu" => Resource::Cpu,
            "data" => Resource::Data,
            "fsize" => Resource::Fsize,
            "locks" => Resource::Locks,
            "memlock" => Resource::Memlock,
            "msgqueue" => Resource::Msgqueue,
            "nice" => Resource::Nice,
            "nofile" => Resource::Nofile,
            "nproc" => Resource::Nproc,
            "rss" => Resource::Rss,
            "rtprio" => Resource::Rtprio,
            "rttime" => Resource::Rttime,
            "sigpending" => Resource::Sigpending,
            "stack" => Resource::Stack,
            other => return Err(UnknownResource(other.to_owned())),
        })
    }
}

/// Where the standard streams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Output comes as chunks out of [`crate::Process::wait`]; input is `/dev/null`.
    Captured,
    /// Output goes to the caller's own descriptors 1 and 2.
    Inherited {
        /// Input comes from the caller's descriptor 0; otherwise it is `/dev/null`.
        stdin: bool,
    },
    /// A new terminal, whose other end is [`crate::Process::take_terminal`].
    Terminal(WindowSize),
}

pub use sys::pty::WindowSize;
