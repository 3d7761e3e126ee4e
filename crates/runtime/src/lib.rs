//! Runs one process in namespaces of its own over mounts that the caller describes, for root and
//! for ordinary users. Knows no image, no layer and no cache.
//!
//! ```text
//! spawn(helper, spec) ─► this program again, single-threaded ─► a copy clones into namespaces
//!                                                             mounts, root, identity, filter
//!      Process::wait ◄─────────── reports ◄─────────────────── the program, as process 1
//! ```
//!
//! * [`ProcessSpec`] says what to run, as plain values; [`spawn`] runs it; [`Process::wait`] hands
//!   out its output and its end.
//! * [`init_if_child`] is the first line of `main`: containers start from a copy of this program
//!   that never had a second thread.
//! * [`rootless::enter`] gives an ordinary user a user namespace in which all this works.
//! * [`network`] writes `hosts` and `resolv.conf`.

#![forbid(unsafe_code)]

mod capability;
mod cgroup;
mod clock;
mod container;
mod exec_error;
mod helper;
mod message;
pub mod network;
mod one_id;
mod pool;
mod process;
pub mod rootless;
pub mod seccomp;
mod spec;
mod supervisor;
mod wire;

pub use capability::{Capability, CapabilitySet, UnknownCapability};
pub use cgroup::{
    Cgroup, Controller, GroupError, Groups, Node, Resources, Setting, Shortage, Swap, Version,
};
pub use exec_error::ExecError;
pub use helper::{Helper, init_if_child};
pub use process::{
    Exit, Outcome, Process, ProcessHandle, Shortcuts, SpawnError, Stream, WaitError, spawn,
};
pub use spec::{
    DEFAULT_SHM_SIZE, Device, DeviceNode, Io, Mount, MountKind, Network, ProcessSpec, Resource,
    Rlimit, Security, UnknownResource, User, WindowSize,
};
