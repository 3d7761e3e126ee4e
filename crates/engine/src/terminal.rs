//! This process's terminal: joined with a container's (raw mode, both directions, the size), or
//! silenced for a password.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use sys::pty::{LocalModes, OptionalActions, Termios, WindowSize, isatty, tcgetattr, tcsetattr};

/// A container's terminal joined with ours. Dropped, ours is as it was.
pub(crate) struct Joined {
    before: Option<Termios>,
    output: Option<std::thread::JoinHandle<()>>,
}

/// Size of our terminal; that of an old one where there is none.
pub(crate) fn size() -> WindowSize {
    sys::pty::window_size(io::stdout()).unwrap_or(WindowSize {
        rows: 24,
        columns: 80,
    })
}

impl Joined {
    /// Starts passing bytes in both directions.
    ///
    /// # Errors
    /// When the terminal cannot be set up.
    pub(crate) fn new(terminal: Arc<File>, interactive: bool) -> io::Result<Joined> {
        let before = if interactive && isatty(io::stdin()) {
            Some(make_raw()?)
        } else {
            None
        };
        if interactive {
            let mut to = terminal.try_clone()?;
            // Ends with this process: nothing can wake a read from a terminal.
            std::thread::spawn(move || pass(&mut io::stdin().lock(), &mut to));
        }
        let mut from = terminal.try_clone()?;
        let output = std::thread::spawn(move || pass(&mut from, &mut io::stdout().lock()));
        Ok(Joined {
            before,
            output: Some(output),
        })
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(output) = self.output.take() {
            // Reading ends when the container's end of the terminal is closed.
            drop(output.join());
        }
        if let Some(before) = &self.before {
            // A terminal that is gone needs no restoring.
            tcsetattr(io::stdin(), OptionalActions::Drain, before).ok();
        }
    }
}

/// Standard input's terminal without its echo. Dropped, it is as it was.
#[derive(Debug)]
pub struct Silenced(Termios);

impl Silenced {
    /// Stops the echo.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn new() -> io::Result<Silenced> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Silenced(before))
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.0).ok();
    }
}

fn make_raw() -> io::Result<Termios> {
    let before = tcgetattr(io::stdin())?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
    Ok(before)
}

fn pass(from: &mut dyn Read, to: &mut dyn Write) {
    let mut buffer = [0; 16 << 10];
    // EIO is how a terminal says that nobody is at its other end.
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to
            .write_all(&buffer[..count])
            .and_then(|()| to.flush())
            .is_err()
        {
            break;
        }
    }
}
