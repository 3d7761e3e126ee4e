//! Reading Dockerfiles and ignore files: bounded, and, where a directory is to be searched for
//! them, only regular files that lie in it. What they say is others' business.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use layer::resolve::{Links, resolve};
use layer::{HostView, Kind, RelPath, View};

use crate::error::BuildError;

/// More bytes are no Dockerfile, and no ignore file.
const LARGEST: u64 = 16 << 20;

/// A file that was found in a directory.
pub(crate) struct Found {
    /// Where it lies, links followed.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
}

/// Reads a stream to its end. `name` is what errors call it.
///
/// # Errors
/// When it fails, or has more than 16 MiB.
pub(crate) fn read_stream(stream: impl Read, name: &str) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    let read = stream.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(name, error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(too_large(name));
    }
    Ok(bytes)
}

/// Reads what the user names, be it a pipe.
///
/// # Errors
/// As [`read_stream`], and when there is nothing: [`BuildError::NoDockerfile`].
pub(crate) fn read_named(path: &Path) -> Result<Vec<u8>, BuildError> {
    match File::open(path) {
        Ok(file) => read_stream(file, &path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(path)),
        Err(error) => Err(failed(&path.display().to_string(), error)),
    }
}

/// Reads a regular file of a directory whose content nobody vouches for. Links are followed as far
/// as they stay inside; a pipe or a device is not opened. `None` when nothing has that name.
///
/// # Errors
/// When it is something else than a regular file, cannot be read, has more than 16 MiB, or is a link
/// to nothing that lies in the directory.
pub(crate) fn read_inside(root: &Path, path: &[u8]) -> Result<Option<Found>, BuildError> {
    let name = root.join(OsStr::from_bytes(path)).display().to_string();
    let view = HostView::open(root, None, None).map_err(|error| failed(&name, error))?;
    let found = resolve(&view, path, Links::All).map_err(|error| failed(&name, error))?;
    let Some(node) = found.node else {
        let link = RelPath::clamp(path).ok().map(|path| view.lookup(&path));
        return match link {
            Some(Ok(Some(_))) => {
                let reason = "it is a link that leads out of the directory, or to nothing";
                Err(failed(&name, io::Error::other(reason)))
            }
            _ => Ok(None),
        };
    };
    match node.kind {
        Kind::File { size } if size > LARGEST => return Err(too_large(&name)),
        Kind::File { .. } => {}
        Kind::Directory => return Err(failed(&name, io::Error::from(io::ErrorKind::IsADirectory))),
        _ => return Err(failed(&name, io::Error::other("it is no regular file"))),
    }
    let content = view
        .open(&found.path)
        .map_err(|error| failed(&name, error))?;
    let bytes = read_stream(&*content.file, &name)?;
    let path = root.join(OsStr::from_bytes(found.path.as_bytes()));
    Ok(Some(Found { path, bytes }))
}

/// The error for a Dockerfile that is not there.
pub(crate) fn missing(path: &Path) -> BuildError {
    BuildError::NoDockerfile {
        path: path.into(),
        nearest: similar(path),
    }
}

fn failed(name: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BuildError {
    BuildError::Context {
        context: name.into(),
        source: error.into(),
    }
}

fn too_large(name: &str) -> BuildError {
    BuildError::request(format!("{name} is too large: it has more than 16 MiB"))
}

/// A file beside `path` that may have been meant.
fn similar(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_string_lossy().to_lowercase();
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut names: Vec<String> = std::fs::read_dir(parent)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            let lower = name.to_lowercase();
            lower.contains("dockerfile") || lower.contains("containerfile") || lower == wanted
        })
        .filter(|name| !name.ends_with(".dockerignore"))
        .collect();
    names.sort();
    names
        .first()
        .map(|name| path.with_file_name(name).display().to_string())
}
