//! What caller, helper and container tell each other.

use crate::cgroup::{GroupError, Shortage};
use crate::exec_error::ExecError;
use crate::process::{Outcome, Shortcuts};
use crate::wire::{wire_enum, wire_struct};
use std::path::PathBuf;
use sys::process::Exit;

/// Why a container did not start.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// A step of the set-up failed.
    SetUp { step: String, errno: i32 },
    /// The program could not be executed.
    Exec { error: ExecError },
}

/// From the helper to its caller.
#[derive(Debug)]
pub(crate) enum Report {
    /// The program runs. The terminal's controlling end comes with it, if there is one.
    Started {
        /// What did not have to be made for it.
        shortcuts: Shortcuts,
        /// The errno for which its clock is the machine's although it is to have another one.
        clock_refused: Option<i32>,
    },
    /// It does not, and never will.
    Failed { failure: Failure },
    /// It ran, and this is how it ended. Nothing of it is left.
    Ended { outcome: Outcome },
}

/// From the process inside the new namespaces to the helper, before it becomes the program.
#[derive(Debug)]
pub(crate) enum Notice {
    /// These mount targets were made in the root file system.
    Made {
        stubs: Vec<Stub>,
        directories: Vec<Touched>,
    },
    /// The process and all that it starts are to be followed, for another clock. It waits for one
    /// byte: whether they are.
    Follow,
    /// The network namespace wants a connection; the process waits for one byte.
    Connect,
    /// The terminal's controlling end comes with this.
    Terminal,
    /// From here on, calls about users and owners wait for an answer. What they come out of comes
    /// with this; the root is the container's already.
    Asks,
    /// It gives up.
    Failed { failure: Failure },
}

/// A file or directory that was made to be mounted over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    /// Path relative to the root.
    pub(crate) path: PathBuf,
    pub(crate) is_dir: bool,
}

/// A directory that was there before and may have been changed by making stubs below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Path relative to the root.
    pub(crate) path: PathBuf,
    /// Whether it was in the upper directory before.
    pub(crate) in_upper: bool,
    /// Modification time before: seconds and nanoseconds.
    pub(crate) mtime_before: (i64, u32),
    /// Modification and change time after.
    pub(crate) mtime_after: (i64, u32),
    pub(crate) ctime_after: (i64, u32),
}

wire_enum!(Failure {
    0 => SetUp { step: step, errno: errno },
    1 => Exec { error: error },
});
wire_enum!(Report {
    0 => Started { shortcuts: shortcuts, clock_refused: clock_refused },
    1 => Failed { failure: failure },
    2 => Ended { outcome: outcome },
});
wire_enum!(Notice {
    0 => Made { stubs: stubs, directories: directories },
    1 => Connect {},
    2 => Terminal {},
    3 => Failed { failure: failure },
    4 => Follow {},
    5 => Asks {},
});
wire_struct!(Shortcuts {
    prepared,
    pooled_layers
});
wire_struct!(Stub { path, is_dir });
wire_struct!(Touched {
    path,
    in_upper,
    mtime_before,
    mtime_after,
    ctime_after
});
wire_struct!(Outcome {
    exit,
    out_of_memory,
    became
});
wire_struct!(Shortage { limit, peak });
wire_enum!(Exit {
    0 => Code { 0: code },
    1 => Signal { 0: signal },
});

/// A set-up step that failed, on its way to becoming a [`Failure`].
#[derive(Debug)]
pub(crate) struct SetUpError {
    step: String,
    errno: i32,
}

impl SetUpError {
    pub(crate) fn new(step: impl Into<String>, error: &std::io::Error) -> SetUpError {
        let step = step.into();
        SetUpError {
            step: match error.raw_os_error() {
                Some(_) => step,
                None => format!("{step}: {error}"),
            },
            errno: error.raw_os_error().unwrap_or(0),
        }
    }
}

impl From<GroupError> for SetUpError {
    fn from(error: GroupError) -> SetUpError {
        let source = match &error {
            GroupError::Refused { source, .. } | GroupError::Setting { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        };
        SetUpError {
            step: error.to_string(),
            errno: source.unwrap_or(0),
        }
    }
}

impl From<SetUpError> for Failure {
    fn from(error: SetUpError) -> Failure {
        Failure::SetUp {
            step: error.step,
            errno: error.errno,
        }
    }
}

/// Says in words what a failing call was for.
pub(crate) trait During<T> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, SetUpError>;
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, SetUpError> {
        self.map_err(|error| SetUpError::new(step(), &error))
    }
}

impl<T> During<T> for Result<T, sys::Errno> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, SetUpError> {
        self.map_err(std::io::Error::from).during(step)
    }
}

impl<T> During<T> for Result<T, sys::mount::MountError> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, SetUpError> {
        self.map_err(|error| SetUpError {
            step: format!("{}: {error}", step()),
            errno: error.errno(),
        })
    }
}
