//! Thin, safe wrappers of Linux: descriptors and flags in, an errno out.
//!
//! This is the only crate with `unsafe` code. It decides nothing: which mounts a container gets,
//! which system calls are filtered, what is retried belongs to its callers. What `rustix` has is
//! re-exported under our names; what it lacks is made from system calls here.

#![expect(
    unsafe_code,
    reason = "the one crate that speaks to the kernel directly"
)]

pub mod clock;
pub mod credential;
pub mod fs;
pub mod mount;
pub mod net;
pub mod poll;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod signal;
pub mod trace;
pub mod user_namespace;

pub use rustix::io::Errno;
