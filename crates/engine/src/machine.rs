//! The machine and the store as a user sees them: privileges, signals, disk usage, health.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runtime::rootless::{self, Standing};
use store::{PrunePolicy, Store, Usage, UsageId, UsageKind};
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

/// Raises `cancel` at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process.
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
            let mut seen = 0;
            while let Ok(signal) = signals.read() {
                seen += 1;
                if seen > 1 {
                    sys::process::exit_now(128 + signal);
                }
                cancel.cancel();
            }
        })?;
    Ok(())
}

pub(crate) fn erofs_support(store: &Store) -> ErofsSupport {
    use std::os::fd::AsFd;
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

/// Something in the store.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// Its name.
    pub id: String,
    /// `layer`, `blob` or `cachemount`.
    pub kind: &'static str,
    /// Bytes on the disk.
    pub size: u64,
    /// Seconds since 1970.
    pub last_used: u64,
    /// A living process uses it.
    pub in_use: bool,
    /// An image needs it.
    pub shared: bool,
    /// What it is, for people.
    pub description: String,
}

/// One condition on what is shown or pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PruneFilter {
    /// Not used for so long.
    UnusedFor(Duration),
    /// Whose name begins so.
    Id(String),
    /// Of this kind.
    Kind(String),
    /// In use, or not.
    InUse(bool),
    /// Needed by an image, or not.
    Shared(bool),
}

/// What to give up.
#[derive(Clone, Debug, Default)]
pub struct PruneRequest {
    /// Images without a name too.
    pub all: bool,
    /// All have to hold.
    pub filters: Vec<PruneFilter>,
    /// Until the store takes no more than this.
    pub max_size: Option<u64>,
    /// Until the disk has this many bytes free.
    pub min_free: Option<u64>,
}

/// What was given up.
#[derive(Clone, Debug)]
pub struct PruneReport {
    /// Each thing.
    pub removed: Vec<UsageRow>,
    /// Bytes.
    pub freed: u64,
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

    /// What the store holds, largest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self, filters: &[PruneFilter]) -> Result<Vec<UsageRow>, BuildError> {
        let all = self
            .store
            .usage()
            .map_err(|error| BuildError::store("read the store", error))?;
        let mut rows: Vec<UsageRow> = all
            .iter()
            .filter(|usage| fits(usage, filters))
            .map(row)
            .collect();
        rows.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        Ok(rows)
    }

    /// Gives up cache that no image and no living process needs.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub fn prune(&self, request: &PruneRequest) -> Result<PruneReport, BuildError> {
        let failed = |error| BuildError::store("prune the store", error);
        if request.all {
            for (image, names) in self.store.images().map_err(failed)? {
                if names.is_empty() {
                    self.store.remove_image(&image.id()).map_err(failed)?;
                }
            }
        }
        let policy = PrunePolicy {
            max_size: request.max_size,
            min_free: request.min_free,
            ..PrunePolicy::default()
        };
        let report = self
            .store
            .prune(&policy, &|usage| fits(usage, &request.filters))
            .map_err(failed)?;
        Ok(PruneReport {
            removed: report.removed.iter().map(row).collect(),
            freed: report.freed,
        })
    }

    /// Verifies everything in the store and drops what is damaged.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub fn doctor(&self) -> Result<DoctorReport, BuildError> {
        let health = self
            .store
            .doctor()
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

fn fits(usage: &Usage, filters: &[PruneFilter]) -> bool {
    filters.iter().all(|filter| match filter {
        PruneFilter::UnusedFor(least) => usage.age(SystemTime::now()) >= *least,
        PruneFilter::Id(prefix) => name(&usage.id).starts_with(prefix),
        PruneFilter::Kind(kind) => kind_name(usage.kind()) == kind,
        PruneFilter::InUse(wanted) => usage.in_use == *wanted,
        PruneFilter::Shared(wanted) => usage.in_image == *wanted,
    })
}

fn row(usage: &Usage) -> UsageRow {
    UsageRow {
        id: name(&usage.id),
        kind: kind_name(usage.kind()),
        size: usage.size,
        last_used: usage
            .last_used
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        in_use: usage.in_use,
        shared: usage.in_image,
        description: usage.description.clone(),
    }
}

fn name(id: &UsageId) -> String {
    match id {
        UsageId::Layer(id) => id.to_string(),
        UsageId::Blob(digest) => digest.to_string(),
        UsageId::CacheMount(name) => name.clone(),
    }
}

fn kind_name(kind: UsageKind) -> &'static str {
    match kind {
        UsageKind::Layer => "layer",
        UsageKind::Blob => "blob",
        UsageKind::CacheMount => "cachemount",
    }
}
