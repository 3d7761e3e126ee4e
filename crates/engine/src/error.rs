//! Why a build failed: facts with their values. Advice and exit codes are the caller's.

use std::io;
use std::path::PathBuf;

use runtime::{GroupError, Shortage};

use crate::cancel::Cancel;
use crate::diagnose::{Excerpt, Report};
use crate::event::VertexDigest;
use crate::resolve::ResolveError;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a build, or a part of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong.
    #[error("{} is not accepted", .0.name)]
    Rejected(Report),
    /// There is no Dockerfile.
    #[error("there is no Dockerfile at {}", path.display())]
    NoDockerfile {
        /// Where it was looked for.
        path: PathBuf,
        /// A file that may have been meant.
        nearest: Option<String>,
    },
    /// The context cannot be used.
    #[error("cannot use context {context}")]
    Context {
        /// The context as the user gave it.
        context: String,
        /// Why.
        source: Cause,
    },
    /// A base image, or what a name stands for, cannot be found.
    #[error("cannot resolve {reference}")]
    Resolve {
        /// The reference.
        reference: String,
        /// Where it was written.
        excerpt: Option<Box<Excerpt>>,
        /// Why.
        source: Cause,
    },
    /// A step failed.
    #[error("step failed: {name}")]
    Step {
        /// The step's name.
        name: String,
        /// Where it was written.
        excerpt: Option<Box<Excerpt>>,
        /// The last lines its process wrote.
        tail: Vec<String>,
        /// Why.
        source: StepError,
    },
    /// An output could not be written.
    #[error("cannot export {output}")]
    Export {
        /// Which.
        output: String,
        /// Why.
        source: Cause,
    },
    /// The store cannot be used.
    #[error("cannot {attempt}")]
    Store {
        /// What was attempted.
        attempt: String,
        /// Why.
        source: Cause,
    },
    /// The request contradicts itself, or asks for what kiln cannot do here.
    #[error("{message}")]
    Request {
        /// What is wrong.
        message: String,
    },
    /// What `--memory` and the like ask for cannot be had here.
    #[error("cannot limit what steps and containers use")]
    Limits {
        /// Why.
        source: GroupError,
    },
    /// The user stopped it.
    #[error("the build was cancelled")]
    Cancelled,
    /// kiln is wrong.
    #[error("cannot {attempt}: this is a defect of kiln")]
    Internal {
        /// What was attempted.
        attempt: String,
        /// Why.
        source: Cause,
    },
}

impl BuildError {
    pub(crate) fn internal(attempt: &str, source: impl Into<Cause>) -> BuildError {
        BuildError::Internal {
            attempt: attempt.to_string(),
            source: source.into(),
        }
    }

    pub(crate) fn store(attempt: impl Into<String>, source: impl Into<Cause>) -> BuildError {
        BuildError::Store {
            attempt: attempt.into(),
            source: source.into(),
        }
    }

    pub(crate) fn export(output: impl Into<String>, source: impl Into<Cause>) -> BuildError {
        BuildError::Export {
            output: output.into(),
            source: source.into(),
        }
    }

    pub(crate) fn request(message: impl Into<String>) -> BuildError {
        BuildError::Request {
            message: message.into(),
        }
    }

    pub(crate) fn stalled(step: VertexDigest) -> BuildError {
        let cause = io::Error::other(format!("step {step} has no result although nothing failed"));
        BuildError::internal("finish the build", cause)
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command ended with another exit code than 0.
    #[error("process {command:?} did not complete successfully: exit code: {code}{}", remark(.out_of_memory))]
    Exit {
        /// The command line.
        command: String,
        /// Its exit code.
        code: i32,
        /// The kernel killed some of it for want of memory. Known for sure only where the step has
        /// a control group: some limit was asked for.
        out_of_memory: Option<Shortage>,
    },
    /// The command was ended by a signal.
    #[error("process {command:?} did not complete successfully: killed by {signal}{}", remark(.out_of_memory))]
    Signal {
        /// The command line.
        command: String,
        /// Name of the signal.
        signal: String,
        /// Its number.
        number: i32,
        /// As for `Exit`.
        out_of_memory: Option<Shortage>,
    },
    /// The command could not be started.
    #[error("cannot run {command:?}")]
    Spawn {
        /// The command line.
        command: String,
        /// Why.
        source: Cause,
    },
    /// The command of a container could not be executed.
    #[error("cannot run {command:?}")]
    NotExecuted {
        /// The command line.
        command: String,
        /// docker's exit code for it: 126 or 127.
        code: i32,
        /// Why.
        source: Cause,
    },
    /// A source of a `COPY` or `ADD` does not exist.
    #[error("source {path:?} does not exist in {place}")]
    NotFound {
        /// The source as written.
        path: String,
        /// `the build context`, `stage build`, …
        place: String,
        /// The rule of the ignore file that hides it, as `file:line: pattern`.
        ignored_by: Option<String>,
        /// An existing path that may have been meant.
        nearest: Option<String>,
    },
    /// Something else, that was attempted in vain.
    #[error("cannot {attempt}")]
    Failed {
        /// What.
        attempt: String,
        /// Why.
        source: Cause,
    },
    /// The request does not allow it, or lacks something it needs.
    #[error("{message}")]
    Refused {
        /// What is missing.
        message: String,
    },
    /// It was stopped.
    #[error("it was cancelled")]
    Cancelled,
}

impl StepError {
    /// Makes a `map_err` argument that says what was attempted.
    pub(crate) fn failed<E: Into<Cause>>(
        attempt: impl Into<String>,
    ) -> impl FnOnce(E) -> StepError {
        move |source| StepError::Failed {
            attempt: attempt.into(),
            source: source.into(),
        }
    }

    /// As [`StepError::failed`], for what gives up when the build is cancelled.
    pub(crate) fn failed_unless<E: Into<Cause>>(
        cancel: &Cancel,
        attempt: impl Into<String>,
    ) -> impl FnOnce(E) -> StepError {
        move |source| match cancel.is_cancelled() {
            true => StepError::Cancelled,
            false => StepError::failed(attempt)(source),
        }
    }

    pub(crate) fn refused(message: impl Into<String>) -> StepError {
        StepError::Refused {
            message: message.into(),
        }
    }
}

fn remark(out_of_memory: &Option<Shortage>) -> &'static str {
    match out_of_memory {
        Some(_) => ": out of memory",
        None => "",
    }
}

/// What the user can do about the answer of a registry that is among the causes of an error.
pub fn registry_hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    use distribution::{CheckError, FetchError, PushError, RequestError};

    let mut next = Some(error);
    while let Some(error) = next {
        // A transparent error hides the one in it from those who ask for causes.
        let found = if let Some(error) = error.downcast_ref::<RequestError>() {
            error.hint()
        } else if let Some(error) = error.downcast_ref::<FetchError>() {
            error.hint()
        } else if let Some(ResolveError::Fetch(error)) = error.downcast_ref() {
            error.hint()
        } else if let Some(error) = error.downcast_ref::<PushError>() {
            error.hint()
        } else if let Some(CheckError::Request(error)) = error.downcast_ref() {
            error.hint()
        } else {
            None
        };
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}
