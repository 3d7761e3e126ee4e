//! The machine and the store as a user sees them: privileges, signals, health.

use std::os::fd::AsFd;
use std::path::PathBuf;

use runtime::rootless::{self, Rung, Standing};
use store::Store;
use sys::mount::ErofsSupport;

use crate::Engine;
use crate::cancel::Cancel;
use crate::error::BuildError;
use crate::settle;

/// What a process may do, found out (and arranged) before its first thread.
#[derive(Clone, Debug)]
pub struct Standpoint {
    pub(crate) standing: Standing,
}

/// Finds out what this process may do. An ordinary user's goes on in a user namespace of its own
/// from here, where it is root.
///
/// Called while the process has one thread.
///
/// # Errors
/// When the namespace was made but cannot be used.
pub fn enter_user_namespace() -> Result<Standpoint, BuildError> {
    let standing =
        rootless::enter().map_err(|error| BuildError::store("enter a user namespace", error))?;
    Ok(Standpoint { standing })
}

/// Whether this process is root, of the machine or of its user namespace.
pub fn is_root() -> bool {
    sys::process::geteuid().is_root()
}

/// Milliseconds that a cancelled build may take to end by itself.
const PATIENCE: u32 = 5000;

/// Raises `cancel` at the first SIGINT, SIGTERM or SIGHUP. A second one ends the process, and so
/// do five seconds: what waits for the answer of a registry looks at no flag.
///
/// # Errors
/// When the kernel refuses.
pub fn cancel_on_signal(cancel: &Cancel) -> std::io::Result<()> {
    const STOPPING: [i32; 3] = [
        sys::signal::SIGINT,
        sys::signal::SIGTERM,
        sys::signal::SIGHUP,
    ];
    let signals = sys::signal::SignalFd::new(&STOPPING)?;
    let cancel = cancel.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Ok(signal) = signals.read() {
                cancel.cancel();
                sys::poll::readable([Some(signals.as_fd())], Some(PATIENCE)).ok();
                sys::process::exit_now(128 + signal);
            }
        })?;
    Ok(())
}

pub(crate) fn erofs_support(store: &Store) -> ErofsSupport {
    // Any file of the store's file system will do.
    match std::fs::File::open(store.root().join("version")) {
        Ok(file) => sys::mount::erofs_support(file.as_fd()),
        Err(_) => ErofsSupport::None("the store cannot be read"),
    }
}

/// What this machine lets kiln do.
#[derive(Clone, Debug)]
pub struct Info {
    /// The state directory.
    pub root: PathBuf,
    /// The platform that is built for.
    pub platform: oci::Platform,
    /// The rung of the privilege ladder and what it costs, in one line.
    pub rung: String,
    /// What would have to be granted for more.
    pub missing: Option<String>,
    /// How layers are mounted.
    pub layers: String,
}

/// What a check of the store found.
#[derive(Clone, Debug)]
pub struct DoctorReport {
    /// Objects that were verified.
    pub verified: usize,
    /// Objects that were dropped.
    pub dropped: usize,
    /// Why, one line each.
    pub problems: Vec<String>,
}

impl Engine {
    /// What this machine lets kiln do.
    pub fn info(&self) -> Info {
        Info {
            root: self.store.root().to_path_buf(),
            platform: crate::host_platform(),
            rung: self.standing.explanation.clone(),
            missing: self.standing.missing.clone(),
            layers: match self.erofs() {
                ErofsSupport::Files => "EROFS over files".into(),
                ErofsSupport::LoopDevices => "EROFS through loop devices".into(),
                ErofsSupport::None(reason) => format!("directories ({reason})"),
            },
        }
    }

    /// What would have to be granted so that containers can be started here.
    pub(crate) fn no_containers(&self) -> Option<&str> {
        let missing = || self.standing.missing.as_deref().unwrap_or("namespaces");
        (self.standing.rung == Rung::None).then(missing)
    }

    /// Verifies everything in the store and drops what is damaged.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub fn doctor(&self) -> Result<DoctorReport, BuildError> {
        let health = self
            .store
            .doctor(&layer::StatIndex::is_whole)
            .map_err(|error| BuildError::store("verify the store", error))?;
        Ok(DoctorReport {
            verified: health.layers + health.blobs + health.records,
            dropped: health.findings.len(),
            problems: health
                .findings
                .iter()
                .map(|finding| format!("{}: {}", finding.what, finding.why))
                .collect(),
        })
    }

    /// What a build leaves for afterwards: the configured limits, and a sync so that its results
    /// outlive a crash of the machine.
    pub(crate) fn settle_later(&self) {
        self.room.after_writing();
        if !self.temporary {
            settle::start(&self.store);
        }
    }
}
