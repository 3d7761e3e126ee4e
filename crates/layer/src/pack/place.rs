//! Files whose digest is needed before the first header can be written: they are read, hashed and
//! written to their place in the tar in one go, on all cores.

use super::plan::{Plan, Planned};
use super::{Known, PackError, Source, changed, open, read_error};
use crate::model::{ContentDigest, Data};
use crate::pyc;
use crate::runs::{Run, Runs};
use crate::times::Times;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Finds out what must be known of every entry's bytes, in order of the plan.
pub(super) fn place(plan: &Plan<'_>, times: Times, tar: &File) -> Result<Vec<Known>, PackError> {
    plan.entries
        .par_iter()
        .with_min_len(16)
        .map(|entry| one(plan, entry, times, tar))
        .collect()
}

fn one(plan: &Plan<'_>, entry: &Planned, times: Times, tar: &File) -> Result<Known, PackError> {
    let Some(data) = plan.data(entry) else {
        return Ok(Known {
            content: (times == Times::Layer).then(|| ContentDigest(Sha256::digest(b"").into())),
            ..Known::default()
        });
    };
    if entry.source.is_some() {
        return compiled(plan, entry, data, tar);
    }
    if times != Times::Layer {
        return Ok(Known::default());
    }
    match data {
        Data::InView {
            expect: Some(digest),
            ..
        } => Ok(Known {
            content: Some(*digest),
            ..Known::default()
        }),
        Data::Inline(bytes) => Ok(Known {
            content: Some(ContentDigest(Sha256::digest(bytes).into())),
            ..Known::default()
        }),
        Data::InView { expect: None, .. } | Data::Open(_) => copied(plan, entry, data, tar),
    }
}

/// Any file, piece by piece.
fn copied(plan: &Plan<'_>, entry: &Planned, data: &Data, tar: &File) -> Result<Known, PackError> {
    let (path, _) = plan.change(entry);
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
    Ok(Known {
        content: Some(ContentDigest(hasher.finalize().into())),
        placed: true,
        follows_source: false,
    })
}

/// A compiled Python file. Its source's time does not count as content.
fn compiled(plan: &Plan<'_>, entry: &Planned, data: &Data, tar: &File) -> Result<Known, PackError> {
    let (path, _) = plan.change(entry);
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
    let follows_source = plan
        .source_time(entry)
        .is_some_and(|time| pyc::follows(&bytes, time));
    if follows_source {
        pyc::set_source_time(&mut bytes, crate::model::Time::default());
    }
    Ok(Known {
        content: Some(ContentDigest(Sha256::digest(&bytes).into())),
        placed: true,
        follows_source,
    })
}
