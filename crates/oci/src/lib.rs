//! Image vocabulary (being written).
/// A content digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}
/// A platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// os
    pub os: String,
    /// arch
    pub architecture: String,
    /// variant
    pub variant: Option<String>,
    /// os.version
    pub os_version: Option<String>,
}
/// A reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(String);
