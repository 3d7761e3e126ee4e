use distribution::{RegistryConfig, Version};
use oci::{Descriptor, Digest, MediaType};
use testkit::{Effect, Registry};

use super::*;

fn tag() -> Version {
    Version::Tag("1".into())
}

#[tokio::test]
async fn a_tag_is_resolved_by_its_head_alone() {
    let registry = Registry::start();
    let sample = sample();
    sample.put(&registry, "1");
    let found = repository(&registry)
        .resolve(&tag())
        .await
        .expect("resolves");
    assert_eq!(found, sample.index.descriptor(MediaType::OciIndex));
    assert_eq!(registry.log_lines(), ["HEAD /v2/team/app/manifests/1 200"]);
    let head = &registry.log()[0].headers;
    assert_eq!(head["user-agent"], "kiln/test");
    for media_type in [
        "oci.image.index",
        "oci.image.manifest",
        "manifest.list.v2",
        "manifest.v2",
    ] {
        assert!(head["accept"].contains(media_type), "{}", head["accept"]);
    }
}

#[tokio::test]
async fn a_head_that_says_too_little_is_followed_by_the_whole() {
    #[track_caller]
    fn resolved(found: Result<Descriptor, distribution::FetchError>, registry: &Registry) {
        let found = found.expect("resolves");
        assert_eq!(found.digest, sample().index.digest());
        assert_eq!(found.size, sample().index.bytes().len() as u64);
        assert_eq!(found.media_type, MediaType::OciIndex);
        assert_eq!(registry.count("GET", "/manifests/1"), 1);
    }
    for effect in [
        Effect::Without("docker-content-digest"),
        Effect::Without("content-type"),
        Effect::Unsized,
        Effect::Status(405, vec![]),
        Effect::Status(404, vec![]),
    ] {
        let registry = Registry::start();
        sample().put(&registry, "1");
        registry.fault("HEAD", "/manifests/", 1, effect);
        resolved(repository(&registry).resolve(&tag()).await, &registry);
    }
    // Without headers, the content has to do.
    let registry = Registry::start();
    sample().put(&registry, "1");
    for method in ["HEAD", "GET"] {
        registry.fault(
            method,
            "/manifests/",
            1,
            Effect::Without("docker-content-digest"),
        );
        registry.fault(method, "/manifests/", 1, Effect::Without("content-type"));
    }
    resolved(repository(&registry).resolve(&tag()).await, &registry);
}

#[tokio::test]
async fn an_image_is_fetched_for_a_platform() {
    let registry = Registry::start();
    let sample = sample();
    sample.put(&registry, "1");
    let repository = repository(&registry);
    let wanted = "linux/arm64/v8".parse().expect("platform");
    let image = repository
        .fetch_image(&tag(), &wanted)
        .await
        .expect("fetches");
    assert_eq!(
        image.root.descriptor,
        sample.index.descriptor(MediaType::OciIndex)
    );
    assert_eq!(image.manifest, sample.manifest);
    assert_eq!(image.config, sample.config);
    assert_eq!(
        fetch(&repository, &image.manifest.layers[0])
            .await
            .expect("layer"),
        sample.layer
    );

    let other = "linux/s390x".parse().expect("platform");
    let error = repository
        .fetch_image(&tag(), &other)
        .await
        .expect_err("no such platform");
    check_told(
        &error,
        &[
            "find an image for linux/s390x",
            "there are images for linux/arm64",
        ],
    );
}

#[tokio::test]
async fn what_is_not_there_is_told_with_the_registrys_words() {
    let registry = Registry::start();
    let error = repository(&registry)
        .resolve(&tag())
        .await
        .expect_err("nothing there");
    check_told(
        &error,
        &[
            &registry.host(),
            "resolve team/app:1",
            "not found: MANIFEST_UNKNOWN",
        ],
    );
    let digest = Digest::sha256(b"x");
    let missing = Descriptor::new(MediaType::OciConfig, digest, 1);
    let error = fetch(&repository(&registry), &missing)
        .await
        .expect_err("nothing there");
    check_told(&error, &["fetch the blob team/app@sha256:", "BLOB_UNKNOWN"]);
}

#[tokio::test]
async fn a_manifest_that_lies_about_its_digest_is_refused() {
    let registry = Registry::start();
    sample().put(&registry, "1");
    let repository = repository(&registry);
    let digest = sample().index.digest();
    registry.fault("GET", "/manifests/", 2, Effect::Corrupt);
    let by_digest = repository.fetch_manifest(&Version::Digest(digest)).await;
    check_told(
        &by_digest.expect_err("wrong"),
        &["content has digest", &digest.to_string()],
    );
    let by_tag = repository.fetch_manifest(&tag()).await;
    check_told(
        &by_tag.expect_err("wrong"),
        &["content has digest", &digest.to_string()],
    );
}

#[tokio::test]
async fn manifests_of_other_kinds_are_refused() {
    #[track_caller]
    fn check(result: Result<distribution::RawManifest, FetchError>, part: &str) {
        check_told(&result.expect_err("refused"), &["malformed answer", part]);
    }
    let registry = Registry::start();
    let repository = repository(&registry);
    let put = |tag: &str, bytes: &[u8]| {
        registry.put_manifest(NAME, tag, MediaType::from("text/plain"), bytes);
        Version::Tag(tag.into())
    };
    let v1 = put("v1", br#"{"schemaVersion":1,"fsLayers":[]}"#);
    check(repository.fetch_manifest(&v1).await, "schema 1");
    let html = put("html", b"<html>");
    check(repository.fetch_manifest(&html).await, "no JSON");
    let json = put("json", b"{}");
    check(
        repository.fetch_manifest(&json).await,
        "neither an image manifest nor an index",
    );
    let long = put("long", &vec![b' '; 5 * 1024 * 1024]);
    check(
        repository.fetch_manifest(&long).await,
        "longer than 4194304 bytes",
    );
}

/// Fetches a blob under a fault: the right bytes must come, with so many requests.
#[track_caller]
fn mended(
    registry: &Registry,
    fetched: Result<Vec<u8>, FetchError>,
    whole: &[u8],
    requests: usize,
) {
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => panic!("{}", told(&error)),
    };
    assert!(fetched == whole, "other bytes");
    assert_eq!(
        registry.count("GET", "/blobs/"),
        requests,
        "{:?}",
        registry.log_lines()
    );
}

#[tokio::test]
async fn broken_blobs_are_mended_from_where_they_broke() {
    let whole = content(700_000);
    let cut = |after| Effect::CutResponse(after);
    for (faults, requests) in [
        (vec![], 1),
        (vec![cut(100_000)], 2),
        (vec![cut(100_000), cut(0), cut(50_000)], 4),
        (vec![Effect::Unsized], 1),
        (vec![Effect::Status(503, vec![])], 2),
    ] {
        let registry = Registry::start();
        registry.put_blob(NAME, &whole);
        for effect in faults {
            registry.fault("GET", "/blobs/", 1, effect);
        }
        let fetched = fetch(&repository(&registry), &blob(&whole)).await;
        mended(&registry, fetched, &whole, requests);
    }
}

#[tokio::test]
async fn the_rest_is_asked_for_by_range_and_ignored_ranges_are_skipped() {
    let whole = content(700_000);
    let registry = Registry::start();
    registry.put_blob(NAME, &whole);
    registry.fault("GET", "/blobs/", 1, Effect::CutResponse(300_000));
    mended(
        &registry,
        fetch(&repository(&registry), &blob(&whole)).await,
        &whole,
        2,
    );
    let range = registry.log()[1].headers["range"].clone();
    let first = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'));
    let first: u64 = first.and_then(|first| first.parse().ok()).expect("a range");
    assert!((1..=300_000).contains(&first), "{range}");

    let registry = Registry::start();
    registry.put_blob(NAME, &whole);
    registry.fault("GET", "/blobs/", 1, Effect::CutResponse(300_000));
    registry.fault("GET", "/blobs/", 2, Effect::IgnoreRange);
    mended(
        &registry,
        fetch(&repository(&registry), &blob(&whole)).await,
        &whole,
        2,
    );
}

#[tokio::test]
async fn blobs_that_lie_are_refused() {
    let whole = content(100_000);
    for (effect, part) in [
        (Effect::Corrupt, "the content has digest"),
        (
            Effect::Append(1),
            "the content has 100001 bytes, expected 100000",
        ),
    ] {
        let registry = Registry::start();
        registry.put_blob(NAME, &whole);
        registry.fault("GET", "/blobs/", 9, effect);
        let error = fetch(&repository(&registry), &blob(&whole))
            .await
            .expect_err("a lie");
        check_told(&error, &[&registry.host(), part]);
        assert_eq!(registry.count("GET", "/blobs/"), 1);
    }
    // The length is found out even where it is not announced.
    for (said, part) in [
        (99_999, "has 100000 bytes, expected 99999"),
        (100_001, "100000 bytes"),
    ] {
        let registry = Registry::start();
        registry.put_blob(NAME, &whole);
        registry.fault("GET", "/blobs/", 9, Effect::Unsized);
        let lying = Descriptor {
            size: said,
            ..blob(&whole)
        };
        let error = fetch(&repository(&registry), &lying)
            .await
            .expect_err("a lie");
        check_told(&error, &[part]);
    }
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_transfer() {
    let registry = Registry::start();
    let whole = content(100_000);
    registry.put_blob(NAME, &whole);
    let mut full = |_| Err(std::io::ErrorKind::StorageFull.into());
    let result = repository(&registry)
        .fetch_blob_to(&blob(&whole), &mut full)
        .await;
    check_told(
        &result.expect_err("full"),
        &["store sha256:", "no storage space"],
    );
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = Registry::start();
    registry.put_blob(NAME, b"");
    assert_eq!(
        fetch(&repository(&registry), &blob(b""))
            .await
            .expect("empty"),
        b""
    );
}

#[tokio::test]
async fn mirrors_are_asked_first_and_passed_over_when_they_fail() {
    let whole = content(400_000);
    let origin = Registry::start();
    origin.put_blob(NAME, &whole);
    sample().put(&origin, "1");
    let broken = Registry::start();
    broken.fault("GET", "", 99, Effect::Status(500, vec![]));
    broken.fault("HEAD", "", 99, Effect::Status(404, vec![]));
    let half = Registry::start();
    half.put_blob(&format!("proxy/{NAME}"), &whole);
    half.fault("GET", "/blobs/", 1, Effect::CutResponse(100_000));
    half.fault("GET", "/blobs/", 99, Effect::Status(404, vec![]));
    let nobody = "127.0.0.1:1".to_string();
    let mirrors = vec![nobody, broken.host(), format!("{}/proxy", half.host())];
    let config = RegistryConfig {
        mirrors,
        ..RegistryConfig::default()
    };
    let repository = repository_with(&origin.host(), with_config(&origin.host(), config));
    let found = repository.resolve(&tag()).await.expect("the origin has it");
    assert_eq!(found.digest, sample().index.digest());
    assert_eq!(
        fetch(&repository, &blob(&whole)).await.expect("mended"),
        whole
    );
    assert_eq!(half.count("GET", &format!("/v2/proxy/{NAME}/blobs/")), 2);
    let rest = origin
        .log()
        .into_iter()
        .find(|logged| logged.target.contains("/blobs/"));
    assert!(rest.expect("the rest").headers.contains_key("range"));
}

#[tokio::test]
async fn blobs_on_other_hosts_are_fetched_without_credentials() {
    let whole = content(200_000);
    let pair = "dXNlcjpwYXNz".to_string();
    let registry = Registry::start_with(testkit::Access::Basic(pair));
    registry.put_blob(NAME, &whole);
    registry.fault("GET", "/blobs/", 3, Effect::Redirect);
    let credentials = super::auth::password(&registry);
    let options = ClientOptions {
        credentials,
        ..options()
    };
    let repository = repository_with(&registry.host(), options);
    assert_eq!(
        fetch(&repository, &blob(&whole)).await.expect("redirected"),
        whole
    );
    let log = registry.log();
    let at_storage = log
        .iter()
        .find(|logged| logged.storage)
        .expect("redirected");
    assert!(!at_storage.headers.contains_key("authorization"));
    assert!(!at_storage.headers.contains_key("referer"));
    assert!(
        log.iter()
            .any(|logged| logged.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let registry = Registry::start();
    let bytes = sample().index.bytes().clone();
    for tag in ["a", "b", "c", "d", "e"] {
        registry.put_manifest(NAME, tag, MediaType::OciIndex, &bytes);
    }
    let tags = repository(&registry).tags().await.expect("lists");
    assert_eq!(tags, ["a", "b", "c", "d", "e"]);
    assert_eq!(registry.count("GET", "/tags/list"), 3);
}
