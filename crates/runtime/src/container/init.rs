//! A minimal init: process 1 of a container that asked for one.
//!
//! It passes signals on to the program, reaps whatever is orphaned to it, and ends as the program
//! ended.

use std::io;
use std::os::fd::OwnedFd;
use sys::process::{Cloned, Exit, Namespaces};
use sys::signal::SignalFd;

/// `SIGCHLD`, by number on every architecture that containers run on.
const SIGCHLD: i32 = 17;

/// Signals that nobody can pass on.
const KILL_AND_STOP: [i32; 2] = [9, 19];

/// Which process this is after [`split`].
pub(crate) enum Role {
    /// The one that becomes the program.
    Program,
    /// Process 1.
    Init(Init),
}

/// Process 1, and the program that it looks after.
pub(crate) struct Init {
    program: i32,
    pidfd: OwnedFd,
}

/// Splits process 1 off from the one that becomes the program.
pub(crate) fn split() -> io::Result<Role> {
    match sys::process::clone_process(Namespaces::default(), None)? {
        Cloned::Child => Ok(Role::Program),
        Cloned::Parent { pid, pidfd } => Ok(Role::Init(Init {
            program: pid,
            pidfd,
        })),
    }
}

impl Init {
    /// Looks after the program until it ends. All signals must be blocked, and everything that the
    /// program shares with its caller be closed on this side.
    pub(crate) fn tend(self) -> ! {
        let code = match self.reap() {
            Ok(Exit::Code(code)) => code,
            Ok(Exit::Signal(signal)) => 128 + signal,
            Err(_) => 255,
        };
        sys::process::exit_now(code)
    }

    fn reap(&self) -> io::Result<Exit> {
        let signals: Vec<i32> = (1..=31).filter(|n| !KILL_AND_STOP.contains(n)).collect();
        let signals = SignalFd::new(&signals)?;
        loop {
            let signal = signals.read()?;
            if signal != SIGCHLD {
                // It may just have ended.
                sys::process::send_signal(&self.pidfd, signal).ok();
                continue;
            }
            while let Some((pid, exit)) = sys::process::reap_any()? {
                if pid == self.program {
                    return Ok(exit);
                }
            }
        }
    }
}
