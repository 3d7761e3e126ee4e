//! Control groups of containers: where they can be made, what is written into them, and what they
//! say afterwards.
//!
//! ```text
//! Resources ──Groups::prepare──► Cgroup ──wire──► Group
//!   hierarchy: which trees have which controllers    the supervisor makes it, the container's first
//!   place: a directory for groups of ours            process joins it before anything else
//! ```
//!
//! Version 2 has one tree for all controllers. A group there gives controllers to its children
//! only while no process is in itself, but for the root's. Version 1 has a tree for each
//! controller, or for a few, and no such rule. A machine may have both.
//!
//! A group belongs to whoever holds a lock on its directory. One that nobody holds was left behind
//! by a process that was killed, and goes when the next groups are prepared beside it.

mod group;
mod hierarchy;
mod place;
mod resources;

pub(crate) use group::Group;
pub use hierarchy::Version;
pub use place::{GroupError, Groups};
pub use resources::{Controller, Resources, Swap};

use std::path::PathBuf;

/// Control groups that are made for one container and removed after it: what [`Groups::prepare`]
/// found out.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cgroup {
    /// One for each tree that takes part.
    pub nodes: Vec<Node>,
    /// Bytes of memory, to be told when they did not suffice.
    pub memory: Option<u64>,
}

/// A control group in one tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Whose rules the tree follows.
    pub version: Version,
    /// Directory of an existing group below which the new one is made.
    pub parent: PathBuf,
    /// What is written into the new one, in order.
    pub settings: Vec<Setting>,
}

/// A file of a control group and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name of the file.
    pub file: String,
    /// Its content.
    pub value: String,
    /// Whether it may be left out where the kernel does not have the file.
    pub optional: bool,
}

/// The kernel killed a process of a container for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes that the container's own group allowed; `None` when a group around it ran out.
    pub limit: Option<u64>,
    /// Bytes that it used at most, if the kernel counts that.
    pub peak: Option<u64>,
}
