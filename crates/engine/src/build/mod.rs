//! The journey of one build: contexts, compilation, solving, export.

pub(crate) mod compile;
pub(crate) mod context;
mod drive;
mod explain;
mod handle;
mod lookup;
pub(crate) mod prepare;
mod session;
mod unmatched;

use std::collections::BTreeMap;

use frontend::Lowered;
use layer::Times;
use oci::{Descriptor, DiffId, Digest, Document, Reference, Timestamp};
use rayon::prelude::*;
use solver::VertexIndex;
use store::{Image, ImageLayer, ImageManifest, LayerId};

pub(crate) use handle::Handle;
pub(crate) use session::Session;

use crate::cancel::Cancel;
use crate::diagnose::Report;
use crate::error::BuildError;
use crate::event::{EventKind, Events};
use crate::export::{self, files, layout, push, shipment};
use crate::fetch::Fetcher;
use crate::layers::Layers;
use crate::remote_cache::{ExportParts, Exports, RemoteCaches};
use crate::request::{
    BuildRequest, Call, Destination, Output, OutputKind, Timestamp as TimePolicy,
};
use crate::resolve::Resolver;
use crate::{Engine, answers, unix_now};
pub(crate) use compile::{Compiled, inside};
use session::SessionParts;

/// What a build came to.
#[derive(Clone, Debug)]
pub struct BuildOutcome {
    /// The image's id, if there is an image: not for a question or `type=cacheonly`.
    pub image_id: Option<Digest>,
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
        request: BuildRequest,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<BuildOutcome, BuildError> {
        let prepared = prepare::prepare(self, &request)?;
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
        let build = Build {
            engine: self,
            request: &request,
            compiled: &compiled,
            resolver: &resolver,
            prepared: &prepared,
        };
        let fetcher = Fetcher {
            net: &self.net,
            events: events.clone(),
            cancel: cancel.clone(),
        };
        let mut layers = Layers::new(&self.store, self.mounting(), fetcher);
        layers.know_images(resolver.all_layers());
        let exports = (!request.cache_to.is_empty())
            .then(|| build.exports(&layers, events))
            .transpose()?;
        let outcome = std::thread::scope(|scope| {
            // Gone when this closure ends, however it does.
            let (_running, ended) = std::sync::mpsc::channel();
            if self.room.is_limited() {
                scope.spawn(move || self.room.watch(&ended));
            }
            let exports = exports.as_ref();
            let _at_work = exports.map(|exports| exports.start(scope, cancel));
            build.run(&layers, exports, events, cancel)
        })?;
        self.settle_later();
        Ok(outcome)
    }
}

struct Build<'b> {
    engine: &'b Engine,
    request: &'b BuildRequest,
    compiled: &'b Compiled,
    resolver: &'b Resolver<'b>,
    prepared: &'b prepare::Prepared,
}

impl<'b> Build<'b> {
    /// The caches that the build is exported to.
    fn exports<'x>(
        &'x self,
        layers: &'x Layers<'x>,
        events: &'x Events,
    ) -> Result<Exports<'x>, BuildError> {
        Ok(Exports::new(ExportParts {
            net: &self.engine.net,
            layers,
            room: &self.engine.room,
            times: self.times()?,
            events,
            to: &self.request.cache_to,
        }))
    }

    /// Solves and exports.
    fn run(
        &self,
        layers: &Layers<'_>,
        exports: Option<&Exports<'_>>,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<BuildOutcome, BuildError> {
        let chains = self.solve(layers, exports, events, cancel)?;
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
        let outcome = if self.writes_to_stdout() {
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
        exports: Option<&Exports<'_>>,
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
        let times = self.times()?;
        let (store, net) = (&self.engine.store, &self.engine.net);
        let places = &self.request.cache_from;
        let targets: Vec<VertexIndex> =
            edges.iter().map(|edge| VertexIndex(edge.index())).collect();
        let session = Session::new(SessionParts {
            store,
            helper: &self.engine.helper,
            layers,
            resolver: self.resolver,
            request: self.request,
            definition,
            contexts: &self.prepared.contexts,
            events: events.clone(),
            cancel: cancel.clone(),
            project: self.prepared.project.clone(),
            times,
            room: &self.engine.room,
            remote: RemoteCaches::new(store, net, places, times, events.clone()),
            exports,
            targets: &targets,
        });
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

    fn export(
        &self,
        layers: &Layers<'_>,
        chains: &[Vec<LayerId>],
        events: &Events,
    ) -> Result<BuildOutcome, BuildError> {
        let outputs = self.outputs();
        if outputs
            .iter()
            .all(|output| output.kind == OutputKind::CacheOnly)
        {
            return Ok(self.outcome(None, None, Vec::new()));
        }
        let times = self.times()?;
        let created = self.created()?;
        let manifests = self
            .compiled
            .images
            .iter()
            .zip(chains)
            .map(|(image, chain)| self.manifest(layers, image, chain, times, created))
            .collect::<Result<Vec<_>, _>>()?;
        let mut image = Image {
            manifests,
            index: None,
            created: unix_now(),
        };
        let names = self.names();
        let mut descriptor = None;
        for output in &outputs {
            let shipped = self.output(layers, output, &mut image, chains, &names, times, events)?;
            descriptor = shipped.or(descriptor);
        }
        let stored = outputs
            .iter()
            .any(|output| matches!(output.kind, OutputKind::Image { .. }));
        if stored || !names.is_empty() {
            let failed = |error| BuildError::store("name the image", error);
            match names.as_slice() {
                [] => drop(self.engine.store.tag(&image, None).map_err(failed)?),
                names => names.iter().try_for_each(|name| {
                    self.engine
                        .store
                        .tag(&image, Some(name))
                        .map(drop)
                        .map_err(failed)
                })?,
            }
        }
        Ok(self.outcome(Some(image.id()), descriptor, names))
    }

    fn outcome(
        &self,
        image_id: Option<Digest>,
        descriptor: Option<Descriptor>,
        names: Vec<Reference>,
    ) -> BuildOutcome {
        BuildOutcome {
            image_id,
            descriptor,
            names,
            warnings: self.compiled.warnings.clone(),
            answer: None,
            answer_json: None,
        }
    }

    fn names(&self) -> Vec<Reference> {
        let mut names = self.request.tags.clone();
        for output in &self.request.outputs {
            names.extend(output.names.iter().cloned());
        }
        names
    }

    fn writes_to_stdout(&self) -> bool {
        self.request.outputs.iter().any(|output| {
            matches!(
                &output.kind,
                OutputKind::Oci {
                    dest: Destination::Stdout,
                    ..
                } | OutputKind::Docker {
                    dest: Destination::Stdout
                } | OutputKind::Tar {
                    dest: Destination::Stdout
                }
            )
        })
    }

    /// The outputs that were asked for; the store, when there are none.
    fn outputs(&self) -> Vec<Output> {
        match self.request.outputs.as_slice() {
            [] => {
                vec![Output::plain(OutputKind::Image { push: false })]
            }
            outputs => outputs.to_vec(),
        }
    }

    /// The image's documents, its layers named by what their tars hash to.
    fn manifest(
        &self,
        layers: &Layers<'_>,
        image: &Lowered,
        chain: &[LayerId],
        times: Times,
        created: Timestamp,
    ) -> Result<ImageManifest, BuildError> {
        let failed = |error| BuildError::export("the image", error);
        // The base's layers are the base's own, whenever and wherever it was built.
        let base = image.image.base.as_deref();
        let base_layers = base.map_or(0, |base| base.rootfs.diff_ids.len());
        let times_at = |position| {
            if position < base_layers {
                Times::Layer
            } else {
                times
            }
        };
        let named = chain
            .par_iter()
            .enumerate()
            .map(|(position, &id)| layers.retimed(id, times_at(position)))
            .collect::<Result<Vec<(LayerId, DiffId)>, _>>()
            .map_err(failed)?;
        let diff_ids: Vec<DiffId> = named.iter().map(|(_, diff_id)| *diff_id).collect();
        let config = Document::new(export::config::assemble(&image.image, &diff_ids, created));
        let store = &self.engine.store;
        store
            .put_blob(config.bytes())
            .map_err(|error| BuildError::store("keep the image's config", error))?;
        Ok(ImageManifest {
            platform: image.image.platform.clone(),
            config: config.descriptor(oci::MediaType::OciConfig),
            manifest: None,
            layers: named
                .into_iter()
                .map(|(id, diff_id)| ImageLayer {
                    diff_id,
                    id,
                    blob: None,
                })
                .collect(),
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct would be made for it alone"
    )]
    fn output(
        &self,
        layers: &Layers<'_>,
        output: &Output,
        image: &mut Image,
        chains: &[Vec<LayerId>],
        names: &[Reference],
        times: Times,
        events: &Events,
    ) -> Result<Option<Descriptor>, BuildError> {
        let store = &self.engine.store;
        let annotations = [&self.request.annotations[..], &output.annotations].concat();
        let annotations = &annotations;
        let mut ship = || {
            let shipping = shipment::Shipping {
                encoding: output.encoding,
                annotations,
                // The layers were given their times when they were named.
                times: Times::Layer,
                as_it_came: false,
            };
            shipment::prepare(store, layers, image, &shipping)
        };
        let stdout = self.request.stdout.as_deref();
        match &output.kind {
            OutputKind::CacheOnly | OutputKind::Image { push: false } => Ok(None),
            OutputKind::Image { push: true } => {
                if names.is_empty() {
                    return Err(BuildError::request(
                        "a push needs a name: give one with --tag",
                    ));
                }
                let shipment = ship()?;
                for name in names {
                    push::push(&self.engine.net, layers, &shipment, name, events)?;
                }
                Ok(Some(shipment.root))
            }
            OutputKind::Oci { dest, tar } => {
                let shipment = ship()?;
                layout::write_oci(
                    store,
                    layers,
                    &shipment,
                    names,
                    annotations,
                    (dest, *tar),
                    stdout,
                )?;
                Ok(Some(shipment.root))
            }
            OutputKind::Docker { dest } => {
                let shipment = ship()?;
                layout::write_docker(store, layers, &shipment, names, dest, stdout)?;
                Ok(Some(shipment.root))
            }
            OutputKind::Local { dest } => {
                each_platform(image, chains, |chain, folder| {
                    files::write_local(
                        layers,
                        chain,
                        &folder.map_or_else(|| dest.clone(), |name| dest.join(name)),
                    )
                })?;
                Ok(None)
            }
            OutputKind::Tar { dest } => {
                let [chain] = chains else {
                    return Err(BuildError::request(
                        "type=tar takes one platform: use type=local for several",
                    ));
                };
                files::write_tar(store, layers, chain, times, dest, stdout)?;
                Ok(None)
            }
        }
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

    /// When the image was made: the epoch, else the context's commit, else 2000.
    fn created(&self) -> Result<Timestamp, BuildError> {
        let epoch = match self.request.timestamp {
            TimePolicy::Epoch(seconds) => Some(seconds),
            _ => self.epoch()?,
        };
        let seconds = epoch
            .or_else(|| self.prepared.commit_time(self.engine))
            .unwrap_or(UNKNOWN_TIME);
        Timestamp::from_unix(seconds)
            .map_err(|error| BuildError::request(format!("{seconds} is no time: {error}")))
    }
}

/// Calls for each platform's files, with the name of a directory of its own if there are several.
fn each_platform(
    image: &Image,
    chains: &[Vec<LayerId>],
    mut write: impl FnMut(&[LayerId], Option<String>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let several = chains.len() > 1;
    let folders: BTreeMap<usize, String> = image
        .manifests
        .iter()
        .enumerate()
        .map(|(position, manifest)| (position, manifest.platform.to_string().replace('/', "_")))
        .collect();
    for (position, chain) in chains.iter().enumerate() {
        write(chain, folders.get(&position).filter(|_| several).cloned())?;
    }
    Ok(())
}

/// Where a stream output goes.
pub(crate) fn stream<'f>(
    dest: &Destination,
    stdout: Option<&'f std::fs::File>,
) -> Result<&'f std::fs::File, BuildError> {
    match (dest, stdout) {
        (Destination::Stdout, Some(file)) => Ok(file),
        _ => Err(BuildError::request(
            "there is no standard output to write to",
        )),
    }
}
