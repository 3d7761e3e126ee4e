//! The engine: joins the compiler (pure) with the machine (effects), and nothing else does.
//!
//! [`Engine::build`] turns a [`request::BuildRequest`] into an image and tells what happens as
//! [`event::Event`]s; the other calls move, show and run images. The engine prints nothing, reads
//! no environment and knows no terminal. Its boundary is synchronous; what is asynchronous inside
//! stays in `net`.
//!
//! ```text
//! request ─► prepare ─► compile (asks resolve) ─► drive: solver ⇄ steps ─► export
//!               contexts      registry, store        layers, fetch          store, push, files
//! ```
#![forbid(unsafe_code)]

mod answers;
mod beneath;
mod blocks;
mod build;
mod cancel;
mod cdi;
mod compare;
mod compressor;
mod container;
mod credentials;
pub mod diagnose;
mod error;
pub mod event;
mod export;
mod fetch;
mod git_head;
mod git_remote;
mod git_state;
mod git_time;
mod images;
mod lane;
mod layers;
mod load;
mod lock;
mod login;
mod machine;
mod merged;
mod mounting;
mod net;
mod process;
mod remote_cache;
pub mod request;
mod resolve;
mod room;
mod save;
mod settle;
mod step;
mod terminal;
mod turns;
mod usage;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use distribution::{ClientOptions, Credentials, DockerConfig, RegistryConfig};
use runtime::rootless::Standing;
use store::Store;

pub use build::BuildOutcome;
pub use cancel::Cancel;
pub use compare::{Aspect, Difference, Place, Reason};
pub use container::{DeviceRequest, Ended, RunRequest, Signals, Volume};
pub use dockerfile::nearest;
pub use error::{BuildError, StepError, registry_hint};
pub use git_state::{GitState, git_state};
pub use images::{ImageDetails, ImageSummary};
pub use load::{Archive, Loaded};
pub use login::{Login, Registries, login, logout};
pub use machine::{
    DoctorReport, Info, Standpoint, cancel_on_signal, enter_user_namespace, is_root,
};
pub use runtime::Shortage;
pub use settle::init_if_child;
pub use terminal::Silenced;
pub use usage::{PruneReport, PruneRequest, UsageRow};
pub use verify::{SecondBuild, Surrounding, Unvaried, Verification};

use mounting::Mounting;
use net::Net;
use verify::RunClock;

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The state directory.
    pub root: PathBuf,
    /// How registries are reached, by host.
    pub registries: BTreeMap<String, RegistryOptions>,
    /// Files with credentials in docker's form; the first that exists counts.
    pub credentials: Vec<PathBuf>,
    /// Directories that credential helpers are looked for in.
    pub helper_folders: Vec<PathBuf>,
    /// Keep at most this many bytes of cache.
    pub max_size: Option<u64>,
    /// Keep this many bytes of the disk free.
    pub min_free: Option<u64>,
    /// Mount layers as directories even where EROFS could be mounted.
    pub directories: bool,
    /// Seconds by which the clock on the wall of the processes in `RUN` is ahead of the machine's.
    pub clock_ahead: u32,
    /// The caller removes the state directory before it ends: nobody waits for the disk, and no
    /// process goes on writing there after the last build.
    pub temporary: bool,
    /// Directories of files that describe devices for `RUN --device`; later ones count more.
    pub device_specs: Vec<PathBuf>,
    /// What this process may do.
    pub standpoint: Standpoint,
}

/// How one registry is reached.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Hosts to ask first.
    pub mirrors: Vec<String>,
    /// Plain HTTP; `None` decides by the address.
    pub http: Option<bool>,
    /// Take any certificate.
    pub insecure: bool,
    /// Files with further authorities.
    pub ca: Vec<PathBuf>,
}

/// A store and the ways in and out of it.
pub struct Engine {
    store: Store,
    net: Arc<Net>,
    helper: runtime::Helper,
    standing: Standing,
    /// Asked for when first needed: the kernel takes a millisecond to say.
    erofs: OnceLock<sys::mount::ErofsSupport>,
    temporary: bool,
    clock: RunClock,
    /// When the commit of every context was made; found out where it is not known.
    commit_time: OnceLock<Option<i64>>,
    /// The limits of the store.
    room: Arc<room::Room>,
    device_specs: Vec<PathBuf>,
}

impl Engine {
    /// Opens the state directory.
    ///
    /// # Errors
    /// When it cannot be used, or a file with credentials makes no sense.
    pub fn open(options: EngineOptions) -> Result<Engine, BuildError> {
        let attempt = || format!("use the state directory {}", options.root.display());
        let store =
            Store::open(&options.root).map_err(|error| BuildError::store(attempt(), error))?;
        let credentials = credentials(&options)?;
        let net = Arc::new(Net::new(client_options(options.registries, credentials)));
        let standing = options.standpoint.standing;
        let erofs = OnceLock::new();
        if options.directories {
            erofs.get_or_init(|| sys::mount::ErofsSupport::None("as configured"));
        }
        let helper = runtime::Helper::current();
        Ok(Engine {
            room: Arc::new(room::Room::new(
                store.clone(),
                options.max_size,
                options.min_free,
            )),
            store,
            net,
            helper,
            standing,
            erofs,
            temporary: options.temporary,
            commit_time: OnceLock::new(),
            clock: RunClock {
                ahead: options.clock_ahead,
                refused: OnceLock::new(),
            },
            device_specs: options.device_specs,
        })
    }

    /// How the kernel mounts packed layers.
    fn erofs(&self) -> &sys::mount::ErofsSupport {
        self.erofs
            .get_or_init(|| machine::erofs_support(&self.store))
    }

    /// How layers are mounted here.
    fn mounting(&self) -> Mounting<'_> {
        Mounting::new(self, !self.standing.userxattr, self.single_id())
    }

    /// Whether containers are in a user namespace of one id.
    fn single_id(&self) -> bool {
        self.standing.rung == runtime::rootless::Rung::Single
    }
}

fn client_options(
    registries: BTreeMap<String, RegistryOptions>,
    credentials: Credentials,
) -> ClientOptions {
    let config = |options| {
        let RegistryOptions {
            mirrors,
            http,
            insecure,
            ca,
        } = options;
        RegistryConfig {
            mirrors,
            http,
            insecure,
            ca,
            keypairs: Vec::new(),
        }
    };
    ClientOptions {
        registries: registries
            .into_iter()
            .map(|(host, options)| (host, config(options)))
            .collect(),
        credentials,
        user_agent: concat!("kiln/", env!("CARGO_PKG_VERSION")).into(),
        ..ClientOptions::default()
    }
}

/// The first file with credentials that exists.
fn credentials(options: &EngineOptions) -> Result<Credentials, BuildError> {
    for path in &options.credentials {
        let attempt = || format!("read credentials from {}", path.display());
        match std::fs::read(path) {
            Ok(bytes) => {
                let config = DockerConfig::parse(&bytes, options.helper_folders.clone())
                    .map_err(|error| BuildError::store(attempt(), error))?;
                return Ok(Credentials::none().with_docker(config));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(BuildError::store(attempt(), error)),
        }
    }
    Ok(Credentials::none())
}

/// The platform that is built for when nobody says.
pub fn host_platform() -> oci::Platform {
    oci::Platform::native()
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Whom exported files belong to.
fn caller_ids() -> (u32, u32) {
    (
        sys::process::geteuid().as_raw(),
        sys::process::getegid().as_raw(),
    )
}
