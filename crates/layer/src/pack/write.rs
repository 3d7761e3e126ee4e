//! The tar itself: many files are read, hashed and written at once, and the whole is hashed in
//! order behind them.

use super::layout::{Clock, Entry, Layout, Survey};
use super::place::{Placed, is_placed};
use super::{PackError, Source, changed, open, read_error};
use crate::changes::ChangeList;
use crate::erofs::{IndexWriter, Put};
use crate::model::{Change, Content, ContentDigest, Data, Kind, RelPath};
use crate::ordered::{self, Sink, Stop};
use crate::pyc;
use crate::runs::{PIECE, Run, Runs};
use crate::tar::{TRAILER, padded};
use oci::DiffId;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt;

/// Zeros to hash for holes and padding.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Part of the tar, in its place already.
enum Piece {
    /// The entries that begin next.
    Entries(Vec<Entry>),
    Bytes(Vec<u8>),
    Zeros(u64),
}

/// What one thread does at a time.
enum Unit {
    /// Entries that fit into memory together.
    Batch(Vec<Entry>),
    /// A file that is read piece by piece.
    Large(Box<Entry>),
}

struct Writer<'a> {
    placed: &'a Placed,
    clock: Clock,
    tar: &'a File,
    /// Whether files that get another header are kept as they were, for an index to point to.
    keeps: bool,
}

/// Writes everything that is not in its place yet, hashes all of it, and writes the index.
pub(super) fn write(
    changes: &(impl ChangeList + ?Sized),
    survey: &Survey,
    placed: &Placed,
    clock: Clock,
    tar: &File,
    mut index: Option<IndexWriter<'_>>,
) -> Result<DiffId, PackError> {
    let writer = Writer {
        placed,
        clock,
        tar,
        keeps: index.is_some(),
    };
    let mut hasher = Sha256::new();
    ordered::run(
        NonZero::new(ordered::threads()).unwrap_or(NonZero::<usize>::MIN),
        units(Layout::new(changes, survey, clock)),
        |unit, sink| writer.unit(unit, sink),
        |piece| {
            match piece {
                Piece::Bytes(bytes) => hasher.update(&bytes),
                Piece::Zeros(len) => zeros(len, |zeros| hasher.update(zeros)),
                Piece::Entries(entries) => {
                    for entry in entries {
                        if let Some(index) = &mut index {
                            writer.index(&entry, index)?;
                        }
                    }
                }
            }
            Ok(())
        },
    )?;
    zeros(TRAILER, |zeros| hasher.update(zeros));
    if let Some(index) = index {
        index.finish()?;
    }
    Ok(DiffId::new(oci::Digest::Sha256(hasher.finalize().into())))
}

/// Calls `take` with zeros, `len` in all.
pub(super) fn zeros(mut len: u64, mut take: impl FnMut(&[u8])) {
    while len > 0 {
        let count = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
        take(&ZEROS[..count]);
        len -= count as u64;
    }
}

/// Cuts the layout into units of about [`PIECE`] bytes.
fn units(layout: Layout<'_>) -> impl Iterator<Item = Result<Unit, PackError>> + Send {
    let is_large = |entry: &Entry| entry.data_len > PIECE as u64 && entry.source.is_none();
    let mut layout = layout.peekable();
    std::iter::from_fn(move || {
        let first = match layout.next()? {
            Ok(first) if is_large(&first) => return Some(Ok(Unit::Large(first.into()))),
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        let start = first.offset;
        let mut batch = vec![first];
        let fits = |entry: &Result<Entry, _>| match entry {
            Ok(entry) => !is_large(entry) && entry.end() - start <= PIECE as u64,
            Err(_) => false,
        };
        while let Some(Ok(entry)) = layout.next_if(fits) {
            batch.push(entry);
        }
        Some(Ok(Unit::Batch(batch)))
    })
}

impl Writer<'_> {
    fn unit(&self, unit: Unit, sink: &Sink<Piece, PackError>) -> Result<(), Stop<PackError>> {
        match unit {
            Unit::Batch(entries) => {
                let bytes = self.batch(&entries).map_err(Stop::Error)?;
                sink.put(Piece::Entries(entries))?;
                Ok(sink.put(Piece::Bytes(bytes))?)
            }
            Unit::Large(entry) => self.large(*entry, sink),
        }
    }

    /// Puts an entry into the index, which has the true times.
    fn index(&self, entry: &Entry, index: &mut IndexWriter<'_>) -> Result<(), PackError> {
        let data_offset = self.kept_at(entry).unwrap_or(entry.data_offset());
        let path = &entry.path;
        match &entry.change {
            Change::Whiteout => index.whiteout(path)?,
            Change::Link { to } => index.link(path, to)?,
            Change::Put { node, opaque, .. } => {
                let is_file = matches!(node.kind, Kind::File { size } if size > 0);
                let put = Put {
                    node,
                    opaque: *opaque,
                    data_offset: is_file.then_some(data_offset),
                };
                index.put(path, put)?;
            }
        }
        Ok(())
    }

    fn batch(&self, entries: &[Entry]) -> Result<Vec<u8>, PackError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; within(last.end() - first.offset)];
        if entries.iter().any(|entry| self.is_placed(entry)) {
            self.tar.read_exact_at(&mut bytes, first.offset)?;
        }
        for entry in entries {
            let at = within(entry.offset - first.offset);
            bytes[at..at + entry.header.len()].copy_from_slice(&entry.header);
            let at = at + entry.header.len();
            if let Some(data) = entry.data() {
                let content = &mut bytes[at..at + within(entry.data_len)];
                self.small(entry, data, content)?;
            }
        }
        self.tar.write_all_at(&bytes, first.offset)?;
        Ok(bytes)
    }

    /// Fills `content` with a file's bytes, which are there already when it was placed.
    fn small(&self, entry: &Entry, data: &Data, content: &mut [u8]) -> Result<(), PackError> {
        let path = &entry.path;
        if self.is_placed(entry) {
            if let (Some(source), Some(kept_at)) = (&entry.source, self.kept_at(entry)) {
                if self.keeps {
                    self.tar.write_all_at(content, kept_at)?;
                }
                let Clock { times, layer } = self.clock;
                pyc::set_source_time(content, source.time(times, layer));
            }
            return Ok(());
        }
        match open(path, data, entry.data_len)? {
            Source::Memory(bytes) => content.copy_from_slice(bytes),
            Source::Range(range) => range
                .file
                .read_exact_at(content, range.offset)
                .map_err(|source| read_error(path, source))?,
        }
        match expected(data) {
            Some(_) => verify(path, data, ContentDigest(Sha256::digest(&*content).into())),
            None => Ok(()),
        }
    }

    fn is_placed(&self, entry: &Entry) -> bool {
        is_placed(entry, self.clock.times)
    }

    /// Where a compiled Python file that gets another header is as it was.
    fn kept_at(&self, entry: &Entry) -> Option<u64> {
        let behind = self.placed.compiled.get(&entry.number)?;
        Some(self.placed.tar_len + behind)
    }

    fn large(&self, entry: Entry, sink: &Sink<Piece, PackError>) -> Result<(), Stop<PackError>> {
        let (data_offset, data_len) = (entry.data_offset(), entry.data_len);
        let placed = self.is_placed(&entry);
        self.write(&entry.header, entry.offset)?;
        let header = entry.header.clone();
        let (path, data) = (entry.path.clone(), entry.data().cloned());
        sink.put(Piece::Entries(vec![entry]))?;
        sink.put(Piece::Bytes(header))?;
        let Some(data) = data else {
            return Ok(());
        };
        let in_place = |tar: &File| -> std::io::Result<Content> {
            Ok(Content {
                file: std::sync::Arc::new(tar.try_clone()?),
                offset: data_offset,
                len: data_len,
            })
        };
        let source = if placed {
            let content = in_place(self.tar).map_err(|error| Stop::Error(error.into()))?;
            Source::Range(content)
        } else {
            open(&path, &data, data_len).map_err(Stop::Error)?
        };
        let to = (!placed).then_some(data_offset);
        let expect = expected(&data).filter(|_| !placed);
        let digest = self.stream(&path, &source, to, expect.is_some(), sink)?;
        if let Some(digest) = digest {
            verify(&path, &data, digest).map_err(Stop::Error)?;
        }
        Ok(sink.put(Piece::Zeros(padded(data_len) - data_len))?)
    }

    /// Passes a file's bytes on and, unless they are there already, writes them `to` their place.
    /// Digests them where somebody asks.
    fn stream(
        &self,
        path: &RelPath,
        source: &Source<'_>,
        to: Option<u64>,
        digests: bool,
        sink: &Sink<Piece, PackError>,
    ) -> Result<Option<ContentDigest>, Stop<PackError>> {
        let mut hasher = Sha256::new();
        let mut position = to;
        let mut pass = |run: Run| -> Result<(), Stop<PackError>> {
            let (piece, len) = match run {
                Run::Hole(len) => (Piece::Zeros(len), len),
                Run::Data(bytes) => {
                    let len = bytes.len() as u64;
                    if let Some(position) = position {
                        self.write(&bytes, position)?;
                    }
                    (Piece::Bytes(bytes), len)
                }
            };
            match &piece {
                Piece::Bytes(bytes) if digests => hasher.update(bytes),
                Piece::Zeros(len) if digests => zeros(*len, |zeros| hasher.update(zeros)),
                _ => {}
            }
            position = position.map(|position| position + len);
            Ok(sink.put(piece)?)
        };
        match source {
            Source::Memory(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    pass(Run::Data(piece.to_vec()))?;
                }
            }
            Source::Range(content) => {
                let mut runs = Runs::new(content);
                while let Some(run) = runs
                    .next_run()
                    .map_err(|source| Stop::Error(read_error(path, source)))?
                {
                    pass(run)?;
                }
            }
        }
        Ok(digests.then(|| ContentDigest(hasher.finalize().into())))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Stop<PackError>> {
        self.tar
            .write_all_at(bytes, offset)
            .map_err(|error| Stop::Error(error.into()))
    }
}

/// What a file's key was computed from.
fn expected(data: &Data) -> Option<ContentDigest> {
    match data {
        Data::InView { expect, .. } => *expect,
        Data::Inline(_) | Data::Open(_) => None,
    }
}

/// Compares a digest with what the file's key was computed from.
fn verify(path: &RelPath, data: &Data, digest: ContentDigest) -> Result<(), PackError> {
    match expected(data) {
        Some(expect) if expect != digest => Err(changed(path)),
        _ => Ok(()),
    }
}

/// A length within a batch, which is in memory.
fn within(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
