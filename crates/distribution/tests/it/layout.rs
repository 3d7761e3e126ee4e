use std::fs;
use std::path::Path;

use distribution::{BlobSource, Pushed, Version};

use super::*;

fn tag(tag: &str) -> Version {
    Version::Tag(tag.into())
}

/// Pushes the sample image into a new layout.
async fn filled(folder: &Path, name: &str) -> Repository {
    let repository = Repository::create_layout(folder).expect("creates");
    let sample = sample();
    for bytes in [sample.layer.clone(), sample.config.bytes().to_vec()] {
        let source = BlobSource::Bytes(bytes.clone().into());
        let pushed = repository.push_blob(&blob(&bytes), &source, None).await;
        assert_eq!(pushed.expect("taken"), Pushed::Uploaded);
        let pushed = repository.push_blob(&blob(&bytes), &source, None).await;
        assert_eq!(pushed.expect("there"), Pushed::Existed);
    }
    repository
        .push_manifest(&sample.raw_manifest(), &tag(name))
        .await
        .expect("taken");
    repository
}

/// The sample image comes out as it went in.
async fn check_image(repository: &Repository, version: &Version) {
    let sample = sample();
    let platform = "linux/arm64".parse().expect("platform");
    let image = repository.fetch_image(version, &platform).await;
    let image = image.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(image.config, sample.config);
    assert_eq!(
        fetch(repository, &image.manifest.layers[0])
            .await
            .expect("layer"),
        sample.layer
    );
}

/// The files below a folder as a tar archive.
fn archived(folder: &Path) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut archive = tar::Builder::new(file.reopen().expect("the file"));
    archive.append_dir_all(".", folder).expect("archives");
    archive.finish().expect("archives");
    file
}

#[tokio::test]
async fn images_go_in_and_come_out() {
    let folder = tempfile::tempdir().expect("folder");
    let repository = filled(folder.path(), "v1").await;
    check_image(&repository, &tag("v1")).await;
    check_image(&repository, &Version::Digest(sample().manifest.digest())).await;
    // The only image there is will do for `latest`.
    check_image(&repository, &tag("latest")).await;
    assert_eq!(repository.tags().await.expect("lists"), ["v1"]);
    let error = repository
        .resolve(&tag("v2"))
        .await
        .expect_err("no such tag");
    check_told(&error, &["find :v2 in", "it has the tags v1"]);

    let archive = archived(folder.path());
    let repository = Repository::layout(archive.path()).expect("an archive");
    check_image(&repository, &tag("v1")).await;
    check_told(
        &repository.check_push().await.expect_err("read only"),
        &["it is an archive"],
    );
}

#[tokio::test]
async fn a_tag_moves_to_the_manifest_that_was_pushed_last() {
    let folder = tempfile::tempdir().expect("folder");
    let repository = filled(folder.path(), "v1").await;
    let mut other = sample().manifest.into_value();
    other.annotations.insert("changed".into(), "yes".into());
    let other = Document::new(other);
    let raw = RawManifest::new(MediaType::OciManifest, other.bytes().clone());
    repository
        .push_manifest(&raw, &tag("v1"))
        .await
        .expect("taken");
    assert_eq!(
        repository.resolve(&tag("v1")).await.expect("there").digest,
        other.digest()
    );
    assert_eq!(repository.tags().await.expect("lists"), ["v1"]);
    let reopened = Repository::layout(folder.path()).expect("a layout");
    check_image(&reopened, &tag("v1")).await;
    let temporary = walk(folder.path())
        .into_iter()
        .filter(|name| name.contains(".tmp"));
    assert_eq!(temporary.count(), 0);
}

#[tokio::test]
async fn manifests_below_an_index_are_found_by_digest() {
    let folder = tempfile::tempdir().expect("folder");
    let repository = filled(folder.path(), "v1").await;
    let sample = sample();
    let index = RawManifest::new(MediaType::OciIndex, sample.index.bytes().clone());
    repository
        .push_manifest(&index, &tag("v1"))
        .await
        .expect("taken");
    check_image(&repository, &tag("v1")).await;
    check_image(&repository, &Version::Digest(sample.manifest.digest())).await;
}

#[tokio::test]
async fn blobs_that_were_changed_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let repository = filled(folder.path(), "v1").await;
    let layer = blob(&sample().layer);
    let path = folder.path().join("blobs/sha256").join(layer.digest.hex());
    let mut bytes = sample().layer;
    bytes[7] ^= 1;
    fs::write(&path, &bytes).expect("writes");
    let error = fetch(&repository, &layer).await.expect_err("changed");
    check_told(&error, &["read a blob in", "it has digest sha256:"]);
    fs::write(&path, b"short").expect("writes");
    let error = fetch(&repository, &layer).await.expect_err("short");
    check_told(&error, &["it has 5 bytes, expected 300000"]);
    fs::remove_file(&path).expect("removes");
    let error = fetch(&repository, &layer).await.expect_err("gone");
    check_told(&error, &["find the blob sha256:"]);
    assert!(!repository.blob_exists(&layer.digest).await.expect("looks"));
}

#[tokio::test]
async fn a_push_that_lies_leaves_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let repository = Repository::create_layout(folder.path()).expect("creates");
    let source = BlobSource::Bytes(content(1000).into());
    let lying = Descriptor {
        digest: Digest::sha256(b"other"),
        ..blob(&content(1000))
    };
    let error = repository
        .push_blob(&lying, &source, None)
        .await
        .expect_err("a lie");
    check_told(&error, &["it has digest"]);
    assert_eq!(
        walk(folder.path()),
        ["blobs", "blobs/sha256", "index.json", "oci-layout"]
    );
}

#[test]
fn what_is_no_layout_is_told() {
    #[track_caller]
    fn check(path: &Path, part: &str) {
        let error = Repository::layout(path).expect_err("no layout");
        check_told(&error, &[&path.display().to_string(), part]);
    }
    let folder = tempfile::tempdir().expect("folder");
    check(folder.path(), "it has no oci-layout and index.json");
    check(&folder.path().join("nothing"), "No such file");
    let file = folder.path().join("file");
    for (bytes, part) in [
        (&b"\x1f\x8b\x08\x00"[..], "it is compressed"),
        (
            &[0; 1024][..],
            "it has neither index.json nor manifest.json",
        ),
        (&[b'x'; 2048][..], "read"),
    ] {
        fs::write(&file, bytes).expect("writes");
        check(&file, part);
    }
}

#[tokio::test]
async fn archives_of_older_dockers_are_read_as_layouts() {
    let folder = tempfile::tempdir().expect("folder");
    let sample = sample();
    let id = "0123abcd";
    fs::create_dir(folder.path().join(id)).expect("folder");
    fs::create_dir(folder.path().join("twin")).expect("folder");
    fs::write(folder.path().join(id).join("layer.tar"), &sample.layer).expect("writes");
    std::os::unix::fs::symlink(
        format!("../{id}/layer.tar"),
        folder.path().join("twin/layer.tar"),
    )
    .expect("links");
    fs::write(
        folder.path().join("config.json"),
        &sample.config.bytes()[..],
    )
    .expect("writes");
    let manifest = serde_json::json!([{
        "Config": "config.json",
        "RepoTags": ["demo:1.0"],
        "Layers": ["twin/layer.tar"],
    }]);
    fs::write(folder.path().join("manifest.json"), manifest.to_string()).expect("writes");
    let archive = archived(folder.path());
    let repository = Repository::layout(archive.path()).expect("an archive");
    check_image(&repository, &tag("1.0")).await;
    check_image(&repository, &tag("latest")).await;
    let wrong = serde_json::json!([{"Config": "config.json", "Layers": []}]);
    fs::write(folder.path().join("manifest.json"), wrong.to_string()).expect("writes");
    let error = Repository::layout(archived(folder.path()).path()).expect_err("inconsistent");
    check_told(&error, &["differ in the number of layers"]);
}

/// The paths below a folder, sorted.
fn walk(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner).expect("reads") {
            let path = entry.expect("reads").path();
            let name = path
                .strip_prefix(folder)
                .expect("below")
                .display()
                .to_string();
            names.push(name);
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    names.sort();
    names
}
