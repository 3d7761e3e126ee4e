use oci::{Descriptor, Digest, Index, MediaType, Platform};

fn entry(platform: Option<&str>) -> Descriptor {
    let digest = Digest::sha256(platform.unwrap_or_default());
    let mut descriptor = Descriptor::new(MediaType::OciManifest, digest, 1);
    descriptor.platform = platform.map(|text| text.parse().expect("platform"));
    descriptor
}

#[track_caller]
fn check(offered: &[Option<&str>], wanted: &str, chosen: Option<usize>) {
    let manifests: Vec<_> = offered.iter().map(|platform| entry(*platform)).collect();
    let index = Index::new(MediaType::OciIndex, manifests.clone());
    let wanted: Platform = wanted.parse().expect("platform");
    assert_eq!(
        index.select(&wanted),
        chosen.map(|position| &manifests[position])
    );
}

#[test]
fn the_best_manifest_is_chosen() {
    let usual = [
        Some("linux/386"),
        Some("linux/amd64"),
        Some("linux/arm64/v8"),
    ];
    check(&usual, "linux/amd64", Some(1));
    check(&usual, "linux/386", Some(0));
    check(&usual, "linux/arm64", Some(2));
    check(&usual, "linux/s390x", None);
    check(
        &[Some("linux/386"), Some("linux/arm64")],
        "linux/amd64",
        Some(0),
    );
    check(
        &[Some("linux/amd64"), Some("linux/amd64")],
        "linux/amd64",
        Some(0),
    );
    check(
        &[Some("linux/arm/v5"), Some("linux/arm/v6")],
        "linux/arm/v7",
        Some(1),
    );
    check(&[None, Some("linux/arm64")], "linux/arm64", Some(1));
    check(&[None, Some("linux/arm64")], "linux/amd64", Some(0));
    check(&[Some("unknown/unknown")], "linux/amd64", None);
}

#[test]
fn attestations_are_no_platform() {
    let index = Index::new(
        MediaType::OciIndex,
        vec![entry(Some("linux/amd64")), entry(Some("unknown/unknown"))],
    );
    let names: Vec<_> = index.platforms().map(ToString::to_string).collect();
    assert_eq!(names, ["linux/amd64"]);
}
