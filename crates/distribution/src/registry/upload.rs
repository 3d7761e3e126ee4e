//! Sending a blob: not at all if it is there, by mounting if a neighbour has it, else as a stream
//! that is resumed where it broke if the registry knows how far it got.
//!
//! ```text
//!  HEAD ── there ──► Existed
//!    │ not
//!  POST ?mount&from ── 201 ──► Mounted
//!    │ 202, Location
//!    ├─ small: PUT Location&digest (everything) ─────────────── 201 ──► Uploaded
//!    └─ large: PATCH Location (everything) ─ 202 ─ PUT &digest ─ 201 ──► Uploaded
//!                 │ broke
//!                 └ HEAD blob · GET Location ─ 204, Range: 0-N ─ PATCH from N+1
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use oci::{Descriptor, Digest};
use reqwest::header::{HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::blob::exists_at;
use super::visit::Visit;
use super::{Registry, push_scope};
use crate::auth::Scopes;
use crate::error::{RegistryFailure, RequestError};
use crate::exchange::{Call, Payload, Progress};

/// Up to here a blob goes out in one PUT: it saves a round trip, and there is little to resume.
const SMALL: u64 = 4 * 1024 * 1024;
/// What is read from a file and handed to the connection at once.
const CHUNK: usize = 256 * 1024;
const BYTES: &str = "application/octet-stream";

/// How a blob got to where it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from the other repository.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// Where the bytes of a blob that is pushed come from; their number is the descriptor's size.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// Memory.
    Bytes(Bytes),
    /// A range of a file, which is read only.
    File {
        /// The file.
        file: Arc<File>,
        /// Where the range begins.
        offset: u64,
    },
}

/// How the content goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// In the request that also commits it.
    Put,
    /// Before the request that commits it; can be resumed.
    Patch,
}

/// An upload that was begun.
#[derive(Debug)]
struct Session {
    location: Url,
    style: Style,
    /// Bytes that the registry has; only with [`Style::Patch`].
    offset: u64,
}

/// How to go on after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Where it broke, if the registry knows where that is; else from the front.
    Resume,
    /// From the front.
    Restart(Style),
}

impl Registry {
    pub(crate) async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&str>,
    ) -> Result<Pushed, RequestError> {
        let action = format!("push the blob {}@{}", self.name(), descriptor.digest);
        let mut visit = self.push_visit(&action).await?;
        let pushed = push_at(&mut visit, descriptor, source, mount_from).await;
        pushed.map_err(|failure| visit.error(failure))
    }

    /// Takes a blob over from another repository of the registry. `false` when it will not.
    pub(crate) async fn mount_blob(
        &self,
        digest: &Digest,
        from: &str,
    ) -> Result<bool, RequestError> {
        let action = format!("mount the blob {}@{digest}", self.name());
        let mut visit = self.push_visit(&action).await?;
        let mounted = mount(&mut visit, digest, from).await;
        match mounted.map_err(|failure| visit.error(failure))? {
            None => Ok(true),
            Some(location) => {
                give_up(&visit, location).await;
                Ok(false)
            }
        }
    }

    /// Begins an upload and gives it up again.
    pub(crate) async fn check_push(&self) -> Result<(), RequestError> {
        let action = format!("check the right to push to {}", self.name());
        let mut visit = self.push_visit(&action).await?;
        let begun = begin(&mut visit).await;
        let location = begun.map_err(|failure| visit.error(failure))?;
        give_up(&visit, location).await;
        Ok(())
    }
}

/// Cancels an upload. Registries that cannot clean up by themselves after a while.
async fn give_up(visit: &Visit, location: Url) {
    let scopes = push_scope(&visit.repository);
    let cancel = Call::new(Method::DELETE, location, &scopes, &[200, 202, 204]);
    drop(visit.endpoint.exchange(&cancel).await);
}

async fn push_at(
    visit: &mut Visit,
    descriptor: &Descriptor,
    source: &BlobSource,
    mount_from: Option<&str>,
) -> Result<Pushed, RegistryFailure> {
    // A token for pulling only is refused where the repository does not exist yet.
    let scopes = push_scope(&visit.repository);
    if exists_at(visit, &descriptor.digest, &scopes).await? {
        return Ok(Pushed::Existed);
    }
    let location = match mount_from {
        Some(from) if from != visit.repository => {
            match mount(visit, &descriptor.digest, from).await? {
                None => return Ok(Pushed::Mounted),
                Some(location) => location,
            }
        }
        _ => begin(visit).await?,
    };
    let style = if descriptor.size <= SMALL {
        Style::Put
    } else {
        Style::Patch
    };
    let mut session = Session {
        location,
        style,
        offset: 0,
    };
    loop {
        let Err(failure) = send(visit, &mut session, descriptor, source).await else {
            return Ok(Pushed::Uploaded);
        };
        let (pause, plan) = plan_after(failure, session.style)?;
        if let Some(failure) = pause {
            visit.pause(failure).await?;
        }
        // The answer may be all that was lost.
        if exists_at(visit, &descriptor.digest, &scopes).await? {
            return Ok(Pushed::Uploaded);
        }
        session = go_on(visit, session, plan, descriptor.size).await?;
    }
}

/// Sorts the failures that another attempt can mend from those that it cannot: what to pause
/// for, and how to go on.
fn plan_after(
    failure: RegistryFailure,
    style: Style,
) -> Result<(Option<RegistryFailure>, Plan), RegistryFailure> {
    match failure {
        RegistryFailure::Source { .. } => Err(failure),
        // Some registries know no PATCH, or do not resume as they should.
        RegistryFailure::Status { .. } if style == Style::Patch => {
            Ok((None, Plan::Restart(Style::Put)))
        }
        // The session is gone: it timed out, or another machine answers now.
        RegistryFailure::NotFound { registry } => {
            let status = StatusCode::NOT_FOUND;
            let gone = RegistryFailure::Busy {
                status,
                retry_after: None,
                registry,
            };
            Ok((Some(gone), Plan::Restart(style)))
        }
        failure if style == Style::Patch => Ok((Some(failure), Plan::Resume)),
        failure => Ok((Some(failure), Plan::Restart(style))),
    }
}

async fn go_on(
    visit: &mut Visit,
    broken: Session,
    plan: Plan,
    size: u64,
) -> Result<Session, RegistryFailure> {
    if plan == Plan::Resume
        && let Some((location, offset)) = ask_progress(visit, &broken.location).await
        && (1..=size).contains(&offset)
    {
        if offset > broken.offset {
            visit.patience.progress();
        }
        return Ok(Session {
            location,
            style: Style::Patch,
            offset,
        });
    }
    let style = match plan {
        Plan::Restart(style) => style,
        Plan::Resume => broken.style,
    };
    Ok(Session {
        location: begin(visit).await?,
        style,
        offset: 0,
    })
}

/// Begins an upload: where its content is to be sent.
async fn begin(visit: &mut Visit) -> Result<Url, RegistryFailure> {
    let url = visit.url("blobs/uploads/");
    let call = Call::new(Method::POST, url, &push_scope(&visit.repository), &[202]);
    let answer = visit.send(&call).await?;
    location(visit, answer.headers(), answer.url())
}

/// Asks the registry to take a blob from another of its repositories. `None` when it did, else
/// where to send the content. A refusal is no failure: the content is sent then.
async fn mount(
    visit: &mut Visit,
    digest: &Digest,
    from: &str,
) -> Result<Option<Url>, RegistryFailure> {
    let mut url = visit.url("blobs/uploads/");
    url.query_pairs_mut()
        .append_pair("mount", &digest.to_string())
        .append_pair("from", from);
    let mut scopes: Scopes = push_scope(&visit.repository);
    scopes.insert(format!("repository:{from}:pull"));
    match visit
        .endpoint
        .exchange(&Call::new(Method::POST, url, &scopes, &[201, 202]))
        .await
    {
        Ok(answer) if answer.status() == StatusCode::CREATED => Ok(None),
        Ok(answer) => location(visit, answer.headers(), answer.url()).map(Some),
        Err(_) => begin(visit).await.map(Some),
    }
}

async fn send(
    visit: &mut Visit,
    session: &mut Session,
    descriptor: &Descriptor,
    source: &BlobSource,
) -> Result<(), RegistryFailure> {
    let size = descriptor.size;
    let scopes = push_scope(&visit.repository);
    if session.style == Style::Patch && session.offset < size {
        let call = Call::new(
            Method::PATCH,
            session.location.clone(),
            &scopes,
            &[201, 202, 204],
        );
        let call = if session.offset > 0 {
            call.part(session.offset, size)
        } else {
            call
        };
        let answer = stream_out(visit, call, source, session.offset..size).await?;
        session.location = location(visit, answer.headers(), &session.location)?;
        session.offset = size;
        visit.patience.progress();
    }
    let mut url = session.location.clone();
    url.query_pairs_mut()
        .append_pair("digest", &descriptor.digest.to_string());
    let commit = Call::new(Method::PUT, url, &scopes, &[200, 201, 204]);
    if session.style == Style::Put {
        stream_out(visit, commit, source, 0..size).await?;
    } else {
        visit.endpoint.exchange(&commit).await?;
    }
    Ok(())
}

/// How many bytes of an upload the registry has, and where to send the rest; `None` when it does
/// not say.
async fn ask_progress(visit: &mut Visit, session: &Url) -> Option<(Url, u64)> {
    let scopes = push_scope(&visit.repository);
    let call = Call::new(Method::GET, session.clone(), &scopes, &[200, 202, 204]);
    let answer = visit.endpoint.exchange(&call).await.ok()?;
    let range = answer.headers().get(RANGE)?.to_str().ok()?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    let location = location(visit, answer.headers(), session).ok()?;
    Some((location, last.checked_add(1)?))
}

/// `Location` may be relative, may be missing where it did not change, and may say http behind
/// a proxy that speaks https.
fn location(visit: &Visit, headers: &HeaderMap, base: &Url) -> Result<Url, RegistryFailure> {
    let malformed = |what: &str| RegistryFailure::Malformed { what: what.into() };
    let Some(value) = headers.get(LOCATION) else {
        return match base.path().ends_with("/blobs/uploads/") {
            true => Err(malformed("an upload without Location")),
            false => Ok(base.clone()),
        };
    };
    let value = value
        .to_str()
        .map_err(|_| malformed("a Location that is no text"))?;
    let mut url = base
        .join(value)
        .map_err(|_| malformed("a Location that is no URL"))?;
    let ours = &visit.endpoint.address.base;
    if url.scheme() != ours.scheme() {
        if ours.scheme() != "https" || url.host() != ours.host() || url.scheme() != "http" {
            return match url.scheme() {
                "https" => Ok(url),
                _ => Err(malformed("a Location that is not reached by https")),
            };
        }
        // The port is that of the inner connection and means nothing here.
        url.set_scheme(ours.scheme())
            .map_err(|()| malformed("a Location without a scheme"))?;
        url.set_port(ours.port())
            .map_err(|()| malformed("a Location without a port"))?;
    }
    Ok(url)
}

/// Sends a range of the content as the body of `call`.
async fn stream_out(
    visit: &Visit,
    call: Call,
    source: &BlobSource,
    range: std::ops::Range<u64>,
) -> Result<Response, RegistryFailure> {
    let failed: ReadFailure = ReadFailure::default();
    let call = call.body(BYTES, payload(source, range, &failed));
    let answer = visit.endpoint.exchange(&call).await;
    match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(source) => Err(RegistryFailure::Source { source }),
        None => answer,
    }
}

/// Where a failure to read goes; the HTTP client would make a broken connection of it.
type ReadFailure = Arc<Mutex<Option<io::Error>>>;

fn payload(source: &BlobSource, range: std::ops::Range<u64>, failed: &ReadFailure) -> Payload {
    let (source, failed) = match source {
        BlobSource::Bytes(bytes) => {
            let from = usize::try_from(range.start)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            return Payload::Bytes(bytes.slice(from..));
        }
        BlobSource::File { file, offset } => ((file.clone(), *offset), failed.clone()),
    };
    let length = range.end - range.start;
    let open = move |progress: Progress| {
        let (file, base) = source.clone();
        let (failed, range) = (failed.clone(), range.clone());
        reqwest::Body::wrap_stream(stream::try_unfold(range.start, move |position| {
            let (file, failed, progress) = (file.clone(), failed.clone(), progress.clone());
            let wanted = CHUNK.min(usize::try_from(range.end - position).unwrap_or(CHUNK));
            async move {
                if wanted == 0 {
                    return Ok(None);
                }
                match read_range(file, base + position, wanted).await {
                    Ok(bytes) => {
                        progress.add(bytes.len() as u64);
                        Ok(Some((bytes, position + wanted as u64)))
                    }
                    Err(error) => {
                        let kind = error.kind();
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        Err(io::Error::from(kind))
                    }
                }
            }
        }))
    };
    Payload::Stream {
        open: Arc::new(open),
        length,
    }
}

/// Reads exactly `length` bytes on a thread that may block.
pub(crate) async fn read_range(file: Arc<File>, offset: u64, length: usize) -> io::Result<Bytes> {
    let read = move || {
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, offset)?;
        Ok(Bytes::from(buffer))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(bytes) => bytes,
        Err(panic) => Err(io::Error::other(panic)),
    }
}
