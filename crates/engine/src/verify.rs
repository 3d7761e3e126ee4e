//! Builds a second time in other surroundings and compares.
//!
//! What is different the second time:
//!
//! | | first | second |
//! |---|---|---|
//! | store | the caller's | a new one: nothing is cached |
//! | context | as it is | in another directory, of another owner, its files a day younger unless `--timestamp` or `SOURCE_DATE_EPOCH` keep times |
//! | umask | the caller's | 077 |
//! | processors | all | one, and one step at a time |
//! | order in directories of layers | by name, where EROFS can be mounted | as the file system has it (the second engine's store keeps directories) |
//! | clock | | at least a second later |
//!
//! Not varied: the date beyond that (the kernel shows every process the same wall clock), the
//! user that kiln runs as, the kernel, the kind of processor. Environment, host name, user and
//! umask of `RUN` are the same on every machine in the first place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use graph::{Op, Source};
use layer::unpack::unpack;
use layer::{Change, HostView, Root, Times};
use oci::Reference;

use crate::build::{compile, prepare};
use crate::cancel::Cancel;
use crate::compare::Difference;
use crate::error::BuildError;
use crate::event::Events;
use crate::export::{files, layout, shipment};
use crate::request::{
    BuildRequest, Compression, Context, Destination, Encoding, ImageOutput, NamedContext, NoCache,
    Output, OutputKind, Timestamp,
};
use crate::resolve::Resolver;
use crate::{BuildOutcome, Engine, git_head};

/// A day: how much later the files of the copied context were modified.
const LATER: i64 = 86_400;

/// An id that somebody else has, among those that a user namespace surely maps.
fn another(id: u32) -> u32 {
    if id == 1 { 2 } else { 1 }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn failed(error: impl Into<Cause>) -> BuildError {
    BuildError::store("prepare the second build", error)
}

impl Engine {
    /// Builds, then builds again with `second`, an engine over an empty store, and says how the
    /// images differ. That engine should keep layers as directories. The process's umask is another one meanwhile: call it where nothing else
    /// writes files.
    ///
    /// # Errors
    /// As [`Engine::build`].
    pub fn verify(
        &self,
        request: &BuildRequest,
        second: &Engine,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<(BuildOutcome, Vec<Difference>), BuildError> {
        if matches!(request.context, Context::Stream(_)) {
            return Err(BuildError::request(
                "--verify reads the context twice, and standard input can be read once: name a directory",
            ));
        }
        let stored = || Output::plain(OutputKind::Image(ImageOutput::STORE));
        let mut first = request.clone();
        first.outputs.push(stored());
        let outcome = self.build(first, events, cancel)?;
        let folder = second.store.scratch().map_err(failed)?;
        let mut again = BuildRequest {
            tags: Vec::new(),
            outputs: vec![stored()],
            no_cache: NoCache::All,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            jobs: Some(1),
            ..request.clone()
        };
        self.move_contexts(&mut again, &folder)?;
        self.carry_bases(request, &mut again, &folder, events)?;
        // A command that writes the time down in seconds is to be caught.
        std::thread::sleep(Duration::from_millis(1100));
        let rebuilt = elsewhere(|| second.build(again, events, cancel))?;
        let name = |outcome: &BuildOutcome| {
            let id = outcome.image_id.map(|id| id.to_string());
            id.ok_or_else(|| BuildError::request("--verify needs a build"))
        };
        let differences = self.compare(&name(&outcome)?, (second, &name(&rebuilt)?), events)?;
        Ok((outcome, differences))
    }

    /// Puts copies of the directories that are built from into the request.
    fn move_contexts(&self, request: &mut BuildRequest, folder: &Path) -> Result<(), BuildError> {
        let shift = request.timestamp == Timestamp::Auto && request.source_date_epoch.is_none();
        if let Context::Directory(path) = &mut request.context {
            *path = self.copy(path, &folder.join("a context elsewhere"), shift)?;
        }
        for (number, context) in request.named_contexts.values_mut().enumerate() {
            if let NamedContext::Directory(path) = context {
                *path = self.copy(path, &folder.join(format!("context {number}")), shift)?;
            }
        }
        Ok(())
    }

    /// Copies a directory, for somebody else to own it where that is allowed; it is at the same commit as the one it was copied from.
    fn copy(&self, from: &Path, to: &Path, shift: bool) -> Result<PathBuf, BuildError> {
        let from = std::fs::canonicalize(from).map_err(failed)?;
        let mut place = to.to_path_buf();
        if let Some(head) = git_head::read(&from).filter(|head| head.root != from) {
            std::fs::create_dir_all(to).map_err(failed)?;
            let git = format!("gitdir: {}\n", head.root.join(".git").display());
            std::fs::write(to.join(".git"), git).map_err(failed)?;
            place = to.join(from.strip_prefix(&head.root).map_err(failed)?);
        }
        std::fs::create_dir_all(&place).map_err(failed)?;
        let view = HostView::open(&from, None, None).map_err(failed)?;
        let scratch = layer::Scratch::new(self.store.root());
        let mut changes = files::tree(Arc::new(view), "", &scratch).map_err(failed)?;
        for (_, change) in &mut changes {
            if let Change::Put { node, .. } = change {
                let metadata = &mut node.metadata;
                metadata.uid = another(metadata.uid);
                metadata.gid = another(metadata.gid);
                metadata.mtime.seconds += if shift { LATER } else { 0 };
            }
        }
        let root = Root::open(&place).map_err(failed)?;
        unpack(&changes, &root, self.mounting().plain_files()).map_err(failed)?;
        Ok(place)
    }

    /// Gives the second build the base images of the first, as layouts.
    fn carry_bases(
        &self,
        request: &BuildRequest,
        again: &mut BuildRequest,
        folder: &Path,
        events: &Events,
    ) -> Result<(), BuildError> {
        let layers = self.new_layers(events);
        for (number, reference) in self.bases(request)?.into_iter().enumerate() {
            let Some(mut image) = self.store.image(&reference).map_err(failed)? else {
                continue;
            };
            let shipping = shipment::Shipping {
                encoding: Encoding {
                    compression: Compression::Uncompressed,
                    ..Encoding::default()
                },
                annotations: &[],
                times: Times::Layer,
                as_it_came: false,
            };
            let shipment = shipment::prepare(&self.store, &layers, &mut image, &shipping)?;
            let path = folder.join(format!("base {number}"));
            let dest = (&Destination::Path(path.clone()), false);
            let image = layout::Named {
                shipment: &shipment,
                names: &[],
            };
            layout::write_oci(&self.store, &layers, &image, &[], dest, None)?;
            let version = None;
            let base = NamedContext::OciLayout { path, version };
            let name = reference.to_string().to_lowercase();
            again.named_contexts.entry(name).or_insert(base);
        }
        Ok(())
    }

    /// The images that a build uses.
    fn bases(&self, request: &BuildRequest) -> Result<Vec<Reference>, BuildError> {
        let prepared = prepare::prepare(self, request)?;
        let contexts = &prepared.contexts;
        let resolver = Resolver::new(&self.store, &self.net, false, &contexts.layouts);
        let compiled = compile::compile(&prepared.source, request, contexts, &resolver)?;
        let vertices = compiled.definition.vertices().iter();
        let mut found: Vec<Reference> = vertices
            .filter_map(|vertex| match &vertex.op {
                Op::Source(Source::Image(image)) => Some(image.reference.clone()),
                _ => None,
            })
            .collect();
        found.dedup();
        Ok(found)
    }
}

/// Calls with another umask and one processor.
fn elsewhere<T>(call: impl FnOnce() -> T) -> T {
    use sys::process::{Mode, umask};
    let before = umask(Mode::from_raw_mode(0o077));
    let processors = sys::process::one_processor();
    let result = call();
    umask(before);
    // The umask matters to whoever goes on; a thread on one processor is only slower.
    if let Ok(processors) = processors {
        drop(sys::process::use_processors(&processors));
    }
    result
}
