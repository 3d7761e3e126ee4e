//! Every change that the store itself makes to the disk goes through here, where tests make it
//! fail. Reading does not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Attempt, StoreError};

/// A kind of change to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A directory is made.
    CreateDirectory,
    /// A file is opened for writing, or written.
    Write,
    /// A file or directory is moved into its place.
    Rename,
    /// A file or directory is removed.
    Remove,
    /// Files are forced to the disk.
    Sync,
}

/// Asked before every change; an error is returned as if the operating system had said it.
pub type Fault = Arc<dyn Fn(Operation, &Path) -> io::Result<()> + Send + Sync>;

#[derive(Clone, Default)]
pub(crate) struct Disk {
    fault: Option<Fault>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.fault.is_some() {
            "Disk(faulty)"
        } else {
            "Disk"
        })
    }
}

impl Disk {
    pub(crate) fn new(fault: Option<Fault>) -> Disk {
        Disk { fault }
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
        self.fault
            .as_ref()
            .map_or(Ok(()), |fault| fault(operation, path))
    }

    /// Makes a directory and its parents; an existing one is fine.
    pub(crate) fn create_directory(&self, path: &Path) -> Result<(), StoreError> {
        self.ask(Operation::CreateDirectory, path)
            .and_then(|()| fs::create_dir_all(path))
            .attempt("create directory", path)
    }

    /// Makes a directory with this mode whatever the umask says.
    pub(crate) fn create_directory_with(&self, path: &Path, mode: u32) -> Result<(), StoreError> {
        self.create_directory(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).attempt("set mode of", path)
    }

    /// Makes a directory whose subdirectories the file system may put far from each other: what
    /// one process deletes of its own does not slow down the search for free inodes of another.
    pub(crate) fn create_spreading_directory(&self, path: &Path) -> Result<(), StoreError> {
        self.create_directory(path)?;
        if let Ok(directory) = File::open(path) {
            // Few file systems know the hint.
            _ = sys::fs::spread_subdirectories(directory);
        }
        Ok(())
    }

    /// Creates a file that must not exist.
    pub(crate) fn create(&self, path: &Path) -> Result<File, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        self.ask(Operation::Write, path)
            .and_then(|()| options.open(path))
            .attempt("create", path)
    }

    /// Opens a file to lock it, or to write at its start; creates it and its directory if need be.
    pub(crate) fn open_lock(&self, path: &Path) -> Result<File, StoreError> {
        let open = || {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        };
        self.ask(Operation::Write, path)
            .and_then(|()| match open() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    fs::create_dir_all(path.parent().unwrap_or(path))?;
                    open()
                }
                other => other,
            })
            .attempt("open", path)
    }

    /// Writes to an open file.
    pub(crate) fn write(&self, mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.ask(Operation::Write, path)?;
        file.write_all(bytes)
    }

    /// Writes a whole new file that nobody else can see yet.
    pub(crate) fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<File, StoreError> {
        let file = self.create(path)?;
        self.write(&file, path, bytes).attempt("write", path)?;
        Ok(file)
    }

    /// Moves a file or directory to a place on the same file system, replacing a file there.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let rename = || {
            self.ask(Operation::Rename, to)?;
            match fs::rename(from, to) {
                Err(error) if error.kind() == ErrorKind::NotFound && from.exists() => {
                    fs::create_dir_all(to.parent().unwrap_or(to))?;
                    fs::rename(from, to)
                }
                other => other,
            }
        };
        rename().attempt("rename to", to)
    }

    /// Removes a file; a missing one is fine.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        let removed = self
            .ask(Operation::Remove, path)
            .and_then(|()| fs::remove_file(path));
        absent_is_fine(removed).attempt("remove", path)
    }

    /// Removes whatever is at `path`; nothing is fine.
    pub(crate) fn remove_tree(&self, path: &Path) -> Result<(), StoreError> {
        let remove = || {
            self.ask(Operation::Remove, path)?;
            if !fs::symlink_metadata(path)?.is_dir() {
                return fs::remove_file(path);
            }
            match fs::remove_dir_all(path) {
                // A directory may deny its own owner what only root gets without asking.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    open_directories(path)?;
                    fs::remove_dir_all(path)
                }
                other => other,
            }
        };
        absent_is_fine(remove()).attempt("remove", path)
    }

    /// Forces a file's content to the disk.
    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        self.ask(Operation::Sync, path)
            .and_then(|()| file.sync_all())
            .attempt("sync", path)
    }

    /// Forces everything that was written to the file system of `file` to the disk.
    pub(crate) fn sync_file_system(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        self.ask(Operation::Sync, path)
            .and_then(|()| sys::fs::syncfs(file).map_err(io::Error::from))
            .attempt("sync the file system of", path)
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives the owner all rights to every directory below `top`, whatever their depth.
fn open_directories(top: &Path) -> io::Result<()> {
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}
