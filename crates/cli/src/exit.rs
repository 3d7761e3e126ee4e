//! Exit codes, docker's where docker has them. `kiln run` otherwise ends with its command's own:
//! 126 when that cannot be executed, 127 when it is not there, 128 + n after signal n.

/// The command failed.
pub(crate) const FAILURE: u8 = 1;
/// Two images could not be compared; 1 says that they differ, as with diff(1).
pub(crate) const TROUBLE: u8 = 2;
/// The arguments make no sense, or a container could not be run for a reason of kiln's.
pub(crate) const ENGINE: u8 = 125;
/// Interrupted: 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;
