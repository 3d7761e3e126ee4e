//! Settling the store when the build is over: a process of its own waits for the disk, so that
//! nobody waits for it.
//!
//! A `syncfs` takes as long as everything that anybody wrote to the file system takes to reach
//! the disk. What a killed settler leaves undone is done by the next one.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use store::Store;

/// What a settler is called, in place of the program's name.
const NAME: &str = "kiln-settle";

/// Serves as a container helper or a settler if this process was started as one, and then never
/// returns.
///
/// The first line of `main` in every program that opens an [`crate::Engine`], before any thread
/// is started. In any other process it does nothing.
pub fn init_if_child() {
    runtime::init_if_child();
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| name == NAME)
        && let Some(root) = arguments.next()
    {
        let settled = Store::open(Path::new(&root)).and_then(|store| store.settle_all());
        sys::process::exit_now(i32::from(settled.is_err()));
    }
}

/// Starts a process that settles what was recorded in this store, if anything was. It outlives
/// this process, which is about to end and does not wait for it.
pub(crate) fn start(store: &Store) {
    if store.is_settled() {
        return;
    }
    let started = Command::new("/proc/self/exe")
        .arg0(NAME)
        .arg(store.root())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if started.is_err() {
        // Results that were not settled are verified, or made again, after a crash.
        drop(store.settle());
    }
}
