//! Standard streams, session and controlling terminal. Runs inside the new root.

use super::wants_terminal;
use crate::message::{During, Notice, SetUpError};
use crate::spec::{Io, ProcessSpec};
use crate::wire;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use sys::fs::{CWD, FileType, Mode, OFlags};

/// Makes this process a session leader and gives it its streams.
pub(super) fn set_up(
    spec: &ProcessSpec,
    channel: &UnixStream,
    stdin: Option<OwnedFd>,
) -> Result<(), SetUpError> {
    // Its own session: a Ctrl-C on the caller's terminal is the caller's to forward.
    sys::process::setsid().during(|| "start a session".to_owned())?;
    if wants_terminal(spec) {
        return terminal(spec, channel);
    }
    let input = match stdin {
        Some(stdin) => stdin,
        None => sys::fs::openat(
            CWD,
            "/dev/null",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during(|| "open /dev/null".to_owned())?,
    };
    sys::process::replace_stream(&input, 0).during(|| "set the standard input".to_owned())?;
    if spec.io == Io::Captured {
        // So that a program of another user can open /dev/stdout.
        for stream in [io::stdout().as_fd(), io::stderr().as_fd()] {
            give_pipe(stream, spec).during(|| "hand over the output streams".to_owned())?;
        }
    }
    Ok(())
}

fn give_pipe(stream: std::os::fd::BorrowedFd<'_>, spec: &ProcessSpec) -> io::Result<()> {
    let (uid, gid) = owner(spec);
    if uid != 0 && sys::fs::stat(stream)?.kind == FileType::Fifo {
        sys::fs::set_owner(stream, c"", uid, gid)?;
    }
    Ok(())
}

/// Whose the streams are to be. With one id everything is that one's already.
fn owner(spec: &ProcessSpec) -> (u32, u32) {
    match spec.one_id {
        true => (0, 0),
        false => (spec.user.uid, spec.user.gid),
    }
}

fn terminal(spec: &ProcessSpec, channel: &UnixStream) -> Result<(), SetUpError> {
    let step = || "open a terminal".to_owned();
    let terminal = sys::pty::open_terminal("/dev/pts/ptmx").during(step)?;
    if let Io::Terminal(size) = spec.io {
        sys::pty::set_window_size(&terminal.controller, size).during(step)?;
    }
    // Group 5 is tty; in a user namespace without it the group stays.
    let (uid, gid) = owner(spec);
    if sys::fs::set_owner(&terminal.peer, c"", uid, 5).is_err() {
        sys::fs::set_owner(&terminal.peer, c"", uid, gid).during(step)?;
    }
    console(&terminal.peer).during(|| "make /dev/console".to_owned())?;
    sys::pty::set_controlling(&terminal.peer).during(step)?;
    for stream in 0..=2 {
        sys::process::replace_stream(&terminal.peer, stream).during(step)?;
    }
    wire::send(channel, &Notice::Terminal, &[terminal.controller.as_fd()]).during(step)
}

/// Shows the terminal as `/dev/console` too.
fn console(peer: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let at = sys::fs::openat(CWD, "/dev/console", flags, Mode::from_raw_mode(0o600))?;
    sys::mount::bind(
        peer.as_fd(),
        false,
        sys::mount::Attributes::empty(),
        at.as_fd(),
    )
    .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}
