//! End to end: the real binary, real namespaces, overlayfs and EROFS, a real registry, and the
//! tools that others read images with.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test states what it relies on")]

mod harness;

mod add;
mod build;
mod cache;
mod chains;
mod checks;
mod compiled;
mod contexts;
mod copy;
mod copy_rules;
mod crash;
mod credentials;
mod devices;
mod diff;
mod doctor;
mod du;
mod edits;
mod explain;
mod exports;
mod faults;
mod hostile;
mod ignore;
mod images;
mod input;
mod keys;
mod language;
mod limits;
mod login;
mod messages;
mod mounts;
mod outputs;
mod parallel;
mod platforms;
mod prune;
mod racy;
mod remote_cache;
mod reproducible;
mod rootless;
mod run;
mod sandbox;
mod save;
mod servers;
mod steps;
mod tagging;
mod timestamps;
mod verify;
