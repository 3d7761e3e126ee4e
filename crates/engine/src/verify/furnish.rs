//! What the second build builds from: copies of the directories that the first one was built from,
//! and its base images, all of them where another user can read them.
//!
//! ```text
//! root/contexts/main/…     the context
//! root/contexts/0/…        named contexts, in order of their names
//! root/dockerfile/…        a Dockerfile that the caller named, with its ignore file
//! root/bases/0/…           a layout for each base image
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::{Op, Source};
use layer::unpack::unpack;
use layer::{Change, HostView, Root, Times};
use oci::Reference;
use serde::{Deserialize, Serialize};

use super::{failed, other_user, stored};
use crate::Engine;
use crate::build::{compile, prepare};
use crate::cancel::Cancel;
use crate::error::BuildError;
use crate::event::Events;
use crate::export::{files, layout, shipment};
use crate::request::{
    BuildRequest, Compression, Context, Destination, DockerfileSource, Encoding, NamedContext,
    NoCache, Timestamp,
};
use crate::resolve::Resolver;

/// A day: how much later the files of the copied context were modified.
const LATER: i64 = 86_400;

/// An id that somebody else has, among those that a user namespace surely maps.
fn another(id: u32) -> u32 {
    if id == 1 { 2 } else { 1 }
}

/// What a process that is to build cannot know beforehand.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Order {
    /// Names of the base images, in order of their layouts.
    bases: Vec<String>,
    /// When the commit was made that the context is at.
    commit_time: Option<i64>,
}

impl Order {
    /// Tells an engine what it cannot find out from a copy of the context.
    pub(super) fn teach(&self, engine: &Engine) {
        engine.commit_time.get_or_init(|| self.commit_time);
    }

    /// The request for the second build.
    pub(super) fn request(&self, first: &BuildRequest, root: &Path) -> BuildRequest {
        let mut again = BuildRequest {
            tags: Vec::new(),
            outputs: vec![stored()],
            no_cache: NoCache::All,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            jobs: Some(1),
            ..first.clone()
        };
        if let Some(path) = outside(first) {
            again.dockerfile = DockerfileSource::Path(dockerfile(root, path));
        }
        if let Context::Directory(path) = &mut again.context {
            *path = context(root, "main");
        }
        for (number, named) in again.named_contexts.values_mut().enumerate() {
            if let NamedContext::Directory(path) = named {
                *path = context(root, &number.to_string());
            }
        }
        for (number, name) in self.bases.iter().enumerate() {
            let path = base(root, number);
            let version = None;
            let layout = NamedContext::OciLayout { path, version };
            again.named_contexts.entry(name.clone()).or_insert(layout);
        }
        again
    }
}

fn context(root: &Path, name: &str) -> PathBuf {
    root.join("contexts").join(name)
}

fn base(root: &Path, number: usize) -> PathBuf {
    root.join("bases").join(number.to_string())
}

/// A Dockerfile that is not looked for in the context.
fn outside(request: &BuildRequest) -> Option<&Path> {
    match (&request.context, &request.dockerfile) {
        (Context::Directory(_), DockerfileSource::Path(path)) if !prepare::is_http(path) => {
            Some(path)
        }
        _ => None,
    }
}

/// Where such a Dockerfile is copied to; its name tells which ignore file is its own.
fn dockerfile(root: &Path, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    root.join("dockerfile").join(name)
}

impl Engine {
    /// Puts everything that the second build needs into a directory.
    pub(super) fn furnish(
        &self,
        request: &BuildRequest,
        root: &Path,
        cancel: &Cancel,
    ) -> Result<Order, BuildError> {
        let shift = request.timestamp == Timestamp::Auto && request.source_date_epoch.is_none();
        let copy = |from: &Path, name: &str| self.copy(from, &context(root, name), shift);
        if let Context::Directory(path) = &request.context {
            copy(path, "main")?;
        }
        for (number, named) in request.named_contexts.values().enumerate() {
            if let NamedContext::Directory(path) = named {
                copy(path, &number.to_string())?;
            }
        }
        if let Some(path) = outside(request) {
            copy_dockerfile(path, &dockerfile(root, path)).map_err(failed)?;
        }
        let prepared = prepare::prepare(self, request, cancel)?;
        let bases = self.carry_bases(self.bases(request, &prepared)?, root)?;
        for part in ["dockerfile", "bases"] {
            other_user::give_all(&self.standing, &root.join(part)).map_err(failed)?;
        }
        let commit_time = prepared.commit_time(self);
        Ok(Order { bases, commit_time })
    }

    /// Copies a directory, for somebody else to own it where that is allowed.
    fn copy(&self, from: &Path, to: &Path, shift: bool) -> Result<(), BuildError> {
        fs::create_dir_all(to).map_err(failed)?;
        for directory in to.ancestors().take(2) {
            other_user::give(&self.standing, directory).map_err(failed)?;
        }
        let view = HostView::open(from, None, None).map_err(failed)?;
        let scratch = layer::Scratch::new(self.store.root());
        let mut changes = files::tree(Arc::new(view), "", &scratch).map_err(failed)?;
        let owner = other_user::outside(&self.standing);
        for (_, change) in &mut changes {
            if let Change::Put { node, .. } = change {
                let metadata = &mut node.metadata;
                metadata.uid = owner + another(metadata.uid);
                metadata.gid = owner + another(metadata.gid);
                metadata.mtime.seconds += if shift { LATER } else { 0 };
            }
        }
        let root = Root::open(to).map_err(failed)?;
        let unpacked = unpack(&changes, &root, self.mounting().plain_files());
        unpacked.map(drop).map_err(failed)
    }

    /// Writes the base images of the first build as layouts; returns what they are called.
    fn carry_bases(&self, bases: Vec<Reference>, root: &Path) -> Result<Vec<String>, BuildError> {
        let layers = self.new_layers(&Events::ignored());
        let mut names = Vec::new();
        for reference in bases {
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
            let path = base(root, names.len());
            fs::create_dir_all(root.join("bases")).map_err(failed)?;
            let dest = (&Destination::Path(path), false);
            let image = layout::Named {
                shipment: &shipment,
                names: &[],
            };
            layout::write_oci(&self.store, &layers, &image, &[], dest, None)?;
            names.push(reference.to_string().to_lowercase());
        }
        Ok(names)
    }

    /// The images that a build uses.
    fn bases(
        &self,
        request: &BuildRequest,
        prepared: &prepare::Prepared,
    ) -> Result<Vec<Reference>, BuildError> {
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

/// Copies a Dockerfile, and the ignore file that lies beside it.
fn copy_dockerfile(from: &Path, to: &Path) -> std::io::Result<()> {
    let ignore = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, fs::read(from)?)?;
    match fs::read(ignore(from)) {
        Ok(rules) => fs::write(ignore(to), rules),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
