//! One container's keeper: a copy of the helper that starts the container, passes signals on,
//! cleans up after it, and reports.
//!
//! ```text
//! caller ──spec, signals──► supervisor ──clone──► container
//!        ◄───reports──────             ◄─notices─
//! ```
//!
//! The end of the caller's side of the socket means "kill it", so a caller that dies takes its
//! containers with it.

use crate::cgroup::Group;
use crate::clock::Follower;
use crate::container::{self, Ground, Role, Surroundings};
use crate::message::{During, Failure, Notice, Report, SetUpError, Stub, Touched};
use crate::network::Connection;
use crate::one_id::OneId;
use crate::pool::Pool;
use crate::process::{Outcome, Shortcuts};
use crate::spec::{Network, ProcessSpec};
use crate::wire;
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use sys::mount::RootMount;
use sys::process::{Cloned, Namespaces};

const SIGKILL: i32 = 9;

/// Where a container's standard streams go.
pub(crate) struct Streams {
    stdout: OwnedFd,
    stderr: OwnedFd,
    /// Given on if the spec wants it.
    stdin: Option<OwnedFd>,
}

impl Streams {
    /// Takes output, error output and, if it is there, input.
    pub(crate) fn of(mut descriptors: impl Iterator<Item = OwnedFd>) -> Option<Streams> {
        Some(Streams {
            stdout: descriptors.next()?,
            stderr: descriptors.next()?,
            stdin: descriptors.next(),
        })
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let outputs = [self.stdout.as_fd(), self.stderr.as_fd()];
        let input = self.stdin.iter().map(AsFd::as_fd);
        outputs.into_iter().chain(input).collect()
    }
}

/// Receives a spec from a caller and runs it to its end.
pub(crate) fn serve(control: UnixStream, streams: Streams, pool: Option<&Pool>) -> io::Result<()> {
    let spec = receive_spec(&control)?;
    serve_spec(&spec, control, streams, pool)
}

fn receive_spec(control: &UnixStream) -> io::Result<ProcessSpec> {
    let (spec, _) = wire::receive(control)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(spec)
}

fn serve_spec(
    spec: &ProcessSpec,
    control: UnixStream,
    streams: Streams,
    pool: Option<&Pool>,
) -> io::Result<()> {
    let shortcuts = Shortcuts {
        prepared: false,
        pooled_layers: pool.map_or(0, |pool| pool.provide(spec)),
    };
    match Container::start(spec, streams, pool.is_some()) {
        Ok(container) => Supervisor::new(control, container).run(spec, shortcuts),
        Err(error) => {
            let failure = error.into();
            wire::send(&control, &Report::Failed { failure }, &[])
        }
    }
}

/// A container that is ready for its spec, as long as that asks for nothing unusual.
pub(crate) struct Spare<'p> {
    container: Container,
    pool: Option<&'p Pool>,
}

impl<'p> Spare<'p> {
    /// Makes one.
    pub(crate) fn start(pool: Option<&'p Pool>) -> io::Result<Spare<'p>> {
        let (channel, inner) = UnixStream::pair()?;
        let wanted = Surroundings::USUAL;
        match sys::process::clone_process(namespaces(wanted), None)? {
            Cloned::Child => {
                drop(channel);
                let ground = container::prepare(wanted, pool.is_some());
                match wire::receive::<ProcessSpec>(&inner) {
                    Ok(Some((spec, descriptors))) => match Streams::of(descriptors.into_iter()) {
                        Some(streams) => enter(&spec, ground, inner, streams),
                        None => sys::process::exit_now(125),
                    },
                    // Not needed.
                    _ => sys::process::exit_now(0),
                }
            }
            Cloned::Parent { pid, pidfd } => Ok(Spare {
                container: Container {
                    channel,
                    pid,
                    pidfd,
                    group: None,
                },
                pool,
            }),
        }
    }

    /// Receives a spec from a caller and runs it to its end.
    pub(crate) fn serve(self, control: UnixStream, streams: Streams) -> io::Result<()> {
        let spec = receive_spec(&control)?;
        let Spare { container, pool } = self;
        if Surroundings::of(&spec) != Surroundings::USUAL || spec.cgroup.is_some() {
            drop(container.channel);
            sys::process::wait(&container.pidfd)?;
            return serve_spec(&spec, control, streams, pool);
        }
        let shortcuts = Shortcuts {
            prepared: true,
            pooled_layers: pool.map_or(0, |pool| pool.provide(&spec)),
        };
        // A container that has ended already says so to the supervisor.
        wire::send(&container.channel, &spec, &streams.descriptors()).ok();
        drop(streams);
        Supervisor::new(control, container).run(&spec, shortcuts)
    }
}

fn namespaces(wanted: Surroundings) -> Namespaces {
    Namespaces {
        mount: true,
        pid: true,
        ipc: true,
        uts: true,
        cgroup: true,
        network: wanted.own_network,
    }
}

/// The first process of a container.
struct Container {
    channel: UnixStream,
    pid: i32,
    pidfd: OwnedFd,
    group: Option<Group>,
}

impl Container {
    fn start(spec: &ProcessSpec, streams: Streams, pooled: bool) -> Result<Container, SetUpError> {
        let group = spec.cgroup.as_ref().map(Group::create).transpose()?;
        let joins = group.as_ref().is_some_and(Group::has_to_be_joined);
        let (channel, inner) =
            UnixStream::pair().during(|| "open a channel to the container".to_owned())?;
        let wanted = Surroundings::of(spec);
        let namespaces = Namespaces {
            // What it shows begins at the group that a process is in when it is made.
            cgroup: !joins,
            ..namespaces(wanted)
        };
        let into = group.as_ref().and_then(Group::to_start_in).map(AsFd::as_fd);
        let cloned = sys::process::clone_process(namespaces, into)
            .during(|| "create the container's namespaces".to_owned())?;
        match cloned {
            Cloned::Child => {
                drop(channel);
                let joined = match &group {
                    Some(group) if joins => join(group),
                    _ => Ok(()),
                };
                std::mem::forget(group);
                let ground = joined.and_then(|()| container::prepare(wanted, pooled));
                enter(spec, ground, inner, streams)
            }
            Cloned::Parent { pid, pidfd } => Ok(Container {
                channel,
                pid,
                pidfd,
                group,
            }),
        }
    }
}

/// Moves this process into groups, from which on its view of them begins.
fn join(group: &Group) -> Result<(), SetUpError> {
    let view = Namespaces {
        cgroup: true,
        ..Namespaces::default()
    };
    group
        .join()
        .and_then(|()| sys::process::unshare(view, false))
        .during(|| "join the container's control groups".to_owned())
}

/// A container that was started, and everything that must be undone after it.
struct Supervisor {
    control: UnixStream,
    channel: UnixStream,
    pid: i32,
    pidfd: OwnedFd,
    group: Option<Group>,
    connection: Option<Connection>,
    follower: Option<Follower>,
    clock_refused: Option<i32>,
    terminal: Option<OwnedFd>,
    one_id: Option<OneId>,
    became: Vec<(u32, u32)>,
    stubs: Vec<Stub>,
    touched: Vec<Touched>,
    /// The caller has hung up; its side is not listened to any more.
    abandoned: bool,
}

impl Supervisor {
    fn new(control: UnixStream, container: Container) -> Supervisor {
        Supervisor {
            control,
            channel: container.channel,
            pid: container.pid,
            pidfd: container.pidfd,
            group: container.group,
            connection: None,
            follower: None,
            clock_refused: None,
            terminal: None,
            one_id: None,
            became: Vec::new(),
            stubs: Vec::new(),
            touched: Vec::new(),
            abandoned: false,
        }
    }

    fn run(mut self, spec: &ProcessSpec, shortcuts: Shortcuts) -> io::Result<()> {
        let failure = self.listen(spec);
        if failure.is_none() {
            let terminal = self.terminal.take();
            let descriptors: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
            // A caller that has gone is noticed below.
            let started = Report::Started {
                shortcuts,
                clock_refused: self.clock_refused,
            };
            wire::send(&self.control, &started, &descriptors).ok();
        }
        let exit = self.wait()?;
        if let Some(follower) = self.follower.take() {
            follower.wait()?;
        }
        let out_of_memory = self.group.as_ref().and_then(Group::shortage);
        drop(self.connection.take());
        drop(self.group.take());
        self.ignore_calls();
        self.clean_up(&spec.root);
        let report = match failure {
            Some(failure) => Report::Failed { failure },
            None => Report::Ended {
                outcome: Outcome {
                    exit,
                    out_of_memory,
                    became: self.became,
                },
            },
        };
        wire::send(&self.control, &report, &[])
    }

    /// Hears what the container says until it becomes the program or gives up.
    fn listen(&mut self, spec: &ProcessSpec) -> Option<Failure> {
        loop {
            let Ok([said, ordered, asked]) = self.ready(self.channel.as_fd()) else {
                return None;
            };
            if ordered {
                self.obey();
            }
            if asked {
                self.answer();
            }
            if !said {
                continue;
            }
            let done = match self.hear() {
                Ok(Some((notice, descriptor))) => self.heed(spec, notice, descriptor),
                // Closed by `exec`: it runs. Or cut short: its end will tell.
                Ok(None) | Err(_) => return None,
            };
            if let Err(failure) = done {
                return Some(failure);
            }
        }
    }

    /// Does what a notice asks for.
    fn heed(
        &mut self,
        spec: &ProcessSpec,
        notice: Notice,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), Failure> {
        let done = match notice {
            Notice::Made { stubs, directories } => {
                self.stubs = stubs;
                self.touched = directories;
                Ok(())
            }
            Notice::Connect => self.connect(spec).map(|connection| {
                self.connection = connection;
                (&self.channel).write_all(&[1]).ok();
            }),
            Notice::Follow => {
                self.follow(spec.clock_ahead);
                Ok(())
            }
            Notice::Terminal => {
                self.terminal = descriptor;
                Ok(())
            }
            Notice::Asks => self.attend(spec, descriptor),
            Notice::Failed { failure } => return Err(failure),
        };
        done.map_err(|error| {
            sys::process::send_signal(&self.pidfd, SIGKILL).ok();
            error.into()
        })
    }

    /// Has another process follow the container, and tells it whether one does.
    fn follow(&mut self, ahead: u32) {
        match Follower::start(self.pid, ahead) {
            Ok(follower) => self.follower = Some(follower),
            Err(error) => self.clock_refused = Some(error.raw_os_error().unwrap_or(0)),
        }
        let followed = u8::from(self.follower.is_some());
        (&self.channel).write_all(&[followed]).ok();
    }

    /// Begins to answer calls about users and owners.
    fn attend(&mut self, spec: &ProcessSpec, listener: Option<OwnedFd>) -> Result<(), SetUpError> {
        let process = self.pid.cast_unsigned();
        let listener = listener.ok_or_else(|| io::ErrorKind::InvalidData.into());
        let attended = listener.and_then(|listener| OneId::new(listener, process, &spec.user));
        self.one_id = Some(attended.during(|| "attend to owners and users".to_owned())?);
        Ok(())
    }

    /// The next notice, with what may come along.
    fn hear(&self) -> io::Result<Option<(Notice, Option<OwnedFd>)>> {
        let received = wire::receive(&self.channel)?;
        Ok(received.map(|(notice, descriptors)| (notice, descriptors.into_iter().next())))
    }

    /// Waits for `event`, the caller or a call that asks, and tells which are there.
    fn ready(&self, event: BorrowedFd<'_>) -> io::Result<[bool; 3]> {
        let control = (!self.abandoned).then(|| self.control.as_fd());
        let asks = self.one_id.as_ref().map(AsFd::as_fd);
        sys::poll::readable([Some(event), control, asks], None)
    }

    /// Answers the call that waits. Once nobody is left who could make one, or answering fails,
    /// those that still come fail by themselves.
    fn answer(&mut self) {
        let served = self.one_id.as_mut().map(OneId::serve);
        if !matches!(served, Some(Ok(true))) {
            self.ignore_calls();
        }
    }

    fn ignore_calls(&mut self) {
        if let Some(one_id) = self.one_id.take() {
            self.became = one_id.became();
        }
    }

    fn connect(&self, spec: &ProcessSpec) -> Result<Option<Connection>, SetUpError> {
        let Network::Connected(connector) = &spec.network else {
            return Ok(None);
        };
        let step = || {
            format!(
                "connect the network through {}",
                connector.program().display()
            )
        };
        Connection::open(connector, self.pid).map(Some).during(step)
    }

    /// Waits for the end, obeying the caller meanwhile.
    fn wait(&mut self) -> io::Result<sys::process::Exit> {
        loop {
            let [ended, ordered, asked] = self.ready(self.pidfd.as_fd())?;
            if ended {
                return sys::process::wait(&self.pidfd);
            }
            if ordered {
                self.obey();
            }
            if asked {
                self.answer();
            }
        }
    }

    /// Every byte from the caller is a signal for the program; the end is the last one.
    fn obey(&mut self) {
        let mut signals = [0; 16];
        match (&self.control).read(&mut signals) {
            Ok(0) | Err(_) => {
                self.abandoned = true;
                // It may have ended already.
                sys::process::send_signal(&self.pidfd, SIGKILL).ok();
            }
            Ok(count) => {
                for &signal in &signals[..count] {
                    sys::process::send_signal(&self.pidfd, signal.into()).ok();
                }
            }
        }
    }

    fn clean_up(&self, root: &RootMount) {
        let upper = match root {
            RootMount::Overlay { upper, .. } => upper,
            RootMount::Bind {
                source,
                readonly: false,
            } => source,
            _ => return,
        };
        if !self.stubs.is_empty()
            && let Ok(upper) = open_directory(upper)
        {
            container::clean_up(upper.as_fd(), &self.stubs, &self.touched);
        }
    }
}

/// The container's side: from the ground to the program.
fn enter(
    spec: &ProcessSpec,
    ground: Result<Ground, SetUpError>,
    mut channel: UnixStream,
    streams: Streams,
) -> ! {
    let spec = &match spec.clock_ahead {
        0 => Cow::Borrowed(spec),
        _ => followed(spec, &mut channel),
    };
    let role = match spec.init {
        true => container::split().during(|| "start the init process".to_owned()),
        false => Ok(Role::Program),
    };
    let failure = match (role, ground) {
        (Ok(Role::Init(init)), ground) => {
            // These are to close with the program.
            drop((ground, channel, streams));
            init.tend()
        }
        (Ok(Role::Program), Ok(ground)) => become_program(spec, ground, &mut channel, streams),
        (Ok(Role::Program), Err(error)) | (Err(error), _) => error.into(),
    };
    // Without a listener there is nobody to tell.
    wire::send(&channel, &Notice::Failed { failure }, &[]).ok();
    sys::process::exit_now(125)
}

/// Asks to be followed. The spec as it can be kept to: with the machine's clock, if need be.
fn followed<'s>(spec: &'s ProcessSpec, channel: &mut UnixStream) -> Cow<'s, ProcessSpec> {
    let mut answer = [0];
    // Without a listener the container ends in a moment anyhow.
    wire::send(channel, &Notice::Follow, &[]).ok();
    channel.read_exact(&mut answer).ok();
    match answer {
        [0] => Cow::Owned(ProcessSpec {
            clock_ahead: 0,
            ..spec.clone()
        }),
        _ => Cow::Borrowed(spec),
    }
}

/// Returns why the program did not start.
fn become_program(
    spec: &ProcessSpec,
    ground: Ground,
    channel: &mut UnixStream,
    streams: Streams,
) -> Failure {
    let Streams {
        stdout,
        stderr,
        stdin,
    } = streams;
    let set = sys::process::replace_stream(&stdout, 1)
        .and_then(|()| sys::process::replace_stream(&stderr, 2))
        .during(|| "set the output streams".to_owned());
    drop((stdout, stderr));
    match set {
        Ok(()) => container::become_program(spec, ground, channel, stdin),
        Err(error) => error.into(),
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    use sys::fs::{CWD, Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(sys::fs::openat(CWD, path, flags, Mode::empty())?)
}
