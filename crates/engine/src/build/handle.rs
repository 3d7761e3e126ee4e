//! What the solver passes around in place of results: names of things, nothing that is open.

use std::sync::Arc;

use store::LayerId;

use super::context::ContextTree;

/// The result of a vertex.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// A chain of layers, bottom first. Layers of images may not have been downloaded yet.
    Layers(Arc<[LayerId]>),
    /// A directory that is read in place.
    Context(Arc<ContextTree>),
}

impl Handle {
    /// A chain of layers.
    pub(crate) fn layers(layers: impl Into<Arc<[LayerId]>>) -> Handle {
        Handle::Layers(layers.into())
    }
}
