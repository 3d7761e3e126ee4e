//! Pseudo terminals.

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The end that a terminal emulator reads and writes.
    pub controller: OwnedFd,
    /// The end that a program has as its standard streams.
    pub peer: OwnedFd,
}

/// Opens a terminal in the devpts instance of the `ptmx` at `path`.
///
/// # Errors
/// The errno of `open(2)` or `ioctl_tty(2)`.
pub fn open_terminal(path: impl rustix::path::Arg) -> io::Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let controller = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    rustix::pty::unlockpt(&controller)?;
    let peer = rustix::pty::ioctl_tiocgptpeer(
        &controller,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )?;
    Ok(Terminal { controller, peer })
}

/// Tells a terminal its size; the foreground program gets `SIGWINCH`.
///
/// # Errors
/// The errno of `ioctl_tty(2)`.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// The size of a terminal.
///
/// # Errors
/// The errno of `ioctl_tty(2)`; `ENOTTY` when it is none.
pub fn window_size(terminal: impl AsFd) -> io::Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Makes a terminal the controlling one of this session leader.
///
/// # Errors
/// The errno of `ioctl_tty(2)`.
pub fn set_controlling(terminal: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

pub use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
