//! What lowering yields.

use std::collections::BTreeSet;
use std::sync::Arc;

use dockerfile::Diagnostic;
use graph::{Definition, Edge};
use oci::{ContainerConfig, History, ImageConfig, Platform};

use crate::known::Need;
use crate::outline::Outline;

/// How far lowering came.
#[derive(Clone, Debug)]
pub enum Lowering {
    /// Lower again when all of these are known.
    Needs(BTreeSet<Need>),
    /// The graph.
    Done(Box<Lowered>),
}

/// A target of a Dockerfile, lowered for one platform.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// What to do.
    pub definition: Definition,
    /// Whose result is the image's root file system; `None` when that is empty and has no layer.
    pub target: Option<Edge>,
    /// The image's config, but for what only the results tell: times and layers.
    pub image: ImageTemplate,
    /// Warnings, by place in the file. Those of the parser are not among them.
    pub diagnostics: Vec<Diagnostic>,
    /// Secrets that reachable steps ask for, by id.
    pub secrets: Vec<Request>,
    /// Agents that reachable steps ask for, by id.
    pub ssh: Vec<Request>,
    /// Entitlements and devices that reachable steps ask for.
    pub entitlements: BTreeSet<Entitlement>,
    /// The image's build arguments, secrets and stages, for `--call outline`.
    pub outline: Outline,
    /// `SOURCE_DATE_EPOCH`, where the build arguments or the file set it.
    pub source_date_epoch: Option<SourceDateEpoch>,
}

/// A secret or an ssh agent that steps ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Identity in the build request.
    pub id: String,
    /// Whether some step fails without it.
    pub required: bool,
    /// The first instruction that asks.
    pub span: dockerfile::Span,
}

/// Something that a step may do only when the user allowed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entitlement {
    /// `RUN --network=host`.
    NetworkHost,
    /// `RUN --security=insecure`.
    SecurityInsecure,
    /// `RUN --device=…`, by name.
    Device(String),
}

/// Where the time of the image and its files comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceDateEpoch {
    /// Seconds since 1970.
    Seconds(i64),
    /// The time of the main context (its newest file, its commit).
    Context,
    /// The time of the named context with this name.
    NamedContext(String),
    /// The time of this source: a stage that is one remote `ADD`.
    Source(Edge),
}

/// The image's config before the build.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTemplate {
    /// What the image is for.
    pub platform: Platform,
    /// `MAINTAINER`, else the base's author.
    pub author: String,
    /// What a container runs with.
    pub config: ContainerConfig,
    /// The config of the base image, whose history, layers and unknown fields come first; `None`
    /// over scratch.
    pub base: Option<Arc<ImageConfig>>,
    /// What this build adds to the history, in order.
    pub history: Vec<HistoryEntry>,
}

/// One entry of the image's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The entry, without its time.
    pub entry: History,
    /// Whose result has this entry's layer on top; `None` exactly when `entry.empty_layer`.
    pub layer: Option<Edge>,
}

impl HistoryEntry {
    pub(crate) fn new(created_by: String, layer: Option<Edge>) -> HistoryEntry {
        let entry = History {
            created_by,
            comment: "buildkit.dockerfile.v0".to_owned(),
            empty_layer: layer.is_none(),
            ..History::default()
        };
        HistoryEntry { entry, layer }
    }
}
