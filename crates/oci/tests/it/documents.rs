use std::collections::{BTreeMap, BTreeSet};

use oci::{
    ContainerConfig, Descriptor, Digest, Document, Healthcheck, History, ImageConfig,
    ImageDocument, Index, Manifest, MediaType, Platform, RootFs, Timestamp,
};

/// A document is written as the golden file, and the golden file reads as the document.
#[track_caller]
fn check<T: ImageDocument + PartialEq + std::fmt::Debug>(value: T, golden: &str) {
    let document = Document::new(value);
    let written = String::from_utf8(document.bytes().to_vec()).expect("JSON is text");
    let golden = golden.trim_end_matches('\n');
    assert_eq!(written, golden);
    let read = Document::<T>::parse(golden.as_bytes()).expect("golden file reads");
    assert_eq!(read.value(), document.value());
    assert_eq!(read.digest(), Digest::sha256(golden));
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn moment(text: &str) -> Option<Timestamp> {
    Some(text.parse().expect("RFC 3339"))
}

fn full_config() -> ContainerConfig {
    ContainerConfig {
        user: "app:app".into(),
        exposed_ports: BTreeSet::from(["80/tcp".into(), "443/tcp".into()]),
        env: texts(&["PATH=/usr/bin:/bin", "FLAGS=-a <in >out && true"]),
        entrypoint: texts(&["/docker-entrypoint.sh"]),
        cmd: texts(&["/bin/sh", "-c", "echo hi"]),
        volumes: BTreeSet::from(["/var/lib/data".into()]),
        working_dir: "/srv".into(),
        labels: BTreeMap::from([
            ("z.last".into(), "1".into()),
            ("a.first".into(), "\u{2028}".into()),
        ]),
        stop_signal: "SIGQUIT".into(),
        args_escaped: true,
        healthcheck: Some(Healthcheck {
            test: texts(&["CMD-SHELL", "curl -f http://localhost/ || exit 1"]),
            interval: 30_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        }),
        on_build: texts(&["RUN make"]),
        shell: texts(&["/bin/bash", "-c"]),
        extra: BTreeMap::from([("StopTimeout".into(), 5.into())]),
    }
}

#[test]
fn an_image_config_with_everything() {
    let layer = oci::DiffId::new(Digest::sha256(b"layer"));
    let config = ImageConfig {
        created: moment("2000-01-01T00:00:00.5Z"),
        author: "kiln".into(),
        architecture: "arm64".into(),
        variant: "v9".into(),
        os: "linux".into(),
        config: full_config(),
        rootfs: RootFs {
            diff_ids: vec![layer],
            ..RootFs::default()
        },
        history: vec![
            History {
                created: moment("2000-01-01T00:00:00Z"),
                created_by: "RUN /bin/sh -c make && make install # buildkit".into(),
                comment: "buildkit.dockerfile.v0".into(),
                ..History::default()
            },
            History {
                empty_layer: true,
                author: "x".into(),
                ..History::default()
            },
        ],
        extra: BTreeMap::from([("moby.buildkit.cache.v0".into(), "eyJ9".into())]),
        ..ImageConfig::default()
    };
    check(config, include_str!("../golden/config-full.json"));
}

#[test]
fn an_image_config_with_nothing() {
    let mut config = ImageConfig::default();
    config.set_platform(&"linux/amd64".parse().expect("platform"));
    check(config, include_str!("../golden/config-empty.json"));
}

#[test]
fn a_manifest() {
    let mut layer = Descriptor::of(
        MediaType::from("application/vnd.oci.image.layer.v1.tar+gzip"),
        b"l",
    );
    layer.annotations.insert("b".into(), "<2>".into());
    layer.annotations.insert("a".into(), "1".into());
    let config = Descriptor::of(MediaType::OciConfig, b"{}");
    let mut manifest = Manifest::new(MediaType::OciManifest, config, vec![layer]);
    manifest
        .annotations
        .insert("org.opencontainers.image.title".into(), "demo".into());
    check(manifest, include_str!("../golden/manifest.json"));
}

#[test]
fn an_index() {
    let mut entries = Vec::new();
    for platform in ["linux/amd64", "linux/arm/v7", "windows(10.0.17763.1)/amd64"] {
        let mut entry = Descriptor::of(MediaType::DockerManifest, platform.as_bytes());
        entry.platform = Some(platform.parse::<Platform>().expect("platform"));
        entries.push(entry);
    }
    check(
        Index::new(MediaType::DockerIndex, entries),
        include_str!("../golden/index.json"),
    );
}

#[test]
fn a_docker_config_full_of_nulls_reads_as_empty() {
    let json = br#"{"architecture":"amd64","os":"linux","created":null,"config":{"Hostname":"",
        "User":null,"ExposedPorts":null,"Env":null,"Cmd":null,"Volumes":null,"WorkingDir":"",
        "Entrypoint":null,"OnBuild":null,"Labels":null,"Healthcheck":null,"ArgsEscaped":null},
        "history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
    let config = Document::<ImageConfig>::parse(json.as_slice())
        .expect("reads")
        .into_value();
    let hostname = BTreeMap::from([("Hostname".to_string(), "".into())]);
    let expected = ContainerConfig {
        extra: hostname,
        ..ContainerConfig::default()
    };
    assert_eq!(config.config, expected);
    assert_eq!(config.platform().to_string(), "linux/amd64");
}

#[test]
fn fetched_bytes_stay_as_they_are() {
    let bytes = b"{ \"schemaVersion\":2,\n\t\"manifests\": [] , \"later\": 1.50 }";
    let index = Document::<Index>::parse(bytes.as_slice()).expect("reads");
    assert_eq!(&index.bytes()[..], bytes);
    assert_eq!(index.digest(), Digest::sha256(bytes));
    assert_eq!(index.media_type(), MediaType::OciIndex);
}

#[test]
fn documents_of_another_kind_are_refused() {
    #[track_caller]
    fn check<T: ImageDocument + std::fmt::Debug>(json: &str, message: &str) {
        let error = Document::<T>::parse(json.as_bytes()).expect_err("refused");
        let text = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        assert!(text.contains(message), "{text}");
    }
    let config = r#""config":{"mediaType":"x","digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":1}"#;
    check::<Manifest>("", "read the manifest: EOF");
    check::<Manifest>(r#"{"schemaVersion":2}"#, "missing field `config`");
    check::<Manifest>(
        &format!(r#"{{"schemaVersion":1,{config}}}"#),
        "schemaVersion is 1",
    );
    check::<Manifest>(
        &format!(r#"{{"schemaVersion":2,"manifests":[],{config}}}"#),
        "it has the key \"manifests\"",
    );
    check::<Manifest>(
        &format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",{config}}}"#
        ),
        "it says that it is application/vnd.oci.image.index.v1+json",
    );
    check::<Index>(
        r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#,
        "the key \"layers\"",
    );
    check::<Index>(
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:1","size":1}]}"#,
        "is not 64 lower-case",
    );
    check::<Manifest>(
        &format!(r#"{{"schemaVersion":2,{}}}"#, config.replace(":1}", ":-1}")),
        "-1",
    );
    check::<ImageConfig>(
        r#"{"rootfs":{"type":"tape","diff_ids":[]}}"#,
        "type \"tape\"",
    );
    check::<ImageConfig>(
        &format!(r#"{{"x":{}"#, "[".repeat(10_000)),
        "recursion limit",
    );
}
