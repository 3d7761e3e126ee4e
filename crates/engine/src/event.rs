//! What happens during a build, told as it happens: owned values, one channel, nothing printed.
//!
//! A renderer is a fold over these events. Steps are identified by their vertex digest; a step is
//! announced before anything else is said about it.

use std::sync::mpsc;
use std::time::SystemTime;

pub use graph::VertexDigest;

use crate::diagnose::Report;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
}

/// The kinds of events.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A step belongs to this build.
    Announced {
        /// Which.
        step: VertexDigest,
        /// `[build 3/7] RUN npm ci`.
        name: String,
    },
    /// Its work began.
    Started {
        /// Which.
        step: VertexDigest,
    },
    /// Its result was in the cache.
    Cached {
        /// Which.
        step: VertexDigest,
    },
    /// Nobody had its result; why, as far as it is known.
    Missed {
        /// Which.
        step: VertexDigest,
        /// What changed since this step last ran here.
        reason: MissReason,
    },
    /// It ended well.
    Finished {
        /// Which.
        step: VertexDigest,
    },
    /// It failed.
    Failed {
        /// Which.
        step: VertexDigest,
        /// Why, in one line.
        message: String,
    },
    /// It was stopped because another step failed or the user asked.
    Cancelled {
        /// Which.
        step: VertexDigest,
    },
    /// Its process wrote something.
    Log {
        /// Which.
        step: VertexDigest,
        /// Where to.
        stream: Stream,
        /// What: any bytes, cut anywhere.
        bytes: Vec<u8>,
    },
    /// Bytes on their way.
    Transfer {
        /// Which step they are for.
        step: VertexDigest,
        /// What moves: a layer's digest, a file.
        item: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// Warnings about the Dockerfile.
    Warnings(Report),
    /// Something worth a line that belongs to no step.
    Note(String),
}

/// Standard streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a step was not in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissReason {
    /// It never ran here.
    Never,
    /// The cache was not asked (`--no-cache`).
    NotAsked,
    /// These inputs of its key changed.
    Changed(Vec<ChangedInput>),
    /// Its key is known, its result is gone.
    Evicted,
}

/// One changed input of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedInput {
    /// What: `package-lock.json`, `ENV NODE_ENV`, `base`.
    pub name: String,
    /// What it was, shortened; `None` when it was not there.
    pub before: Option<String>,
    /// What it is, shortened; `None` when it is not there.
    pub after: Option<String>,
}

/// The sending end of a build's events. Cheap to clone; a receiver that went away is no error.
#[derive(Clone, Debug)]
pub struct Events {
    sender: Option<mpsc::SyncSender<Event>>,
}

impl Events {
    /// A bounded channel: a slow reader holds the build back instead of growing without limit.
    pub fn channel() -> (Events, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::sync_channel(1024);
        (
            Events {
                sender: Some(sender),
            },
            receiver,
        )
    }

    /// Events that nobody reads.
    pub fn ignored() -> Events {
        Events { sender: None }
    }

    pub(crate) fn send(&self, kind: EventKind) {
        if let Some(sender) = &self.sender {
            // The reader may be gone: then nobody wants to know.
            drop(sender.send(Event {
                at: SystemTime::now(),
                kind,
            }));
        }
    }
}
