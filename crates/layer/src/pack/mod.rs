//! A changeset becomes a layer: the canonical tar, its `DiffId`, and the entries of its index.
//!
//! ```text
//!           layout      where every header and every file goes: sizes are known, times do not matter
//!              │
//!            place      only files whose digest nobody knows: read once, hashed, written to their place
//!              │
//!   content digest ──►  layer time (see `times`)
//!              │
//!            write      headers and the other files, read once on all cores and hashed in order,
//!                       and the index beside them
//! ```
//!
//! The list of changes is read from its beginning by each of these, and next to nothing is kept of
//! most of them: a layer may have more files than fit into memory.
//!
//! The result depends on the changes alone, and on the times that sources of compiled Python files
//! have in the layers below: not on the machine, its time or its cores. The tar has the times of
//! the layer, the index the true ones. So a compiled Python file that names the time of its source
//! (see `pyc`) is not the same in both: as it was, it is kept behind the tar for the index.
//!
//! Sockets are left out, as by every other writer of layers: the format has no such type.

mod layout;
mod place;
mod write;

use crate::changes::ChangeList;
use crate::erofs::{IndexError, IndexWriter};
use crate::model::{Content, Data, RelPath, Time};
use crate::pyc::{Below, nothing_below};
use crate::tar::HeaderError;
use crate::times::Times;
use layout::{Clock, Survey};
use oci::DiffId;
use std::fs::File;
use std::io;

/// A layer that was written.
#[derive(Debug)]
pub struct Packed {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_len: u64,
    /// The layer's own time; `None` when the policy was not [`Times::Layer`].
    pub time: Option<Time>,
}

/// Why a changeset did not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The bytes of a file could not be read.
    #[error("read {path}")]
    Read {
        /// Path in the layer.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// A file has other bytes than when its key was computed.
    #[error("{path} changed while it was read")]
    Changed {
        /// Path in the layer.
        path: RelPath,
    },
    /// The tar could not be written.
    #[error("write the layer")]
    Write {
        /// Why.
        #[from]
        source: io::Error,
    },
    /// The format cannot express an entry.
    #[error("write the header of {path}")]
    Header {
        /// Path in the layer.
        path: RelPath,
        /// Why.
        source: HeaderError,
    },
    /// A name begins with `.wh.`: in a layer it would delete a file.
    #[error("{path} has a name that begins with `.wh.`, which means a deletion in image layers")]
    ReservedName {
        /// Path in the layer.
        path: RelPath,
    },
    /// The changes are not sorted by path, or a path occurs twice.
    #[error("changes are out of order at {path}")]
    Order {
        /// The second of two paths.
        path: RelPath,
    },
    /// A link names no earlier inode that may have several names.
    #[error("{path} is a hard link to {to}, which the layer does not put before it")]
    Link {
        /// Path of the link.
        path: RelPath,
        /// What it names.
        to: RelPath,
    },
    /// A regular file of more than zero bytes comes without its bytes.
    #[error("{path} has no data")]
    NoData {
        /// Path in the layer.
        path: RelPath,
    },
    /// The layers below could not be searched for the source of a compiled Python file.
    #[error("look for {path} in the layers below")]
    Below {
        /// Path of the source.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// The index has no room for an entry, or could not be written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The list of changes is in a temporary file that cannot be read.
    #[error("read the list of changes")]
    List(#[source] io::Error),
    /// The layer's root can only be a directory.
    #[error("the root of a layer is replaced by something that is no directory")]
    Root,
}

/// Writes `changes`, sorted by path, into `tar`, which is emptied first. Nothing is below them.
///
/// Every file is read once. Holes of sparse files stay holes of `tar`.
///
/// # Errors
/// When a file cannot be read or has other bytes than expected, when the format cannot express an
/// entry, when the changes contradict each other, or when `tar` cannot be written. `tar` has no
/// meaning then.
pub fn pack(
    changes: &(impl ChangeList + ?Sized),
    times: Times,
    tar: &File,
) -> Result<Packed, PackError> {
    write_layer(changes, times, &mut nothing_below, tar, None)
}

/// [`pack`] on top of other layers, with the index of the tar (see [`erofs`](crate::erofs)) in
/// `index`, which is empty. Behind the tar's [`Packed::tar_len`] bytes there may be others that the
/// index points to.
///
/// `below` is asked for the sources of compiled Python files that `changes` do not have.
///
/// # Errors
/// As for [`pack`], when `below` fails, and when the index has no room for an entry or cannot be
/// written.
pub fn pack_indexed(
    changes: &(impl ChangeList + ?Sized),
    times: Times,
    below: &mut Below<'_>,
    tar: &File,
    index: &File,
) -> Result<Packed, PackError> {
    write_layer(changes, times, below, tar, Some(index))
}

fn write_layer(
    changes: &(impl ChangeList + ?Sized),
    times: Times,
    below: &mut Below<'_>,
    tar: &File,
    index: Option<&File>,
) -> Result<Packed, PackError> {
    let survey = Survey::new(changes, times, below)?;
    tar.set_len(0)?;
    let placed = place::place(changes, &survey, times, tar)?;
    tar.set_len(placed.tar_len)?;
    let clock = Clock {
        times,
        layer: placed.time,
    };
    let index = match index {
        Some(file) => {
            let stored_len = placed.tar_len + placed.kept_len;
            tar.set_len(stored_len)?;
            let further = survey.further.clone();
            Some(IndexWriter::new(file, stored_len, further)?)
        }
        None => None,
    };
    let diff_id = write::write(changes, &survey, &placed, clock, tar, index)?;
    Ok(Packed {
        diff_id,
        tar_len: placed.tar_len,
        time: (times == Times::Layer).then_some(placed.time),
    })
}

/// Where the bytes of a regular file are read from.
enum Source<'a> {
    Memory(&'a [u8]),
    Range(Content),
}

/// Opens the `size` bytes of `data`.
fn open<'a>(path: &RelPath, data: &'a Data, size: u64) -> Result<Source<'a>, PackError> {
    let (source, len) = match data {
        Data::Inline(bytes) => (Source::Memory(bytes), bytes.len() as u64),
        Data::Open(content) => (Source::Range(content.clone()), content.len),
        Data::InView {
            view, path: there, ..
        } => {
            let content = view.open(there).map_err(|source| PackError::Read {
                path: path.clone(),
                source,
            })?;
            let len = content.len;
            (Source::Range(content), len)
        }
    };
    if len != size {
        return Err(changed(path));
    }
    Ok(source)
}

fn changed(path: &RelPath) -> PackError {
    PackError::Changed { path: path.clone() }
}

/// A failure to read that means the file became shorter is a change, not an error of the disk.
fn read_error(path: &RelPath, source: io::Error) -> PackError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => changed(path),
        _ => PackError::Read {
            path: path.clone(),
            source,
        },
    }
}
