//! The build graph: ops, vertices, edges, and their digests.
//!
//! A [`Definition`] is built only through [`Builder::add`], which hash-conses: equal vertices are
//! one vertex, whatever stage or platform asked for them. It does no IO and knows no Dockerfile,
//! no image and no snapshot.
//!
//! ```text
//!   Op ──► fields (names and typed values, each keyed or not) ──► vertex digest: all fields + inputs
//!                                                             ├─► op key: keyed fields
//!                                                             ├─► explanation of the op key
//!                                                             └─► text and JSON dump
//! ```
//!
//! The four outputs come from the one walk in `fields`, so what is hashed, what is explained and
//! what is printed cannot drift apart.

#![forbid(unsafe_code)]

mod definition;
mod dump;
mod encode;
mod environment;
mod fields;
mod op;
mod selector;

pub use definition::{
    Builder, Definition, Edge, FileId, Input, InputKey, Meta, SourceFile, SourceMap, Span, Vertex,
};
pub use encode::{VertexDigest, op_inputs_for_explain, op_key, selector_key};
pub use environment::Environment;
pub use op::*;
pub use selector::{Naming, SelectedPath, Selector};
