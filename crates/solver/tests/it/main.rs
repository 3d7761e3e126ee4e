//! The solver through its public face: what it asks, in which order, and what it makes of answers.

#![expect(clippy::unwrap_used, reason = "how a test states what it relies on")]

mod decisions;
mod driver;
mod protocol;
mod scale;
