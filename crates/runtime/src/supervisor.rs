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
use crate::container;
use crate::message::{During, Failure, Notice, Report, SetUpError, Stub, Touched};
use crate::network::Connection;
use crate::process::Outcome;
use crate::spec::{Network, ProcessSpec};
use crate::wire;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use sys::mount::RootMount;
use sys::process::{Cloned, Namespaces};

const SIGKILL: i32 = 9;

/// Receives a spec from a caller and runs it to its end. `stdin` is given on if the spec wants it.
pub(crate) fn serve(control: UnixStream, stdin: Option<OwnedFd>) -> io::Result<()> {
    let (spec, _) = wire::receive::<ProcessSpec>(&control)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match Supervisor::start(&spec, control.try_clone()?, stdin) {
        Ok(supervisor) => supervisor.run(&spec),
        Err(error) => {
            let failure = error.into();
            wire::send(&control, &Report::Failed { failure }, &[])
        }
    }
}

/// A container that was started, and everything that must be undone after it.
struct Supervisor {
    control: UnixStream,
    channel: UnixStream,
    pid: i32,
    pidfd: OwnedFd,
    group: Option<Group>,
    connection: Option<Connection>,
    terminal: Option<OwnedFd>,
    stubs: Vec<Stub>,
    touched: Vec<Touched>,
    /// The caller has hung up; its side is not listened to any more.
    abandoned: bool,
}

impl Supervisor {
    fn start(
        spec: &ProcessSpec,
        control: UnixStream,
        stdin: Option<OwnedFd>,
    ) -> Result<Supervisor, SetUpError> {
        let group = match &spec.cgroup {
            Some(limits) => {
                let name = format!("kiln-{}", std::process::id());
                Some(Group::create(limits, &name)?)
            }
            None => None,
        };
        let (channel, inner) =
            UnixStream::pair().during(|| "open a channel to the container".to_owned())?;
        let namespaces = Namespaces {
            mount: true,
            pid: true,
            ipc: true,
            uts: true,
            cgroup: true,
            network: spec.network != Network::Host,
        };
        let into = group.as_ref().map(|group| group.directory().as_fd());
        let cloned = sys::process::clone_process(namespaces, into)
            .during(|| "create the container's namespaces".to_owned())?;
        match cloned {
            Cloned::Child => {
                drop((control, channel));
                std::mem::forget(group);
                enter(spec, inner, stdin)
            }
            Cloned::Parent { pid, pidfd } => {
                drop((inner, stdin));
                let_go_of_streams().during(|| "close the streams".to_owned())?;
                Ok(Supervisor {
                    control,
                    channel,
                    pid,
                    pidfd,
                    group,
                    connection: None,
                    terminal: None,
                    stubs: Vec::new(),
                    touched: Vec::new(),
                    abandoned: false,
                })
            }
        }
    }

    fn run(mut self, spec: &ProcessSpec) -> io::Result<()> {
        let failure = self.listen(spec);
        if failure.is_none() {
            let terminal = self.terminal.take();
            let descriptors: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
            // A caller that has gone is noticed below.
            wire::send(&self.control, &Report::Started, &descriptors).ok();
        }
        let exit = self.wait()?;
        let out_of_memory = self.group.as_ref().is_some_and(Group::ran_out_of_memory);
        drop(self.connection.take());
        drop(self.group.take());
        self.clean_up(&spec.root);
        let report = match failure {
            Some(failure) => Report::Failed { failure },
            None => Report::Ended {
                outcome: Outcome {
                    exit,
                    out_of_memory,
                },
            },
        };
        wire::send(&self.control, &report, &[])
    }

    /// Hears what the container says until it becomes the program or gives up.
    fn listen(&mut self, spec: &ProcessSpec) -> Option<Failure> {
        loop {
            let control = (!self.abandoned).then(|| self.control.as_fd());
            let ready = sys::poll::readable([Some(self.channel.as_fd()), control], None);
            let Ok([said, ordered]) = ready else {
                return None;
            };
            if ordered {
                self.obey();
            }
            if !said {
                continue;
            }
            match self.hear() {
                Ok(Some(Notice::Made { stubs, directories })) => {
                    self.stubs = stubs;
                    self.touched = directories;
                }
                Ok(Some(Notice::Connect)) => match self.connect(spec) {
                    Ok(connection) => {
                        self.connection = connection;
                        (&self.channel).write_all(&[1]).ok();
                    }
                    Err(error) => {
                        sys::process::send_signal(&self.pidfd, SIGKILL).ok();
                        return Some(error.into());
                    }
                },
                Ok(Some(Notice::Failed { failure })) => return Some(failure),
                Ok(Some(Notice::Terminal)) => {}
                // Closed by `exec`: it runs. Or cut short: its end will tell.
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next notice, with the terminal that may come along.
    fn hear(&mut self) -> io::Result<Option<Notice>> {
        let received = wire::receive(&self.channel)?;
        Ok(received.map(|(notice, descriptors)| {
            self.terminal = descriptors.into_iter().next().or(self.terminal.take());
            notice
        }))
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
            let control = (!self.abandoned).then(|| self.control.as_fd());
            let [ended, ordered] = sys::poll::readable([Some(self.pidfd.as_fd()), control], None)?;
            if ended {
                return sys::process::wait(&self.pidfd);
            }
            if ordered {
                self.obey();
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

/// The container's side of the clone.
fn enter(spec: &ProcessSpec, channel: UnixStream, stdin: Option<OwnedFd>) -> ! {
    let mut channel = channel;
    let failure = match spec.init.then(container::split).transpose() {
        Ok(Some(container::Role::Init(init))) => {
            drop((channel, stdin));
            match let_go_of_streams() {
                Ok(()) => init.tend(),
                Err(_) => sys::process::exit_now(255),
            }
        }
        Ok(_) => container::become_program(spec, &mut channel, stdin),
        Err(error) => SetUpError::new("start the init process", &error).into(),
    };
    // Without a listener there is nobody to tell.
    wire::send(&channel, &Notice::Failed { failure }, &[]).ok();
    sys::process::exit_now(125)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    use sys::fs::{CWD, Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(sys::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Who reads the container's output waits until its last holder lets go.
fn let_go_of_streams() -> io::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    for stream in 0..=2 {
        sys::process::replace_stream(&null, stream)?;
    }
    Ok(())
}
