//! Runs an image in the foreground.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use layer::View;
use oci::ContainerConfig;
use runtime::{
    Exit, Helper, Io, Mount, MountKind, Network, ProcessHandle, ProcessSpec, Resources, Shortage,
};
use sys::signal::SignalFd;

use crate::cdi::{self, Catalog};
use crate::error::{BuildError, StepError};
use crate::event::Events;
use crate::lock::lock;
use crate::request::RunNetwork;
use crate::terminal::{self, Joined};
use crate::{Engine, images, process, resolve};

/// What ends this process while there is no container to pass it to.
const ENDING: [i32; 4] = [
    sys::signal::SIGHUP,
    sys::signal::SIGINT,
    sys::signal::SIGQUIT,
    sys::signal::SIGTERM,
];

/// One `kiln run`.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Name or id of the image.
    pub image: String,
    /// Replaces the image's command if it is not empty.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint, and clears its command.
    pub entrypoint: Option<String>,
    /// Variables beside the image's; they win.
    pub env: Vec<(String, String)>,
    /// Replaces the image's working directory.
    pub workdir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Host name; `None` makes one up.
    pub hostname: Option<String>,
    /// Pass standard input.
    pub interactive: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Refuse writes to the root file system.
    pub read_only: bool,
    /// Its network.
    pub network: RunNetwork,
    /// What it may use.
    pub resources: Resources,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// `--ulimit name=soft[:hard]`.
    pub ulimits: Vec<(String, u64, u64)>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// Directories and files of the machine that it sees.
    pub volumes: Vec<Volume>,
    /// Devices that it may use.
    pub devices: Vec<DeviceRequest>,
}

/// `--device` of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// A node of the machine, or all in a directory.
    Machine {
        /// Absolute path on the machine.
        source: PathBuf,
        /// Absolute path in the container.
        target: PathBuf,
    },
    /// A device or class of devices that a specification describes.
    Named(String),
}

/// A directory or file of the machine in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Absolute path on the machine.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Refuse writes.
    pub readonly: bool,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The command's own code, 128 + n for signal n, 126 or 127 if it cannot be executed.
    pub code: u8,
    /// The kernel killed some of it for want of memory. Known only where some limit was asked for.
    pub out_of_memory: Option<Shortage>,
}

impl Engine {
    /// Runs a container to its end, its streams those of this process.
    ///
    /// # Errors
    /// When the container cannot be made.
    pub fn run(&self, request: &RunRequest, signals: &Signals) -> Result<Ended, BuildError> {
        if let Some(missing) = self.no_containers() {
            return Err(BuildError::request(process::no_containers(missing)));
        }
        let groups = process::groups(&request.resources, request.cgroup_parent.as_deref())?;
        let image = self.find_image(&request.image)?;
        let manifest = images::native(&image);
        let config = resolve::config(&self.store, manifest, &request.image)
            .map_err(|error| BuildError::store("read the image's config", error))?;
        let failed = |error: StepError| BuildError::Step {
            name: format!("run {}", request.image),
            excerpt: None,
            tail: Vec::new(),
            source: error,
        };
        let chain: Vec<_> = manifest.layers.iter().map(|layer| layer.id).collect();
        let layers = self.new_layers(&Events::ignored());
        layers.ensure(&chain).map_err(failed)?;
        let snapshot = layers.active(&chain).map_err(failed)?;
        let mut spec = ProcessSpec::new(
            layers.root_mount(&snapshot).map_err(failed)?,
            Vec::<OsString>::new(),
        );
        spec.cgroup = groups.as_ref().map(|groups| groups.cgroup().clone());
        let view = layers.view(&chain).map_err(failed)?;
        spec.one_id = self.single_id();
        fill(&mut spec, request, &config.value().config, &*view).map_err(failed)?;
        give(&mut spec, &request.devices, &self.device_specs).map_err(failed)?;
        start(&self.helper, &spec, request, signals).map_err(failed)
    }
}

fn fill(
    spec: &mut ProcessSpec,
    request: &RunRequest,
    config: &ContainerConfig,
    view: &dyn View,
) -> Result<(), StepError> {
    spec.args = arguments(request, config)?
        .into_iter()
        .map(OsString::from)
        .collect();
    let user = request.user.as_deref().unwrap_or(&config.user);
    let user = process::user(view, user)?;
    spec.env = environment(request, config, &user.home);
    spec.user = runtime::User {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
    };
    let workdir = request.workdir.as_deref().unwrap_or(&config.working_dir);
    spec.cwd = PathBuf::from(if workdir.is_empty() { "/" } else { workdir });
    spec.hostname = request
        .hostname
        .clone()
        .unwrap_or_else(|| format!("kiln-{}", std::process::id()));
    spec.readonly_root = request.read_only;
    spec.rlimits = process::rlimits(&process::ulimits(&request.ulimits))?;
    spec.shm_size = request.shm_size.unwrap_or(runtime::DEFAULT_SHM_SIZE);
    spec.network = match request.network {
        RunNetwork::None => Network::None,
        RunNetwork::Default | RunNetwork::Host => Network::Host,
    };
    spec.mounts = process::generated_files(&spec.hostname, &[], &spec.network);
    spec.mounts
        .extend(request.volumes.iter().map(|volume| Mount {
            target: volume.target.clone(),
            kind: MountKind::Bind {
                source: volume.source.clone(),
                readonly: volume.readonly,
                nosuid: false,
                noexec: false,
            },
        }));
    spec.io = if request.tty {
        Io::Terminal(terminal::size())
    } else {
        Io::Inherited {
            stdin: request.interactive,
        }
    };
    Ok(())
}

fn give(
    spec: &mut ProcessSpec,
    devices: &[DeviceRequest],
    specs: &[PathBuf],
) -> Result<(), StepError> {
    if devices.is_empty() {
        return Ok(());
    }
    let catalog = Catalog::read(specs);
    for device in devices {
        let (name, given) = match device {
            DeviceRequest::Machine { source, target } => (
                source.display().to_string(),
                cdi::inject_machine(source, target, spec),
            ),
            DeviceRequest::Named(name) => (
                name.clone(),
                catalog
                    .find(name)
                    .and_then(|found| cdi::inject(&found, spec)),
            ),
        };
        given.map_err(StepError::failed(format!("use the device `{name}`")))?;
    }
    Ok(())
}

/// The command line: rows E3 and E4.
fn arguments(request: &RunRequest, config: &ContainerConfig) -> Result<Vec<String>, StepError> {
    let (mut words, own) = match &request.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => (Vec::new(), &[][..]),
        Some(entrypoint) => (vec![entrypoint.clone()], &[][..]),
        None => (config.entrypoint.clone(), config.cmd.as_slice()),
    };
    words.extend_from_slice(if request.command.is_empty() {
        own
    } else {
        &request.command
    });
    if words.is_empty() {
        return Err(StepError::refused(
            "no command was given, and the image has none",
        ));
    }
    Ok(words)
}

fn environment(
    request: &RunRequest,
    config: &ContainerConfig,
    home: &str,
) -> Vec<(OsString, OsString)> {
    let mut variables = vec![("PATH".to_string(), process::DEFAULT_PATH.to_string())];
    variables.push((
        "HOSTNAME".into(),
        request
            .hostname
            .clone()
            .unwrap_or_else(|| format!("kiln-{}", std::process::id())),
    ));
    if request.tty {
        variables.push(("TERM".into(), "xterm".into()));
    }
    let of_image = config.env.iter().filter_map(|text| text.split_once('='));
    variables.extend(of_image.map(|(name, value)| (name.to_string(), value.to_string())));
    if !variables.iter().any(|(name, _)| name == "HOME") {
        variables.push(("HOME".into(), home.to_string()));
    }
    variables.extend(request.env.iter().cloned());
    variables
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// Starts the process, passes signals and terminal on, and waits.
fn start(
    helper: &Helper,
    spec: &ProcessSpec,
    request: &RunRequest,
    signals: &Signals,
) -> Result<Ended, StepError> {
    // What comes while it starts is its own already: it may be at work before it is known here.
    let mut target = signals.target();
    let mut process = match runtime::spawn(helper, spec) {
        Ok(process) => process,
        Err(error) if error.exit_code() == 125 => {
            return Err(StepError::Failed {
                attempt: "start the container".into(),
                source: error.into(),
            });
        }
        Err(error) => {
            let code = error.exit_code();
            return Err(StepError::NotExecuted {
                command: command(spec),
                code,
                source: error.into(),
            });
        }
    };
    let terminal = process.take_terminal().map(Arc::new);
    *target = Some(Target {
        process: process.handle(),
        terminal: terminal.clone(),
    });
    drop(target);
    let joined = terminal.map(|terminal| Joined::new(terminal, request.interactive));
    let joined = joined
        .transpose()
        .map_err(StepError::failed("use the terminal"))?;
    let outcome = process
        .wait(|_, _| ())
        .map_err(StepError::failed("wait for the container"))?;
    drop(joined);
    Ok(Ended {
        code: match outcome.exit {
            Exit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        },
        out_of_memory: outcome.out_of_memory,
    })
}

/// Signals of this process: they end it as long as there is no container, and are the container's
/// as soon as there is one.
pub struct Signals {
    target: Arc<Mutex<Option<Target>>>,
}

struct Target {
    process: ProcessHandle,
    terminal: Option<Arc<File>>,
}

impl Signals {
    /// Takes signals over. Called while the process has one thread, so that all its threads leave
    /// them alone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch() -> io::Result<Signals> {
        let watched = SignalFd::new(&sys::signal::FORWARDED)?;
        let target: Arc<Mutex<Option<Target>>> = Arc::default();
        let theirs = target.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                while let Ok(signal) = watched.read() {
                    match &*lock(&theirs) {
                        Some(target) => target.pass(signal),
                        None if ENDING.contains(&signal) => sys::process::exit_now(128 + signal),
                        None => {}
                    }
                }
            })?;
        Ok(Signals { target })
    }

    /// Where signals go. They wait as long as this is held.
    fn target(&self) -> MutexGuard<'_, Option<Target>> {
        lock(&self.target)
    }
}

impl Target {
    fn pass(&self, signal: i32) {
        if let (sys::signal::SIGWINCH, Some(terminal)) = (signal, &self.terminal) {
            // The container's end of the terminal tells its program.
            drop(sys::pty::set_window_size(&**terminal, terminal::size()));
        } else {
            self.process.signal(signal);
        }
    }
}

fn command(spec: &ProcessSpec) -> String {
    spec.args
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
