use distribution::{BlobSource, Pushed, RegistryConfig, RegistryFailure, Version};
use testkit::DockerRegistry;

use super::*;

#[tokio::test]
async fn an_image_goes_to_debians_registry_and_back() {
    let Some(registry) = DockerRegistry::start() else {
        return;
    };
    let client = Client::new(options());
    let repository = client
        .repository(&reference(&registry.host()))
        .expect("an address");
    repository.check_push().await.expect("allowed");
    let sample = sample();
    let large = content(6 * 1024 * 1024);
    for bytes in [
        sample.layer.clone(),
        sample.config.bytes().to_vec(),
        large.clone(),
    ] {
        let source = BlobSource::Bytes(bytes.clone().into());
        let descriptor = blob(&bytes);
        let pushed = repository.push_blob(&descriptor, &source, None).await;
        let pushed = pushed.unwrap_or_else(|error| panic!("{}", told(&error)));
        assert_eq!(pushed, Pushed::Uploaded);
        assert!(
            repository
                .blob_exists(&descriptor.digest)
                .await
                .expect("answers")
        );
        assert_eq!(
            fetch(&repository, &descriptor).await.expect("fetches"),
            bytes
        );
    }
    let raw = sample.raw_manifest();
    let by_digest = Version::Digest(raw.descriptor.digest);
    repository
        .push_manifest(&raw, &by_digest)
        .await
        .expect("taken");
    let index = RawManifest::new(MediaType::OciIndex, sample.index.bytes().clone());
    let tag = Version::Tag("1".into());
    repository.push_manifest(&index, &tag).await.expect("taken");
    assert_eq!(
        repository.resolve(&tag).await.expect("there"),
        index.descriptor
    );
    let platform = "linux/arm64".parse().expect("platform");
    let image = repository
        .fetch_image(&tag, &platform)
        .await
        .expect("there");
    assert_eq!(image.config, sample.config);
    assert_eq!(repository.tags().await.expect("lists"), ["1"]);

    let other = format!("{}/other/app:1", registry.host())
        .parse()
        .expect("a reference");
    let other = client.repository(&other).expect("an address");
    let source = BlobSource::Bytes(large.clone().into());
    let mounted = other.push_blob(&blob(&large), &source, Some(NAME)).await;
    assert_eq!(mounted.expect("mounts"), Pushed::Mounted);
    let error = other.resolve(&tag).await.expect_err("nothing there");
    check_told(&error, &["resolve other/app:1", "MANIFEST_UNKNOWN"]);
}

#[tokio::test]
async fn certificates_are_checked_by_the_authorities_that_are_configured() {
    let Some(registry) = DockerRegistry::start_with_tls() else {
        return;
    };
    let host = registry.host();
    let trusting = RegistryConfig {
        ca: vec![registry.certificate()],
        ..RegistryConfig::default()
    };
    let careless = RegistryConfig {
        insecure: true,
        ..RegistryConfig::default()
    };
    for config in [trusting, careless] {
        let repository = repository_with(&host, with_config(&host, config));
        repository
            .check_push()
            .await
            .unwrap_or_else(|error| panic!("{}", told(&error)));
        assert!(
            !repository
                .blob_exists(&Digest::sha256(b"x"))
                .await
                .expect("answers")
        );
    }
    let strict = RegistryConfig {
        http: Some(false),
        ..RegistryConfig::default()
    };
    let repository = repository_with(&host, with_config(&host, strict));
    let error = repository
        .resolve(&Version::Tag("1".into()))
        .await
        .expect_err("a stranger");
    let FetchError::Registry(error) = error else {
        panic!("{error}");
    };
    assert!(
        matches!(error.failure, RegistryFailure::Tls { .. }),
        "{}",
        told(&error)
    );
    check_told(&error, &["invalid peer certificate"]);
    assert!(error.hint().expect("a hint").contains("`ca`"));
}
