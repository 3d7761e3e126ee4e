//! Helpers of tests: registries and disks that do as they are told, archives that nobody should
//! trust. Not shipped.
//!
//! Nothing here is used by the product's own code, so panics are how a helper says that the
//! machine does not let it help.

#![forbid(unsafe_code)]

mod docker_registry;
mod faulty_disk;
mod registry;
mod tar;

pub use docker_registry::DockerRegistry;
pub use faulty_disk::{FaultyDisk, Observed};
pub use registry::{Access, Effect, Logged, Registry};
pub use tar::Archive;
