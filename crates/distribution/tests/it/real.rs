use distribution::{BlobSource, Pushed, Version};
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
