//! What the solver and the engine say to each other, and how a vertex stands.

use crate::{CacheKey, KeyParts, VertexIndex};

/// Something the engine has to do. Each is returned once by [`crate::Solver::poll`].
///
/// All but [`Action::Link`] and [`Action::Save`] are answered by exactly one [`Event`]: the one
/// named here, or [`Event::Failed`]; a checksum or an execution also by [`Event::InputLost`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<R> {
    /// Compute the key of the operation alone. → [`Event::OpKey`]
    OpKey {
        /// The vertex.
        vertex: VertexIndex,
    },
    /// Look up the checksum that an earlier build linked to this input, in the store and in every
    /// imported cache, so that the input's result need not be had. → [`Event::LinkFound`]
    LookupLink {
        /// The consumer.
        vertex: VertexIndex,
        /// Which of its inputs.
        input: usize,
        /// Key of the input and its selector.
        link: CacheKey,
    },
    /// Compute the checksum of what a content input selects. → [`Event::Checksum`]
    Checksum {
        /// The consumer, which fails if the checksum cannot be computed.
        vertex: VertexIndex,
        /// Which of its inputs.
        input: usize,
        /// The input's result.
        of: R,
    },
    /// Look the result up, in the store and in every imported cache. → [`Event::ResultFound`]
    LookupResult {
        /// The vertex.
        vertex: VertexIndex,
        /// Its key.
        key: CacheKey,
    },
    /// Perform the operation. → [`Event::Executed`]
    Execute {
        /// The vertex.
        vertex: VertexIndex,
        /// Its key, which the result will be saved under.
        key: CacheKey,
        /// The results of all its inputs, in order.
        inputs: Vec<R>,
    },
    /// Remember a checksum, in place of any earlier one.
    Link {
        /// The consumer.
        vertex: VertexIndex,
        /// Key of the input and its selector.
        link: CacheKey,
        /// The checksum.
        sum: CacheKey,
    },
    /// Remember a result, in place of any earlier one.
    Save {
        /// The vertex.
        vertex: VertexIndex,
        /// Its key.
        key: CacheKey,
        /// What the key is made of.
        parts: KeyParts,
        /// The result.
        result: R,
    },
}

impl<R> Action<R> {
    /// The vertex this is about.
    pub fn vertex(&self) -> VertexIndex {
        match *self {
            Action::OpKey { vertex }
            | Action::LookupLink { vertex, .. }
            | Action::Checksum { vertex, .. }
            | Action::LookupResult { vertex, .. }
            | Action::Execute { vertex, .. }
            | Action::Link { vertex, .. }
            | Action::Save { vertex, .. } => vertex,
        }
    }

    /// Whether the solver waits for an event in answer.
    pub fn is_question(&self) -> bool {
        !matches!(self, Action::Link { .. } | Action::Save { .. })
    }
}

/// The answer to an [`Action`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<R> {
    /// The key of the operation alone.
    OpKey {
        /// The vertex.
        vertex: VertexIndex,
        /// The key.
        key: CacheKey,
    },
    /// What was linked to a content input.
    LinkFound {
        /// The consumer.
        vertex: VertexIndex,
        /// Which of its inputs.
        input: usize,
        /// The checksum, if there is one.
        sum: Option<CacheKey>,
    },
    /// The checksum of a content input.
    Checksum {
        /// The consumer.
        vertex: VertexIndex,
        /// Which of its inputs.
        input: usize,
        /// The checksum.
        sum: CacheKey,
    },
    /// What was found under a key. A record whose layers are gone is `None`.
    ResultFound {
        /// The vertex.
        vertex: VertexIndex,
        /// The result, if it is there.
        result: Option<R>,
    },
    /// The operation succeeded.
    Executed {
        /// The vertex.
        vertex: VertexIndex,
        /// Its result.
        result: R,
    },
    /// The result of an input, which was found in a cache, turned out to be gone: its files are
    /// not where its record says. The input is executed, and the question comes again.
    InputLost {
        /// The consumer.
        vertex: VertexIndex,
        /// Which of its inputs.
        input: usize,
    },
    /// Whatever was asked about this vertex failed, or was stopped after a cancellation.
    Failed {
        /// The vertex.
        vertex: VertexIndex,
    },
}

impl<R> Event<R> {
    /// The vertex this is about.
    pub fn vertex(&self) -> VertexIndex {
        match *self {
            Event::OpKey { vertex, .. }
            | Event::LinkFound { vertex, .. }
            | Event::Checksum { vertex, .. }
            | Event::ResultFound { vertex, .. }
            | Event::Executed { vertex, .. }
            | Event::InputLost { vertex, .. }
            | Event::Failed { vertex } => vertex,
        }
    }
}

/// An event that answers nothing which was asked. The solver is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event about vertex {} answers no question that is open", .vertex.0)]
pub struct UnexpectedEvent {
    /// The vertex that the event names.
    pub vertex: VertexIndex,
}

/// How a vertex stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status<'a, R> {
    /// Nothing asked for it so far.
    Unneeded,
    /// Something is still to be done, or was when the build was cancelled.
    Pending,
    /// Its key was all that its consumers needed so far.
    Keyed,
    /// Its result was in the cache.
    Found(&'a R),
    /// Its result was made by this build.
    Executed(&'a R),
    /// The engine reported that it failed.
    Failed,
    /// It needs the result or the key of a vertex that failed.
    Blocked {
        /// The vertex that failed.
        by: VertexIndex,
    },
}
