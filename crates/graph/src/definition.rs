//! The graph: vertices in topological order, made by a builder that merges equal ones.

use std::collections::HashMap;
use std::sync::Arc;

use crate::encode::{VertexDigest, vertex_digest};
use crate::op::Op;
use crate::selector::Selector;

/// The output of a vertex, by the vertex's position in its [`Definition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge(usize);

impl Edge {
    /// Position of the vertex in [`Definition::vertices`].
    pub fn index(self) -> usize {
        self.0
    }
}

impl std::fmt::Display for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// A build graph. Every input precedes its consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    vertices: Vec<Vertex>,
    sources: SourceMap,
}

impl Definition {
    /// All vertices, inputs first.
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// The vertex whose output `edge` is.
    ///
    /// # Panics
    /// When `edge` belongs to another definition and lies beyond this one's end.
    pub fn vertex(&self, edge: Edge) -> &Vertex {
        &self.vertices[edge.0]
    }

    /// Edges with their vertices, inputs first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Edge, &Vertex)> {
        let vertices = self.vertices.iter().enumerate();
        vertices.map(|(index, vertex)| (Edge(index), vertex))
    }

    /// The texts that the spans of [`Meta`] point into.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }

    /// The vertices that `targets` need, themselves included, as a mask over [`Self::vertices`].
    pub fn reachable(&self, targets: &[Edge]) -> Vec<bool> {
        let mut mask = vec![false; self.vertices.len()];
        for target in targets {
            mask[target.0] = true;
        }
        for (edge, vertex) in self.iter().rev() {
            if mask[edge.0] {
                for input in &vertex.inputs {
                    mask[input.edge.0] = true;
                }
            }
        }
        mask
    }
}

/// A node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// What it does.
    pub op: Op,
    /// What it does it with; ops name these by position.
    pub inputs: Vec<Input>,
    /// Identity: the op and, recursively, its inputs.
    pub digest: VertexDigest,
    /// What is only for people and for scheduling.
    pub meta: Meta,
}

/// An input of a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Whose output it is.
    pub edge: Edge,
    /// How it enters the consumer's cache key.
    pub key: InputKey,
}

impl Input {
    /// An input that counts by its own cache key.
    pub fn chained(edge: Edge) -> Input {
        let key = InputKey::Chained;
        Input { edge, key }
    }

    /// An input that counts by the bytes a selector finds in it.
    pub fn content(edge: Edge, selector: Selector) -> Input {
        let key = InputKey::Content(selector);
        Input { edge, key }
    }
}

/// How an input contributes to its consumer's cache key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKey {
    /// By the input's own cache key: the root file system of a `RUN`.
    Chained,
    /// By the bytes in its result that the consumer can see: the sources of a `COPY`.
    Content(Selector),
}

/// What a vertex carries beside its identity. Of two equal vertices the first one's is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Name for people, such as `[build 3/7] RUN npm ci`; one line.
    pub name: String,
    /// The stage that it belongs to, as people call it; `None` for what no stage owns.
    pub stage: Option<String>,
    /// Where it was written; the first span is the instruction.
    pub spans: Vec<Span>,
    /// The instruction as written, several lines for here-documents; empty when there is none.
    pub description: String,
    /// Run it even if a result is cached (`--no-cache`). Set when any of the equal vertices has it.
    pub no_cache: bool,
}

/// A file of a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A range of bytes of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Which file.
    pub file: FileId,
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

/// The texts that a definition was lowered from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

/// One text of a [`SourceMap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
}

impl SourceMap {
    /// The file of a span.
    pub fn get(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id.0 as usize)
    }

    /// All files, in order of their ids.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    fn insert(&mut self, file: SourceFile) -> FileId {
        let found = self.files.iter().position(|known| *known == file);
        let index = found.unwrap_or_else(|| {
            self.files.push(file);
            self.files.len() - 1
        });
        FileId(u32::try_from(index).expect("fewer than 2^32 Dockerfiles"))
    }
}

/// The only way to make a [`Definition`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    definition: Definition,
    known: HashMap<VertexDigest, Edge>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// An empty graph with room for `vertices`.
    pub fn with_capacity(vertices: usize) -> Builder {
        let mut builder = Builder::default();
        builder.definition.vertices.reserve(vertices);
        builder.known.reserve(vertices);
        builder
    }

    /// Registers a text that spans may point into; the same text twice is one file.
    pub fn add_file(&mut self, name: &str, text: Arc<str>) -> FileId {
        let name = name.to_owned();
        self.definition.sources.insert(SourceFile { name, text })
    }

    /// Adds a vertex, or finds the equal one that is there already.
    ///
    /// # Panics
    /// When an input is no edge of this builder.
    pub fn add(&mut self, op: Op, inputs: Vec<Input>, meta: Meta) -> Edge {
        let vertices = &mut self.definition.vertices;
        let digest = vertex_digest(&op, &inputs, |edge| vertices[edge.0].digest);
        if let Some(&edge) = self.known.get(&digest) {
            vertices[edge.0].meta.no_cache |= meta.no_cache;
            return edge;
        }
        let edge = Edge(vertices.len());
        vertices.push(Vertex {
            op,
            inputs,
            digest,
            meta,
        });
        self.known.insert(digest, edge);
        edge
    }

    /// Adds every vertex of another graph (another platform's, another target's) and returns where
    /// each one is now, indexed as in [`Definition::vertices`].
    pub fn absorb(&mut self, other: Definition) -> Vec<Edge> {
        let files = other.sources.files.into_iter();
        let files: Vec<FileId> = files
            .map(|file| self.definition.sources.insert(file))
            .collect();
        let mut moved: Vec<Edge> = Vec::with_capacity(other.vertices.len());
        for mut vertex in other.vertices {
            for input in &mut vertex.inputs {
                input.edge = moved[input.edge.0];
            }
            for span in &mut vertex.meta.spans {
                span.file = files[span.file.0 as usize];
            }
            moved.push(self.add(vertex.op, vertex.inputs, vertex.meta));
        }
        moved
    }

    /// The vertex of an edge that this builder made.
    pub fn vertex(&self, edge: Edge) -> &Vertex {
        self.definition.vertex(edge)
    }

    /// The graph so far.
    pub fn finish(self) -> Definition {
        self.definition
    }
}
