//! Executes an http source: one file, downloaded once and revalidated by its ETag.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use graph::HttpSource;
use layer::{Change, Content, Data, Kind, Metadata, Node, RelPath, Time};
use oci::Digest;
use serde::{Deserialize, Serialize};
use solver::VertexIndex;

use crate::build::{Handle, Session};
use crate::credentials;
use crate::error::StepError;
use crate::event::EventKind;
use crate::git_remote;
use crate::lock::lock;
use crate::net::{Download, Validators};

/// What the store remembers of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) digest: Digest,
    etag: Option<String>,
    modified: Option<String>,
}

const NOTE: &str = "http";

/// What is at the URL now, as a text that changes when it does.
pub(crate) fn identity(
    session: &Session<'_>,
    index: VertexIndex,
    source: &HttpSource,
) -> Result<String, StepError> {
    if source.checksum.is_some() {
        return Ok(String::new());
    }
    let seen = bring(session, index, source)?;
    lock(&session.learned.downloads).insert(index, seen.clone());
    Ok(format!(
        "{} {}",
        seen.digest,
        seen.modified.unwrap_or_default()
    ))
}

/// The file as a layer.
pub(crate) fn execute(
    session: &Session<'_>,
    index: VertexIndex,
    source: &HttpSource,
) -> Result<Handle, StepError> {
    let failed = || format!("download {}", git_remote::redacted(&source.url));
    let keyed = lock(&session.learned.downloads).get(&index).cloned();
    let seen = match keyed {
        // The key speaks of these bytes.
        Some(seen) => seen,
        None => match known(session, source)? {
            Some(seen) => seen,
            None => bring(session, index, source)?,
        },
    };
    let blob = session
        .store
        .blob(&seen.digest)
        .map_err(StepError::failed(failed()))?;
    let blob = blob.ok_or_else(|| {
        let url = git_remote::redacted(&source.url);
        StepError::refused(format!("what was downloaded from {url} is gone"))
    })?;
    let file = Arc::new(File::open(&blob.path).map_err(StepError::failed(failed()))?);
    let mtime = seen
        .modified
        .as_deref()
        .and_then(http_date)
        .unwrap_or_default();
    let node = Node {
        kind: Kind::File { size: blob.len },
        metadata: Metadata {
            mode: 0o600,
            mtime,
            ..Metadata::default()
        },
        links: None,
    };
    let data = Data::Open(Content {
        file,
        offset: 0,
        len: blob.len,
    });
    let path =
        RelPath::new(source.filename.clone().into_bytes()).map_err(StepError::failed(failed()))?;
    let change = Change::Put {
        node,
        opaque: false,
        data: Some(data),
    };
    let layer = session.layers.write(&[], &[(path, change)])?;
    Ok(Handle::layers([layer]))
}

/// What was downloaded before, if it may be used without asking.
fn known(session: &Session<'_>, source: &HttpSource) -> Result<Option<Seen>, StepError> {
    let failed = || {
        format!(
            "look up the download of {}",
            git_remote::redacted(&source.url)
        )
    };
    let seen: Option<Seen> = session
        .store
        .note(NOTE, &source.url)
        .map_err(StepError::failed(failed()))?;
    let Some(seen) = seen.filter(|seen| {
        source
            .checksum
            .is_none_or(|checksum| checksum == seen.digest)
    }) else {
        return Ok(None);
    };
    let blob = session
        .store
        .blob(&seen.digest)
        .map_err(StepError::failed(failed()))?;
    Ok(blob.is_some().then_some(seen))
}

/// Asks the server, downloads what is new.
fn bring(
    session: &Session<'_>,
    index: VertexIndex,
    source: &HttpSource,
) -> Result<Seen, StepError> {
    let failed = || format!("download {}", git_remote::redacted(&source.url));
    let known = known(session, source)?;
    let validators = known.as_ref().map(|seen| Validators {
        etag: seen.etag.clone(),
        modified: seen.modified.clone(),
    });
    let mut writer = session
        .store
        .blob_writer(source.checksum.as_ref())
        .map_err(StepError::failed(failed()))?;
    let step = session.digest(index);
    let download = session.resolver.net().download(
        &session.cancel,
        &source.url,
        credentials::of_download(session.request, &source.url),
        validators.unwrap_or_default(),
        &mut |piece, done, total| {
            session.events.send(EventKind::Transfer {
                step,
                item: source.filename.clone(),
                done,
                total,
            });
            writer.write_all(piece)
        },
    );
    let download = download.map_err(StepError::failed_unless(&session.cancel, failed()));
    let seen = match (download?, known) {
        (Download::NotModified, Some(seen)) => seen,
        (Download::NotModified, None) => {
            return Err(StepError::refused(format!(
                "{} answers 304 to an unconditional request",
                git_remote::redacted(&source.url)
            )));
        }
        (Download::Done(validators), _) => {
            let blob = writer.commit().map_err(StepError::failed(failed()))?;
            Seen {
                digest: blob.digest,
                etag: validators.etag,
                modified: validators.modified,
            }
        }
    };
    session
        .store
        .save_note(NOTE, &source.url, &seen)
        .map_err(StepError::failed(failed()))?;
    Ok(seen)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<Time> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Time {
        seconds: time.timestamp().as_second(),
        nanos: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_servers() {
        let time = http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        assert_eq!(
            time,
            Time {
                seconds: 784_111_777,
                nanos: 0
            }
        );
        assert_eq!(http_date("yesterday"), None);
    }
}
