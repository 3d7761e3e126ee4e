//! The files of a result, as a directory or as a tar.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::copy::{self, Action};
use layer::select::{Naming, Origin, Selector, select};
use layer::unpack::{Deletions, Refused, UnpackOptions, unpack};
use layer::{Change, RelPath, Root, Time, Times, View};
use store::{LayerId, Store};

use crate::build::stream;
use crate::error::BuildError;
use crate::layers::Layers;
use crate::request::Destination;

type Changes = Vec<(RelPath, Change)>;

/// The merged tree of a chain, as changes to nothing.
fn whole(layers: &Layers<'_>, chain: &[LayerId]) -> Result<Changes, BuildError> {
    if chain.is_empty() {
        return Ok(Vec::new());
    }
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| BuildError::export("the files", error);
    layers.ensure(chain).map_err(|error| failed(error.into()))?;
    let view = layers.view(chain).map_err(|error| failed(error.into()))?;
    tree(view, "").map_err(failed)
}

/// What is at `path` of a view (all of it, for the empty path), as changes to nothing.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn tree(
    view: Arc<dyn View>,
    path: &str,
) -> Result<Changes, Box<dyn std::error::Error + Send + Sync>> {
    let selector = Selector {
        paths: vec![path.as_bytes().to_vec()],
        exclude: None,
        naming: Naming::Contents,
        origin: Origin::Tree,
    };
    let selection = select(&*view, &selector)?;
    let target = copy::Target {
        dest: Vec::new(),
        dest_is_dir: true,
        mode: None,
        follow_links: false,
    };
    let copy = copy::Copy {
        view,
        selection,
        target,
        chown: None,
        reset_owner: false,
        archives: Vec::new(),
    };
    Ok(copy::plan(None, vec![Action::Copy(copy)], Time::default())?)
}

/// Writes the files into a directory, over what is there (`mode=copy`). They belong to the caller.
///
/// # Errors
/// When they cannot be read or written.
pub(crate) fn write_local(
    layers: &Layers<'_>,
    chain: &[LayerId],
    dest: &Path,
) -> Result<(), BuildError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        BuildError::export(dest.display().to_string(), error)
    };
    let mut changes = whole(layers, chain)?;
    // Device nodes, set-id bits and foreign owners have no business on the machine itself.
    changes.retain(|(_, change)| !is_device(change));
    for (_, change) in &mut changes {
        if let Change::Put { node, .. } = change {
            (node.metadata.uid, node.metadata.gid) = crate::caller_ids();
            node.metadata.mode &= 0o1777;
        }
    }
    // Written beside the destination, then moved in: what was there stays unless it is replaced.
    let parent = dest
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| failed(error.into()))?;
    let staging = parent.join(format!(".kiln-export-{}", std::process::id()));
    fs::create_dir(&staging).map_err(|error| failed(error.into()))?;
    let options = UnpackOptions {
        deletions: Deletions::None,
        refused: Refused::Report,
    };
    let result = Root::open(&staging)
        .map_err(Into::into)
        .and_then(|root| unpack(&changes, &root, options).map_err(Into::into))
        .and_then(|_| move_into(&staging, dest).map_err(Into::into));
    drop(fs::remove_dir_all(&staging));
    result.map_err(failed)
}

fn is_device(change: &Change) -> bool {
    use layer::Kind::{BlockDevice, CharDevice};
    matches!(change, Change::Put { node, .. } if matches!(node.kind, CharDevice { .. } | BlockDevice { .. }))
}

/// Moves a tree over another: directories merge, everything else is replaced.
fn move_into(from: &Path, to: &Path) -> io::Result<()> {
    if !to.exists() {
        return fs::rename(from, to);
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let there = fs::symlink_metadata(&target);
        match (
            entry.file_type()?.is_dir(),
            there.as_ref().map(fs::Metadata::is_dir),
        ) {
            (true, Ok(true)) => move_into(&source, &target)?,
            (true, Ok(false)) => {
                fs::remove_file(&target)?;
                fs::rename(&source, &target)?;
            }
            (false, Ok(true)) => {
                fs::remove_dir_all(&target)?;
                fs::rename(&source, &target)?;
            }
            _ => fs::rename(&source, &target)?,
        }
    }
    Ok(())
}

/// Writes the files as a tar. `images` have a directory of their own each if there are several.
///
/// # Errors
/// When they cannot be read or written.
pub(crate) fn write_tar(
    store: &Store,
    layers: &Layers<'_>,
    chain: &[LayerId],
    times: Times,
    dest: &Destination,
    stdout: Option<&File>,
) -> Result<(), BuildError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        BuildError::export("the files as tar", error)
    };
    let changes = whole(layers, chain)?;
    let path: PathBuf = match dest {
        Destination::Path(path) => path.clone(),
        Destination::Stdout => store
            .scratch()
            .map_err(|error| failed(error.into()))?
            .join("tar"),
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .map_err(|error| failed(error.into()))?;
    layer::pack(&changes, times, &file).map_err(|error| failed(error.into()))?;
    if *dest == Destination::Stdout {
        let mut out = stream(dest, stdout)?;
        file.rewind().map_err(|error| failed(error.into()))?;
        io::copy(&mut file, &mut out).map_err(|error| failed(error.into()))?;
        out.flush().map_err(|error| failed(error.into()))?;
    }
    Ok(())
}
