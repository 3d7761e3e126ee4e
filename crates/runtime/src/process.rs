//! The caller's side: starting a container, reading its output, waiting, killing.

use crate::cgroup::Shortage;
use crate::exec_error::ExecError;
use crate::helper::Helper;
use crate::message::{Failure, Report};
use crate::spec::{Io, ProcessSpec};
use crate::wire;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

pub use sys::process::Exit;

/// A container that did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The helper process could not be started.
    #[error("start the container helper {program}")]
    Helper {
        /// Its path.
        program: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The helper ended before it said anything useful. Its `main` may not begin with
    /// [`crate::init_if_child`], or somebody killed it.
    #[error("talk to the container helper")]
    Conversation {
        /// The errno.
        source: io::Error,
    },
    /// Something that the container needs could not be made.
    #[error("set up the container: {step}")]
    SetUp {
        /// Which mount, path, limit.
        step: String,
        /// The errno.
        source: io::Error,
    },
    /// The program could not be executed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl SpawnError {
    /// docker's exit code for it: 125, or that of [`ExecError::exit_code`].
    pub fn exit_code(&self) -> i32 {
        match self {
            SpawnError::Exec(error) => error.exit_code(),
            _ => 125,
        }
    }
}

/// A container whose end could not be learned.
#[derive(Debug, thiserror::Error)]
#[error("wait for the container")]
pub struct WaitError {
    /// The errno; `UnexpectedEof` when the helper was killed.
    #[from]
    source: io::Error,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of its program.
    pub exit: Exit,
    /// The kernel killed something in its control group for want of memory. Always `None` without
    /// a control group.
    pub out_of_memory: Option<Shortage>,
    /// Users, each with a group, that processes became besides root and the one of the program,
    /// though only in name: see [`ProcessSpec::one_id`]. Empty without that.
    pub became: Vec<(u32, u32)>,
}

/// What did not have to be made for a container because it was there already. Everything works
/// without, only slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Shortcuts {
    /// Its namespaces and file systems were made before its spec was known.
    pub prepared: bool,
    /// Packed layers that it shares with the containers before and after it.
    pub pooled_layers: u32,
}

/// Which stream output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// A running container. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    control: Arc<UnixStream>,
    output: Option<(PipeReader, PipeReader)>,
    terminal: Option<OwnedFd>,
    shortcuts: Shortcuts,
    clock_refused: Option<i32>,
    /// Its end was reported.
    ended: bool,
}

/// Sends signals to a container from any thread, also after its end.
#[derive(Clone, Debug)]
pub struct ProcessHandle {
    control: Arc<UnixStream>,
}

impl ProcessHandle {
    /// Kills everything in the container. [`Process::wait`] then reports its end.
    pub fn kill(&self) {
        // The helper takes the end of this stream for the order; if it has gone, all is done.
        self.control.shutdown(Shutdown::Write).ok();
    }

    /// Sends a signal (1 to 31) to the container's program. Nothing happens after its end.
    pub fn signal(&self, signal: i32) {
        if let Ok(signal) = u8::try_from(signal) {
            (&*self.control).write_all(&[signal]).ok();
        }
    }
}

/// Starts a process in a container and returns when its program runs.
///
/// # Errors
/// [`SpawnError`]; nothing is left behind.
pub fn spawn(helper: &Helper, spec: &ProcessSpec) -> Result<Process, SpawnError> {
    let conversation = |source| SpawnError::Conversation { source };
    let (control, theirs) = UnixStream::pair().map_err(conversation)?;
    let output = request(helper, theirs, spec.io).map_err(|source| SpawnError::Helper {
        program: helper.path().to_owned(),
        source,
    })?;
    let mut process = Process {
        control: Arc::new(control),
        output,
        terminal: None,
        shortcuts: Shortcuts::default(),
        clock_refused: None,
        ended: false,
    };
    wire::send(&process.control, spec, &[]).map_err(conversation)?;
    match process.next_report().map_err(conversation)? {
        Report::Started {
            shortcuts,
            clock_refused,
        } => {
            process.shortcuts = shortcuts;
            process.clock_refused = clock_refused;
            Ok(process)
        }
        Report::Failed { failure } => {
            process.ended = true;
            Err(match failure {
                Failure::Exec { error } => SpawnError::Exec(error),
                Failure::SetUp { step, errno } => SpawnError::SetUp {
                    step,
                    source: io::Error::from_raw_os_error(errno),
                },
            })
        }
        Report::Ended { .. } => Err(conversation(io::ErrorKind::InvalidData.into())),
    }
}

/// Asks for a supervisor with the streams that `io` wants. Returns where its output comes out.
fn request(
    helper: &Helper,
    control: UnixStream,
    io: Io,
) -> io::Result<Option<(PipeReader, PipeReader)>> {
    let control = control.as_fd();
    match io {
        Io::Captured => {
            let (stdout, to_stdout) = io::pipe()?;
            let (stderr, to_stderr) = io::pipe()?;
            helper.request(control, &[to_stdout.as_fd(), to_stderr.as_fd()])?;
            Ok(Some((stdout, stderr)))
        }
        Io::Inherited { stdin } => {
            let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
            let streams = [output.as_fd(), error.as_fd(), input.as_fd()];
            helper.request(control, &streams[..if stdin { 3 } else { 2 }])?;
            Ok(None)
        }
        Io::Terminal(_) => {
            let null = File::options().write(true).open("/dev/null")?;
            helper.request(control, &[null.as_fd(), null.as_fd()])?;
            Ok(None)
        }
    }
}

impl Process {
    /// A way to kill and signal the container from elsewhere.
    pub fn handle(&self) -> ProcessHandle {
        ProcessHandle {
            control: Arc::clone(&self.control),
        }
    }

    /// What was there already when it started.
    pub fn shortcuts(&self) -> Shortcuts {
        self.shortcuts
    }

    /// Why its clock is the machine's although [`ProcessSpec::clock_ahead`] asks for another one;
    /// `None` when it is as asked.
    pub fn clock_refused(&self) -> Option<io::Error> {
        self.clock_refused.map(io::Error::from_raw_os_error)
    }

    /// The controlling end of the terminal; `None` without one, or when it was taken before.
    /// Reading fails with `EIO` once the container has ended.
    pub fn take_terminal(&mut self) -> Option<File> {
        self.terminal.take().map(File::from)
    }

    /// Hands out the output while it comes and waits for the end. When this returns, nothing of
    /// the container runs any more, and all output was handed out.
    ///
    /// # Errors
    /// [`WaitError`]; the container is dead then too.
    pub fn wait(mut self, mut output: impl FnMut(Stream, &[u8])) -> Result<Outcome, WaitError> {
        let mut streams = match self.output.take() {
            Some((stdout, stderr)) => [Some(stdout), Some(stderr)],
            None => [None, None],
        };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let ready = poll(Some(self.control.as_fd()), &streams, None)?;
            pass_on(&mut streams, [ready[1], ready[2]], &mut buffer, &mut output)?;
            // The report last: all output was written before it.
            if ready[0] {
                break;
            }
        }
        let report = self.next_report();
        self.ended = report.is_ok();
        loop {
            let ready = poll(None, &streams, Some(0))?;
            if !ready[1] && !ready[2] {
                break;
            }
            pass_on(&mut streams, [ready[1], ready[2]], &mut buffer, &mut output)?;
        }
        match report? {
            Report::Ended { outcome } => Ok(outcome),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    fn next_report(&mut self) -> io::Result<Report> {
        let (report, descriptors) =
            wire::receive(&self.control)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if let Some(terminal) = descriptors.into_iter().next() {
            self.terminal = Some(terminal);
        }
        Ok(report)
    }
}

fn poll(
    control: Option<std::os::fd::BorrowedFd<'_>>,
    streams: &[Option<PipeReader>; 2],
    timeout: Option<u32>,
) -> io::Result<[bool; 3]> {
    let [stdout, stderr] = streams
        .each_ref()
        .map(|stream| stream.as_ref().map(AsFd::as_fd));
    sys::poll::readable([control, stdout, stderr], timeout)
}

/// Reads once from every stream that is ready; a stream that has ended is closed.
fn pass_on(
    streams: &mut [Option<PipeReader>; 2],
    ready: [bool; 2],
    buffer: &mut [u8],
    output: &mut impl FnMut(Stream, &[u8]),
) -> io::Result<()> {
    for (index, name) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
        if let (true, Some(stream)) = (ready[index], &mut streams[index]) {
            match stream.read(buffer)? {
                0 => streams[index] = None,
                count => output(name, &buffer[..count]),
            }
        }
    }
    Ok(())
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.handle().kill();
            // Until the supervisor has nothing more to say: then the container has gone.
            while self.next_report().is_ok() {}
        }
    }
}
