//! What the solver is told of a build: the shape of the graph and how inputs are keyed.
//!
//! Ops, names and selectors stay with the engine, which finds them again by vertex and input.

use crate::CacheKey;

/// Position of a vertex in [`Plan::vertices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexIndex(pub usize);

/// A build: vertices in topological order, every input before its consumers.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The vertices.
    pub vertices: Vec<PlanVertex>,
}

/// One vertex.
#[derive(Clone, Debug, Default)]
pub struct PlanVertex {
    /// Its inputs, in the order of the definition.
    pub inputs: Vec<PlanInput>,
    /// What the cache may be used for.
    pub cache: CacheUse,
    /// Key of the operation alone, when it is known without asking ([`crate::Action::OpKey`]).
    pub op_key: Option<CacheKey>,
}

/// One input of a vertex.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput {
    /// Which vertex.
    pub vertex: VertexIndex,
    /// How it counts in the consumer's key.
    pub how: How,
}

/// How an input counts in its consumer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By the input's own key: the root file system of a `RUN`.
    Chained,
    /// By the content that the selector selects: the source of a `COPY`.
    Content {
        /// Digest of the selector: of everything but the content that the checksum depends on.
        selector: CacheKey,
    },
    /// Not at all: needed only when the vertex executes.
    Unkeyed,
}

/// What the cache may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Look up and save.
    #[default]
    Normal,
    /// Execute whatever the cache has, and replace what it has (`--no-cache`). Vertices that are
    /// chained on this one execute too: their cached results stand on the one replaced.
    Refresh,
    /// Neither look up nor save, and link nothing to its key: a local context, whose key says
    /// nothing about its content. Consumers take the checksum straight away.
    Volatile,
}

/// A plan that is no topologically ordered graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An input does not come before its consumer.
    #[error("input {input} of vertex {} is vertex {}, which does not come before it", .vertex.0, .of.0)]
    Order {
        /// The consumer.
        vertex: VertexIndex,
        /// Which of its inputs.
        input: usize,
        /// The vertex that the input names.
        of: VertexIndex,
    },
    /// A target is no vertex of the plan.
    #[error("target {} is none of the plan's {vertices} vertices", .target.0)]
    Target {
        /// The target.
        target: VertexIndex,
        /// How many vertices there are.
        vertices: usize,
    },
}
