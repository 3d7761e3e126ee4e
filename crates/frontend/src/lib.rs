//! Lowers a Dockerfile to a build graph and an image config.
//!
//! ```text
//! Dockerfile (ast) ─► globals ─► plan: stages, bases, cycles ─► reach: what the target needs
//!                                                                   │ Needs{images}    ▲ known
//!                                                                   ▼ all known        │ (caller)
//!      Lowered ◄─ image: folded config, history ◄─ stage by stage: settings, run, mount, transfer
//!      definition, template, secrets, outline
//! ```
//!
//! [`lower`] is a function of its arguments: it reads no file, clock or environment, and it asks
//! for image configs in its return value. Two calls with equal arguments return equal graphs. It
//! does not know how anything is carried out: `engine` does.

#![forbid(unsafe_code)]

mod base;
mod epoch;
mod error;
mod exec_form;
mod expose;
mod external;
mod globals;
mod gofmt;
mod image;
mod known;
mod loss;
mod lower;
mod lowered;
mod mount;
mod outline;
mod owner;
mod path;
mod plan;
mod reach;
mod remote;
mod request;
mod run;
mod scope;
mod settings;
mod signal;
mod stage;
mod transfer;

pub use error::LowerError;
pub use known::{Known, Need, NotResolved, ResolvedImage};
pub use lower::lower;
pub use lowered::{
    Entitlement, HistoryEntry, ImageTemplate, Lowered, Lowering, Request, SourceDateEpoch,
};
pub use outline::{Outline, OutlineArg, OutlineMount, Target, targets};
pub use remote::{GitUrlError, git_source, is_git_context};
pub use request::{Context, LowerRequest, NoCache};
