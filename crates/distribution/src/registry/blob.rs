//! Fetching a blob: a stream that mends itself and ends well only if the digest is right.

use std::collections::VecDeque;

use bytes::Bytes;
use oci::{Descriptor, Digest, Hasher};
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use reqwest::{Method, Response};

use super::visit::Visit;
use super::{Registry, blob_url, pull_scope};
use crate::auth::Scopes;
use crate::error::{RegistryFailure, RequestError};
use crate::exchange::Call;

/// A blob on its way. When the connection breaks, the rest is asked for by `Range`, first at the
/// same host, then at the next.
#[derive(Debug)]
pub(crate) struct RegistryBlob {
    digest: Digest,
    size: u64,
    visit: Visit,
    next_visits: VecDeque<Visit>,
    hasher: Hasher,
    /// Bytes handed out.
    offset: u64,
    /// Where the connection that is open now was asked to begin.
    opened_at: u64,
    /// Bytes of it that were handed out before, since it began at the front all the same.
    skip: u64,
    body: Option<Response>,
}

impl Registry {
    pub(crate) fn fetch_blob(&self, descriptor: &Descriptor) -> RegistryBlob {
        let action = format!("fetch the blob {}@{}", self.name, descriptor.digest);
        let mut visits = VecDeque::from(self.pull_visits(&action));
        RegistryBlob {
            digest: descriptor.digest,
            size: descriptor.size,
            visit: visits
                .pop_front()
                .expect("every registry has an address of its own"),
            next_visits: visits,
            hasher: Hasher::like(&descriptor.digest),
            offset: 0,
            opened_at: 0,
            skip: 0,
            body: None,
        }
    }

    pub(crate) async fn blob_exists(&self, digest: &Digest) -> Result<bool, RequestError> {
        let action = format!("look for the blob {}@{digest}", self.name);
        let mut visit = self.push_visit(&action).await?;
        let scopes = pull_scope(&visit.repository);
        exists_at(&mut visit, digest, &scopes)
            .await
            .map_err(|failure| visit.error(failure))
    }
}

/// Whether the host has a blob of the repository.
pub(super) async fn exists_at(
    visit: &mut Visit,
    digest: &Digest,
    scopes: &Scopes,
) -> Result<bool, RegistryFailure> {
    let url = blob_url(visit, digest);
    let call = Call::new(Method::HEAD, url, scopes, &[200]);
    match visit.send(&call).await {
        Ok(_) => Ok(true),
        Err(RegistryFailure::NotFound { .. }) => Ok(false),
        Err(failure) => Err(failure),
    }
}

impl RegistryBlob {
    /// The next bytes; `None` once all have come and their digest is right.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            match self.step().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(bytes),
                Err(failure) => {
                    self.body = None;
                    self.recover(failure).await?;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>, RegistryFailure> {
        if self.body.is_none() {
            if self.offset == self.size && self.size > 0 {
                return self.verify();
            }
            self.body = Some(self.open().await?);
        }
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        match self.visit.endpoint.chunk(body).await? {
            Some(chunk) => self.take(chunk).map(Some),
            None if self.offset == self.size => self.verify(),
            // An answer that is complete and too short would be so for ever.
            None if self.offset == self.opened_at => Err(self.wrong_size(self.offset)),
            None => Err(RegistryFailure::Truncated {
                expected: self.size,
                got: self.offset,
            }),
        }
    }

    async fn open(&mut self) -> Result<Response, RegistryFailure> {
        let url = blob_url(&self.visit, &self.digest);
        let call = Call::new(
            Method::GET,
            url,
            &pull_scope(&self.visit.repository),
            &[200, 206],
        )
        .from(self.offset);
        let response = match self.visit.endpoint.exchange(&call).await {
            // There is nothing behind what came.
            Err(RegistryFailure::Status { status, .. }) if status == 416 && self.offset > 0 => {
                return Err(self.wrong_size(self.offset));
            }
            response => response?,
        };
        self.opened_at = self.offset;
        let whole = if response.status() == 206 {
            let (first, total) =
                content_range(response.headers()).ok_or_else(|| RegistryFailure::Malformed {
                    what: "a part without Content-Range".into(),
                })?;
            if first != self.offset {
                let what = format!("a part from byte {first} instead of {}", self.offset);
                return Err(RegistryFailure::Malformed { what });
            }
            self.skip = 0;
            total
        } else {
            self.skip = self.offset;
            response.content_length()
        };
        match whole {
            Some(whole) if whole != self.size => Err(self.wrong_size(whole)),
            _ => Ok(response),
        }
    }

    fn take(&mut self, mut chunk: Bytes) -> Result<Bytes, RegistryFailure> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // At most the length of the chunk, which is in memory.
        let chunk = chunk.split_off(skipped as usize);
        let end = self.offset + chunk.len() as u64;
        if end > self.size {
            return Err(self.wrong_size(end));
        }
        self.hasher.update(&chunk);
        self.offset = end;
        if !chunk.is_empty() {
            self.visit.patience.progress();
        }
        Ok(chunk)
    }

    fn verify(&self) -> Result<Option<Bytes>, RegistryFailure> {
        let got = self.hasher.clone().finish();
        if got == self.digest {
            return Ok(None);
        }
        Err(RegistryFailure::wrong_digest(self.digest, got))
    }

    fn wrong_size(&self, got: u64) -> RegistryFailure {
        RegistryFailure::WrongSize {
            expected: self.size,
            got,
        }
    }

    /// Pauses, or goes on to the next host, or gives up. What was handed out cannot be taken
    /// back, so wrong content is an error even where another host might have the right one.
    async fn recover(&mut self, failure: RegistryFailure) -> Result<(), RequestError> {
        let spoiled = matches!(failure, RegistryFailure::WrongDigest(_));
        let failure = match self.visit.pause(failure).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let moves_on = self.visit.moves_on(&failure) && (!spoiled || self.offset == 0);
        match self.next_visits.pop_front().filter(|_| moves_on) {
            Some(next) => {
                self.visit = next;
                Ok(())
            }
            None => Err(self.visit.error(failure)),
        }
    }
}

/// First byte and total length of `bytes FIRST-LAST/TOTAL`; the total may be unknown.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim();
    let (range, total) = value.strip_prefix("bytes")?.trim_start().split_once('/')?;
    let first = range.split('-').next()?.parse().ok()?;
    Some((first, total.parse().ok()))
}
