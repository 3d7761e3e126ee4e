//! The crate's behaviour at its boundary: text in, trees, words and verdicts out.

mod cases;
mod docs;
mod dump;
mod expansion;
mod hostile;
mod properties;
mod trigger;
