//! Executes a git source: checks a commit out and keeps its files as a layer.

use std::path::Path;
use std::sync::Arc;

use graph::GitSource;
use layer::HostView;
use layer::copy::{self, Action};
use layer::select::{Naming, Origin, Selector, select};
use solver::VertexIndex;

use crate::build::{self, Handle, Session};
use crate::credentials;
use crate::error::StepError;
use crate::git_remote;
use crate::lock::lock;

/// The commit that a source means in this build: what was keyed is what is checked out.
pub(crate) fn commit(
    session: &Session<'_>,
    index: VertexIndex,
    source: &GitSource,
) -> Result<String, StepError> {
    let commits = || lock(&session.learned.commits);
    if let Some(known) = commits().get(&index) {
        return Ok(known.clone());
    }
    let remote = git_remote::redacted(&source.remote);
    let access = credentials::of_repository(session.request, &source.remote);
    let commit = git_remote::resolve(source, &access, &session.cancel).map_err(
        StepError::failed_unless(&session.cancel, format!("resolve {remote}")),
    )?;
    commits().insert(index, commit.clone());
    Ok(commit)
}

/// Checks the commit out.
pub(crate) fn execute(
    session: &Session<'_>,
    index: VertexIndex,
    source: &GitSource,
) -> Result<Handle, StepError> {
    let failed = || format!("check out {}", git_remote::redacted(&source.remote));
    let commit = commit(session, index, source)?;
    let access = credentials::of_repository(session.request, &source.remote);
    let directory = session
        .store
        .scratch()
        .map_err(StepError::failed(failed()))?;
    git_remote::checkout(source, &commit, &access, &session.cancel, &directory)
        .map_err(StepError::failed_unless(&session.cancel, failed()))?;
    let root =
        build::inside(&directory, source.subdir.as_bytes()).map_err(StepError::failed(failed()))?;
    Ok(Handle::layers([whole_directory(session, &root)?]))
}

/// A directory of the machine as a layer of its own, owned by root.
pub(crate) fn whole_directory(
    session: &Session<'_>,
    directory: &Path,
) -> Result<store::LayerId, StepError> {
    let failed = || format!("read {}", directory.display());
    let view: Arc<HostView> =
        Arc::new(HostView::open(directory, None, None).map_err(StepError::failed(failed()))?);
    let selector = Selector {
        paths: vec![Vec::new()],
        exclude: None,
        naming: Naming::Contents,
        origin: Origin::Context { git_modes: true },
    };
    let selection = select(&*view, &selector, &session.layers.scratch())
        .map_err(StepError::failed(failed()))?;
    let copy = copy::Copy {
        view,
        selection,
        target: copy::Target {
            dest: Vec::new(),
            dest_is_dir: true,
            mode: None,
            follow_links: false,
        },
        chown: None,
        reset_owner: true,
        archives: Vec::new(),
    };
    let changes = copy::plan(
        None,
        vec![Action::Copy(copy)],
        session.now,
        &session.layers.scratch(),
    )
    .map_err(StepError::failed(failed()))?;
    session.layers.write(&[], &changes)
}
