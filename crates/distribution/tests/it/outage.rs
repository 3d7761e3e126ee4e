use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use distribution::{RegistryConfig, RegistryFailure, RetryPolicy, Version};
use testkit::{Effect, Registry};

use super::*;

fn tag() -> Version {
    Version::Tag("1".into())
}

fn failure(error: FetchError) -> distribution::RequestError {
    match error {
        FetchError::Registry(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn nobody_there_is_found_out_within_seconds() {
    let options = ClientOptions {
        retry: RetryPolicy::default(),
        ..options()
    };
    let started = Instant::now();
    let result = repository_with("127.0.0.1:1", options)
        .resolve(&tag())
        .await;
    assert!(started.elapsed() < Duration::from_secs(5));
    let error = failure(result.expect_err("nobody"));
    check_told(
        &error,
        &[
            "resolve team/app:1 at 127.0.0.1:1",
            "connect",
            "Connection refused",
        ],
    );
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("check that 127.0.0.1:1 is up")
    );
}

#[tokio::test]
async fn names_that_lead_nowhere_are_told() {
    let result = repository_with("registry.invalid", options())
        .resolve(&tag())
        .await;
    let error = failure(result.expect_err("no such host"));
    assert!(
        matches!(error.failure, RegistryFailure::Connect { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_busy_registry_is_waited_for_and_the_wait_is_told() {
    let registry = Registry::start();
    sample().put(&registry, "1");
    let after = vec![("retry-after".to_string(), "1".to_string())];
    registry.fault("HEAD", "/manifests/", 1, Effect::Status(429, after));
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = notices.clone();
    let on_retry = move |notice| heard.lock().expect("unpoisoned").push(notice);
    let options = ClientOptions {
        on_retry: Some(Arc::new(on_retry)),
        ..options()
    };
    let started = Instant::now();
    repository_with(&registry.host(), options)
        .resolve(&tag())
        .await
        .expect("resolves");
    assert!(started.elapsed() >= Duration::from_secs(1));
    let notices = notices.lock().expect("unpoisoned");
    assert_eq!(notices.len(), 1);
    assert!(notices[0].reason.starts_with("status 429"), "{notices:?}");
    assert!(notices[0].pause >= Duration::from_secs(1));
}

#[tokio::test]
async fn patience_ends_at_its_deadline() {
    let registry = Registry::start();
    registry.fault("HEAD", "/manifests/", 9999, Effect::Status(503, vec![]));
    let retry = RetryPolicy {
        deadline: Duration::from_millis(300),
        ..quick()
    };
    let options = ClientOptions { retry, ..options() };
    let started = Instant::now();
    let error = repository_with(&registry.host(), options)
        .resolve(&tag())
        .await;
    assert!(started.elapsed() < Duration::from_secs(5));
    check_told(
        &error.expect_err("never"),
        &["status 503 Service Unavailable"],
    );
    let after = vec![("retry-after".to_string(), "3600".to_string())];
    let registry = Registry::start();
    registry.fault("HEAD", "/manifests/", 9, Effect::Status(429, after));
    let started = Instant::now();
    let error = repository(&registry)
        .resolve(&tag())
        .await
        .expect_err("too long");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(
        failure(error)
            .hint()
            .expect("a hint")
            .contains("limits requests")
    );
}

#[tokio::test]
async fn silence_counts_as_a_break() {
    let registry = Registry::start();
    registry.fault(
        "HEAD",
        "/manifests/",
        99,
        Effect::Wait(Duration::from_secs(1)),
    );
    let retry = RetryPolicy {
        deadline: Duration::from_millis(500),
        stall: Duration::from_millis(300),
        ..quick()
    };
    let options = ClientOptions { retry, ..options() };
    let error = repository_with(&registry.host(), options)
        .resolve(&tag())
        .await;
    check_told(&error.expect_err("silence"), &["nothing was heard"]);
}

#[tokio::test]
async fn a_blob_survives_a_silence() {
    let registry = Registry::start();
    let whole = content(100_000);
    registry.put_blob(NAME, &whole);
    registry.fault("GET", "/blobs/", 1, Effect::Wait(Duration::from_secs(1)));
    let retry = RetryPolicy {
        stall: Duration::from_millis(300),
        ..quick()
    };
    let repository = repository_with(&registry.host(), ClientOptions { retry, ..options() });
    assert_eq!(
        fetch(&repository, &blob(&whole)).await.expect("mended"),
        whole
    );
}

#[tokio::test]
async fn plain_http_is_found_where_any_certificate_would_do() {
    let registry = Registry::start();
    sample().put(&registry, "1");
    let insecure = RegistryConfig {
        insecure: true,
        ..RegistryConfig::default()
    };
    let repository = repository_with(&registry.host(), with_config(&registry.host(), insecure));
    repository.resolve(&tag()).await.expect("pulls by http");
    repository.check_push().await.expect("pushes by http");

    let https = RegistryConfig {
        http: Some(false),
        ..RegistryConfig::default()
    };
    let repository = repository_with(&registry.host(), with_config(&registry.host(), https));
    let error = failure(repository.resolve(&tag()).await.expect_err("no TLS there"));
    assert!(
        matches!(error.failure, RegistryFailure::Tls { .. }),
        "{}",
        told(&error)
    );
    assert!(error.hint().expect("a hint").contains("http = true"));
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_told() {
    let config = RegistryConfig {
        ca: vec!["/nowhere/ca.pem".into()],
        ..RegistryConfig::default()
    };
    let host = "registry.invalid";
    let result = repository_with(host, with_config(host, config))
        .resolve(&tag())
        .await;
    check_told(
        &result.expect_err("no file"),
        &["/nowhere/ca.pem", "No such file"],
    );
}
