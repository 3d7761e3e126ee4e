use std::io::Write;
use std::sync::Arc;

use distribution::{BlobSource, Pushed, Version};
use testkit::{Access, Effect, Registry};

use super::*;

/// Larger than what goes out in one request.
const LARGE: usize = 6 * 1024 * 1024;

/// A file with some other bytes before and behind.
fn file_source(bytes: &[u8]) -> BlobSource {
    let mut file = tempfile::tempfile().expect("a file");
    for part in [b"before", bytes, b"behind"] {
        file.write_all(part).expect("room");
    }
    BlobSource::File {
        file: Arc::new(file),
        offset: 6,
    }
}

/// Pushes under faults: the registry must have the blob in the end.
async fn pushed(registry: &Registry, repository: &Repository, bytes: &[u8]) -> Pushed {
    let pushed = repository
        .push_blob(&blob(bytes), &file_source(bytes), None)
        .await;
    let pushed = pushed.unwrap_or_else(|error| panic!("{}", told(&error)));
    let stored = registry.blob(NAME, &Digest::sha256(bytes)).expect("stored");
    assert!(&stored[..] == bytes, "other bytes");
    pushed
}

#[tokio::test]
async fn blobs_are_sent_once() {
    let registry = Registry::start();
    let repository = repository(&registry);
    for size in [0, 1, 1000, LARGE] {
        let bytes = content(size);
        assert_eq!(
            pushed(&registry, &repository, &bytes).await,
            Pushed::Uploaded
        );
        assert_eq!(
            pushed(&registry, &repository, &bytes).await,
            Pushed::Existed
        );
    }
    let small = registry.log_lines();
    assert_eq!(
        small[..4],
        [
            format!("HEAD /v2/team/app/blobs/{} 404", Digest::sha256(b"")),
            "POST /v2/team/app/blobs/uploads/ 202".into(),
            "PUT /v2/team/app/blobs/uploads/upload-1 201".into(),
            format!("HEAD /v2/team/app/blobs/{} 200", Digest::sha256(b"")),
        ]
    );
}

#[tokio::test]
async fn a_neighbours_blob_is_mounted_or_else_sent() {
    let registry = Registry::start();
    let bytes = content(1000);
    registry.put_blob("base/image", &bytes);
    let repository = repository(&registry);
    let source = file_source(&bytes);
    let mounted = repository
        .push_blob(&blob(&bytes), &source, Some("base/image"))
        .await;
    assert_eq!(mounted.expect("mounts"), Pushed::Mounted);
    let other = content(2000);
    let source = file_source(&other);
    let sent = repository
        .push_blob(&blob(&other), &source, Some("base/image"))
        .await;
    assert_eq!(sent.expect("sends"), Pushed::Uploaded);
    assert_eq!(registry.count("POST", "/uploads/"), 2);
    registry.fault("POST", "mount=", 1, Effect::Status(403, vec![]));
    let third = content(3000);
    let source = file_source(&third);
    let sent = repository
        .push_blob(&blob(&third), &source, Some("base/image"))
        .await;
    assert_eq!(sent.expect("sends"), Pushed::Uploaded);
}

#[tokio::test]
async fn uploads_survive_what_registries_do() {
    let retry = |seconds: &str| vec![("retry-after".to_string(), seconds.to_string())];
    let cases: Vec<(&str, &str, usize, Effect)> = vec![
        ("HEAD", "/blobs/", 2, Effect::Status(502, vec![])),
        ("POST", "/uploads/", 3, Effect::Status(429, retry("0"))),
        ("POST", "/uploads/", 1, Effect::LoseResponse),
        ("PATCH", "/uploads/", 2, Effect::Status(500, vec![])),
        ("PATCH", "/uploads/", 1, Effect::CutRequest(3_000_000)),
        ("PATCH", "/uploads/", 3, Effect::CutRequest(1_000_000)),
        (
            "PATCH",
            "/uploads/",
            1,
            Effect::RefuseRequest(2_000_000, 500),
        ),
        ("PATCH", "/uploads/", 1, Effect::LoseResponse),
        ("PATCH", "/uploads/", 9, Effect::Status(405, vec![])),
        ("PUT", "digest=", 1, Effect::Status(502, vec![])),
        ("PUT", "digest=", 1, Effect::LoseResponse),
        ("PUT", "digest=", 1, Effect::Status(404, vec![])),
        ("PUT", "digest=", 1, Effect::Status(400, vec![])),
    ];
    let bytes = content(LARGE);
    for (method, part, times, effect) in cases {
        let registry = Registry::start();
        registry.fault(method, part, times, effect.clone());
        let outcome = pushed(&registry, &repository(&registry), &bytes).await;
        assert_eq!(
            outcome,
            Pushed::Uploaded,
            "{effect:?}: {:?}",
            registry.log_lines()
        );
    }
    for (method, effect) in [
        ("PUT", Effect::Status(502, vec![])),
        ("PUT", Effect::CutRequest(100)),
        ("PUT", Effect::LoseResponse),
    ] {
        let registry = Registry::start();
        registry.fault(method, "digest=", 1, effect);
        pushed(&registry, &repository(&registry), &content(10_000)).await;
    }
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_broke() {
    let registry = Registry::start();
    let bytes = content(LARGE);
    registry.fault("PATCH", "/uploads/", 1, Effect::CutRequest(4_000_000));
    pushed(&registry, &repository(&registry), &bytes).await;
    let log = registry.log();
    let patches: Vec<_> = log
        .iter()
        .filter(|logged| logged.method == "PATCH")
        .collect();
    assert_eq!(
        patches[1].headers["content-range"],
        format!("4000000-{}", LARGE - 1)
    );
    assert_eq!(patches[1].body, LARGE as u64 - 4_000_000);
    assert_eq!(registry.count("POST", "/uploads/"), 1);
}

#[tokio::test]
async fn a_registry_that_cannot_resume_gets_everything_again() {
    let registry = Registry::start();
    let bytes = content(LARGE);
    registry.fault("PATCH", "/uploads/", 1, Effect::CutRequest(4_000_000));
    registry.fault("GET", "/uploads/", 1, Effect::Status(404, vec![]));
    pushed(&registry, &repository(&registry), &bytes).await;
    assert_eq!(registry.count("POST", "/uploads/"), 2);
}

#[tokio::test]
async fn a_token_that_ends_during_an_upload_is_renewed() {
    let registry = Registry::start_with(Access::Token(None));
    let bytes = content(LARGE);
    registry.fault(
        "PATCH",
        "/uploads/",
        2,
        Effect::RefuseRequest(2_000_000, 401),
    );
    registry.fault("PUT", "digest=", 1, Effect::RefuseRequest(0, 401));
    pushed(&registry, &repository(&registry), &bytes).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_at_once() {
    let registry = Registry::start();
    let short = file_source(b"short");
    let claimed = blob(&content(LARGE));
    let error = repository(&registry)
        .push_blob(&claimed, &short, None)
        .await;
    check_told(&error.expect_err("too short"), &["read what is to be sent"]);
}

#[tokio::test]
async fn content_that_is_not_what_it_claims_is_refused() {
    let registry = Registry::start();
    let source = file_source(&content(1000));
    let mut lying = blob(&content(1000));
    lying.digest = Digest::sha256(b"other");
    let error = repository(&registry).push_blob(&lying, &source, None).await;
    check_told(
        &error.expect_err("a lie"),
        &["push the blob team/app@", "DIGEST_INVALID"],
    );
}

#[tokio::test]
async fn manifests_are_pushed_by_tag_and_by_digest() {
    let registry = Registry::start();
    let repository = repository(&registry);
    let raw = sample().raw_manifest();
    let digest = Version::Digest(raw.descriptor.digest);
    for version in [Version::Tag("1".into()), digest] {
        registry.fault("PUT", "/manifests/", 1, Effect::Status(500, vec![]));
        repository
            .push_manifest(&raw, &version)
            .await
            .expect("taken");
    }
    let (media_type, bytes) = registry.manifest(NAME, "1").expect("stored");
    assert_eq!(
        (media_type, bytes),
        (MediaType::OciManifest, raw.bytes.clone())
    );
    assert!(
        registry
            .manifest(NAME, &raw.descriptor.digest.to_string())
            .is_some()
    );
    let other = Digest::sha256(b"other").to_string();
    registry.fault(
        "PUT",
        "/manifests/",
        1,
        Effect::Without("docker-content-digest"),
    );
    registry.fault(
        "PUT",
        "/manifests/",
        1,
        Effect::With("docker-content-digest", other),
    );
    let lie = repository
        .push_manifest(&raw, &Version::Tag("2".into()))
        .await;
    check_told(
        &lie.expect_err("a lie"),
        &["push the manifest team/app:2", "content has digest"],
    );
}

#[tokio::test]
async fn the_right_to_push_is_checked_without_a_trace() {
    let registry = Registry::start();
    repository(&registry).check_push().await.expect("allowed");
    assert_eq!(
        registry.log_lines(),
        [
            "POST /v2/team/app/blobs/uploads/ 202",
            "DELETE /v2/team/app/blobs/uploads/upload-1 204"
        ]
    );
}
