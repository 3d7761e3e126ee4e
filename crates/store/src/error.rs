//! What can go wrong with the state directory.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

use crate::LayerId;

/// Why the store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused something.
    #[error("{attempt} {}", .path.display())]
    Io {
        /// What was attempted: "write", "rename", …
        attempt: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The directory was written by a newer kiln.
    #[error("use the store at {}: its format is {found}, and this kiln knows up to {known}", .root.display())]
    NewerFormat {
        /// The state directory.
        root: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known.
        known: u32,
    },
    /// The directory has files and is no store.
    #[error("use {} as a store: it has files, and none that says it is one", .root.display())]
    NotAStore {
        /// The directory.
        root: PathBuf,
    },
    /// Bytes are not what their digest says.
    #[error(transparent)]
    WrongDigest(Box<WrongDigest>),
    /// A layer that is needed is not there, or not in a form that can be used here.
    #[error("use layer {layer}: it has no {form}")]
    MissingLayer {
        /// The layer.
        layer: LayerId,
        /// What is missing: "packed tree", "directory", …
        form: &'static str,
    },
    /// Somebody waits no longer.
    #[error("wait for {what}: cancelled")]
    Cancelled {
        /// What was waited for.
        what: String,
    },
    /// Several images match an abbreviated id.
    #[error("find image {name:?}: {count} images have ids that begin so")]
    AmbiguousImage {
        /// The abbreviation.
        name: String,
        /// How many match.
        count: usize,
    },
}

/// Bytes that are not what their digest says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("store blob {expected}: its {len} bytes hash to {found}")]
pub struct WrongDigest {
    /// What was promised.
    pub expected: Digest,
    /// What came.
    pub found: Digest,
    /// How much came, in bytes.
    pub len: u64,
}

impl StoreError {
    /// Whether the file system is full, or the user's quota is.
    pub fn is_out_of_space(&self) -> bool {
        let StoreError::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Names the attempt and the path of an IO error.
pub(crate) trait Attempt<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io {
            attempt,
            path: path.to_owned(),
            source,
        })
    }
}
