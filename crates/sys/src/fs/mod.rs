//! Files and directories by descriptor: opening below a root, metadata, extended attributes, raw
//! directory reading, device nodes, sparse data, copying, locks.
//!
//! Nothing here resolves a path without saying against which directory. Functions that take a
//! directory and a name never follow a symbolic link in the last component.

mod data;
mod directory;
mod hint;
mod lock;
mod node;
mod open;
mod owner;
mod stat;
mod xattr;

pub use data::{Copied, Segment, clone_file, copy_range, segments};
pub use directory::{Entry, read_dir};
pub use hint::spread_subdirectories;
pub use lock::try_lock_byte;
pub use node::{make_device, make_fifo, make_socket, set_owner, set_permissions, set_times};
pub use open::{open_beneath, open_in_root, reopen, unnamed_file};
pub use owner::{OWNER_ATTRIBUTE, owner_in, record_owner, record_seen_owner, recorded_owner};
pub use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, MemfdFlags, Mode, OFlags, RenameFlags,
    ResolveFlags, SealFlags, StatFs, fallocate, fcntl_add_seals, fdatasync, flock, fstatfs, fsync,
    ftruncate, linkat, memfd_create, mkdirat, openat, openat2, readlinkat, renameat, renameat_with,
    symlinkat, syncfs, unlinkat,
};
pub use rustix::path::Arg;
pub use stat::{Stat, Time, stat, stat_at};
pub use xattr::{Target, get_xattr, list_xattrs, remove_xattr, set_xattr};

use std::io;

/// Identity of the running boot: a UUID that the kernel draws at every start.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim_end().to_owned())
}
