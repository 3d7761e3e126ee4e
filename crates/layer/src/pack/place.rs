//! Files whose digest is needed before the first header can be written: they are read, hashed and
//! written to their place in the tar in one go, on all cores.

use super::layout::{Clock, Entry, Layout, Survey, tar_len};
use super::{PackError, Source, changed, open, read_error};
use crate::changes::ChangeList;
use crate::model::{ContentDigest, Data, Time};
use crate::ordered::{self, Stop};
use crate::pyc;
use crate::runs::{Run, Runs};
use crate::tar::padded;
use crate::times::{ContentHasher, Times, layer_time};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt;

/// Entries that one thread takes in a row.
const UNIT: usize = 64;

/// What must be known before the first header is written.
pub(super) struct Placed {
    /// Compiled Python files that get their source's new time, by the number of their entry; and
    /// how far behind the tar they are as they were.
    pub(super) compiled: HashMap<usize, u64>,
    /// Bytes that those take there.
    pub(super) kept_len: u64,
    pub(super) tar_len: u64,
    /// The layer's own time; without meaning under other policies than [`Times::Layer`].
    pub(super) time: Time,
}

/// Lays the entries out, places those that have to be read, and digests the content of all.
pub(super) fn place(
    changes: &(impl ChangeList + ?Sized),
    survey: &Survey,
    times: Times,
    tar: &File,
) -> Result<Placed, PackError> {
    let clock = Clock {
        times,
        layer: layer_time(&[0; 32]),
    };
    let mut layout = Layout::new(changes, survey, clock);
    let units = std::iter::from_fn(move || {
        let unit: Vec<_> = layout.by_ref().take(UNIT).collect();
        (!unit.is_empty()).then(|| unit.into_iter().collect::<Result<Vec<_>, _>>())
    });
    let mut placed = Placed {
        compiled: HashMap::new(),
        kept_len: 0,
        tar_len: tar_len(0),
        time: Time::default(),
    };
    let mut hasher = ContentHasher::new();
    ordered::run(
        NonZero::new(ordered::threads()).unwrap_or(NonZero::<usize>::MIN),
        units,
        |unit: Vec<Entry>, sink| {
            let digested = unit.into_iter().map(|entry| {
                let digested = one(&entry, times, tar)?;
                Ok((entry, digested))
            });
            let digested = digested.collect::<Result<Vec<_>, _>>();
            Ok(sink.put(digested.map_err(Stop::Error)?)?)
        },
        |unit| {
            for (entry, digested) in unit {
                hasher.entry(&entry.path, &entry.change, digested.content);
                placed.tar_len = tar_len(entry.end());
                if digested.follows_source {
                    placed.compiled.insert(entry.number, placed.kept_len);
                    placed.kept_len += padded(entry.data_len);
                }
            }
            Ok(())
        },
    )?;
    if times == Times::Layer {
        placed.time = layer_time(&hasher.finish());
    }
    Ok(placed)
}

/// Whether the bytes of an entry are written to their place before the headers are.
pub(super) fn is_placed(entry: &Entry, times: Times) -> bool {
    match entry.data() {
        None => false,
        Some(_) if entry.source.is_some() => true,
        Some(Data::InView { expect: None, .. } | Data::Open(_)) => times == Times::Layer,
        Some(Data::InView { .. } | Data::Inline(_)) => false,
    }
}

/// What was found out about an entry's bytes.
#[derive(Default)]
struct Digested {
    /// Digest that the layer's content digest counts.
    content: Option<ContentDigest>,
    /// It is a compiled Python file that gets its source's new time.
    follows_source: bool,
}

impl From<ContentDigest> for Digested {
    fn from(content: ContentDigest) -> Digested {
        Digested {
            content: Some(content),
            follows_source: false,
        }
    }
}

fn one(entry: &Entry, times: Times, tar: &File) -> Result<Digested, PackError> {
    let Some(data) = entry.data() else {
        return Ok(ContentDigest::EMPTY.into());
    };
    if let Some(source) = &entry.source {
        return compiled(entry, source, times, data, tar);
    }
    if times != Times::Layer {
        return Ok(Digested::default());
    }
    match data {
        Data::InView {
            expect: Some(digest),
            ..
        } => Ok((*digest).into()),
        Data::Inline(bytes) => Ok(ContentDigest(Sha256::digest(bytes).into()).into()),
        Data::InView { expect: None, .. } | Data::Open(_) => copied(entry, data, tar),
    }
}

/// Any file, piece by piece.
fn copied(entry: &Entry, data: &Data, tar: &File) -> Result<Digested, PackError> {
    let path = &entry.path;
    let mut hasher = Sha256::new();
    match open(path, data, entry.data_len)? {
        Source::Memory(bytes) => {
            hasher.update(bytes);
            tar.write_all_at(bytes, entry.data_offset())?;
        }
        Source::Range(content) => {
            let mut position = entry.data_offset();
            let mut runs = Runs::new(&content);
            while let Some(run) = runs.next_run().map_err(|source| read_error(path, source))? {
                position += match run {
                    Run::Hole(len) => {
                        super::write::zeros(len, |zeros| hasher.update(zeros));
                        len
                    }
                    Run::Data(bytes) => {
                        hasher.update(&bytes);
                        tar.write_all_at(&bytes, position)?;
                        bytes.len() as u64
                    }
                };
            }
        }
    }
    Ok(ContentDigest(hasher.finalize().into()).into())
}

/// A compiled Python file. What counts as content is the header that it gets, but for the layer's
/// own time.
fn compiled(
    entry: &Entry,
    source: &pyc::Source,
    times: Times,
    data: &Data,
    tar: &File,
) -> Result<Digested, PackError> {
    let path = &entry.path;
    let mut bytes = match open(path, data, entry.data_len)? {
        Source::Memory(bytes) => bytes.to_vec(),
        Source::Range(content) => {
            let len = usize::try_from(content.len).map_err(|_| changed(path))?;
            let mut bytes = vec![0; len];
            let read = content.file.read_exact_at(&mut bytes, content.offset);
            read.map_err(|source| read_error(path, source))?;
            bytes
        }
    };
    if let Data::InView {
        expect: Some(expect),
        ..
    } = data
        && expect.0 != *Sha256::digest(&bytes)
    {
        return Err(changed(path));
    }
    tar.write_all_at(&bytes, entry.data_offset())?;
    let follows_source = source.moves_away_from(&bytes, times);
    if follows_source {
        pyc::set_source_time(&mut bytes, source.known_time(times).unwrap_or_default());
    }
    Ok(Digested {
        content: Some(ContentDigest(Sha256::digest(&bytes).into())),
        follows_source,
    })
}
