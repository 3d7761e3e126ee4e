//! The build graph: ops, vertices, edges, and their digests.
//!
//! A [`Definition`] is built only through [`Builder::add`], which hash-conses: equal vertices are
//! one vertex, whatever stage or platform asked for them. It does no IO and knows no Dockerfile,
//! no image and no snapshot.

mod op;

pub use op::*;
