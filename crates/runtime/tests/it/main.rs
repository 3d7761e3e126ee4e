//! Containers that really run: every test starts processes over a root made of busybox.
//!
//! They need root, `busybox-static`, `erofs-utils` and `uidmap`. Ordinary users skip them, unless
//! `KILN_REQUIRE` is set.

#![expect(clippy::unwrap_used, reason = "how a test states what it relies on")]

mod clock;
mod errors;
mod lifetime;
mod limits;
mod mounts;
mod network;
mod one_id;
mod prepared;
mod rootless;
mod sandbox;
mod support;
mod upper;
