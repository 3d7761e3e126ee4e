//! The threads of [`super::apply`]: read, decompress, hash, and write while parsing.

use super::{ApplyError, Expected, Limits};
use crate::compress::{Format, decoder};
use crate::tar::{self, Entry, ReadError, Reader};
use oci::{DiffId, Digest, Hasher};
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a chunk that goes from thread to thread.
const CHUNK: usize = 256 * 1024;

/// Chunks that may wait between two threads.
const AHEAD: usize = 8;

type Chunk = Arc<Vec<u8>>;

/// What a stream turned out to be.
pub(super) struct Stored {
    pub(super) diff_id: DiffId,
    pub(super) tar_len: u64,
    pub(super) blob: Digest,
    pub(super) blob_size: u64,
    pub(super) format: Format,
}

/// Writes the uncompressed stream to the beginning of `tar` and calls `take` for every entry.
pub(super) fn store(
    blob: impl Read + Send,
    tar: &File,
    expected: Expected,
    limits: &Limits,
    mut take: impl FnMut(Entry) -> Result<(), ApplyError>,
) -> Result<Stored, ApplyError> {
    tar.set_len(0)
        .map_err(|source| ApplyError::Write { source })?;
    let hasher = |expected: Option<Digest>| match expected {
        Some(digest) => Hasher::like(&digest),
        None => Hasher::sha256(),
    };
    let blob_hasher = hasher(expected.blob);
    let tar_hasher = hasher(expected.diff_id.map(|id| id.digest()));
    let read_bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (to_decoder, compressed) = sync_channel(AHEAD);
        let (to_writer, plain) = sync_channel(AHEAD);
        let (to_hasher, copies) = sync_channel::<Chunk>(AHEAD);
        let reader = scope.spawn(|| read(blob, blob_hasher, &read_bytes, to_decoder));
        let decoder = scope.spawn(|| decode(compressed, to_writer, to_hasher));
        let hasher = scope.spawn(|| hash(copies, tar_hasher));
        let mut received = Received::new(plain, tar, limits, &read_bytes);
        let parsed = parse(&mut received, &limits.archive, &mut take);
        let outcome = match (received.failure.take(), parsed) {
            (Some(failure), _) => Err(failure),
            (None, parsed) => parsed,
        };
        let tar_len = received.len;
        // Wakes the threads that still want to hand something over.
        drop(received);
        let blob = joined(reader.join());
        let format = joined(decoder.join());
        let diff_id = joined(hasher.join());
        outcome?;
        tar.set_len(tar_len)
            .map_err(|source| ApplyError::Write { source })?;
        Ok(Stored {
            diff_id: DiffId::new(diff_id),
            tar_len,
            blob,
            blob_size: read_bytes.load(Ordering::Relaxed),
            format,
        })
    })
}

/// A thread's result; its panic goes on here.
fn joined<T>(result: std::thread::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Every entry, and then the rest of the stream, which is part of the layer's digest.
fn parse(
    received: &mut Received<'_>,
    limits: &tar::Limits,
    take: &mut impl FnMut(Entry) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    let mut reader = Reader::new(&mut *received, *limits);
    while let Some(entry) = reader.next_entry()? {
        take(entry)?;
    }
    loop {
        let offset = received.len;
        let count = match received.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(rest) => rest.len(),
            Err(source) => return Err(ReadError::Io { offset, source }.into()),
        };
        received.consume(count);
    }
}

/// Reads the blob to its end and hashes it on the way.
fn read(
    mut blob: impl Read,
    mut hasher: Hasher,
    read_bytes: &AtomicU64,
    next: SyncSender<Result<Chunk, ApplyError>>,
) -> Digest {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let result = (&mut blob).take(CHUNK as u64).read_to_end(&mut chunk);
        hasher.update(&chunk);
        read_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        let (message, is_last) = match result {
            Ok(0) => return hasher.finish(),
            Ok(_) => (Ok(Arc::new(chunk)), false),
            Err(source) => (Err(ApplyError::Read { source }), true),
        };
        if next.send(message).is_err() || is_last {
            return hasher.finish();
        }
    }
}

/// Decompresses chunks; an error is the last that the writer gets.
fn decode(
    compressed: Receiver<Result<Chunk, ApplyError>>,
    writer: SyncSender<Result<Chunk, ApplyError>>,
    hasher: SyncSender<Chunk>,
) -> Format {
    let mut source = Chunks::new(compressed);
    let format = match source.fill_buf() {
        Ok(start) => Format::detect(start),
        Err(_) => Format::Plain,
    };
    let result = pump(format, &mut source, &writer, &hasher);
    let failure = match (source.failure.take(), result) {
        (Some(failure), _) => Err(failure),
        (None, Err(source)) => Err(ApplyError::Decode { format, source }),
        (None, Ok(())) => Ok(()),
    };
    if let Err(failure) = failure {
        // A writer that is gone has failed by itself.
        drop(writer.send(Err(failure)));
    }
    format
}

fn pump(
    format: Format,
    source: &mut Chunks,
    writer: &SyncSender<Result<Chunk, ApplyError>>,
    hasher: &SyncSender<Chunk>,
) -> io::Result<()> {
    let mut plain = decoder(format, &mut *source)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        if (&mut plain).take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            break;
        }
        let chunk = Arc::new(chunk);
        if hasher.send(Arc::clone(&chunk)).is_err() || writer.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
    drop(plain);
    // What stands behind the stream counts for the blob's digest.
    io::copy(source, &mut io::sink())?;
    Ok(())
}

fn hash(chunks: Receiver<Chunk>, mut hasher: Hasher) -> Digest {
    for chunk in chunks {
        hasher.update(&chunk);
    }
    hasher.finish()
}

/// Chunks from another thread as a reader. A failure there is kept and ends the stream.
struct Chunks {
    receiver: Receiver<Result<Chunk, ApplyError>>,
    chunk: Chunk,
    position: usize,
    failure: Option<ApplyError>,
}

impl Chunks {
    fn new(receiver: Receiver<Result<Chunk, ApplyError>>) -> Chunks {
        Chunks {
            receiver,
            chunk: Chunk::default(),
            position: 0,
            failure: None,
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.chunk.len() {
            match self.receiver.recv() {
                Ok(Ok(chunk)) => (self.chunk, self.position) = (chunk, 0),
                Ok(Err(failure)) => {
                    self.failure = Some(failure);
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                // The sender is gone: all of it came, or it failed before.
                Err(_) if self.failure.is_some() => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

/// [`Read::read`] of something that has a buffer.
fn read_buffered(reader: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let available = reader.fill_buf()?;
    let count = available.len().min(buffer.len());
    buffer[..count].copy_from_slice(&available[..count]);
    reader.consume(count);
    Ok(count)
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

/// The uncompressed stream, written to the stored file as it comes.
struct Received<'a> {
    chunks: Chunks,
    tar: &'a File,
    limits: &'a Limits,
    read_bytes: &'a AtomicU64,
    len: u64,
    /// Bytes that take space.
    dense: u64,
    failure: Option<ApplyError>,
}

impl<'a> Received<'a> {
    fn new(
        receiver: Receiver<Result<Chunk, ApplyError>>,
        tar: &'a File,
        limits: &'a Limits,
        read_bytes: &'a AtomicU64,
    ) -> Received<'a> {
        Received {
            chunks: Chunks::new(receiver),
            tar,
            limits,
            read_bytes,
            len: 0,
            dense: 0,
            failure: None,
        }
    }

    /// Stores a chunk that came in; zeros become a hole.
    fn store(&mut self, chunk: &Chunk) -> Result<(), ApplyError> {
        let begin = self.len;
        self.len += chunk.len() as u64;
        let limit = self.limits.archive.total;
        if self.len > limit {
            let what = "bytes";
            return Err(ReadError::Limit { what, limit }.into());
        }
        if chunk.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        self.dense += chunk.len() as u64;
        let compressed = self.read_bytes.load(Ordering::Relaxed);
        let limit = self.limits.ratio;
        if self.dense > self.limits.small && self.dense / limit > compressed {
            return Err(ApplyError::Bomb { compressed, limit });
        }
        self.tar
            .write_all_at(chunk, begin)
            .map_err(|source| ApplyError::Write { source })
    }
}

impl BufRead for Received<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.chunks.position == self.chunks.chunk.len() {
            if let Err(error) = self.chunks.fill_buf() {
                self.failure = self.chunks.failure.take();
                return Err(error);
            }
            if self.chunks.position < self.chunks.chunk.len() {
                let chunk = Arc::clone(&self.chunks.chunk);
                if let Err(failure) = self.store(&chunk) {
                    self.failure = Some(failure);
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        self.chunks.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.chunks.consume(count);
    }
}

impl Read for Received<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}
