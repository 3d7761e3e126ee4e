//! What the registry does: the endpoints of the distribution-spec.

use std::io::{self, BufReader};
use std::net::TcpStream;
use std::sync::Arc;

use oci::{Digest, MediaType};

use super::fault::{self, Effect};
use super::wire::{self, Answer, Head};
use super::{Logged, Shared};

const PAGE: usize = 2;

/// Serves one connection until the client is done or a fault ends it.
pub(super) fn serve(connection: TcpStream, shared: &Shared, storage: bool) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut writer = connection.try_clone()?;
    let mut reader = BufReader::new(connection);
    while let Some(head) = wire::read_head(&mut reader)? {
        let effects = fault::take(&mut shared.state().faults, &head.method, &head.target);
        let limit = effects.iter().find_map(|effect| match effect {
            Effect::CutRequest(bytes) | Effect::RefuseRequest(bytes, _) => Some(*bytes),
            _ => None,
        });
        let body = wire::read_body(&mut reader, &head, limit.unwrap_or(u64::MAX))?;
        let mut answer = match storage {
            true => from_storage(shared, &head),
            false => decide(shared, &head, &body, &effects),
        };
        change(&mut answer, &effects);
        shared.state().log.push(Logged {
            method: head.method.clone(),
            target: head.target.clone(),
            headers: head.headers.clone(),
            body: body.len() as u64,
            status: answer.status,
            storage,
        });
        for effect in &effects {
            if let Effect::Wait(time) = effect {
                std::thread::sleep(*time);
            }
        }
        let reset =
            |effect: &Effect| matches!(effect, Effect::CutRequest(_) | Effect::LoseResponse);
        if effects.iter().any(reset) {
            return wire::reset(&writer);
        }
        let cut = effects.iter().find_map(|effect| match effect {
            Effect::CutResponse(bytes) => Some(*bytes),
            _ => None,
        });
        let sized = !effects.contains(&Effect::Unsized);
        wire::send(&mut writer, &answer, head.method == "HEAD", cut, sized)?;
        if effects
            .iter()
            .any(|effect| matches!(effect, Effect::RefuseRequest(..)))
        {
            return Ok(());
        }
    }
    Ok(())
}

fn decide(shared: &Shared, head: &Head, body: &[u8], effects: &[Effect]) -> Answer {
    for effect in effects {
        match effect {
            Effect::Status(status, headers) => {
                let mut answer = Answer::error(*status, "SCRIPTED", "as scripted");
                answer.headers.extend(headers.iter().cloned());
                return answer;
            }
            Effect::CutRequest(_) | Effect::RefuseRequest(..) => {
                keep_part(shared, head, body);
                let status = match effect {
                    Effect::RefuseRequest(_, status) => *status,
                    _ => 0,
                };
                return match status {
                    401 => {
                        shared.state().tokens.clear();
                        shared.refusal(head).unwrap_or_else(|| Answer::new(401))
                    }
                    status => Answer::error(status, "SCRIPTED", "as scripted"),
                };
            }
            _ => {}
        }
    }
    if head.path == "/token" {
        return shared.give_token(head, body);
    }
    if let Some(refusal) = shared.refusal(head) {
        return refusal;
    }
    route(shared, head, body, effects)
}

/// Changes an answer that was decided on.
fn change(answer: &mut Answer, effects: &[Effect]) {
    for effect in effects {
        match effect {
            Effect::Corrupt => {
                if let Some(byte) = answer.body.first_mut() {
                    *byte ^= 1;
                }
            }
            Effect::Append(count) => answer.body.extend(vec![b' '; *count]),
            Effect::Without(name) => answer.headers.retain(|(present, _)| present != name),
            Effect::With(name, value) => answer.headers.push((name.to_string(), value.clone())),
            _ => {}
        }
    }
}

fn route(shared: &Shared, head: &Head, body: &[u8], effects: &[Effect]) -> Answer {
    let Some(path) = head.path.strip_prefix("/v2/") else {
        return Answer::new(404);
    };
    if path.is_empty() {
        return Answer::new(200);
    }
    if let Some((repository, name)) = path.split_once("/manifests/") {
        return match head.method.as_str() {
            "PUT" => put_manifest(shared, head, repository, name, body),
            "GET" | "HEAD" => get_manifest(shared, repository, name),
            _ => Answer::new(405),
        };
    }
    if let Some((repository, session)) = path.split_once("/blobs/uploads/") {
        return match (head.method.as_str(), session) {
            ("POST", "") => begin(shared, head, repository),
            ("GET", session) => progress(shared, repository, session),
            ("PATCH", session) => append(shared, head, repository, session, body),
            ("PUT", session) => commit(shared, head, repository, session, body),
            ("DELETE", session) => match shared.state().uploads.remove(session) {
                Some(_) => Answer::new(204),
                None => unknown_upload(),
            },
            _ => Answer::new(405),
        };
    }
    if let Some((repository, digest)) = path.split_once("/blobs/") {
        return get_blob(shared, head, repository, digest, effects);
    }
    match path.strip_suffix("/tags/list") {
        Some(repository) => list_tags(shared, head, repository),
        None => Answer::new(404),
    }
}

fn get_manifest(shared: &Shared, repository: &str, name: &str) -> Answer {
    match shared
        .state()
        .manifests
        .get(&(repository.to_string(), name.to_string()))
    {
        Some((media_type, bytes)) => Answer::new(200)
            .with("content-type", media_type)
            .with("docker-content-digest", Digest::sha256(bytes))
            .body(bytes.to_vec()),
        None => Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn put_manifest(shared: &Shared, head: &Head, repository: &str, name: &str, body: &[u8]) -> Answer {
    let digest = Digest::sha256(body);
    if name.contains(':') && name != digest.to_string() {
        return Answer::error(400, "DIGEST_INVALID", "provided digest did not match");
    }
    let media_type = head
        .headers
        .get("content-type")
        .map(String::as_str)
        .unwrap_or_default();
    let mut state = shared.state();
    for name in [name.to_string(), digest.to_string()] {
        let stored = (MediaType::from(media_type), Arc::from(body));
        state.manifests.insert((repository.into(), name), stored);
    }
    Answer::new(201).with("docker-content-digest", digest)
}

fn get_blob(
    shared: &Shared,
    head: &Head,
    repository: &str,
    digest: &str,
    effects: &[Effect],
) -> Answer {
    let blob = digest
        .parse()
        .ok()
        .and_then(|digest| shared.state().blob(repository, &digest));
    let Some(blob) = blob else {
        return Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    if effects.contains(&Effect::Redirect) {
        let location = format!(
            "http://{}/storage/{digest}?signature=secret",
            shared.storage
        );
        return Answer::new(307).with("location", location);
    }
    let ignore_range = effects.contains(&Effect::IgnoreRange);
    ranged(head, &blob, ignore_range)
}

fn ranged(head: &Head, blob: &[u8], ignore_range: bool) -> Answer {
    let range = head.headers.get("range").filter(|_| !ignore_range);
    let first = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match first.and_then(|first| first.parse::<usize>().ok()) {
        None => Answer::new(200).body(blob),
        Some(first) if first < blob.len() => {
            let range = format!("bytes {first}-{}/{}", blob.len() - 1, blob.len());
            Answer::new(206)
                .with("content-range", range)
                .body(&blob[first..])
        }
        Some(_) => Answer::new(416),
    }
}

/// The other host gives out blobs to whoever knows the signature, and wants no credentials.
fn from_storage(shared: &Shared, head: &Head) -> Answer {
    let digest = head
        .path
        .strip_prefix("/storage/")
        .and_then(|digest| digest.parse().ok());
    let blob = digest.and_then(|digest: Digest| shared.state().blobs.get(&digest).cloned());
    match blob {
        _ if head.headers.contains_key("authorization") => Answer::new(400),
        Some(blob) if head.query("signature") == Some("secret") => ranged(head, &blob, false),
        _ => Answer::new(404),
    }
}

fn begin(shared: &Shared, head: &Head, repository: &str) -> Answer {
    let mut state = shared.state();
    let mounted = head.query("mount").and_then(|digest| digest.parse().ok());
    if let (Some(digest), Some(from)) = (mounted, head.query("from"))
        && let Some(blob) = state.blob(from, &digest)
    {
        state.link(repository, digest, blob);
        return Answer::new(201).with("docker-content-digest", digest);
    }
    let session = state.fresh("upload");
    state.uploads.insert(session.clone(), Vec::new());
    accepted(202, repository, &session, 0)
}

fn progress(shared: &Shared, repository: &str, session: &str) -> Answer {
    match shared.state().uploads.get(session) {
        Some(bytes) => accepted(204, repository, session, bytes.len()),
        None => unknown_upload(),
    }
}

fn append(shared: &Shared, head: &Head, repository: &str, session: &str, body: &[u8]) -> Answer {
    let mut state = shared.state();
    let Some(bytes) = state.uploads.get_mut(session) else {
        return unknown_upload();
    };
    let range = head
        .headers
        .get("content-range")
        .and_then(|range| range.split_once('-'));
    if range.is_some_and(|(first, _)| first != bytes.len().to_string()) {
        return Answer::error(416, "RANGE_INVALID", "invalid content range");
    }
    bytes.extend_from_slice(body);
    accepted(202, repository, session, bytes.len())
}

fn commit(shared: &Shared, head: &Head, repository: &str, session: &str, body: &[u8]) -> Answer {
    let mut state = shared.state();
    let Some(mut bytes) = state.uploads.remove(session) else {
        return unknown_upload();
    };
    bytes.extend_from_slice(body);
    let digest = Digest::sha256(&bytes);
    if head.query("digest") != Some(&digest.to_string()) {
        return Answer::error(400, "DIGEST_INVALID", "provided digest did not match");
    }
    state.link(repository, digest, Arc::from(bytes));
    Answer::new(201).with("docker-content-digest", digest)
}

/// What came of a request's body before it was cut off.
fn keep_part(shared: &Shared, head: &Head, body: &[u8]) {
    if let Some((_, session)) = head.path.split_once("/blobs/uploads/")
        && head.method == "PATCH"
        && let Some(bytes) = shared.state().uploads.get_mut(session)
    {
        bytes.extend_from_slice(body);
    }
}

fn accepted(status: u16, repository: &str, session: &str, received: usize) -> Answer {
    Answer::new(status)
        .with(
            "location",
            format!("/v2/{repository}/blobs/uploads/{session}"),
        )
        .with("range", format!("0-{}", received.saturating_sub(1)))
}

fn unknown_upload() -> Answer {
    Answer::error(
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "blob upload unknown to registry",
    )
}

/// Tags in pages, as `Link` has it.
fn list_tags(shared: &Shared, head: &Head, repository: &str) -> Answer {
    let state = shared.state();
    let mut tags: Vec<&String> = state
        .manifests
        .keys()
        .filter(|(owner, name)| owner == repository && !name.contains(':'))
        .map(|(_, name)| name)
        .collect();
    tags.sort();
    let after = head.query("last").unwrap_or_default();
    let rest: Vec<_> = tags
        .into_iter()
        .filter(|tag| tag.as_str() > after)
        .collect();
    let page = &rest[..rest.len().min(PAGE)];
    let body = serde_json::json!({"name": repository, "tags": page}).to_string();
    let answer = Answer::new(200).body(body);
    match page.last() {
        Some(last) if rest.len() > PAGE => {
            let next = format!("</v2/{repository}/tags/list?last={last}>; rel=\"next\"");
            answer.with("link", next)
        }
        _ => answer,
    }
}
