//! The journey of one build: contexts, compilation, solving, export.

mod ahead;
mod chores;
pub(crate) mod compile;
pub(crate) mod context;
mod drive;
mod explain;
mod files;
mod handle;
mod lookup;
mod outputs;
pub(crate) mod prepare;
mod session;
mod ssh_keys;
mod twice;
mod unmatched;

use std::thread::Scope;

use graph::Op;
use layer::Times;
use oci::{Descriptor, Digest, Reference, Timestamp};
use runtime::Groups;
use solver::VertexIndex;
use store::LayerId;

pub(crate) use ahead::Ahead;
pub(crate) use chores::Chore;
pub(crate) use handle::Handle;
pub(crate) use session::{Session, store_key};

use crate::cancel::Cancel;
use crate::diagnose::Report;
use crate::error::BuildError;
use crate::event::{EventKind, Events};
use crate::fetch::Fetcher;
use crate::layers::Layers;
use crate::remote_cache::{ExportParts, Exports, RemoteCaches};
use crate::request::{BuildRequest, Call, Timestamp as TimePolicy};
use crate::resolve::Resolver;
use crate::{Engine, answers, process, step};
pub(crate) use compile::{Compiled, inside};
use session::{Learned, Uses};

/// What a build came to.
#[derive(Clone, Debug)]
pub struct BuildOutcome {
    /// The image's id, if there is an image: not for a question or `type=cacheonly`.
    pub image_id: Option<Digest>,
    /// The digest of its config, if it is for one platform.
    pub config: Option<Digest>,
    /// What tags point to, if some output needed the image in its final form.
    pub descriptor: Option<Descriptor>,
    /// The names that the image has now.
    pub names: Vec<Reference>,
    /// Warnings about the Dockerfile.
    pub warnings: Report,
    /// The answer to a question, as text.
    pub answer: Option<String>,
    /// The answer to a question, as JSON.
    pub answer_json: Option<String>,
}

/// 2000-01-01T00:00:00Z: when images were made that do not say.
const UNKNOWN_TIME: i64 = 946_684_800;

impl Engine {
    /// Builds, or answers the question of the request.
    ///
    /// # Errors
    /// When the Dockerfile is wrong, a step fails, an output cannot be written, or `cancel` was
    /// raised. Finished steps stay in the cache.
    pub fn build(
        &self,
        mut request: BuildRequest,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<BuildOutcome, BuildError> {
        let _key_agents = ssh_keys::start(&self.store, &mut request.ssh)?;
        let prepared = prepare::prepare(self, &request, cancel).map_err(|error| {
            match cancel.is_cancelled() {
                true => BuildError::Cancelled,
                false => error,
            }
        })?;
        let contexts = &prepared.contexts;
        let resolver = Resolver::new(&self.store, &self.net, request.pull, &contexts.layouts);
        let mut compiled = compile::compile(&prepared.source, &request, contexts, &resolver)?;
        if request.call == Call::Check {
            let found = contexts.trees().flat_map(|tree| unmatched::check(tree));
            let checks = &prepared.source.file.checks;
            let found = checks.apply(&prepared.source.file, found.collect());
            compiled.warnings.diagnostics.extend(found);
        }
        if request.call != Call::Build {
            return Ok(answers::answer(
                request.call,
                &prepared.source.file,
                compiled,
            ));
        }
        if !compiled.warnings.diagnostics.is_empty() {
            events.send(EventKind::Warnings(compiled.warnings.clone()));
        }
        outputs::check(&request, compiled.images.len())?;
        let build = Build {
            engine: self,
            request: &request,
            compiled: &compiled,
            resolver: &resolver,
            prepared: &prepared,
            groups: groups(&request, &compiled)?,
        };
        let outcome = build.perform(events, cancel)?;
        self.settle_later();
        Ok(outcome)
    }
}

/// Control groups for the processes of a graph, if any is asked for.
fn groups(request: &BuildRequest, compiled: &Compiled) -> Result<Option<Groups>, BuildError> {
    let vertices = compiled.definition.vertices();
    let runs = vertices
        .iter()
        .any(|vertex| matches!(vertex.op, Op::Exec(_)));
    match runs {
        true => process::groups(&request.resources, request.cgroup_parent.as_deref()),
        false => Ok(None),
    }
}

/// What is there beside the steps.
#[derive(Clone, Copy)]
struct Beside<'x> {
    imports: &'x RemoteCaches<'x>,
    exports: Option<&'x Exports<'x>>,
    ahead: Option<&'x Ahead<'x>>,
}

struct Build<'b> {
    engine: &'b Engine,
    request: &'b BuildRequest,
    compiled: &'b Compiled,
    resolver: &'b Resolver<'b>,
    prepared: &'b prepare::Prepared,
    groups: Option<Groups>,
}

impl<'b> Build<'b> {
    /// Solves and exports, with all that is at work beside the steps.
    fn perform(&self, events: &Events, cancel: &Cancel) -> Result<BuildOutcome, BuildError> {
        let Build {
            engine, request, ..
        } = *self;
        let fetcher = Fetcher {
            net: engine.net.clone(),
            events: events.clone(),
            cancel: cancel.clone(),
        };
        let mut layers = Layers::new(&engine.store, engine.mounting(), fetcher);
        layers.know_images(self.resolver.all_layers());
        let imports = RemoteCaches::new(
            &engine.store,
            &engine.net,
            &request.cache_from,
            self.times()?,
            events.clone(),
        );
        let exports = (!request.cache_to.is_empty())
            .then(|| self.exports(&layers, &imports, events))
            .transpose()?;
        let ahead = Ahead::new(request, self.times()?, &layers, &engine.room);
        std::thread::scope(|scope| {
            // Gone when this closure ends, however it does.
            let (_running, ended) = std::sync::mpsc::channel();
            if engine.room.is_limited() {
                scope.spawn(move || engine.room.watch(&ended));
            }
            let exports = exports.as_ref();
            let _at_work = exports.map(|exports| exports.start(scope, cancel));
            let beside = Beside {
                imports: &imports,
                exports,
                ahead: ahead.as_ref(),
            };
            self.run(&layers, beside, scope, events, cancel)
        })
    }

    /// The caches that the build is exported to.
    fn exports<'x>(
        &'x self,
        layers: &'x Layers<'x>,
        imports: &'x RemoteCaches<'x>,
        events: &'x Events,
    ) -> Result<Exports<'x>, BuildError> {
        Ok(Exports::new(ExportParts {
            net: &self.engine.net,
            layers,
            imports,
            room: &self.engine.room,
            times: self.times()?,
            events,
            to: &self.request.cache_to,
        }))
    }

    /// Solves and exports.
    fn run<'scope>(
        &self,
        layers: &Layers<'_>,
        beside: Beside<'scope>,
        scope: &'scope Scope<'scope, '_>,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<BuildOutcome, BuildError> {
        let exports = beside.exports;
        let at_work = beside.ahead.map(|ahead| ahead.start(scope));
        let chains = self.solve(layers, beside, events, cancel)?;
        drop(at_work);
        for tree in self.prepared.contexts.trees() {
            if let Some(stats) = &tree.stats {
                // Without it the next build reads more; nothing else changes.
                drop(stats.save());
            }
        }
        if let Some(exports) = exports {
            exports.wait_for_blobs();
        }
        let export = || self.export(layers, &chains, events);
        // What went to standard output cannot be taken back and written again.
        let outcome = if self.request.takes_stdout() {
            export()?
        } else {
            self.engine.room.retried(export)?
        };
        if let Some(exports) = exports {
            exports.finish(&chains)?;
        }
        Ok(outcome)
    }

    /// Solves for the layers of every image: the target's, and those of each history entry.
    fn solve(
        &self,
        layers: &Layers<'_>,
        beside: Beside<'_>,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<LayerId>>, BuildError> {
        let definition = &self.compiled.definition;
        let edges: Vec<_> = self
            .compiled
            .images
            .iter()
            .filter_map(|image| image.target)
            .collect();
        for (vertex, needed) in definition
            .vertices()
            .iter()
            .zip(definition.reachable(&edges))
        {
            if needed {
                events.send(EventKind::Announced {
                    step: vertex.digest,
                    name: vertex.meta.name.clone(),
                });
            }
        }
        let targets: Vec<VertexIndex> =
            edges.iter().map(|edge| VertexIndex(edge.index())).collect();
        let session = Session {
            store: &self.engine.store,
            helper: &self.engine.helper,
            clock: &self.engine.clock,
            layers,
            resolver: self.resolver,
            request: self.request,
            definition,
            contexts: &self.prepared.contexts,
            events: events.clone(),
            cancel: cancel.clone(),
            project: self.prepared.project.clone(),
            times: self.times()?,
            room: &self.engine.room,
            no_containers: self.engine.no_containers(),
            device_specs: &self.engine.device_specs,
            cgroup: self.groups.as_ref().map(Groups::cgroup),
            remote: beside.imports,
            exports: beside.exports,
            ahead: beside.ahead,
            now: step::file::now(),
            uses: Uses::of(definition, &targets),
            learned: Learned::default(),
        };
        let mut results = drive::drive(&session, &session.plan(), &targets)?.into_iter();
        let mut chains = Vec::with_capacity(self.compiled.images.len());
        for image in &self.compiled.images {
            let handle = image.target.and_then(|_| results.next());
            chains.push(match handle {
                Some(Handle::Layers(layers)) => layers.to_vec(),
                Some(Handle::Context(_)) => {
                    return Err(BuildError::request("a context cannot be an image"));
                }
                None => Vec::new(),
            });
        }
        Ok(chains)
    }

    /// The times of files in new layers.
    fn times(&self) -> Result<Times, BuildError> {
        Ok(match self.request.timestamp {
            TimePolicy::Preserve => Times::Preserve,
            TimePolicy::Epoch(seconds) => Times::Clamp(seconds),
            TimePolicy::Auto => self.epoch()?.map_or(Times::Layer, Times::Clamp),
            TimePolicy::Git => match self.prepared.commit_time(self.engine) {
                Some(seconds) => Times::Clamp(seconds),
                None => {
                    return Err(BuildError::request(
                        "--timestamp git: the context is in no git repository with a commit",
                    ));
                }
            },
        })
    }

    /// `SOURCE_DATE_EPOCH`, from the environment, the build arguments or the file.
    fn epoch(&self) -> Result<Option<i64>, BuildError> {
        use frontend::SourceDateEpoch::{Context, NamedContext, Seconds, Source};
        let lowered = self
            .compiled
            .images
            .first()
            .and_then(|image| image.source_date_epoch.as_ref());
        Ok(match lowered {
            Some(Seconds(seconds)) => Some(*seconds),
            Some(Context | NamedContext(_)) => match self.prepared.commit_time(self.engine) {
                Some(seconds) => Some(seconds),
                None => {
                    return Err(BuildError::request(
                        "SOURCE_DATE_EPOCH=context: the context is in no git repository with a commit",
                    ));
                }
            },
            Some(Source(_)) => {
                return Err(BuildError::request(
                    "SOURCE_DATE_EPOCH from a stage: give seconds, or `context`",
                ));
            }
            None => self.request.source_date_epoch,
        })
    }

    /// When the image was made: as its files were if that was asked for, else the epoch, the
    /// context's commit, or 2000.
    fn created(&self) -> Result<Timestamp, BuildError> {
        let epoch = match self.request.timestamp {
            TimePolicy::Epoch(seconds) => Some(seconds),
            TimePolicy::Git => None,
            TimePolicy::Auto | TimePolicy::Preserve => self.epoch()?,
        };
        let seconds = epoch
            .or_else(|| self.prepared.commit_time(self.engine))
            .unwrap_or(UNKNOWN_TIME);
        Timestamp::from_unix(seconds)
            .map_err(|error| BuildError::request(format!("{seconds} is no time: {error}")))
    }
}
