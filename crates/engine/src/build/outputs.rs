//! What a build leaves behind: the image with its documents, and every output that was asked for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use frontend::Lowered;
use layer::Times;
use oci::{Descriptor, DiffId, Digest, Document, Platform, Reference, Timestamp};
use store::{Image, ImageLayer, ImageManifest, LayerId};

use super::{Build, BuildOutcome};
use crate::error::BuildError;
use crate::event::Events;
use crate::export::document::annotations;
use crate::export::{self, files, layout, push, shipment};
use crate::layers::Layers;
use crate::request::{AnnotationLevel, BuildRequest, Context, ImageOutput, Output, OutputKind};
use crate::unix_now;

/// Refuses what cannot be put out, before anything is built.
///
/// # Errors
/// Then, saying why.
pub(super) fn check(request: &BuildRequest, platforms: usize) -> Result<(), BuildError> {
    let refused = |why: &str| Err(BuildError::request(why));
    let to_stdout = request
        .outputs
        .iter()
        .filter(|output| output.takes_stdout());
    if to_stdout.count() > 1 {
        return refused("two outputs go to standard output: only one can");
    }
    for output in &wanted(request) {
        let names = || request.tags.iter().chain(&output.names);
        let index_level = request
            .annotations
            .iter()
            .chain(&output.annotations)
            .any(|annotation| annotation.level == AnnotationLevel::Index);
        match &output.kind {
            OutputKind::Docker { .. } if platforms != 1 => {
                return refused("type=docker takes one platform: use type=oci for several");
            }
            OutputKind::Oci { .. } | OutputKind::Docker { .. } | OutputKind::Image(_)
                if index_level && platforms == 1 =>
            {
                return refused(
                    "an image of one platform has no index to annotate: annotate its manifest",
                );
            }
            OutputKind::Image(image) if image.push && names().next().is_none() => {
                return refused("a push needs a name: give one with --tag");
            }
            OutputKind::Image(image) if image.by_digest => {
                if let Some(tagged) =
                    names().find(|name| name.tag().is_some_and(|tag| tag != "latest"))
                {
                    return refused(&format!(
                        "push-by-digest=true pushes without a tag: give {} without one",
                        tagged.familiar()
                    ));
                }
            }
            OutputKind::Local {
                dest, delete: true, ..
            } => {
                if let Context::Directory(context) = &request.context
                    && let (Ok(context), Ok(dest)) = (context.canonicalize(), dest.canonicalize())
                    && context.starts_with(dest)
                {
                    return refused("mode=delete would remove the context: choose another dest");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The outputs that were asked for; the store, when there are none.
fn wanted(request: &BuildRequest) -> Vec<Output> {
    match request.outputs.as_slice() {
        [] => vec![Output::plain(OutputKind::Image(ImageOutput::STORE))],
        outputs => outputs.to_vec(),
    }
}

/// What all outputs of a build share.
struct Outgoing<'b> {
    layers: &'b Layers<'b>,
    chains: &'b [Vec<LayerId>],
    times: Times,
    events: &'b Events,
}

impl Build<'_> {
    /// Writes every output.
    pub(super) fn export(
        &self,
        layers: &Layers<'_>,
        chains: &[Vec<LayerId>],
        events: &Events,
    ) -> Result<BuildOutcome, BuildError> {
        let outputs = wanted(self.request);
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
            annotations: annotations(&self.request.annotations, AnnotationLevel::Index, None),
            created: unix_now(),
        };
        let outgoing = Outgoing {
            layers,
            chains,
            times,
            events,
        };
        let mut descriptor = None;
        for output in &outputs {
            let shipped = self.output(&outgoing, output, &mut image)?;
            descriptor = shipped.or(descriptor);
        }
        let names = self.keep(&image, &outputs, descriptor.as_ref())?;
        Ok(self.outcome(Some(image.id()), descriptor, names))
    }

    /// Keeps the image in the store under its names, if that is wanted, and returns all its names.
    fn keep(
        &self,
        image: &Image,
        outputs: &[Output],
        descriptor: Option<&Descriptor>,
    ) -> Result<Vec<Reference>, BuildError> {
        let failed = |error| BuildError::store("name the image", error);
        let store = &self.engine.store;
        let mut all = self.request.tags.clone();
        let mut kept = self.request.tags.clone();
        let (mut asked, mut refused) = (false, false);
        for output in outputs {
            all.extend(output.names.iter().cloned());
            if let OutputKind::Image(target) = output.kind {
                asked |= target.store;
                refused |= !target.store;
                kept.extend(output.names.iter().cloned());
                if let Some(descriptor) = descriptor.filter(|_| target.canonical) {
                    let names = self.request.tags.iter().chain(&output.names);
                    let canonical = names.map(|name| name.with_digest(descriptor.digest));
                    kept.extend(canonical.collect::<Vec<_>>());
                }
            }
        }
        if asked && kept.is_empty() {
            store.tag(image, None).map_err(failed)?;
        }
        if asked || !refused {
            for name in &kept {
                store.tag(image, Some(name)).map_err(failed)?;
            }
        }
        Ok(all)
    }

    fn outcome(
        &self,
        image_id: Option<Digest>,
        descriptor: Option<Descriptor>,
        names: Vec<Reference>,
    ) -> BuildOutcome {
        BuildOutcome {
            image_id,
            config: image_id.filter(|_| self.compiled.images.len() == 1),
            descriptor,
            names,
            warnings: self.compiled.warnings.clone(),
            answer: None,
            answer_json: None,
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
        let named: Vec<(LayerId, DiffId)> = side_by_side(chain.len(), |position| {
            layers.retimed(chain[position], times_at(position))
        })
        .map_err(failed)?;
        let diff_ids: Vec<DiffId> = named.iter().map(|(_, diff_id)| *diff_id).collect();
        let config = Document::new(export::config::assemble(&image.image, &diff_ids, created));
        let store = &self.engine.store;
        store
            .put_blob(config.bytes())
            .map_err(|error| BuildError::store("keep the image's config", error))?;
        let platform = &image.image.platform;
        let annotated = |level| annotations(&self.request.annotations, level, Some(platform));
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
            annotations: annotated(AnnotationLevel::Manifest),
            descriptor_annotations: annotated(AnnotationLevel::ManifestDescriptor),
        })
    }

    /// Writes one output. Returns what tags point to, if it needed the image in its final form.
    fn output(
        &self,
        outgoing: &Outgoing<'_>,
        output: &Output,
        image: &mut Image,
    ) -> Result<Option<Descriptor>, BuildError> {
        let store = &self.engine.store;
        let &Outgoing { layers, chains, .. } = outgoing;
        let names = [&self.request.tags[..], &output.names].concat();
        let mut ship = || {
            let shipping = shipment::Shipping {
                encoding: output.encoding,
                annotations: &output.annotations,
                // The layers were given their times when they were named.
                times: Times::Layer,
                as_it_came: false,
            };
            shipment::prepare(store, layers, image, &shipping)
        };
        let stdout = self.request.stdout.as_deref();
        match &output.kind {
            OutputKind::CacheOnly => Ok(None),
            OutputKind::Image(target) if !target.push && !target.canonical => Ok(None),
            OutputKind::Image(target) => {
                let shipment = ship()?;
                if target.push {
                    self.push(outgoing, target, &shipment, &names)?;
                }
                Ok(Some(shipment.root))
            }
            OutputKind::Oci { dest, tar } => {
                let shipment = ship()?;
                let given = [&self.request.annotations[..], &output.annotations].concat();
                let image = layout::Named {
                    shipment: &shipment,
                    names: &names,
                };
                layout::write_oci(store, layers, &image, &given, (dest, *tar), stdout)?;
                Ok(Some(shipment.root))
            }
            OutputKind::Docker { dest } => {
                let shipment = ship()?;
                if shipment.images.len() > 1 {
                    return Err(BuildError::request(
                        "type=docker takes one platform: use type=oci for several",
                    ));
                }
                let image = layout::Named {
                    shipment: &shipment,
                    names: &names,
                };
                layout::write_docker(store, layers, &[image], dest, stdout)?;
                Ok(Some(shipment.root))
            }
            OutputKind::Local {
                dest,
                split,
                delete,
            } => {
                let trees = trees(image, chains, *split);
                files::write_local(layers, &trees, dest, *delete)?;
                Ok(None)
            }
            OutputKind::Tar { dest, split } => {
                let trees = trees(image, chains, *split);
                files::write_tar(store, layers, &trees, outgoing.times, dest, stdout)?;
                Ok(None)
            }
        }
    }

    fn push(
        &self,
        outgoing: &Outgoing<'_>,
        target: &ImageOutput,
        shipment: &shipment::Shipment,
        names: &[Reference],
    ) -> Result<(), BuildError> {
        for name in names {
            let name = match target.by_digest {
                true => name.with_digest(shipment.root.digest),
                false => name.clone(),
            };
            let net = &self.engine.net;
            push::push(net, outgoing.layers, shipment, &name, outgoing.events)?;
        }
        Ok(())
    }
}

/// Does `each` with the numbers below `count`, in order, several at once.
///
/// Not on rayon's threads: a layer may have to wait for one below it, and there whoever waits takes
/// up other work meanwhile, such as the layer that waits for the very one it is at.
fn side_by_side<T: Send + Sync, E: Send + Sync>(
    count: usize,
    each: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let done: Vec<OnceLock<Result<T, E>>> =
        std::iter::repeat_with(OnceLock::new).take(count).collect();
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = done.get(number) else {
                return;
            };
            place.get_or_init(|| each(number));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..rayon::current_num_threads().min(count) {
            scope.spawn(work);
        }
        work();
    });
    done.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// The files of each platform, with the name of a directory of its own if they are to have one.
fn trees<'c>(
    image: &Image,
    chains: &'c [Vec<LayerId>],
    split: Option<bool>,
) -> Vec<(Option<String>, &'c [LayerId])> {
    let folder = |platform: &Platform| platform.to_string().replace('/', "_");
    let split = split.unwrap_or(chains.len() > 1);
    let platforms = image.manifests.iter().map(|manifest| &manifest.platform);
    platforms
        .zip(chains)
        .map(|(platform, chain)| (split.then(|| folder(platform)), &chain[..]))
        .collect()
}
