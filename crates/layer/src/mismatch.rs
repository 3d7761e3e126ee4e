//! Bytes that are not those that were asked for.

use oci::Digest;

/// What bytes should have hashed to, and what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digest is {found}, not {expected}")]
pub struct Mismatch {
    /// What was asked for.
    pub expected: Digest,
    /// What is there.
    pub found: Digest,
}

impl Mismatch {
    /// Compares two digests.
    pub(crate) fn check(expected: Digest, found: Digest) -> Result<(), Box<Mismatch>> {
        match expected == found {
            true => Ok(()),
            false => Err(Box::new(Mismatch { expected, found })),
        }
    }
}
