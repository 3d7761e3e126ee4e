//! Decides what to look up, load or execute next: a pure state machine over events.
//!
//! The engine describes a build as a [`Plan`], asks [`Solver::poll`] for [`Action`]s, performs
//! them in any order on any thread, and answers each with one [`Event`]. The solver does no IO,
//! reads no clock, holds no lock and knows neither ops nor results: a result is whatever handle
//! `R` the engine hands back.
//!
//! ```text
//! op key ─► chained inputs: their keys ─────────────────────────────┐
//!           content inputs: their keys ─► linked checksum, if known ─┼─► key ─► look up ─► found
//!                           else their results ─► checksum ─► link ──┘            │
//!             saved ◄─ execute ◄─ key verified ◄─ results of all inputs ◄─────────┘ not there
//! ```
//!
//! Every vertex has two demands: its *key*, then its *result*. A key is looked up before anything
//! is materialised, so an input whose consumer hits is never loaded. A content input (`COPY`)
//! joins by the bytes it selects, so equal output of a re-executed step hits downstream.
//!
//! What a saved record promises: its key names the op, the keys of the chained inputs and the
//! checksums of the content inputs *that the execution really saw*. A checksum that was
//! only believed (through a link) is therefore taken again before its consumer executes.
#![forbid(unsafe_code)]

mod key;
mod machine;
mod plan;
mod protocol;
#[cfg(test)]
mod sim;

pub use key::{CacheKey, KeyHasher, KeyPart, KeyParts, ParseKeyError};
pub use machine::Solver;
pub use plan::{CacheUse, How, Plan, PlanError, PlanInput, PlanVertex, VertexIndex};
pub use protocol::{Action, Event, Status, UnexpectedEvent};
