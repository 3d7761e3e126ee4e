//! The caller's side: starting a container, reading its output, waiting, killing.

use crate::exec_error::ExecError;
use crate::helper;
use crate::message::{Failure, Report};
use crate::spec::{Io, ProcessSpec};
use crate::wire;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

pub use sys::process::Exit;

/// The program that helpers are started from.
#[derive(Clone, Debug)]
pub struct Helper {
    program: PathBuf,
}

impl Helper {
    /// This program itself, even if its file was replaced meanwhile. Its `main` must begin with
    /// [`crate::init_if_child`].
    pub fn current() -> Helper {
        Helper::program("/proc/self/exe")
    }

    /// Another program whose `main` begins with [`crate::init_if_child`], of the same version.
    pub fn program(path: impl Into<PathBuf>) -> Helper {
        Helper {
            program: path.into(),
        }
    }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of its program.
    pub exit: Exit,
    /// The kernel killed something in its control group for want of memory. Always `false`
    /// without a control group.
    pub out_of_memory: bool,
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
    helper: Child,
    control: Arc<UnixStream>,
    output: Option<(PipeReader, PipeReader)>,
    terminal: Option<OwnedFd>,
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
    let (stdout, stderr, output) = output_streams(spec.io).map_err(conversation)?;
    let mut command = Command::new(&helper.program);
    command
        .arg0(helper::NAME)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout)
        .stderr(stderr);
    let child = command.spawn().map_err(|source| SpawnError::Helper {
        program: helper.program.clone(),
        source,
    })?;
    // Its copies of the streams must close here, or their ends are never seen.
    drop(command);
    let mut process = Process {
        helper: child,
        control: Arc::new(control),
        output,
        terminal: None,
    };
    process.send_spec(spec).map_err(conversation)?;
    match process.next_report().map_err(conversation)? {
        Report::Started => Ok(process),
        Report::Failed { failure } => Err(match failure {
            Failure::Exec { error } => SpawnError::Exec(error),
            Failure::SetUp { step, errno } => SpawnError::SetUp {
                step,
                source: io::Error::from_raw_os_error(errno),
            },
        }),
        Report::Ended { .. } => Err(conversation(io::ErrorKind::InvalidData.into())),
    }
}

type Output = Option<(PipeReader, PipeReader)>;

fn output_streams(io: Io) -> io::Result<(Stdio, Stdio, Output)> {
    match io {
        Io::Captured => {
            let (stdout, to_stdout) = io::pipe()?;
            let (stderr, to_stderr) = io::pipe()?;
            let output = Some((stdout, stderr));
            Ok((Stdio::from(to_stdout), Stdio::from(to_stderr), output))
        }
        Io::Inherited { .. } => Ok((Stdio::inherit(), Stdio::inherit(), None)),
        Io::Terminal(_) => Ok((Stdio::null(), Stdio::null(), None)),
    }
}

impl Process {
    /// A way to kill and signal the container from elsewhere.
    pub fn handle(&self) -> ProcessHandle {
        ProcessHandle {
            control: Arc::clone(&self.control),
        }
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
        loop {
            let ready = poll(None, &streams, Some(0))?;
            if !ready[1] && !ready[2] {
                break;
            }
            pass_on(&mut streams, [ready[1], ready[2]], &mut buffer, &mut output)?;
        }
        self.helper.wait()?;
        match report? {
            Report::Ended { outcome } => Ok(outcome),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    fn send_spec(&self, spec: &ProcessSpec) -> io::Result<()> {
        let stdin = io::stdin();
        let descriptors = match spec.io {
            Io::Inherited { stdin: true } => vec![stdin.as_fd()],
            _ => Vec::new(),
        };
        wire::send(&self.control, spec, &descriptors)
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
        self.handle().kill();
        // Gone already after a wait; otherwise it ends as soon as the container has.
        self.helper.wait().ok();
    }
}

impl AsRef<Path> for Helper {
    fn as_ref(&self) -> &Path {
        &self.program
    }
}
