//! The files of a result, as a directory or as a tar.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer::copy::{self, Action};
use layer::select::{Naming, Origin, Selector, select};
use layer::unpack::{Deletions, Refused, UnpackOptions, unpack};
use layer::{Change, Kind, Metadata, Node, RelPath, Root, Scratch, Time, Times, View};
use store::{LayerId, Store};

use crate::error::BuildError;
use crate::layers::Layers;
use crate::request::Destination;

type Changes = Vec<(RelPath, Change)>;

/// The layers of a platform, and the directory that its files get if they get one.
type PlatformTree<'c> = (Option<String>, &'c [LayerId]);

/// The merged trees of all platforms, as changes to nothing. Where two platforms share a
/// directory, the later one wins.
fn whole(layers: &Layers<'_>, trees: &[PlatformTree<'_>]) -> Result<Changes, BuildError> {
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| BuildError::export("the files", error);
    let mut merged: BTreeMap<RelPath, Change> = BTreeMap::new();
    for (folder, chain) in trees {
        let mut above = RelPath::root();
        if let Some(name) = folder {
            above =
                RelPath::new(name.clone().into_bytes()).map_err(|error| failed(error.into()))?;
            merged.insert(above.clone(), directory());
        }
        if chain.is_empty() {
            continue;
        }
        layers.ensure(chain).map_err(|error| failed(error.into()))?;
        let view = layers.view(chain).map_err(|error| failed(error.into()))?;
        for (path, mut change) in tree(view, "", &layers.scratch()).map_err(failed)? {
            let path = above.join_path(&path);
            if let Change::Link { to } = &mut change {
                *to = above.join_path(to);
            }
            if !is_directory(&change) {
                let below = merged.range(path.clone()..).map(|(path, _)| path);
                let below = below.take_while(|other| other.starts_with(&path));
                for path in below.cloned().collect::<Vec<_>>() {
                    merged.remove(&path);
                }
            }
            merged.insert(path, change);
        }
    }
    Ok(merged.into_iter().collect())
}

/// A directory of root's.
fn directory() -> Change {
    let metadata = Metadata {
        mode: 0o755,
        ..Metadata::default()
    };
    Change::Put {
        node: Node {
            kind: Kind::Directory,
            metadata,
            links: None,
        },
        opaque: false,
        data: None,
    }
}

fn is_directory(change: &Change) -> bool {
    matches!(change, Change::Put { node, .. } if node.kind == Kind::Directory)
}

/// What is at `path` of a view (all of it, for the empty path), as changes to nothing.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn tree(
    view: Arc<dyn View>,
    path: &str,
    scratch: &Scratch,
) -> Result<Changes, Box<dyn std::error::Error + Send + Sync>> {
    let selector = Selector {
        paths: vec![path.as_bytes().to_vec()],
        exclude: None,
        naming: Naming::Contents,
        origin: Origin::Tree,
    };
    let selection = select(&*view, &selector, scratch)?;
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
    Ok(copy::plan(None, vec![Action::Copy(copy)], Time::default(), scratch)?.to_vec()?)
}

/// Writes the files into a directory, over what is there, or in place of it with `delete`. They
/// belong to the caller.
///
/// # Errors
/// When they cannot be read or written.
pub(crate) fn write_local(
    layers: &Layers<'_>,
    trees: &[PlatformTree<'_>],
    dest: &Path,
    delete: bool,
) -> Result<(), BuildError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        BuildError::export(dest.display().to_string(), error)
    };
    let mut changes = whole(layers, trees)?;
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
        .and_then(|_| move_into(&staging, dest, delete).map_err(Into::into));
    drop(fs::remove_dir_all(&staging));
    result.map_err(failed)
}

fn is_device(change: &Change) -> bool {
    use Kind::{BlockDevice, CharDevice};
    matches!(change, Change::Put { node, .. } if matches!(node.kind, CharDevice { .. } | BlockDevice { .. }))
}

/// Moves a tree over another: directories merge, everything else is replaced. With `delete`, what
/// only the other one has goes.
fn move_into(from: &Path, to: &Path, delete: bool) -> io::Result<()> {
    if !to.exists() {
        return fs::rename(from, to);
    }
    if delete {
        for entry in fs::read_dir(to)? {
            let entry = entry?;
            if fs::symlink_metadata(from.join(entry.file_name())).is_err() {
                remove(&entry.path(), entry.file_type()?.is_dir())?;
            }
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let there = fs::symlink_metadata(&target).map(|there| there.is_dir());
        match (entry.file_type()?.is_dir(), there) {
            (true, Ok(true)) => {
                move_into(&source, &target, delete)?;
                continue;
            }
            (true, Ok(false)) => fs::remove_file(&target)?,
            (false, Ok(true)) => fs::remove_dir_all(&target)?,
            // A file takes the place of another at once.
            (_, Ok(false) | Err(_)) => {}
        }
        fs::rename(&source, &target)?;
    }
    Ok(())
}

fn remove(path: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// Writes the files as a tar.
///
/// # Errors
/// When they cannot be read or written.
pub(crate) fn write_tar(
    store: &Store,
    layers: &Layers<'_>,
    trees: &[PlatformTree<'_>],
    times: Times,
    dest: &Destination,
    stdout: Option<&File>,
) -> Result<(), BuildError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        BuildError::export("the files as tar", error)
    };
    let changes = whole(layers, trees)?;
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

/// Where a stream output goes.
pub(crate) fn stream<'f>(
    dest: &Destination,
    stdout: Option<&'f File>,
) -> Result<&'f File, BuildError> {
    match (dest, stdout) {
        (Destination::Stdout, Some(file)) => Ok(file),
        _ => Err(BuildError::request(
            "there is no standard output to write to",
        )),
    }
}
