//! Sends results out: images to registries, layouts and archives, files to directories.

mod archive;
pub(crate) mod config;
pub(crate) mod document;
pub(crate) mod files;
pub(crate) mod layout;
pub(crate) mod push;
pub(crate) mod shipment;
