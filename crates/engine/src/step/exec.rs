//! Executes `RUN`: mounts the inputs, runs the process, keeps what it wrote as a layer.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::{Exec, InputIndex, MountKind, Vertex};
use layer::made::Makers;
use layer::owner::Ids;
use runtime::{Exit, Io, Mount, Network, Outcome, ProcessSpec, Security};
use solver::VertexIndex;
use store::{ActiveSnapshot, CacheMount};
use sys::mount::{Lower, RootMount};

use super::agent::Forward;
use super::device;
use crate::build::{Chore, Handle, Session};
use crate::cdi::{self, Found};
use crate::error::StepError;
use crate::event::{EventKind, Stream};
use crate::process::{self, command_line};

/// Lines of output that an error repeats.
const TAIL_LINES: usize = 40;
const TAIL_BYTES: usize = 16 << 10;
/// docker's bound on a secret: 500 KiB.
pub(crate) const MAX_SECRET: u64 = 500 << 10;

/// Runs the process of a vertex over its inputs and returns the layers that result.
pub(crate) fn execute(
    session: &Session<'_>,
    index: VertexIndex,
    exec: &Exec,
    inputs: &[Handle],
) -> Result<Handle, StepError> {
    let Some(Handle::Layers(base)) = inputs.first() else {
        return Err(StepError::refused(
            "the root file system of a RUN must be layers",
        ));
    };
    permit(session, exec)?;
    let vertex = session.vertex(index);
    let catalog = device::catalog(session, exec);
    let devices = match &catalog {
        Some(catalog) => device::find(session, vertex.digest, exec, catalog)?,
        None => Vec::new(),
    };
    session.layers.ensure(base)?;
    let snapshot = session.layers.active(base)?;
    let mut run = Run {
        session,
        vertex,
        index,
        exec,
        inputs,
        devices,
        caches: Vec::new(),
        scratch: Vec::new(),
        agents: Vec::new(),
    };
    let spec = run.spec(&snapshot, base)?;
    let outcome = run.process(&spec)?;
    run.check(&outcome)?;
    for cache in std::mem::take(&mut run.caches) {
        cache
            .publish()
            .map_err(StepError::failed("keep a cache mount"))?;
    }
    if spec.one_id {
        give_away(session, &snapshot, base, &spec.user, &outcome.became)?;
    }
    let (layer, work) = snapshot
        .commit_first()
        .map_err(StepError::failed("keep the layer"))?;
    session.later(Chore::Remove(work));
    let layers: Arc<[_]> = base.iter().copied().chain([layer]).collect();
    Ok(Handle::Layers(layers))
}

/// Writes down whose is what the step made, where the kernel knows one owner.
fn give_away(
    session: &Session<'_>,
    snapshot: &ActiveSnapshot,
    base: &[store::LayerId],
    user: &runtime::User,
    became: &[(u32, u32)],
) -> Result<(), StepError> {
    let ids = |(uid, gid)| Ids { uid, gid };
    let others: Vec<Ids> = became.iter().copied().map(ids).collect();
    let makers = Makers {
        program: ids((user.uid, user.gid)),
        others: &others,
    };
    let below = session.layers.view(base)?;
    layer::made::record_owners_of_new(snapshot.upper(), &*below, makers)
        .map_err(StepError::failed("write down whose the step's files are"))
}

/// Whether this machine can run the step, and the request allows what it asks for.
fn permit(session: &Session<'_>, exec: &Exec) -> Result<(), StepError> {
    use crate::request::Entitlement::SecurityInsecure;
    possible(session)?;
    let missing = match (exec.security, exec.network) {
        (graph::Security::Insecure, _) if !session.request.allow.contains(&SecurityInsecure) => {
            "security.insecure"
        }
        (_, graph::Network::Host) if !session.may_use_host_network() => "network.host",
        _ => return Ok(()),
    };
    Err(StepError::refused(format!(
        "the step needs the entitlement {missing}: allow it with --allow {missing}"
    )))
}

/// Whether this machine lets kiln start containers at all.
pub(crate) fn possible(session: &Session<'_>) -> Result<(), StepError> {
    match session.no_containers {
        None => Ok(()),
        Some(missing) => Err(StepError::refused(process::no_containers(missing))),
    }
}

struct Run<'r, 'e> {
    session: &'r Session<'e>,
    vertex: &'r Vertex,
    index: VertexIndex,
    exec: &'r Exec,
    inputs: &'r [Handle],
    devices: Vec<Found<'r>>,
    caches: Vec<CacheMount>,
    /// Directories for writes that are thrown away.
    scratch: Vec<ActiveSnapshot>,
    /// Sockets that lead to agents.
    agents: Vec<Forward>,
}

impl Run<'_, '_> {
    fn spec(
        &mut self,
        snapshot: &ActiveSnapshot,
        base: &[store::LayerId],
    ) -> Result<ProcessSpec, StepError> {
        let exec = self.exec;
        let view = self.session.layers.view(base)?;
        let user = process::user(&*view, &exec.user)?;
        let network = network(exec.network);
        let mut spec = ProcessSpec::new(self.session.layers.root_mount(snapshot)?, &exec.args);
        spec.env = self.environment(&user.home)?;
        spec.cwd = PathBuf::from(&exec.cwd);
        spec.user = runtime::User {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        };
        spec.one_id = self.session.layers.single_id();
        spec.hostname.clone_from(&exec.hostname);
        spec.security = match exec.security {
            graph::Security::Sandbox => Security::sandbox(),
            graph::Security::Insecure => Security::insecure(),
        };
        spec.rlimits = process::rlimits(&exec.limits.ulimits)?;
        spec.cgroup = self.session.cgroup.cloned();
        spec.shm_size = exec.limits.shm_size.unwrap_or(runtime::DEFAULT_SHM_SIZE);
        spec.clock_ahead = self.session.clock.ahead;
        spec.io = Io::Captured;
        spec.mounts = process::generated_files(&exec.hostname, &exec.extra_hosts, &network);
        spec.network = network;
        cdi::inject(&self.devices, &mut spec).map_err(|error| {
            let names: Vec<_> = self.devices.iter().map(Found::name).collect();
            device::failed(&names.join(", "))(error)
        })?;
        for mount in &exec.mounts {
            if let Some(mount) = self.mount(mount)? {
                spec.mounts.push(mount);
            }
        }
        if let Some(script) = &exec.script {
            let target = Path::new("/dev/pipes").join(&script.name);
            spec.mounts.push(process::file(
                target,
                script.body.clone().into_bytes(),
                0o755,
                true,
            ));
        }
        Ok(spec)
    }

    fn environment(&self, home: &str) -> Result<Vec<(OsString, OsString)>, StepError> {
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        let mut put = |name: &str, value: OsString| match variables
            .iter_mut()
            .find(|(known, _)| known == name)
        {
            Some(variable) => variable.1 = value,
            None => variables.push((name.into(), value)),
        };
        let mut set = |name: &str, value: &str| put(name, value.into());
        set("HOME", home);
        set("PATH", process::DEFAULT_PATH);
        session_proxies(self.session).for_each(|(name, value)| set(name, value));
        self.exec
            .proxy_env
            .iter()
            .for_each(|(name, value)| set(name, value));
        self.exec
            .env
            .iter()
            .for_each(|(name, value)| set(name, value));
        for mount in &self.exec.mounts {
            match &mount.kind {
                MountKind::Secret(secret) => {
                    if let Some(variable) = &secret.env {
                        let value = self
                            .secret(&secret.id, secret.required)?
                            .unwrap_or_default();
                        put(variable, OsString::from_vec(value));
                    }
                }
                MountKind::Ssh(ssh) if self.session.request.ssh_socket(&ssh.id).is_some() => {
                    put("SSH_AUTH_SOCK", mount.target.clone().into());
                }
                _ => {}
            }
        }
        Ok(variables)
    }

    fn mount(&mut self, mount: &graph::Mount) -> Result<Option<Mount>, StepError> {
        let target = PathBuf::from(&mount.target);
        let kind = match &mount.kind {
            MountKind::Bind {
                input,
                source,
                writable,
            } => self.bind(*input, source, *writable)?,
            MountKind::Cache(cache) => self.cache(cache)?,
            MountKind::Tmpfs { size } => runtime::MountKind::Tmpfs {
                size: *size,
                mode: 0o1777,
            },
            MountKind::Secret(secret) => match self.secret(&secret.id, secret.required)? {
                Some(content) if !mount.target.is_empty() => runtime::MountKind::File {
                    content,
                    mode: secret.mode,
                    uid: self.mapped(secret.uid),
                    gid: self.mapped(secret.gid),
                    readonly: true,
                },
                _ => return Ok(None),
            },
            MountKind::Ssh(ssh) => match self.session.request.ssh_socket(&ssh.id) {
                Some(socket) => self.agent(ssh, socket)?,
                None if ssh.required => {
                    let message = format!(
                        "the step needs the ssh agent `{}`: give it with --ssh {}",
                        ssh.id, ssh.id
                    );
                    return Err(StepError::refused(message));
                }
                None => return Ok(None),
            },
        };
        Ok(Some(Mount { target, kind }))
    }

    fn agent(
        &mut self,
        ssh: &graph::SshMount,
        socket: &Path,
    ) -> Result<runtime::MountKind, StepError> {
        let attempt = || format!("lead the step to the ssh agent `{}`", ssh.id);
        let directory = self.session.store.scratch();
        let directory = directory.map_err(StepError::failed(attempt()))?;
        let owner = (self.mapped(ssh.uid), self.mapped(ssh.gid));
        let forward = Forward::start(directory, socket.to_owned(), ssh.mode, owner)
            .map_err(StepError::failed(attempt()))?;
        let source = forward.path();
        self.agents.push(forward);
        Ok(runtime::MountKind::Bind {
            source,
            readonly: false,
            nosuid: false,
            noexec: false,
        })
    }

    fn bind(
        &mut self,
        input: InputIndex,
        source: &str,
        writable: bool,
    ) -> Result<runtime::MountKind, StepError> {
        let layers = self.layers_of(input)?;
        self.session.layers.ensure(&layers)?;
        let tree = if writable {
            self.scratch_over(&layers)?
        } else {
            self.session.layers.read_only(&layers)?
        };
        Ok(runtime::MountKind::Tree {
            tree,
            path: PathBuf::from(source),
            readonly: !writable,
        })
    }

    fn layers_of(&self, input: InputIndex) -> Result<Arc<[store::LayerId]>, StepError> {
        let handle = self.inputs.get(input.0);
        match handle
            .ok_or_else(|| StepError::refused("a mount names an input that is not there"))?
        {
            Handle::Layers(layers) => Ok(layers.clone()),
            handle @ Handle::Context(_) => self.session.context_layers(self.index, input.0, handle),
        }
    }

    /// A tree that can be written to, whose writes are thrown away with this step.
    fn scratch_over(&mut self, layers: &[store::LayerId]) -> Result<RootMount, StepError> {
        let scratch = self.session.layers.active(layers)?;
        let mount = self.session.layers.root_mount(&scratch)?;
        self.scratch.push(scratch);
        Ok(mount)
    }

    /// A cache mount: what the step writes is published when it succeeds.
    fn cache(&mut self, cache: &graph::CacheMount) -> Result<runtime::MountKind, StepError> {
        let failed = || format!("use cache mount `{}`", cache.id);
        let session = self.session;
        let (id, initial) = match &cache.from {
            None => (cache.id.clone(), None),
            Some((input, path)) => {
                let layers = self.layers_of(*input)?;
                let names: Vec<String> = layers.iter().map(ToString::to_string).collect();
                let id = format!("{} from {} {path}", cache.id, names.join(","));
                (id, Some((layers, path)))
            }
        };
        if self.vertex.meta.no_cache {
            session
                .store
                .forget_cache_mount(&id)
                .map_err(StepError::failed(failed()))?;
        }
        let sharing = match cache.sharing {
            graph::Sharing::Shared => store::Sharing::Shared,
            graph::Sharing::Private => store::Sharing::Private,
            graph::Sharing::Locked => store::Sharing::Locked,
        };
        let mount = session
            .store
            .cache_mount(&id, sharing, &|| session.cancel.is_cancelled())
            .map_err(StepError::failed(failed()))?;
        if mount.is_new() {
            let root = layer::Root::open(&mount.upper()).map_err(StepError::failed(failed()))?;
            match initial {
                Some((layers, path)) => session.layers.write_subtree(&layers, path, &root)?,
                None => {
                    let top = layer::RelPath::root();
                    root.set_permissions(&top, cache.mode)
                        .map_err(StepError::failed(failed()))?;
                    root.set_owner(&top, self.mapped(cache.uid), self.mapped(cache.gid))
                        .map_err(StepError::failed(failed()))?;
                }
            }
        }
        let tree = RootMount::Overlay {
            lowers: mount.lowers().into_iter().map(Lower::Dir).collect(),
            upper: mount.upper(),
            work: mount.work(),
            userxattr: session.layers.userxattr(),
        };
        self.caches.push(mount);
        Ok(runtime::MountKind::Tree {
            tree,
            path: PathBuf::from("/"),
            readonly: cache.readonly,
        })
    }

    /// An id that a mount asks for, as the container can have it: where there is but one, every
    /// process may use what is that one's.
    fn mapped(&self, id: u32) -> u32 {
        match self.session.layers.single_id() {
            true => 0,
            false => id,
        }
    }

    /// The value of a secret. It goes into the container and nowhere else.
    fn secret(&self, id: &str, required: bool) -> Result<Option<Vec<u8>>, StepError> {
        use crate::request::SecretSource;
        let value = match self.session.request.secrets.get(id) {
            Some(SecretSource::Value(value)) => Some(value.clone()),
            Some(SecretSource::File(path)) => {
                let attempt = format!("read secret `{id}` from {}", path.display());
                let metadata =
                    std::fs::metadata(path).map_err(StepError::failed(attempt.clone()))?;
                if metadata.len() > MAX_SECRET {
                    return Err(StepError::refused(format!(
                        "secret `{id}` is larger than {MAX_SECRET} bytes"
                    )));
                }
                Some(std::fs::read(path).map_err(StepError::failed(attempt))?)
            }
            None if required => {
                let message = format!(
                    "the step needs the secret `{id}`: give it with --secret id={id},src=FILE"
                );
                return Err(StepError::refused(message));
            }
            None => None,
        };
        Ok(value)
    }

    fn process(&self, spec: &ProcessSpec) -> Result<Outcome, StepError> {
        let session = self.session;
        let failed = |source| StepError::Spawn {
            command: command_line(&self.exec.args),
            source,
        };
        let process = runtime::spawn(session.helper, spec).map_err(|error| failed(error.into()))?;
        if let Some(error) = process.clock_refused() {
            session.clock.refused.get_or_init(|| error.to_string());
        }
        // A container that waits is in no control group.
        if session.expects_runs() && session.cgroup.is_none() {
            session.helper.prepare_next();
        }
        let handle = process.handle();
        let _guard = session.cancel.on_cancel(move || handle.kill());
        let mut tail = Tail::default();
        let step = self.vertex.digest;
        let outcome = process
            .wait(|stream, bytes| {
                tail.push(bytes);
                let stream = match stream {
                    runtime::Stream::Stdout => Stream::Stdout,
                    runtime::Stream::Stderr => Stream::Stderr,
                };
                session.events.send(EventKind::Log {
                    step,
                    stream,
                    bytes: bytes.to_vec(),
                });
            })
            .map_err(|error| failed(error.into()))?;
        session.keep_tail(self.index, tail.lines());
        Ok(outcome)
    }

    fn check(&self, outcome: &Outcome) -> Result<(), StepError> {
        if self.session.cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let command = command_line(&self.exec.args);
        match outcome.exit {
            Exit::Code(0) => Ok(()),
            // Tried again if there is something to give up (`room`).
            Exit::Code(code) if self.session.room.is_full() => Err(StepError::failed(format!(
                "complete process {command:?}, which ended with exit code {code}: the disk is full"
            ))(
                std::io::Error::from(std::io::ErrorKind::StorageFull),
            )),
            Exit::Code(code) => Err(StepError::Exit {
                command,
                code,
                out_of_memory: outcome.out_of_memory,
            }),
            Exit::Signal(number) => Err(StepError::Signal {
                command,
                signal: process::signal_name(number),
                number,
                out_of_memory: outcome.out_of_memory,
            }),
        }
    }
}

/// The caller's proxies, beneath whatever the file or the request says.
fn session_proxies<'s>(session: &'s Session<'_>) -> impl Iterator<Item = (&'s str, &'s str)> {
    session
        .request
        .proxy_env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

/// A build has no network of its own by default: it uses the machine's.
fn network(network: graph::Network) -> Network {
    match network {
        graph::Network::Default | graph::Network::Host => Network::Host,
        graph::Network::None => Network::None,
    }
}

/// The end of a process's output.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.bytes.drain(..excess);
    }

    fn lines(mut self) -> Vec<String> {
        let text = String::from_utf8_lossy(self.bytes.make_contiguous()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(TAIL_LINES))
            .map(|line| line.to_string())
            .collect()
    }
}
