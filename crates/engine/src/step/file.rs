//! Executes `COPY`, `ADD`, `WORKDIR` and here-documents: plans one layer in user space and writes
//! it as tar and index, straight from the sources.

use std::sync::Arc;

use graph::{FileAction, FileOp, InputKey, Unpack, Vertex};
use layer::copy::{self, Action};
use layer::owner::{Accounts, Ids, OwnerError, OwnerSpec, Principal};
use layer::select::{Origin, SelectError, Selection};
use layer::{ChangeList, ReadChanges, Time, View};
use solver::VertexIndex;

use crate::build::{Handle, Session};
use crate::error::StepError;

/// Performs the actions over the base and returns the layers that result.
pub(crate) fn execute(
    session: &Session<'_>,
    index: VertexIndex,
    op: &FileOp,
    inputs: &[Handle],
) -> Result<Handle, StepError> {
    let base: Arc<[_]> = match op.base {
        None => Arc::from([]),
        Some(input) => match inputs.get(input.0) {
            Some(Handle::Layers(layers)) => layers.clone(),
            _ => return Err(StepError::refused("files can only be added to layers")),
        },
    };
    session.layers.ensure(&base)?;
    let view: Option<Arc<dyn View>> = match base.is_empty() {
        true => None,
        false => Some(session.layers.view(&base)?),
    };
    let planner = Planner {
        session,
        index,
        inputs,
        base: view.clone(),
    };
    let actions = op
        .actions
        .iter()
        .map(|action| planner.action(action))
        .collect::<Result<Vec<_>, _>>()?;
    let scratch = session.layers.scratch();
    let changes = copy::plan(view.as_ref(), actions, session.now, &scratch).map_err(|error| {
        StepError::Failed {
            attempt: "plan the layer".into(),
            source: error.into(),
        }
    })?;
    let layer = session.layers.write(&base, &changes)?;
    Ok(Handle::layers(
        base.iter().copied().chain([layer]).collect::<Vec<_>>(),
    ))
}

/// A match by its position, and what extracting it makes.
type Archive = (usize, Vec<(layer::RelPath, layer::Change)>);

struct Planner<'p, 'e> {
    session: &'p Session<'e>,
    index: VertexIndex,
    inputs: &'p [Handle],
    base: Option<Arc<dyn View>>,
}

impl Planner<'_, '_> {
    fn action(&self, action: &FileAction) -> Result<Action, StepError> {
        Ok(match action {
            FileAction::Copy(copy) => Action::Copy(self.copy(copy)?),
            FileAction::Mkdir(mkdir) => Action::Mkdir(copy::Mkdir {
                path: mkdir.path.clone().into_bytes(),
                mode: mkdir.mode,
                owner: self.directory_owner(mkdir.owner.as_ref())?,
            }),
            FileAction::Mkfile(file) => Action::Mkfile(copy::Mkfile {
                name: file.name.clone().into_bytes(),
                data: file.data.as_slice().into(),
                target: copy::Target {
                    dest: file.dest.clone().into_bytes(),
                    dest_is_dir: file.dest_is_dir,
                    mode: file.mode.as_ref().map(mode_change).transpose()?,
                    follow_links: file.follow_dest_links,
                },
                owner: self.owner(file.owner.as_ref())?.unwrap_or_default(),
            }),
        })
    }

    fn copy(&self, action: &graph::Copy) -> Result<copy::Copy, StepError> {
        let input = action.input.0;
        let handle = self
            .inputs
            .get(input)
            .ok_or_else(|| StepError::refused("a copy names an input that is not there"))?;
        let view = self.session.view(handle)?;
        let selection = self.session.selection(self.index, input, handle)?;
        let archives = self.archives(action, &*view, &selection)?;
        Ok(copy::Copy {
            view,
            selection,
            target: copy::Target {
                dest: action.dest.clone().into_bytes(),
                dest_is_dir: action.dest_is_dir,
                mode: action.mode.as_ref().map(mode_change).transpose()?,
                follow_links: action.follow_dest_links,
            },
            chown: self.owner(action.owner.as_ref())?,
            reset_owner: action.reset_owner,
            archives,
        })
    }

    /// The matches that are archives and have to be extracted (rows C17, C18).
    fn archives(
        &self,
        action: &graph::Copy,
        view: &dyn View,
        selection: &Selection,
    ) -> Result<Vec<Archive>, StepError> {
        let mut archives = Vec::new();
        if action.unpack == Unpack::Never {
            return Ok(archives);
        }
        for (position, found) in selection.matches().iter().enumerate() {
            if !matches!(found.node().kind, layer::Kind::File { .. }) {
                continue;
            }
            let attempt = || format!("extract {}", found.path);
            let content = view
                .open(&found.path)
                .map_err(|error| StepError::failed(attempt())(error))?;
            if layer::apply::is_archive(&content)
                .map_err(|error| StepError::failed(attempt())(error))?
            {
                let scratch = self.session.layers.scratch_file()?;
                let changes = layer::apply::archive_changes(
                    &content,
                    &scratch,
                    &layer::apply::Limits::default(),
                )
                .map_err(|error| StepError::failed(attempt())(error))?;
                archives.push((position, changes));
            }
        }
        Ok(archives)
    }

    /// Ids of an owner, names looked up in the base; an unknown one is an error.
    fn owner(&self, owner: Option<&graph::Owner>) -> Result<Option<Ids>, StepError> {
        let found = self.look_up(owner)?.transpose();
        found.map_err(StepError::failed("find the owner that --chown names"))
    }

    /// The owner of a directory that `WORKDIR` makes: root, where the user is not there yet.
    fn directory_owner(&self, owner: Option<&graph::Owner>) -> Result<Ids, StepError> {
        Ok(self
            .look_up(owner)?
            .and_then(Result::ok)
            .unwrap_or_default())
    }

    fn look_up(
        &self,
        owner: Option<&graph::Owner>,
    ) -> Result<Option<Result<Ids, OwnerError>>, StepError> {
        let Some(owner) = owner else { return Ok(None) };
        let principal = |principal: &graph::Principal| match principal {
            graph::Principal::Id(id) => Principal::Id(*id),
            graph::Principal::Name(name) => Principal::Name(name.clone()),
        };
        let spec = OwnerSpec {
            user: principal(&owner.user),
            group: owner.group.as_ref().map(principal),
        };
        if let Some(ids) = spec.ids() {
            return Ok(Some(Ok(ids)));
        }
        let accounts = match &self.base {
            Some(view) => {
                Accounts::read(&**view).map_err(StepError::failed("read the image's users"))?
            }
            None => {
                let message = "an empty image has no users: give the owner as numbers, not by name";
                return Err(StepError::refused(message));
            }
        };
        Ok(Some(accounts.owner(&spec)))
    }
}

fn mode_change(mode: &graph::ModeChange) -> Result<layer::chmod::ModeChange, StepError> {
    match mode {
        graph::ModeChange::Octal(mode) => Ok(layer::chmod::ModeChange::Octal(*mode)),
        graph::ModeChange::Symbolic(text) => layer::chmod::ModeChange::parse(text)
            .map_err(StepError::failed(format!("understand --chmod={text}"))),
    }
}

/// What lowering's selector means for trees of this origin.
pub(crate) fn selector(
    vertex: &Vertex,
    input: usize,
    origin: Origin,
) -> Result<layer::select::Selector, StepError> {
    let selected = match vertex.inputs.get(input).map(|input| &input.key) {
        Some(InputKey::Content(selector)) => selector,
        _ => {
            return Err(StepError::refused(
                "a copy takes its sources from an input that is not selected from",
            ));
        }
    };
    let exclude = crate::build::context::exclude_filter(&selected.exclude)
        .map_err(StepError::failed("understand --exclude"))?;
    Ok(layer::select::Selector {
        paths: selected
            .paths
            .iter()
            .map(|path| path.path.clone().into_bytes())
            .collect(),
        exclude,
        naming: match selected.naming {
            graph::Naming::Mount => layer::select::Naming::Mount,
            graph::Naming::Contents => layer::select::Naming::Contents,
            graph::Naming::Parents => layer::select::Naming::Parents,
        },
        origin,
    })
}

/// The `--chmod` that an input's files get, as text.
pub(crate) fn mode_of(vertex: &Vertex, input: usize) -> Option<String> {
    let graph::Op::File(op) = &vertex.op else {
        return None;
    };
    let modes = op.actions.iter().filter_map(|action| match action {
        FileAction::Copy(copy) if copy.input.0 == input => copy.mode.as_ref(),
        _ => None,
    });
    modes
        .map(|mode| match mode {
            graph::ModeChange::Octal(mode) => format!("{mode:o}"),
            graph::ModeChange::Symbolic(text) => text.clone(),
        })
        .next()
}

/// What lowering's selector leaves out of the key.
pub(crate) fn effect(vertex: &Vertex, input: usize) -> Result<layer::checksum::Effect, StepError> {
    let mut effect = layer::checksum::Effect {
        ignore_owner: false,
        mode: None,
    };
    if let Some(InputKey::Content(selector)) = vertex.inputs.get(input).map(|input| &input.key) {
        effect.ignore_owner = selector.ignore_owner;
    }
    if let graph::Op::File(op) = &vertex.op {
        for action in &op.actions {
            if let FileAction::Copy(copy) = action
                && copy.input.0 == input
            {
                effect.mode = copy.mode.as_ref().map(mode_change).transpose()?;
            }
        }
    }
    Ok(effect)
}

/// An error about sources, with the ignore rule that hides them if one does.
pub(crate) fn source_error(
    session: &Session<'_>,
    index: VertexIndex,
    input: usize,
    of: &Handle,
    error: SelectError,
) -> StepError {
    let SelectError::NotFound { path, near, .. } = &error else {
        return StepError::Failed {
            attempt: "read the sources".into(),
            source: error.into(),
        };
    };
    let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
    let (place, ignored_by) = match of {
        Handle::Context(tree) => ("the build context".to_string(), tree.hidden_by(&path)),
        Handle::Layers(_) => {
            let from = session
                .vertex(index)
                .inputs
                .get(input)
                .map(|input| session.definition.vertex(input.edge));
            (
                from.map_or_else(String::new, |vertex| vertex.meta.name.clone()),
                None,
            )
        }
    };
    StepError::NotFound {
        path,
        place,
        ignored_by,
        nearest: near.first().cloned(),
    }
}

/// Where a mount's source lies in its input.
pub(crate) fn mount_path(vertex: &Vertex, input: usize) -> String {
    match vertex.inputs.get(input).map(|input| &input.key) {
        Some(InputKey::Content(selector)) => selector
            .paths
            .iter()
            .map(|path| path.path.clone())
            .collect(),
        _ => String::new(),
    }
}

/// A layer with what a mount of a context shows, at the path where the context has it: the very
/// files that were hashed for the step's key.
pub(crate) fn mounted(
    session: &Session<'_>,
    index: VertexIndex,
    input: usize,
    handle: &Handle,
) -> Result<store::LayerId, StepError> {
    let failed = "lay out a mounted context";
    let path = mount_path(session.vertex(index), input);
    let selection = session.selection(index, input, handle)?;
    let root = selection
        .matches()
        .first()
        .map(|found| found.node().clone());
    let is_dir = root
        .as_ref()
        .is_some_and(|node| node.kind == layer::Kind::Directory);
    let copy = copy::Copy {
        view: session.view(handle)?,
        selection,
        target: copy::Target {
            dest: path.clone().into_bytes(),
            dest_is_dir: is_dir,
            mode: None,
            follow_links: false,
        },
        chown: None,
        reset_owner: true,
        archives: Vec::new(),
    };
    let scratch = session.layers.scratch();
    let changes = copy::plan(None, vec![Action::Copy(copy)], session.now, &scratch)
        .map_err(StepError::failed(failed))?;
    let path = layer::RelPath::clamp(path.as_bytes()).map_err(StepError::failed(failed))?;
    let mode = root.filter(|_| is_dir).map(|root| root.metadata.mode);
    let changes = Mounted {
        changes,
        path,
        mode,
    };
    session.layers.write(&[], &changes)
}

/// What a copy to `path` makes, as a mount shows it: a copy makes its destination anew, a mount
/// shows the directory itself.
struct Mounted {
    changes: layer::Changes,
    path: layer::RelPath,
    /// The permissions of the directory, if it is one.
    mode: Option<u32>,
}

impl ChangeList for Mounted {
    fn read(&self) -> ReadChanges<'_> {
        Box::new(self.changes.read().map(|change| {
            let (path, mut change) = change?;
            if let (layer::Change::Put { node, .. }, Some(mode)) = (&mut change, self.mode)
                && path == self.path
            {
                node.metadata.mode = mode;
            }
            Ok((path, change))
        }))
    }
}

/// The clock of a step: new directories get this time.
pub(crate) fn now() -> Time {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}
