//! Manifests and tags.

use std::sync::Arc;

use oci::{Descriptor, Digest, MediaType};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::visit::Visit;
use super::{Registry, manifest_url, pull_scope, push_scope};
use crate::error::{RegistryFailure, RequestError};
use crate::exchange::{Call, Payload};
use crate::repository::{MAX_MANIFEST, RawManifest, Version};

const DIGEST_HEADER: &str = "docker-content-digest";

/// Everything that we can read, and nothing that we cannot.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// More pages of tags than any repository has.
const MAX_PAGES: usize = 1000;
const MAX_PAGE: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct TagPage {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Registry {
    pub(crate) async fn resolve(&self, version: &Version) -> Result<Descriptor, RequestError> {
        let action = format!("resolve {}{version}", self.name);
        for mut visit in self.pull_visits(&action) {
            let outcome = resolve_at(&mut visit, version).await;
            if let Some(settled) = visit.settle(outcome) {
                return settled;
            }
        }
        unreachable!("the last visit does not move on")
    }

    pub(crate) async fn fetch_manifest(
        &self,
        version: &Version,
    ) -> Result<RawManifest, RequestError> {
        let action = format!("fetch the manifest {}{version}", self.name);
        for mut visit in self.pull_visits(&action) {
            let outcome = fetch_at(&mut visit, version).await;
            if let Some(settled) = visit.settle(outcome) {
                return settled;
            }
        }
        unreachable!("the last visit does not move on")
    }

    pub(crate) async fn push_manifest(
        &self,
        manifest: &RawManifest,
        version: &Version,
    ) -> Result<(), RequestError> {
        let action = format!("push the manifest {}{version}", self.name);
        let mut visit = self.push_visit(&action).await?;
        let url = manifest_url(&visit, version);
        let body = Payload::Bytes(manifest.bytes.to_vec().into());
        let call = Call::new(
            Method::PUT,
            url,
            &push_scope(&visit.repository),
            &[200, 201, 202],
        )
        .body(manifest.descriptor.media_type.as_str(), body);
        let answer = visit
            .send(&call)
            .await
            .map_err(|failure| visit.error(failure))?;
        let expected = manifest.descriptor.digest;
        match digest_header(answer.headers()) {
            Some(got) if got.algorithm() == expected.algorithm() && got != expected => {
                Err(visit.error(RegistryFailure::wrong_digest(expected, got)))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn tags(&self) -> Result<Vec<String>, RequestError> {
        let action = format!("list the tags of {}", self.name);
        for mut visit in self.pull_visits(&action) {
            let outcome = tags_at(&mut visit).await;
            if let Some(settled) = visit.settle(outcome) {
                return settled;
            }
        }
        unreachable!("the last visit does not move on")
    }
}

/// Asks for the head only; for everything where the head does not say enough, or is refused by
/// registries that only know GET, and for errors, whose reason is in the body.
async fn resolve_at(visit: &mut Visit, version: &Version) -> Result<Descriptor, RegistryFailure> {
    let url = manifest_url(visit, version);
    let scopes = pull_scope(&visit.repository);
    let call = Call::new(Method::HEAD, url, &scopes, &[200]).accept(ACCEPTED);
    let head = match visit.send(&call).await {
        Ok(head) => described_by(head.headers(), version),
        Err(
            RegistryFailure::NotFound { .. }
            | RegistryFailure::Status { .. }
            | RegistryFailure::Denied { .. }
            | RegistryFailure::Unauthorized { .. },
        ) => None,
        Err(failure) => return Err(failure),
    };
    match head {
        Some(descriptor) => Ok(descriptor),
        None => Ok(fetch_at(visit, version).await?.descriptor),
    }
}

/// What a head says of its manifest, if it says everything and nothing odd.
fn described_by(headers: &HeaderMap, version: &Version) -> Option<Descriptor> {
    let digest = digest_header(headers)?;
    let media_type = media_type_header(headers)?;
    let size = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    let known = media_type.is_manifest() || media_type.is_index();
    let asked = match version {
        Version::Digest(asked) => *asked == digest,
        Version::Tag(_) => true,
    };
    (known && asked && size > 0).then(|| Descriptor::new(media_type, digest, size))
}

/// Fetches and verifies a manifest.
async fn fetch_at(visit: &mut Visit, version: &Version) -> Result<RawManifest, RegistryFailure> {
    let url = manifest_url(visit, version);
    let call = Call::new(Method::GET, url, &pull_scope(&visit.repository), &[200]).accept(ACCEPTED);
    let (headers, bytes) = loop {
        let answer = visit.send(&call).await?;
        let headers = answer.headers().clone();
        match visit.endpoint.body(answer, MAX_MANIFEST).await {
            Ok(bytes) => break (headers, bytes),
            Err(failure) => visit.pause(failure).await?,
        }
    };
    let expected = match version {
        Version::Digest(digest) => Some(*digest),
        Version::Tag(_) => digest_header(&headers),
    };
    let digest = match expected {
        Some(expected) => {
            let mut hasher = oci::Hasher::like(&expected);
            hasher.update(&bytes);
            let got = hasher.finish();
            if got != expected {
                return Err(RegistryFailure::wrong_digest(expected, got));
            }
            got
        }
        None => Digest::sha256(&bytes),
    };
    let announced = media_type_header(&headers);
    let media_type = media_type_of(&bytes, announced)?;
    let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
    Ok(RawManifest {
        descriptor,
        bytes: Arc::from(bytes),
    })
}

/// The type that the document claims, that the header announces, or that its keys show.
fn media_type_of(bytes: &[u8], announced: Option<MediaType>) -> Result<MediaType, RegistryFailure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Keys {
        schema_version: Option<u64>,
        media_type: Option<MediaType>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let malformed = |what: String| RegistryFailure::Malformed { what };
    let keys: Keys =
        serde_json::from_slice(bytes).map_err(|_| malformed("the manifest is no JSON".into()))?;
    if keys.schema_version == Some(1) {
        return Err(malformed(
            "the image is of Docker's schema 1, which has been given up".into(),
        ));
    }
    let known = |media_type: &MediaType| media_type.is_manifest() || media_type.is_index();
    if let Some(media_type) = keys.media_type.or(announced).filter(known) {
        return Ok(media_type);
    }
    match (keys.manifests, keys.config) {
        (Some(_), None) => Ok(MediaType::OciIndex),
        (None, Some(_)) => Ok(MediaType::OciManifest),
        _ => Err(malformed(
            "it is neither an image manifest nor an index".into(),
        )),
    }
}

async fn tags_at(visit: &mut Visit) -> Result<Vec<String>, RegistryFailure> {
    let mut tags = Vec::new();
    let mut url = visit.url("tags/list");
    for _ in 0..MAX_PAGES {
        let scopes = pull_scope(&visit.repository);
        let answer = visit
            .send(&Call::new(Method::GET, url.clone(), &scopes, &[200]))
            .await?;
        let next = next_page(answer.headers(), &url);
        let body = visit.endpoint.body(answer, MAX_PAGE).await?;
        let page: TagPage =
            serde_json::from_slice(&body).map_err(|_| RegistryFailure::Malformed {
                what: "no JSON of a list of tags".into(),
            })?;
        tags.extend(page.tags.unwrap_or_default());
        match next {
            Some(next) => url = next,
            None => break,
        }
    }
    Ok(tags)
}

/// `Link: </v2/a/tags/list?last=x&n=1>; rel="next"`, on the same host.
fn next_page(headers: &HeaderMap, current: &Url) -> Option<Url> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = current.join(target).ok()?;
    (relation.contains("next") && next.host() == current.host()).then_some(next)
}

fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get(DIGEST_HEADER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn media_type_header(headers: &HeaderMap) -> Option<MediaType> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().into())
}
