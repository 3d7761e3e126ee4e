//! What a build needs before it compiles: the contexts on this machine, the Dockerfile, the
//! project's name, the commit.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use layer::{Content, Root, StatIndex};

use super::compile::{self, Source};
use super::context::{ContextTree, Contexts, find_ignore};
use super::files;
use crate::cancel::Cancel;
use crate::credentials;
use crate::error::BuildError;
use crate::git_head;
use crate::git_remote;
use crate::net::Validators;
use crate::request::{BuildRequest, Context, DockerfileSource, NamedContext};
use crate::{Engine, git_time};

/// Everything that is known before compiling.
pub(crate) struct Prepared {
    pub(crate) contexts: Contexts,
    pub(crate) source: Source,
    /// What tells this project from others.
    pub(crate) project: String,
    root: Option<PathBuf>,
    commit_time: OnceLock<Option<i64>>,
}

impl Prepared {
    /// Time of the commit that the context is checked out at, in seconds since 1970.
    pub(crate) fn commit_time(&self, engine: &Engine) -> Option<i64> {
        if let Some(known) = engine.commit_time.get() {
            return *known;
        }
        *self.commit_time.get_or_init(|| {
            let head = git_head::read(self.root.as_deref()?)?;
            git_time::of(&engine.store, &head)
        })
    }
}

/// A context's directory, and what of the request it changes.
#[derive(Default)]
struct Main {
    root: Option<PathBuf>,
    /// The directory is the user's own: its ignore file counts, and digests are remembered.
    own: bool,
    /// kiln checked it out itself.
    git: bool,
    /// A Dockerfile that came in place of a context.
    dockerfile: Option<Vec<u8>>,
}

/// Finds contexts and Dockerfile.
pub(crate) fn prepare(
    engine: &Engine,
    request: &BuildRequest,
    cancel: &Cancel,
) -> Result<Prepared, BuildError> {
    let main = main_context(engine, request, cancel)?;
    let inline = match (&request.dockerfile, main.dockerfile) {
        (DockerfileSource::Path(path), _) if is_http(path) => Some(download_dockerfile(
            engine,
            request,
            cancel,
            &path.to_string_lossy(),
        )?),
        (_, bytes) => bytes,
    };
    let source = match inline {
        Some(bytes) => {
            let inline = BuildRequest {
                dockerfile: DockerfileSource::Inline(bytes),
                build_args: request.build_args.clone(),
                ..BuildRequest::default()
            };
            compile::read(&inline, None)?
        }
        None => compile::read(request, main.root.as_deref())?,
    };
    let mut contexts = Contexts::default();
    if let Some(root) = &main.root {
        let ignore = if main.own {
            find_ignore(root, source.path.as_deref())?
        } else {
            None
        };
        contexts.main = Some(Arc::new(
            ContextTree::open(root, ignore, stats(engine, root, main.own))?
                .with_git_modes(main.git),
        ));
    }
    for (name, context) in &request.named_contexts {
        named_context(engine, request, cancel, &mut contexts, name, context)?;
    }
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let project = source
        .path
        .as_deref()
        .or(main.root.as_deref())
        .map(absolute);
    let project = project.map_or_else(String::new, |path| path.display().to_string());
    Ok(Prepared {
        contexts,
        source,
        project,
        root: main.root.filter(|_| main.own),
        commit_time: OnceLock::new(),
    })
}

fn stats(engine: &Engine, root: &Path, own: bool) -> Option<Arc<StatIndex>> {
    let root = fs::canonicalize(root).ok().filter(|_| own)?;
    // Without an index every file is read: slower, not wrong.
    let file = engine.store.stat_index(&root).ok()?;
    Some(Arc::new(StatIndex::open(&file)))
}

fn main_context(
    engine: &Engine,
    request: &BuildRequest,
    cancel: &Cancel,
) -> Result<Main, BuildError> {
    match &request.context {
        Context::Empty => Ok(Main::default()),
        Context::Directory(path) => {
            let failed = |source: std::io::Error| BuildError::Context {
                context: path.display().to_string(),
                source: source.into(),
            };
            if !fs::metadata(path).map_err(failed)?.is_dir() {
                return Err(failed(std::io::ErrorKind::NotADirectory.into()));
            }
            Ok(Main {
                root: Some(path.clone()),
                own: true,
                ..Main::default()
            })
        }
        Context::Git(url) => Ok(Main {
            root: Some(git(engine, request, cancel, url)?),
            git: true,
            ..Main::default()
        }),
        Context::Stream(file) => {
            archive_or_dockerfile(engine, request, "standard input", &mut &**file)
        }
        Context::Http(url) => {
            let mut file = download(engine, request, cancel, url)?;
            archive_or_dockerfile(engine, request, url, &mut file)
        }
    }
}

fn context_error(context: &str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> BuildError {
    move |source| BuildError::Context {
        context: git_remote::redacted(context),
        source,
    }
}

fn git(
    engine: &Engine,
    request: &BuildRequest,
    cancel: &Cancel,
    url: &str,
) -> Result<PathBuf, BuildError> {
    let failed = context_error(url);
    let source = frontend::git_source(url).map_err(|error| failed(error.into()))?;
    let access = credentials::of_repository(request, &source.remote);
    let directory = engine
        .store
        .scratch()
        .map_err(|error| failed(error.into()))?;
    let commit =
        git_remote::resolve(&source, &access, cancel).map_err(|error| failed(error.into()))?;
    git_remote::checkout(&source, &commit, &access, cancel, &directory)
        .map_err(|error| failed(error.into()))?;
    // A link in a stranger's repository does not lead out of it.
    compile::inside(&directory, source.subdir.as_bytes()).map_err(|error| failed(error.into()))
}

pub(crate) fn is_http(path: &Path) -> bool {
    path.starts_with("http:") || path.starts_with("https:")
}

/// Reads what is at a URL as a Dockerfile.
fn download_dockerfile(
    engine: &Engine,
    request: &BuildRequest,
    cancel: &Cancel,
    url: &str,
) -> Result<Vec<u8>, BuildError> {
    files::read_stream(
        download(engine, request, cancel, url)?,
        &git_remote::redacted(url),
    )
}

/// Downloads a context into a file without a name.
fn download(
    engine: &Engine,
    request: &BuildRequest,
    cancel: &Cancel,
    url: &str,
) -> Result<File, BuildError> {
    let failed = context_error(url);
    let path = engine
        .store
        .scratch()
        .map_err(|error| failed(error.into()))?
        .join("download");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| failed(error.into()))?;
    let authorization = credentials::of_download(request, url);
    let mut keep = |piece: &[u8], _, _| std::io::Write::write_all(&mut file, piece);
    engine
        .net
        .download(cancel, url, authorization, Validators::default(), &mut keep)
        .map_err(|error| failed(error.into()))?;
    file.rewind().map_err(|error| failed(error.into()))?;
    Ok(file)
}

/// Unpacks what is an archive; anything else is a Dockerfile (rows B2, B4).
fn archive_or_dockerfile(
    engine: &Engine,
    request: &BuildRequest,
    name: &str,
    stream: &mut dyn Read,
) -> Result<Main, BuildError> {
    let failed = context_error(name);
    let shown = git_remote::redacted(name);
    let scratch = engine
        .store
        .scratch()
        .map_err(|error| failed(error.into()))?;
    let open = |name: &str| {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(scratch.join(name))
    };
    let mut file = open("archive").map_err(|error| failed(error.into()))?;
    std::io::copy(stream, &mut file).map_err(|error| failed(error.into()))?;
    let len = file.metadata().map_err(|error| failed(error.into()))?.len();
    file.rewind().map_err(|error| failed(error.into()))?;
    let content = Content {
        file: Arc::new(file),
        offset: 0,
        len,
    };
    if !layer::apply::is_archive(&content).map_err(|error| failed(error.into()))? {
        let bytes = files::read_stream(&*content.file, &shown)?;
        return match &request.dockerfile {
            DockerfileSource::Default => Ok(Main {
                dockerfile: Some(bytes),
                ..Main::default()
            }),
            _ => Err(BuildError::request(format!(
                "{shown} is no archive, so it is the Dockerfile: --file cannot name another"
            ))),
        };
    }
    let spill = Arc::new(open("spill").map_err(|error| failed(error.into()))?);
    let changes = layer::apply::archive_changes(&content, &spill, &layer::apply::Limits::default())
        .map_err(|error| failed(error.into()))?;
    let root = scratch.join("context");
    fs::create_dir(&root).map_err(|error| failed(error.into()))?;
    let target = Root::open(&root).map_err(|error| failed(error.into()))?;
    layer::unpack::unpack(&changes, &target, engine.mounting().plain_files())
        .map_err(|error| failed(error.into()))?;
    Ok(Main {
        root: Some(root),
        ..Main::default()
    })
}

fn named_context(
    engine: &Engine,
    request: &BuildRequest,
    cancel: &Cancel,
    contexts: &mut Contexts,
    name: &str,
    context: &NamedContext,
) -> Result<(), BuildError> {
    match context {
        NamedContext::Directory(root) => {
            let ignore = find_ignore(root, None)?;
            let tree = ContextTree::open(root, ignore, stats(engine, root, true))?;
            contexts.named.insert(name.into(), Arc::new(tree));
        }
        NamedContext::Image(reference) => {
            contexts
                .remote
                .insert(name.into(), frontend::Context::Image(reference.clone()));
        }
        NamedContext::OciLayout { path, version } => {
            contexts
                .layouts
                .insert(name.into(), (path.clone(), version.clone()));
        }
        NamedContext::Git(url) => {
            let source =
                frontend::git_source(url).map_err(|error| context_error(url)(error.into()))?;
            contexts
                .remote
                .insert(name.into(), frontend::Context::Git(source));
        }
        NamedContext::Http(url) => {
            let mut file = download(engine, request, cancel, url)?;
            let main = archive_or_dockerfile(engine, &BuildRequest::default(), url, &mut file)?;
            let root = main.root.ok_or_else(|| no_archive(name, url))?;
            let tree = ContextTree::open(&root, None, None)?;
            contexts.named.insert(name.into(), Arc::new(tree));
        }
    }
    Ok(())
}

fn no_archive(name: &str, url: &str) -> BuildError {
    let url = git_remote::redacted(url);
    BuildError::request(format!(
        "context {name}: {url} is no tar archive, plain or compressed; to take it as a file, ADD it"
    ))
}
