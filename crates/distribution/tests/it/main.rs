//! Repositories from outside: against a registry that does as it is told, against a real one,
//! and against layouts on disk.

mod auth;
mod layout;
mod outage;
mod pull;
mod push;
mod real;

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use distribution::{
    BlobSource, Client, ClientOptions, FetchError, RawManifest, RegistryConfig, Repository,
    RetryPolicy, Version,
};
use oci::{Descriptor, Digest, Document, ImageConfig, Index, Manifest, MediaType, Reference};
use testkit::Registry;

const NAME: &str = "team/app";

/// Patience for tests: the same rules, a hundred times as fast.
fn quick() -> RetryPolicy {
    RetryPolicy {
        deadline: Duration::from_secs(5),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        connect_attempts: 3,
        stall: Duration::from_secs(4),
        connect_timeout: Duration::from_secs(2),
    }
}

fn options() -> ClientOptions {
    ClientOptions {
        retry: quick(),
        user_agent: "kiln/test".into(),
        ..ClientOptions::default()
    }
}

fn reference(host: &str) -> Reference {
    format!("{host}/{NAME}:1").parse().expect("a reference")
}

/// The repository `team/app` on a registry.
fn repository_with(host: &str, options: ClientOptions) -> Repository {
    Client::new(options)
        .repository(&reference(host))
        .expect("a loopback address")
}

fn repository(registry: &Registry) -> Repository {
    repository_with(&registry.host(), options())
}

/// Bytes that no test will take for others: a counter, and never twice the same 256 KiB.
fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes())
        .take(length)
        .collect()
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::of(
        MediaType::from("application/vnd.oci.image.layer.v1.tar"),
        bytes,
    )
}

async fn fetch(repository: &Repository, descriptor: &Descriptor) -> Result<Vec<u8>, FetchError> {
    let mut whole = Vec::new();
    let mut sink = |bytes: Bytes| {
        whole.extend_from_slice(&bytes);
        Ok(())
    };
    repository.fetch_blob_to(descriptor, &mut sink).await?;
    Ok(whole)
}

/// An error with its causes, as a user would see it.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[track_caller]
fn check_told(error: &dyn Error, parts: &[&str]) {
    let text = told(error);
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

/// An image of one layer for each of some platforms, put into a registry by hand.
struct Sample {
    config: Document<ImageConfig>,
    manifest: Document<Manifest>,
    index: Document<Index>,
    layer: Vec<u8>,
}

fn sample() -> Sample {
    let layer = content(300_000);
    let mut config = ImageConfig::default();
    config.set_platform(&"linux/arm64".parse().expect("platform"));
    config
        .rootfs
        .diff_ids
        .push(oci::DiffId::new(Digest::sha256(&layer)));
    let config = Document::new(config);
    let manifest = Document::new(Manifest::new(
        MediaType::OciManifest,
        config.descriptor(MediaType::OciConfig),
        vec![blob(&layer)],
    ));
    let mut entry = manifest.descriptor(MediaType::OciManifest);
    entry.platform = Some("linux/arm64".parse().expect("platform"));
    let index = Document::new(Index::new(MediaType::OciIndex, vec![entry]));
    Sample {
        config,
        manifest,
        index,
        layer,
    }
}

impl Sample {
    fn put(&self, registry: &Registry, tag: &str) {
        registry.put_blob(NAME, &self.layer);
        registry.put_blob(NAME, self.config.bytes());
        registry.put_manifest(NAME, "arm64", MediaType::OciManifest, self.manifest.bytes());
        registry.put_manifest(NAME, tag, MediaType::OciIndex, self.index.bytes());
    }

    fn raw_manifest(&self) -> RawManifest {
        RawManifest::new(MediaType::OciManifest, self.manifest.bytes().clone())
    }
}

fn with_config(host: &str, config: RegistryConfig) -> ClientOptions {
    ClientOptions {
        registries: [(host.to_string(), config)].into(),
        ..options()
    }
}

/// Callers run many operations at once, on any thread.
#[test]
fn operations_can_be_spawned() {
    fn spawnable<T: Send + 'static>(_: impl Future<Output = T> + Send) {}
    let registry = Registry::start();
    let repository = repository(&registry);
    let (version, platform) = (
        Version::Tag("1".into()),
        "linux/amd64".parse().expect("platform"),
    );
    let descriptor = blob(b"");
    let source = BlobSource::Bytes(Bytes::new());
    let raw = sample().raw_manifest();
    spawnable(repository.resolve(&version));
    spawnable(repository.fetch_manifest(&version));
    spawnable(repository.fetch_image(&version, &platform));
    spawnable(fetch(&repository, &descriptor));
    spawnable(repository.push_blob(&descriptor, &source, Some("a")));
    spawnable(repository.push_manifest(&raw, &version));
    spawnable(repository.check_push());
    spawnable(repository.tags());
}
