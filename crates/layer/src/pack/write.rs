//! The tar itself: many files are read, hashed and written at once, and the whole is hashed in
//! order behind them.

use super::plan::{Clock, Plan, Planned};
use super::{Known, PackError, Source, changed, open, read_error};
use crate::model::{Content, ContentDigest, Data, RelPath, Time};
use crate::ordered::{self, Sink, Stop};
use crate::pyc;
use crate::runs::{PIECE, Run, Runs};
use crate::tar::{TRAILER, padded};
use crate::times::Times;
use oci::DiffId;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Zeros to hash for holes and padding.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What came of writing.
pub(super) struct Written {
    pub(super) diff_id: DiffId,
    pub(super) digests: Vec<Option<ContentDigest>>,
}

/// Part of the tar, in its place already.
enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
    /// The bytes of this change have this digest.
    File(usize, ContentDigest),
}

/// What one thread does at a time.
enum Unit {
    /// Entries that fit into memory together.
    Batch(Range<usize>),
    /// A file that is read piece by piece.
    Large(usize),
}

struct Writer<'a> {
    plan: &'a Plan<'a>,
    known: &'a [Known],
    clock: Clock,
    tar: &'a File,
}

/// Writes everything that is not in its place yet, and hashes all of it.
pub(super) fn write(
    plan: &Plan<'_>,
    known: &[Known],
    times: Times,
    layer: Time,
    tar: &File,
) -> Result<Written, PackError> {
    let writer = Writer {
        plan,
        known,
        clock: Clock { times, layer },
        tar,
    };
    let mut hasher = Sha256::new();
    let mut digests = plan.digests_of_empty_files();
    let threads = NonZero::new(ordered::threads()).unwrap_or(NonZero::<usize>::MIN);
    ordered::run(
        threads,
        units(plan).map(Ok),
        |unit, sink| writer.unit(unit, sink),
        |piece| {
            match piece {
                Piece::Bytes(bytes) => hasher.update(&bytes),
                Piece::Zeros(len) => zeros(len, |zeros| hasher.update(zeros)),
                Piece::File(change, digest) => digests[change] = Some(digest),
            }
            Ok(())
        },
    )?;
    zeros(TRAILER, |zeros| hasher.update(zeros));
    Ok(Written {
        diff_id: DiffId::new(oci::Digest::Sha256(hasher.finalize().into())),
        digests,
    })
}

/// Calls `take` with zeros, `len` in all.
pub(super) fn zeros(mut len: u64, mut take: impl FnMut(&[u8])) {
    while len > 0 {
        let count = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
        take(&ZEROS[..count]);
        len -= count as u64;
    }
}

/// Cuts the plan into units of about [`PIECE`] bytes.
fn units<'a>(plan: &'a Plan<'a>) -> impl Iterator<Item = Unit> + Send + 'a {
    let is_large = |entry: &Planned| entry.data_len > PIECE as u64 && entry.source.is_none();
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = plan.entries.get(next)?;
        let start = next;
        if is_large(first) {
            next += 1;
            return Some(Unit::Large(start));
        }
        while let Some(entry) = plan.entries.get(next)
            && !is_large(entry)
            && (next == start || entry.end() - first.offset <= PIECE as u64)
        {
            next += 1;
        }
        Some(Unit::Batch(start..next))
    })
}

impl Writer<'_> {
    fn unit(&self, unit: Unit, sink: &Sink<Piece, PackError>) -> Result<(), Stop<PackError>> {
        match unit {
            Unit::Batch(range) => {
                let (bytes, digests) = self.batch(range).map_err(Stop::Error)?;
                for (change, digest) in digests {
                    sink.put(Piece::File(change, digest))?;
                }
                Ok(sink.put(Piece::Bytes(bytes))?)
            }
            Unit::Large(index) => self.large(index, sink),
        }
    }

    #[expect(
        clippy::type_complexity,
        reason = "the bytes, and the digests of their files"
    )]
    fn batch(
        &self,
        range: Range<usize>,
    ) -> Result<(Vec<u8>, Vec<(usize, ContentDigest)>), PackError> {
        let (entries, known) = (&self.plan.entries[range.clone()], &self.known[range]);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let mut bytes = vec![0; within(last.end() - first.offset)];
        if known.iter().any(|known| known.placed) {
            self.tar.read_exact_at(&mut bytes, first.offset)?;
        }
        let mut digests = Vec::new();
        for (entry, known) in entries.iter().zip(known) {
            let header = self.plan.headers(entry, self.clock)?;
            let at = within(entry.offset - first.offset);
            bytes[at..at + header.len()].copy_from_slice(&header);
            let at = at + header.len();
            if let Some(data) = self.plan.data(entry) {
                let content = &mut bytes[at..at + within(entry.data_len)];
                let digest = self.small(entry, *known, data, content)?;
                digests.push((Plan::change_index(entry), digest));
            }
        }
        self.tar.write_all_at(&bytes, first.offset)?;
        Ok((bytes, digests))
    }

    /// Fills `content` with a file's bytes, which are there already when it was placed.
    fn small(
        &self,
        entry: &Planned,
        known: Known,
        data: &Data,
        content: &mut [u8],
    ) -> Result<ContentDigest, PackError> {
        let (path, _) = self.plan.change(entry);
        if known.placed {
            if !known.follows_source {
                // Placed files are hashed already, compiled ones with their own time.
                return known.content.ok_or_else(|| changed(path));
            }
            if let Some(time) = self.plan.source_time(entry) {
                pyc::set_source_time(content, self.clock.times.of(time, self.clock.layer));
            }
            return Ok(ContentDigest(Sha256::digest(&*content).into()));
        }
        match open(path, data, entry.data_len)? {
            Source::Memory(bytes) => content.copy_from_slice(bytes),
            Source::Range(range) => range
                .file
                .read_exact_at(content, range.offset)
                .map_err(|source| read_error(path, source))?,
        }
        let digest = ContentDigest(Sha256::digest(&*content).into());
        verify(path, data, digest)
    }

    fn large(&self, index: usize, sink: &Sink<Piece, PackError>) -> Result<(), Stop<PackError>> {
        let (entry, known) = (&self.plan.entries[index], self.known[index]);
        let (path, _) = self.plan.change(entry);
        let header = self.plan.headers(entry, self.clock).map_err(Stop::Error)?;
        self.write(&header, entry.offset)?;
        sink.put(Piece::Bytes(header))?;
        let Some(data) = self.plan.data(entry) else {
            return Ok(());
        };
        let placed = |tar: &File| -> std::io::Result<Content> {
            Ok(Content {
                file: std::sync::Arc::new(tar.try_clone()?),
                offset: entry.data_offset(),
                len: entry.data_len,
            })
        };
        let source = if known.placed {
            let content = placed(self.tar).map_err(|error| Stop::Error(error.into()))?;
            Source::Range(content)
        } else {
            open(path, data, entry.data_len).map_err(Stop::Error)?
        };
        let digest = self.stream(entry, known, &source, sink)?;
        let digest = match known.content {
            Some(digest) if known.placed => digest,
            _ => verify(path, data, digest).map_err(Stop::Error)?,
        };
        sink.put(Piece::Zeros(padded(entry.data_len) - entry.data_len))?;
        Ok(sink.put(Piece::File(Plan::change_index(entry), digest))?)
    }

    /// Passes a file's bytes on and, unless they are there already, writes them. The digest is of
    /// no use for those that are.
    fn stream(
        &self,
        entry: &Planned,
        known: Known,
        source: &Source<'_>,
        sink: &Sink<Piece, PackError>,
    ) -> Result<ContentDigest, Stop<PackError>> {
        let (path, _) = self.plan.change(entry);
        let mut hasher = Sha256::new();
        let mut position = entry.data_offset();
        let mut pass = |run: Run| -> Result<(), Stop<PackError>> {
            let (piece, len) = match run {
                Run::Hole(len) => (Piece::Zeros(len), len),
                Run::Data(bytes) => {
                    let len = bytes.len() as u64;
                    if !known.placed {
                        self.write(&bytes, position)?;
                    }
                    (Piece::Bytes(bytes), len)
                }
            };
            if !known.placed {
                match &piece {
                    Piece::Bytes(bytes) => hasher.update(bytes),
                    _ => zeros(len, |zeros| hasher.update(zeros)),
                }
            }
            position += len;
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
        Ok(ContentDigest(hasher.finalize().into()))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Stop<PackError>> {
        self.tar
            .write_all_at(bytes, offset)
            .map_err(|error| Stop::Error(error.into()))
    }
}

/// Compares a digest with what the file's key was computed from.
fn verify(path: &RelPath, data: &Data, digest: ContentDigest) -> Result<ContentDigest, PackError> {
    match data {
        Data::InView {
            expect: Some(expect),
            ..
        } if *expect != digest => Err(changed(path)),
        _ => Ok(digest),
    }
}

/// A length within a batch, which is in memory.
fn within(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
