//! The helper: this program again, with one thread, from which containers start.
//!
//! A threaded program cannot fork safely, and forking a large one is slow. So the caller starts
//! itself anew once, under the name [`NAME`], and asks that process for a copy of itself whenever
//! it wants a container:
//!
//! ```text
//! caller ──one message a container──► helper ──clone──► supervisor (see `supervisor`)
//!        ◄────────────── a socket of its own ──────────►
//! ```
//!
//! The helper ends when the caller's side of its socket does. Asked to, it keeps one supervisor in
//! advance, whose container has its namespaces and file systems and only waits for its spec.
//!
//! It runs from a copy of its file that cannot be written: until a container becomes its program,
//! `/proc/self/exe` in it is this program, and an image could have the container's root user open
//! that link.

use crate::pool::Pool;
use crate::supervisor::{self, Streams};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use sys::process::{Cloned, Namespaces};

/// What the helper is called in the process list: its argument 0.
const NAME: &str = "kiln-container-helper";

/// Argument 1 once it runs from a file that cannot be written.
const SEALED: &str = "sealed";

/// Turns this process into a container helper if it was started as one, and then never returns.
///
/// The first line of `main` in every program that calls [`crate::spawn`], before any thread is
/// started. In a process that is no helper it does nothing.
pub fn init_if_child() {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == NAME) {
        let served = match args.next().is_some_and(|word| word == SEALED) {
            true => listen(),
            false => Err(seal()),
        };
        // The caller has gone or talks nonsense; there is nobody to tell.
        sys::process::exit_now(i32::from(served.is_err()));
    }
}

/// Becomes the same program again, from a file that cannot be written. Returns why it could not.
fn seal() -> io::Error {
    let become_sealed = |file: &OwnedFd| {
        let text = |text: &str| CString::new(text).map_err(io::Error::other);
        let path = text(&format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Err(sys::process::exec(
            &path,
            &[text(NAME)?, text(SEALED)?],
            &[],
        ))
    };
    let sealed: io::Result<()> = match read_only_mount() {
        Ok(file) => become_sealed(&file),
        // Before Linux 5.12.
        Err(_) => memory_copy().and_then(|file| become_sealed(&file)),
    };
    sealed
        .err()
        .unwrap_or_else(|| io::ErrorKind::Unsupported.into())
}

/// This program's file through a mount of its own, which is read-only.
fn read_only_mount() -> io::Result<OwnedFd> {
    use sys::fs::{CWD, Mode, OFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = sys::fs::openat(CWD, "/proc/self/exe", flags, Mode::empty())?;
    let mount = sys::mount::clone_tree(file.as_fd(), false)?;
    let attributes = sys::mount::Attributes::MOUNT_ATTR_RDONLY;
    sys::mount::set_attributes(mount.as_fd(), attributes, false)?;
    Ok(mount)
}

/// A copy of this program in memory, sealed.
fn memory_copy() -> io::Result<OwnedFd> {
    use sys::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(sys::fs::memfd_create(NAME, flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    sys::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// What the caller asks for, by the byte of a message.
mod order {
    /// A supervisor, for the descriptors that come along.
    pub(super) const SERVE: u8 = 1;
    /// A supervisor for the next such message, in advance.
    pub(super) const PREPARE: u8 = 2;
}

/// Makes a copy of this process for every message, until the caller hangs up.
fn listen() -> io::Result<()> {
    sys::process::close_on_exec_from(3).ok();
    sys::signal::block_all();
    // Copies are not waited for: each reports to its caller by itself.
    sys::signal::ignore_children();
    // Its own session, so that a Ctrl-C on the caller's terminal does not reach it. Fails only
    // for a process that leads a group already.
    sys::process::setsid().ok();
    std::env::set_current_dir("/")?;
    let requests = io::stdin().as_fd().try_clone_to_owned()?;
    sys::process::replace_stream(File::open("/dev/null")?, 0)?;
    crate::seccomp::warm_up();
    crate::one_id::warm_up();
    // Without it every container mounts its layers for itself.
    let pool = Pool::create().ok();
    let mut spare: Option<UnixStream> = None;
    loop {
        let mut byte = [0];
        let (count, descriptors) = sys::net::receive_with_descriptors(&requests, &mut byte)?;
        match byte {
            _ if count == 0 => return Ok(()),
            [order::SERVE] => {
                let spare = spare.take();
                if spare.is_some_and(|spare| send(&spare, order::SERVE, &descriptors).is_ok()) {
                    continue;
                }
                let Some(request) = Request::of(descriptors) else {
                    continue;
                };
                // Without a copy the request's socket closes, which tells the caller.
                if is_copy() {
                    drop(requests);
                    end(request.serve(pool.as_ref()));
                }
            }
            [order::PREPARE] if spare.is_none() => {
                let Ok((ours, theirs)) = UnixStream::pair() else {
                    continue;
                };
                if is_copy() {
                    drop((requests, ours));
                    end(stand_by(theirs, pool.as_ref()));
                }
                spare = Some(ours);
            }
            _ => {}
        }
    }
}

/// Splits this process. `true` in the copy.
fn is_copy() -> bool {
    let cloned = sys::process::clone_process(Namespaces::default(), None);
    let copied = matches!(cloned, Ok(Cloned::Child));
    if copied {
        sys::signal::reset();
        sys::signal::block_all();
    }
    copied
}

fn end(result: io::Result<()>) -> ! {
    sys::process::exit_now(i32::from(result.is_err()))
}

/// Waits for a request with the container's ground made already.
fn stand_by(requests: UnixStream, pool: Option<&Pool>) -> io::Result<()> {
    let spare = supervisor::Spare::start(pool)?;
    let mut byte = [0];
    let (_, descriptors) = sys::net::receive_with_descriptors(&requests, &mut byte)?;
    drop(requests);
    match Request::of(descriptors) {
        Some(request) => spare.serve(UnixStream::from(request.control), request.streams),
        // The helper has ended.
        None => Ok(()),
    }
}

/// The descriptors of one message.
struct Request {
    control: OwnedFd,
    streams: Streams,
}

impl Request {
    fn of(descriptors: Vec<OwnedFd>) -> Option<Request> {
        let mut descriptors = descriptors.into_iter();
        Some(Request {
            control: descriptors.next()?,
            streams: Streams::of(descriptors)?,
        })
    }

    fn serve(self, pool: Option<&Pool>) -> io::Result<()> {
        supervisor::serve(UnixStream::from(self.control), self.streams, pool)
    }
}

fn send<D: AsFd>(to: &UnixStream, order: u8, descriptors: &[D]) -> io::Result<()> {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    sys::net::send_with_descriptors(to, &[order], &descriptors)?;
    Ok(())
}

/// The process that containers start from. It is started when the first one is, and ends with this
/// value.
#[derive(Debug)]
pub struct Helper {
    program: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// `None` only while it is dropped.
    requests: Option<UnixStream>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.requests.take());
        // Nothing is left to do if it was killed before.
        self.child.wait().ok();
    }
}

impl Helper {
    /// This program itself, even if its file was replaced meanwhile. Its `main` must begin with
    /// [`init_if_child`].
    pub fn current() -> Helper {
        Helper::program("/proc/self/exe")
    }

    /// Another program whose `main` begins with [`init_if_child`], of the same version.
    pub fn program(path: impl Into<PathBuf>) -> Helper {
        Helper {
            program: path.into(),
            running: Mutex::new(None),
        }
    }

    /// The program's path.
    pub fn path(&self) -> &Path {
        &self.program
    }

    /// Asks for a supervisor that listens to the other end of `control`, with these streams:
    /// output, error output, and input if it is to have one.
    pub(crate) fn request(
        &self,
        control: BorrowedFd<'_>,
        streams: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptors: Vec<_> = [control].iter().chain(streams).copied().collect();
        if let Some(helper) = &*running
            && helper.ask(&descriptors).is_ok()
        {
            return Ok(());
        }
        // Not started yet, or killed by somebody.
        *running = None;
        let helper = running.insert(self.start()?);
        helper.ask(&descriptors)
    }

    /// Makes the next container's namespaces and file systems ready while this one runs, if the
    /// helper was started already: for callers that know that there will be one. A container that
    /// wants something unusual starts without them.
    pub fn prepare_next(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = running.as_ref().and_then(|helper| helper.requests.as_ref()) {
            // A helper that was killed is started again by the next request.
            send::<BorrowedFd<'_>>(requests, order::PREPARE, &[]).ok();
        }
    }

    fn start(&self) -> io::Result<Running> {
        let (requests, theirs) = UnixStream::pair()?;
        let child = Command::new(&self.program)
            .arg0(NAME)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Running {
            child,
            requests: Some(requests),
        })
    }
}

impl Running {
    fn ask(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let requests = self.requests.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        send(requests, order::SERVE, descriptors)
    }
}
