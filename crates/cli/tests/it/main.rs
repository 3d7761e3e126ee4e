//! End to end: the real binary, real namespaces, overlayfs and EROFS, a real registry, and the
//! tools that others read images with.
#![forbid(unsafe_code)]

mod harness;

mod build;
mod cache;
mod images;
mod input;
mod outputs;
mod reproducible;
mod run;
