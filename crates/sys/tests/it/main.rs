//! The wrappers against the kernel of this machine. Ordinary users skip what needs root, unless
//! `KILN_REQUIRE` is set.

#![expect(clippy::unwrap_used, reason = "how a test states what it relies on")]

mod files;
mod ids;
mod mounts;

/// Whether tests that need root run.
fn privileged() -> bool {
    sys::process::geteuid().is_root() || std::env::var_os("KILN_REQUIRE").is_some()
}
