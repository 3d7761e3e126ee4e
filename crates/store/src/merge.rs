//! Merging one overlay directory into the one right below it, by renames.
//!
//! At every moment the overlay of both shows what it showed before: an entry goes away below only
//! while the one above hides it, and goes away above only when the one below is as it was. So a
//! merge may be interrupted anywhere and taken up again.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use sys::fs::Target;

use crate::disk::Disk;
use crate::error::{Attempt, StoreError};

const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// Moves everything from `top` into `below`. With `bottom`, nothing lies under `below`, so that
/// whiteouts have done their work. `top` stays behind without content.
pub(crate) fn merge_into(
    disk: &Disk,
    top: &Path,
    below: &Path,
    bottom: bool,
) -> Result<(), StoreError> {
    let merge = Merge { disk, bottom };
    let mut open: Vec<(PathBuf, PathBuf)> = vec![(top.to_owned(), below.to_owned())];
    while let Some((top, below)) = open.pop() {
        copy_attributes(&top, &below).attempt("copy attributes to", &below)?;
        for entry in fs::read_dir(&top).attempt("list", &top)? {
            let name = entry.attempt("list", &top)?.file_name();
            let (top, below) = (top.join(&name), below.join(&name));
            if merge.entry(&top, &below)? == Next::Descend {
                open.push((top, below));
            }
        }
    }
    Ok(())
}

struct Merge<'a> {
    disk: &'a Disk,
    bottom: bool,
}

#[derive(PartialEq, Eq)]
enum Next {
    Descend,
    Done,
}

impl Merge<'_> {
    fn entry(&self, top: &Path, below: &Path) -> Result<Next, StoreError> {
        let over = top.symlink_metadata().attempt("look at", top)?;
        let under = below.symlink_metadata().ok();
        if is_whiteout(&over) && self.bottom {
            self.disk.remove_tree(below)?;
            self.disk.remove_file(top)?;
            return Ok(Next::Done);
        }
        let under_directory = under.is_some_and(|metadata| metadata.is_dir());
        if over.is_dir() && under_directory && !is_opaque(top).attempt("look at", top)? {
            return Ok(Next::Descend);
        }
        // A file replaces a file in one step; a directory can only replace nothing, and nothing
        // but a directory can replace a directory.
        if under_directory || over.is_dir() {
            self.disk.remove_tree(below)?;
        }
        self.disk.rename(top, below)?;
        Ok(Next::Done)
    }
}

fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(directory: &Path) -> io::Result<bool> {
    let file = File::open(directory)?;
    for name in OPAQUE {
        // Only root may see `trusted.*`, and then only root's overlays use it.
        match sys::fs::get_xattr(Target::Fd(file.as_fd()), name) {
            Ok(Some(value)) if value == b"y" => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

/// Gives a directory the owner, mode, times and extended attributes of another.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::open(to)?);
    let metadata = source.metadata()?;
    let now = target.metadata()?;
    if (now.uid(), now.gid()) != (metadata.uid(), metadata.gid()) {
        chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    target.set_permissions(metadata.permissions())?;
    for name in sys::fs::list_xattrs(Target::Fd(source.as_fd()))? {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        if let Some(value) = sys::fs::get_xattr(Target::Fd(source.as_fd()), &name)? {
            sys::fs::set_xattr(Target::Fd(target.as_fd()), &name, &value)?;
        }
    }
    let times = FileTimes::new()
        .set_modified(metadata.modified()?)
        .set_accessed(metadata.accessed()?);
    target.set_times(times)
}
