//! What steps do, one module for each kind of operation.

mod agent;
mod device;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod git;
pub(crate) mod http;
