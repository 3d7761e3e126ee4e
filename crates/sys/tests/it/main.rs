//! The wrappers against the kernel of this machine.

#![expect(clippy::unwrap_used, reason = "how a test states what it relies on")]

mod files;
mod ids;
mod mounts;
