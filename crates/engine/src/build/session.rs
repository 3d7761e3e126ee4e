//! One build under way: what every step needs, and what the solver's actions mean.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use graph::{Definition, InputKey, Op, Source, Vertex, VertexDigest};
use layer::checksum::{Checksum, Inputs};
use layer::select::{Origin, Selection};
use layer::{Time, Times, View};
use runtime::{Cgroup, Helper};
use solver::{
    CacheKey, CacheUse, How, KeyHasher, KeyParts, Plan, PlanInput, PlanVertex, VertexIndex,
};
use store::{Key, LayerId, ResultRecord, Store};

use super::ahead::Ahead;
use super::chores::Chores;
use super::context::Contexts;
use super::explain;
use super::handle::Handle;
use crate::cancel::Cancel;
use crate::diagnose::{Excerpt, Span};
use crate::error::{BuildError, StepError};
use crate::event::{Events, MissReason};
use crate::layers::Layers;
use crate::lock::lock;
use crate::remote_cache::{Exports, RemoteCaches};
use crate::request::{BuildRequest, Entitlement, RunNetwork};
use crate::resolve::Resolver;
use crate::room::Room;
use crate::step;
use crate::verify::RunClock;

/// One build: what it was given, and what it learned.
pub(crate) struct Session<'e> {
    pub(crate) store: &'e Store,
    pub(crate) helper: &'e Helper,
    /// The clock of the processes.
    pub(crate) clock: &'e RunClock,
    pub(crate) layers: &'e Layers<'e>,
    pub(crate) resolver: &'e Resolver<'e>,
    pub(crate) request: &'e BuildRequest,
    pub(crate) definition: &'e Definition,
    pub(crate) contexts: &'e Contexts,
    pub(crate) events: Events,
    pub(crate) cancel: Cancel,
    pub(crate) room: &'e Arc<Room>,
    /// What would have to be granted so that containers can be started; `None` where they can.
    pub(crate) no_containers: Option<&'e str>,
    /// Directories of files that describe devices.
    pub(crate) device_specs: &'e [PathBuf],
    /// Control groups that steps run in.
    pub(crate) cgroup: Option<&'e Cgroup>,
    /// When the build began.
    pub(crate) now: Time,
    /// What tells this project's steps from those of others, to explain misses.
    pub(crate) project: String,
    /// Times in the layers that this build writes.
    pub(super) times: Times,
    pub(super) remote: &'e RemoteCaches<'e>,
    /// The caches that this build is exported to; `None` without any.
    pub(super) exports: Option<&'e Exports<'e>>,
    /// Makes layers ready to be shipped; `None` when nothing is.
    pub(super) ahead: Option<&'e Ahead<'e>>,
    pub(super) uses: Uses,
    pub(crate) learned: Learned,
}

/// What the graph says of how results are used.
pub(super) struct Uses {
    /// Vertices whose layers are an image's.
    in_image: HashSet<usize>,
    /// Vertices whose layers somebody reads or mounts; those of the others are only shipped.
    read: HashSet<usize>,
    /// How many vertices are processes.
    runs: usize,
}

/// What a build gets to know as it goes.
#[derive(Default)]
pub(crate) struct Learned {
    /// What http sources are in this build, whatever other builds download meanwhile.
    pub(crate) downloads: Mutex<HashMap<VertexIndex, step::http::Seen>>,
    /// What commits git sources mean in this build, wherever branches move meanwhile.
    pub(crate) commits: Mutex<HashMap<VertexIndex, String>>,
    /// Keys that were looked up and not found. A step under any other key executes whatever the
    /// store has.
    pub(super) missed: Mutex<HashSet<CacheKey>>,
    /// Processes of the graph that were started, or found in the cache.
    runs_reached: AtomicUsize,
    pub(super) chores: Chores,
    checksums: Mutex<HashMap<(VertexIndex, usize), Arc<Checksum>>>,
    tails: Mutex<HashMap<VertexIndex, Vec<String>>>,
}

/// Steps mostly wait for the processes they run, so there may be more of them than cores.
const LEAST_JOBS: usize = 8;

impl Uses {
    /// `targets` are the vertices that are images.
    pub(super) fn of(definition: &Definition, targets: &[VertexIndex]) -> Uses {
        let vertices = definition.vertices().iter();
        let runs = vertices
            .clone()
            .filter(|vertex| matches!(vertex.op, Op::Exec(_)));
        let readers = vertices.filter(|vertex| !matches!(vertex.op, Op::Merge));
        let read = readers.flat_map(|vertex| vertex.inputs.iter().map(|input| input.edge.index()));
        Uses {
            in_image: shipped(definition, targets),
            read: read.collect(),
            runs: runs.count(),
        }
    }
}

impl<'e> Session<'e> {
    /// How many steps run at once.
    pub(super) fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let usual = LEAST_JOBS.max(2 * cores);
        self.request.jobs.unwrap_or(usual).max(1)
    }

    /// The graph as the solver sees it.
    pub(crate) fn plan(&self) -> Plan {
        let vertices = self.definition.vertices().iter().map(|vertex| PlanVertex {
            inputs: (0..vertex.inputs.len())
                .map(|input| plan_input(vertex, input))
                .collect(),
            cache: match &vertex.op {
                Op::Source(Source::Local(_)) => CacheUse::Volatile,
                _ if vertex.meta.no_cache => CacheUse::Refresh,
                _ => CacheUse::Normal,
            },
            op_key: match &vertex.op {
                Op::Source(_) => None,
                op => Some(CacheKey::from_bytes(graph::op_key(op))),
            },
        });
        Plan {
            vertices: vertices.collect(),
        }
    }

    pub(crate) fn vertex(&self, index: VertexIndex) -> &'e Vertex {
        &self.definition.vertices()[index.0]
    }

    /// Takes note that a vertex was started, or found in the cache, for the first time.
    pub(super) fn note_reached(&self, index: VertexIndex) {
        if matches!(self.vertex(index).op, Op::Exec(_)) {
            self.learned.runs_reached.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether another process is likely to be started after those that run.
    pub(crate) fn expects_runs(&self) -> bool {
        self.uses.runs > self.learned.runs_reached.load(Ordering::Relaxed)
    }

    pub(crate) fn digest(&self, index: VertexIndex) -> VertexDigest {
        self.vertex(index).digest
    }

    pub(super) fn inputs(&self, index: VertexIndex) -> impl Iterator<Item = VertexIndex> + use<'e> {
        self.vertex(index)
            .inputs
            .iter()
            .map(|input| VertexIndex(input.edge.index()))
    }

    /// Whether the network of the machine may be used by name.
    pub(crate) fn may_use_host_network(&self) -> bool {
        self.request.network == RunNetwork::Host
            || self.request.allow.contains(&Entitlement::NetworkHost)
    }

    /// The key of a source: what it brings in.
    pub(super) fn op_key(&self, index: VertexIndex) -> Result<CacheKey, StepError> {
        let op = &self.vertex(index).op;
        let own = CacheKey::from_bytes(graph::op_key(op));
        let hasher = KeyHasher::new("kiln.source", 1);
        Ok(match op {
            Op::Source(Source::Image(image)) => match self.resolver.chain_id(&image.manifest) {
                // Two tags with the same layers are the same to whatever stands on them.
                Some(chain) => hasher.text("layers").text(&chain.to_string()).finish(),
                None => hasher
                    .text("manifest")
                    .text(&image.manifest.to_string())
                    .finish(),
            },
            Op::Source(Source::Git(git)) => hasher
                .key(&own)
                .text(&step::git::commit(self, index, git)?)
                .finish(),
            Op::Source(Source::Http(http)) => hasher
                .key(&own)
                .text(&step::http::identity(self, index, http)?)
                .finish(),
            _ => own,
        })
    }

    /// Whether an image of the build stands on a vertex.
    pub(super) fn is_in_image(&self, index: VertexIndex) -> bool {
        self.uses.in_image.contains(&index.0)
    }

    /// Whether this build looks into the layers of a vertex, and does not only pass them on.
    pub(super) fn is_read(&self, index: VertexIndex) -> bool {
        self.uses.read.contains(&index.0)
    }

    /// Why a vertex executes, as far as earlier builds tell.
    pub(super) fn why_missed(
        &self,
        index: VertexIndex,
        key: CacheKey,
        parts: Option<&KeyParts>,
    ) -> Option<MissReason> {
        explain::why_missed(self, index, key, parts)
    }

    /// The tree that a result is. Layers that are not here come when something is read of them.
    pub(crate) fn view(&self, handle: &Handle) -> Result<Arc<dyn View>, StepError> {
        match handle {
            Handle::Context(tree) => Ok(tree.view.clone()),
            Handle::Layers(layers) => {
                let outline = |diff_id| self.remote.outline(diff_id);
                self.layers.lazy_view(layers, self.room, outline)
            }
        }
    }

    /// Brings in what the store does not have, wherever there is no attempt that is retried as a
    /// whole.
    fn ensure(&self, layers: &[LayerId]) -> Result<(), StepError> {
        if self.layers.present(layers)? {
            return Ok(());
        }
        self.room.retried(|| self.layers.ensure(layers))
    }

    fn origin(&self, handle: &Handle) -> Origin {
        match handle {
            Handle::Context(tree) => Origin::Context {
                git_modes: self.request.git_modes || tree.git_modes,
            },
            Handle::Layers(_) => Origin::Tree,
        }
    }

    /// The key of what an input's selector selects. What was hashed is remembered for the step.
    pub(super) fn checksum(
        &self,
        index: VertexIndex,
        input: usize,
        of: &Handle,
    ) -> Result<CacheKey, StepError> {
        let checksum = self.checked(index, input, of)?;
        Ok(CacheKey::from_bytes(checksum.key.0))
    }

    /// Checksum and selection of an input, made once.
    pub(crate) fn checked(
        &self,
        index: VertexIndex,
        input: usize,
        of: &Handle,
    ) -> Result<Arc<Checksum>, StepError> {
        if let Some(known) = self.known_checksum(index, input) {
            return Ok(known);
        }
        let vertex = self.vertex(index);
        let view = self.view(of)?;
        let selector = step::file::selector(vertex, input, self.origin(of))?;
        let effect = step::file::effect(vertex, input)?;
        let made = layer::checksum::checksum(&*view, &selector, &effect, &self.layers.scratch())
            .map_err(|error| step::file::source_error(self, index, input, of, error))?;
        let made = Arc::new(made);
        let mut checksums = lock(&self.learned.checksums);
        checksums.insert((index, input), made.clone());
        Ok(made)
    }

    fn known_checksum(&self, index: VertexIndex, input: usize) -> Option<Arc<Checksum>> {
        lock(&self.learned.checksums).get(&(index, input)).cloned()
    }

    /// What the key of an input was made of, if it was made in this build.
    pub(super) fn key_inputs(&self, index: VertexIndex, input: usize) -> Option<Inputs> {
        // An account is a help: without it, a miss is explained less well.
        self.known_checksum(index, input)?.inputs().ok()
    }

    /// What an input's selector selects, with the digests of its files.
    pub(crate) fn selection(
        &self,
        index: VertexIndex,
        input: usize,
        of: &Handle,
    ) -> Result<Selection, StepError> {
        Ok(self.checked(index, input, of)?.selection.clone())
    }

    /// Performs the operation of a vertex; whoever performs the same one elsewhere is waited for.
    pub(super) fn execute(
        &self,
        index: VertexIndex,
        key: CacheKey,
        parts: Option<&KeyParts>,
        inputs: &[Handle],
    ) -> Result<Handle, StepError> {
        let vertex = self.vertex(index);
        let fly =
            |work: &dyn Fn() -> Result<Handle, StepError>| self.in_flight(index, key, parts, work);
        match &vertex.op {
            Op::Source(Source::Local(local)) => {
                let tree = self.contexts.tree(&local.name);
                let missing =
                    || StepError::refused(format!("there is no context `{}`", local.name));
                Ok(Handle::Context(tree.ok_or_else(missing)?.clone()))
            }
            Op::Source(Source::Image(image)) => {
                let layers = self.resolver.layers(&image.manifest);
                self.layers.belong_to(&layers, vertex.digest);
                if self.is_read(index) {
                    self.ensure(&layers)?;
                }
                Ok(Handle::layers(layers))
            }
            Op::Merge => merge(inputs),
            Op::Diff => diff(inputs),
            Op::Source(Source::Git(git)) => fly(&|| step::git::execute(self, index, git)),
            Op::Source(Source::Http(http)) => fly(&|| step::http::execute(self, index, http)),
            Op::Exec(exec) => fly(&|| step::exec::execute(self, index, exec, inputs)),
            Op::File(op) => fly(&|| step::file::execute(self, index, op, inputs)),
        }
    }

    /// A part of the context as layers, for a step that mounts it: what was hashed is what is
    /// mounted, however long the step runs.
    pub(crate) fn context_layers(
        &self,
        index: VertexIndex,
        input: usize,
        handle: &Handle,
    ) -> Result<Arc<[LayerId]>, StepError> {
        let checksum = self.checked(index, input, handle)?;
        let key =
            KeyHasher::new("kiln.context mount", 1).key(&CacheKey::from_bytes(checksum.key.0));
        let key = store_key(
            key.text(&step::file::mount_path(self.vertex(index), input))
                .finish(),
        );
        let known = self
            .store
            .result(&key)
            .map_err(StepError::failed("look up a mounted context"))?;
        if let Some(record) = known {
            return Ok(record.layers.into());
        }
        let layers: Arc<[LayerId]> = Arc::from([step::file::mounted(self, index, input, handle)?]);
        let record = ResultRecord {
            layers: layers.to_vec(),
            inputs: Vec::new(),
            description: "context of a mount".into(),
            created: u64::try_from(self.now.seconds).unwrap_or(0),
        };
        drop(self.store.save_result(&key, &record));
        Ok(layers)
    }

    /// Keeps the last lines of a step's output for the error that may follow.
    pub(crate) fn keep_tail(&self, index: VertexIndex, lines: Vec<String>) {
        lock(&self.learned.tails).insert(index, lines);
    }

    pub(super) fn step_failed(&self, index: VertexIndex, source: StepError) -> BuildError {
        let vertex = self.vertex(index);
        let tail = lock(&self.learned.tails).remove(&index).unwrap_or_default();
        BuildError::Step {
            name: vertex.meta.name.clone(),
            excerpt: self.excerpt(vertex).map(Box::new),
            tail,
            source,
        }
    }

    fn excerpt(&self, vertex: &Vertex) -> Option<Excerpt> {
        let span = vertex.meta.spans.first()?;
        let file = self.definition.sources().get(span.file)?;
        Some(Excerpt {
            name: file.name.clone(),
            text: file.text.clone(),
            span: Span::new(span.start, span.end),
        })
    }
}

/// The vertices whose layers are those of the targets: what these are chained on.
fn shipped(definition: &Definition, targets: &[VertexIndex]) -> HashSet<usize> {
    let mut shipped = HashSet::new();
    let mut open: Vec<usize> = targets.iter().map(|target| target.0).collect();
    while let Some(index) = open.pop() {
        if shipped.insert(index) {
            let inputs = &definition.vertices()[index].inputs;
            let chained = inputs.iter().filter(|input| input.key == InputKey::Chained);
            open.extend(chained.map(|input| input.edge.index()));
        }
    }
    shipped
}

/// How an input counts. What a `--chmod` makes of modes is part of what is selected.
fn plan_input(vertex: &Vertex, position: usize) -> PlanInput {
    let input = &vertex.inputs[position];
    let how = match &input.key {
        InputKey::Chained => How::Chained,
        InputKey::Content(selector) => {
            let own = CacheKey::from_bytes(graph::selector_key(selector));
            let selector = match step::file::mode_of(vertex, position) {
                Some(mode) => KeyHasher::new("kiln.selector with mode", 1)
                    .key(&own)
                    .text(&mode)
                    .finish(),
                None => own,
            };
            How::Content { selector }
        }
    };
    PlanInput {
        vertex: VertexIndex(input.edge.index()),
        how,
    }
}

/// A solver's key as the store's.
pub(crate) fn store_key(key: CacheKey) -> Key {
    Key::from_bytes(*key.as_bytes())
}

fn layers_of(handle: &Handle) -> Result<&Arc<[LayerId]>, StepError> {
    match handle {
        Handle::Layers(layers) => Ok(layers),
        Handle::Context(_) => Err(StepError::refused("a context is not made of layers")),
    }
}

fn merge(inputs: &[Handle]) -> Result<Handle, StepError> {
    let mut layers = Vec::new();
    for input in inputs {
        layers.extend_from_slice(layers_of(input)?);
    }
    Ok(Handle::layers(layers))
}

fn diff(inputs: &[Handle]) -> Result<Handle, StepError> {
    let [lower, upper] = inputs else {
        return Err(StepError::refused("a difference has two inputs"));
    };
    let (lower, upper) = (layers_of(lower)?, layers_of(upper)?);
    match upper.strip_prefix(&**lower) {
        Some(rest) => Ok(Handle::layers(rest)),
        None => Err(StepError::refused(
            "the two sides of a difference do not stand on the same layers",
        )),
    }
}
