//! From a request to a graph: finds the Dockerfile, parses it, and lowers it for each platform,
//! answering what lowering asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockerfile::Diagnostic;
use dockerfile::lint::Checks;
use frontend::{Known, LowerRequest, Lowered, Lowering, Need};
use graph::{Builder, Definition, Edge};
use oci::Platform;

use super::context::Contexts;
use super::files::{self, Found};
use super::twice;
use crate::diagnose::Report;
use crate::error::BuildError;
use crate::process;
use crate::request::{BuildRequest, Call, DockerfileSource, NoCache, RunNetwork};
use crate::resolve::Resolver;

/// The build argument that stands for the file's `# check=` (row P11).
const CHECKS_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// A Dockerfile that was read and parsed.
pub(crate) struct Source {
    /// Its name as the user knows it.
    pub(crate) name: String,
    /// Where it lies, if it is a file: its own ignore file lies beside it.
    pub(crate) path: Option<PathBuf>,
    /// The tree.
    pub(crate) file: dockerfile::Dockerfile,
    /// What the parser found.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What a request compiles to.
pub(crate) struct Compiled {
    /// One graph for all platforms.
    pub(crate) definition: Definition,
    /// One image for each platform, its edges moved into the one graph.
    pub(crate) images: Vec<Lowered>,
    /// Warnings of parser and lowering.
    pub(crate) warnings: Report,
}

/// Finds and parses the Dockerfile.
///
/// # Errors
/// When there is none, or it cannot be read. What it says may still be wrong.
pub(crate) fn read(
    request: &BuildRequest,
    context_root: Option<&Path>,
) -> Result<Source, BuildError> {
    let own = matches!(request.context, crate::request::Context::Directory(_));
    let (name, path, bytes) = match &request.dockerfile {
        DockerfileSource::Inline(bytes) => ("Dockerfile".to_string(), None, bytes.clone()),
        DockerfileSource::Path(path) => {
            let found = match context_root.filter(|_| !own) {
                Some(root) => files::read_inside(root, path.as_os_str().as_encoded_bytes())?
                    .ok_or_else(|| files::missing(&root.join(path)))?,
                None => Found {
                    bytes: files::read_named(path)?,
                    path: path.clone(),
                },
            };
            (path.display().to_string(), Some(found.path), found.bytes)
        }
        DockerfileSource::Default => {
            let root = context_root.ok_or_else(|| BuildError::request("without a context there is no Dockerfile: give one on standard input, or with --file"))?;
            let (name, found) = default_file(root)?;
            // Its own ignore file lies where its name is.
            (name.to_string(), Some(root.join(name)), found.bytes)
        }
    };
    let parsed = dockerfile::parse(&bytes);
    let mut file = parsed.dockerfile;
    if let Some(Some(checks)) = request.build_args.get(CHECKS_ARGUMENT) {
        file.checks = Checks::parse(checks).map_err(|error| {
            BuildError::request(format!("{CHECKS_ARGUMENT}: failed to {error}"))
        })?;
    }
    Ok(Source {
        name,
        path,
        file,
        diagnostics: parsed.diagnostics,
    })
}

/// Where a path of a directory that came from elsewhere really is: no link leads out of it.
///
/// # Errors
/// When the directory cannot be read, or links go round in circles.
pub(crate) fn inside(root: &Path, path: &[u8]) -> Result<PathBuf, BuildError> {
    use std::os::unix::ffi::OsStrExt;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| BuildError::Context {
        context: String::from_utf8_lossy(path).into_owned(),
        source,
    };
    let view = layer::HostView::open(root, None, None).map_err(|error| failed(error.into()))?;
    let found = layer::resolve::resolve(&view, path, layer::resolve::Links::All)
        .map_err(|error| failed(error.into()))?;
    Ok(root.join(std::ffi::OsStr::from_bytes(found.path.as_bytes())))
}

/// `Dockerfile`, or the other spelling that exists (row B1).
fn default_file(root: &Path) -> Result<(&'static str, Found), BuildError> {
    for name in ["Dockerfile", "dockerfile"] {
        if let Some(found) = files::read_inside(root, name.as_bytes())? {
            return Ok((name, found));
        }
    }
    Err(files::missing(&root.join("Dockerfile")))
}

/// Lowers the file for every platform of the request. Which targets there are is known without.
///
/// # Errors
/// When the file is wrong, or something that it names cannot be resolved.
pub(crate) fn compile(
    source: &Source,
    request: &BuildRequest,
    contexts: &Contexts,
    resolver: &Resolver<'_>,
) -> Result<Compiled, BuildError> {
    let text: Arc<str> = source.file.source.text().into();
    let report = |diagnostics| Report {
        name: source.name.clone(),
        text: text.clone(),
        diagnostics,
    };
    let parsed = || {
        source
            .file
            .checks
            .apply(&source.file, source.diagnostics.clone())
    };
    let mut known = Known::new();
    let mut builder = Builder::new();
    let mut images = Vec::new();
    let mut found = parsed();
    let rejected = found.iter().any(Diagnostic::is_error);
    // A file that is wrong already is lowered for the sake of its other errors. One without any
    // stage has none.
    let lowers = match rejected {
        true => !source.file.stages.is_empty(),
        false => request.call != Call::Targets,
    };
    for platform in platforms(request).into_iter().filter(|_| lowers) {
        let mut lower = lower_request(source, request, contexts);
        lower.platform = platform;
        lower.without_images |= rejected;
        let mut lowered =
            lower_until_done(source, &lower, &mut known, resolver).map_err(|error| {
                BuildError::Rejected(report(in_order(
                    [found.clone(), error.diagnostics].concat(),
                )))
            })?;
        found.extend(std::mem::take(&mut lowered.diagnostics));
        let moved = builder.absorb(std::mem::take(&mut lowered.definition));
        relocate(&mut lowered, &moved);
        images.push(lowered);
    }
    let mut found = in_order(found);
    if let (Call::Check, Some(tree)) = (request.call, &contexts.main) {
        twice::note_costs(&source.file, tree, &mut found);
    }
    let warnings = report(found);
    if warnings.has_errors() {
        return Err(BuildError::Rejected(warnings));
    }
    Ok(Compiled {
        definition: builder.finish(),
        images,
        warnings,
    })
}

/// Findings by their place in the file, each once: platforms find the same.
fn in_order(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by_key(|diagnostic| diagnostic.span().map(|span| span.start));
    found.dedup();
    found
}

fn platforms(request: &BuildRequest) -> Vec<Option<Platform>> {
    match request.platforms.as_slice() {
        [] => vec![None],
        platforms => platforms.iter().cloned().map(Some).collect(),
    }
}

fn lower_until_done(
    source: &Source,
    request: &LowerRequest,
    known: &mut Known,
    resolver: &Resolver<'_>,
) -> Result<Lowered, frontend::LowerError> {
    loop {
        match frontend::lower(&source.file, request, known)? {
            Lowering::Done(lowered) => return Ok(*lowered),
            Lowering::Needs(needs) => {
                let needs: Vec<Need> = needs.into_iter().collect();
                for (need, answer) in needs.iter().cloned().zip(resolver.answer(&needs)) {
                    known.insert(need, answer);
                }
            }
        }
    }
}

fn lower_request(source: &Source, request: &BuildRequest, contexts: &Contexts) -> LowerRequest {
    LowerRequest {
        file_name: source.name.clone(),
        target: request.target.clone(),
        all_stages: request.call == Call::Check && request.target.is_none(),
        without_images: request.call == Call::Outline,
        build_args: request.build_args.clone(),
        platform: None,
        build_platform: Platform::native(),
        multi_platform: request.platforms.len() > 1,
        context: contexts.main_for_frontend(),
        named_contexts: contexts.named_for_frontend(),
        labels: request.labels.clone(),
        no_cache: match &request.no_cache {
            NoCache::Off => frontend::NoCache::Never,
            NoCache::All => frontend::NoCache::All,
            NoCache::Stages(stages) => {
                frontend::NoCache::Stages(stages.iter().map(|stage| stage.to_lowercase()).collect())
            }
        },
        network: match request.network {
            RunNetwork::Default => graph::Network::Default,
            RunNetwork::None => graph::Network::None,
            RunNetwork::Host => graph::Network::Host,
        },
        extra_hosts: request.add_hosts.clone(),
        limits: limits(request),
        hostname: None,
        cache_namespace: None,
    }
}

fn limits(request: &BuildRequest) -> graph::Limits {
    graph::Limits {
        ulimits: process::ulimits(&request.ulimits),
        shm_size: request.shm_size,
        cgroup_parent: request.cgroup_parent.clone(),
    }
}

/// Follows the vertices into the graph of all platforms.
fn relocate(lowered: &mut Lowered, moved: &[Edge]) {
    let place = |edge: Edge| moved[edge.index()];
    lowered.target = lowered.target.map(place);
    for entry in &mut lowered.image.history {
        entry.layer = entry.layer.map(place);
    }
    if let Some(frontend::SourceDateEpoch::Source(edge)) = &mut lowered.source_date_epoch {
        *edge = place(*edge);
    }
}
