//! A changeset becomes a layer: the canonical tar, its `DiffId`, and the entries of its index.
//!
//! ```text
//!            plan      where every header and every file goes: sizes are known, times do not matter
//!              │
//!            place     only files whose digest nobody knows: read once, hashed, written to their place
//!              │
//!   content digest ──► layer time (see `times`)
//!              │
//!            write     headers and the other files, read once on all cores and hashed in order
//! ```
//!
//! The result depends on the changes alone: not on the machine, its time or its cores. The tar
//! has the times of the layer, the index the true ones. One exception: the source of a compiled
//! Python file that was rewritten (see `pyc`) has the layer's time in both, because the compiled
//! file is one and the same in both.
//!
//! Sockets are left out, as by every other writer of layers: the format has no such type.

mod place;
mod plan;
mod write;

use crate::erofs::{IndexChange, IndexEntry};
use crate::model::{Change, Content, ContentDigest, Data, Kind, RelPath, Time};
use crate::tar::HeaderError;
use crate::times::{ContentHasher, Times, layer_time};
use oci::DiffId;
use plan::Plan;
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
    /// What [`crate::erofs::write_index`] takes.
    pub index: Vec<IndexEntry>,
    /// For each change, the SHA-256 of the bytes that the tar has for it, if it is a regular file.
    pub digests: Vec<Option<ContentDigest>>,
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
    /// The layer's root can only be a directory.
    #[error("the root of a layer is replaced by something that is no directory")]
    Root,
}

/// What is known of a file's bytes before they are written.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Digest that the layer's content digest counts.
    content: Option<ContentDigest>,
    /// The bytes are in their place in the tar.
    placed: bool,
    /// It is a compiled Python file that gets its source's new time.
    follows_source: bool,
}

/// Writes `changes`, sorted by path, into `tar`, which is emptied first.
///
/// Every file is read once. Holes of sparse files stay holes of `tar`.
///
/// # Errors
/// When a file cannot be read or has other bytes than expected, when the format cannot express an
/// entry, when the changes contradict each other, or when `tar` cannot be written. `tar` has no
/// meaning then.
pub fn pack(changes: &[(RelPath, Change)], times: Times, tar: &File) -> Result<Packed, PackError> {
    let plan = Plan::new(changes, times)?;
    tar.set_len(0)?;
    tar.set_len(plan.tar_len())?;
    let known = place::place(&plan, times, tar)?;
    let time = match times {
        Times::Layer => content_time(&plan, &known),
        Times::Clamp(_) | Times::Preserve => Time::default(),
    };
    let written = write::write(&plan, &known, times, time, tar)?;
    Ok(Packed {
        diff_id: written.diff_id,
        tar_len: plan.tar_len(),
        time: (times == Times::Layer).then_some(time),
        index: index(&plan, &known, times, time),
        digests: written.digests,
    })
}

fn content_time(plan: &Plan<'_>, known: &[Known]) -> Time {
    let mut hasher = ContentHasher::new();
    for (entry, known) in plan.entries.iter().zip(known) {
        let (path, change) = plan.change(entry);
        hasher.entry(path, change, known.content);
    }
    layer_time(&hasher.finish())
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

fn index(plan: &Plan<'_>, known: &[Known], times: Times, layer: Time) -> Vec<IndexEntry> {
    let mut entries: Vec<IndexEntry> = plan
        .entries
        .iter()
        .map(|entry| {
            let (path, change) = plan.change(entry);
            let change = match change {
                Change::Whiteout => IndexChange::Whiteout,
                Change::Link { to } => IndexChange::Link { to: to.clone() },
                Change::Put { node, opaque, .. } => {
                    let is_file = matches!(node.kind, Kind::File { size } if size > 0);
                    IndexChange::Put {
                        node: node.clone(),
                        opaque: *opaque,
                        data_offset: is_file.then_some(entry.data_offset()),
                    }
                }
            };
            let path = path.clone();
            IndexEntry { path, change }
        })
        .collect();
    for (entry, known) in plan.entries.iter().zip(known) {
        if let (true, Some(source)) = (known.follows_source, entry.source)
            && let IndexChange::Put { node, .. } = &mut entries[source].change
        {
            node.metadata.mtime = times.of(node.metadata.mtime, layer);
        }
    }
    entries
}
