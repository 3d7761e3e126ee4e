//! A process that builds the second time. It is split off while its caller has one thread, knows
//! the request already, and waits for an order; without one it ends with the caller.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sys::process::{Cloned, Mode};

use super::furnish::Order;
use super::{AHEAD, Variation, failed, other_user, store};
use crate::cancel::Cancel;
use crate::error::{BuildError, StepError};
use crate::request::BuildRequest;
use crate::{BuildOutcome, Engine, EngineOptions, Standpoint};

/// What came of an attempt.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Answer {
    Built {
        /// The image's id.
        image: String,
        /// Why the clock was the machine's although it was to be another one.
        clock: Option<String>,
    },
    Failed {
        why: String,
    },
}

/// The process, seen by its caller.
pub(super) struct Attempt {
    channel: UnixStream,
    process: Arc<OwnedFd>,
}

impl Attempt {
    /// Splits it off.
    pub(super) fn split(
        variation: Variation,
        number: usize,
        options: &EngineOptions,
        request: &BuildRequest,
        build: &impl Fn(&str, &Engine, BuildRequest) -> Result<BuildOutcome, BuildError>,
    ) -> Result<Attempt, BuildError> {
        let (channel, mut theirs) = UnixStream::pair().map_err(failed)?;
        match sys::process::fork().map_err(failed)? {
            Cloned::Child => {
                drop(channel);
                let mut attempt = || {
                    let order = wait_for_order(&mut theirs)?;
                    let root = &options.root;
                    Builder {
                        variation,
                        root,
                        request,
                    }
                    .build(&order, options, number, build)
                };
                let answer = attempt().unwrap_or_else(|error| Answer::Failed {
                    why: explanation(&error),
                });
                // A caller that has gone does not wait for it.
                let text = serde_json::to_vec(&answer).unwrap_or_default();
                let told = theirs.write_all(&text);
                sys::process::exit_now(i32::from(told.is_err()))
            }
            Cloned::Parent { pidfd, .. } => Ok(Attempt {
                channel,
                process: Arc::new(pidfd),
            }),
        }
    }

    /// Has it build.
    pub(super) fn run(&mut self, order: &Order, cancel: &Cancel) -> Result<Answer, BuildError> {
        const SIGTERM: i32 = sys::signal::SIGTERM;
        let process = self.process.clone();
        let _guard = cancel.on_cancel(move || {
            // It may have ended.
            sys::process::send_signal(&*process, SIGTERM).ok();
        });
        let order = serde_json::to_vec(order).map_err(failed)?;
        let mut answer = Vec::new();
        let talked = self
            .channel
            .write_all(&order)
            .and_then(|()| self.channel.shutdown(Shutdown::Write))
            .and_then(|()| self.channel.read_to_end(&mut answer));
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let answer = talked
            .ok()
            .and_then(|_| serde_json::from_slice(&answer).ok());
        Ok(answer.unwrap_or_else(|| Answer::Failed {
            why: "its process was killed".into(),
        }))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // The end of the channel is the order to end; one that has ended already reads nothing.
        self.channel.shutdown(Shutdown::Both).ok();
        sys::process::wait(&*self.process).ok();
    }
}

/// What an attempt's engine is opened with.
pub(super) fn options(first: &EngineOptions, variation: Variation, number: usize) -> EngineOptions {
    EngineOptions {
        root: store(&first.root, number),
        clock_ahead: if variation.clock { AHEAD } else { 0 },
        directories: true,
        temporary: true,
        ..first.clone()
    }
}

/// Waits for the order; without one the process ends here.
fn wait_for_order(channel: &mut UnixStream) -> Result<Order, BuildError> {
    // A signal from the terminal is for the caller, who passes it on.
    sys::process::setsid().ok();
    sys::process::die_with_parent().map_err(failed)?;
    let mut text = Vec::new();
    channel.read_to_end(&mut text).map_err(failed)?;
    if text.is_empty() {
        sys::process::exit_now(0);
    }
    serde_json::from_slice(&text).map_err(failed)
}

/// The process itself.
struct Builder<'b> {
    variation: Variation,
    root: &'b Path,
    request: &'b BuildRequest,
}

impl Builder<'_> {
    fn build(
        &self,
        order: &Order,
        first: &EngineOptions,
        number: usize,
        build: &impl Fn(&str, &Engine, BuildRequest) -> Result<BuildOutcome, BuildError>,
    ) -> Result<Answer, BuildError> {
        let mut request = order.request(self.request, self.root);
        let mut options = options(first, self.variation, number);
        if self.variation.user {
            other_user::read_secrets(&mut request);
            let standing = other_user::become_it(self.root)?;
            options.standpoint = Standpoint { standing };
            // They are root's, and the base images are here.
            options.credentials = Vec::new();
            // The change of user has undone it.
            sys::process::die_with_parent().map_err(failed)?;
        }
        self.change_surroundings().map_err(failed)?;
        let engine = Engine::open(options)?;
        order.teach(&engine);
        let outcome = build(self.variation.name(), &engine, request)?;
        let image = outcome.image_id.map(|id| id.to_string());
        Ok(Answer::Built {
            image: image.ok_or_else(|| BuildError::request("the second build has no image"))?,
            clock: engine.clock.refused.get().cloned(),
        })
    }

    /// Umask, processors and environment of this process.
    fn change_surroundings(&self) -> io::Result<()> {
        sys::process::umask(Mode::from_raw_mode(0o077));
        // One of several is only slower.
        sys::process::one_processor().ok();
        sys::process::set_variable("TZ", "Pacific/Chatham")?;
        if self.variation.user {
            // Nothing of this user's is to be found there.
            for (name, value) in [
                ("HOME", "/nonexistent"),
                ("USER", "else"),
                ("LOGNAME", "else"),
            ] {
                sys::process::set_variable(name, value)?;
            }
        }
        Ok(())
    }
}

/// An error with its causes in one line; of a command that failed, what it said last.
fn explanation(error: &BuildError) -> String {
    if let BuildError::Step {
        name, tail, source, ..
    } = error
        && let StepError::Exit { .. } | StepError::Signal { .. } = source
        && let Some(last) = tail.last()
    {
        return format!("{name}: {}", last.trim());
    }
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}
