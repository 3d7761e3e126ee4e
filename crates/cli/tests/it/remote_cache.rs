//! `--cache-to` and `--cache-from`: what one machine made, another does not make again.

use std::fs;

use crate::harness::{Project, Registry};

const APP: &str = "FROM {base} AS build\n\
    COPY in /in\n\
    RUN mkdir /out && wc -c < /in > /out/size\n\
    FROM {base}\n\
    COPY --from=build /out /out\n\
    RUN cp /out/size /copy\n";

/// A registry that has the base image, and an application over it.
fn published() -> (Registry, String) {
    let registry = Registry::start();
    let base = format!("{}/busybox:1", registry.address);
    let maker = Project::with("FROM busybox\n");
    maker.kiln(&["build", "--push", "-t", &base, "."]).success();
    (registry, base)
}

/// The application on a machine that has nothing yet.
fn machine(base: &str) -> Project {
    let project = Project::new();
    project.write("Dockerfile", APP.replace("{base}", base));
    project.write("in", "1234");
    project
}

/// Digest of the manifest, executed steps.
#[track_caller]
fn build(project: &Project, flags: &[&str]) -> (String, Vec<String>) {
    let mut arguments = vec![
        "build",
        "--progress",
        "plain",
        "--metadata-file",
        "meta",
        "-o",
    ];
    arguments.extend(["type=oci,dest=image.tar", "-t", "image"]);
    arguments.extend(flags);
    arguments.push(".");
    let done = project.kiln(&arguments).success();
    let meta = fs::read_to_string(project.path("meta")).unwrap();
    let digest = meta
        .split_once("containerimage.digest\"")
        .and_then(|(_, rest)| rest.split('"').nth(1))
        .unwrap_or_else(|| panic!("no digest in {meta}"));
    // Downloading a base image is no step that a cache could save.
    let mut executed = done.executed();
    executed.retain(|name| !name.contains("] FROM "));
    (digest.to_string(), executed)
}

/// Names of layers that a store has, not only knows of.
fn layers(project: &Project) -> usize {
    let Ok(shards) = fs::read_dir(project.store().join("layers")) else {
        return 0;
    };
    shards
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .count()
}

#[test]
fn a_fresh_machine_executes_nothing() {
    let (registry, base) = published();
    #[track_caller]
    fn check(base: &str, to: &str, from: &str) {
        let (digest, executed) = build(&machine(base), &["--cache-to", to]);
        assert_eq!(executed.len(), 4, "{executed:?}");
        let fresh = machine(base);
        let (same, none) = build(&fresh, &["--cache-from", from]);
        assert_eq!((same, none), (digest, Vec::new()), "{to}");
        let (_, none) = build(&fresh, &[]);
        assert_eq!(none, Vec::<String>::new(), "imported results stay");
        assert_eq!(fresh.shell("cat /copy"), "4\n");
    }
    let place = format!("{}/cache:app", registry.address);
    check(
        &base,
        &format!("type=registry,mode=max,ref={place}"),
        &place,
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    check(
        &base,
        &format!("type=local,mode=max,dest={path}"),
        &format!("type=local,src={path}"),
    );
}

#[test]
fn only_what_is_read_is_downloaded() {
    let (registry, base) = published();
    let place = format!("{}/cache", registry.address);
    build(
        &machine(&base),
        &["--cache-to", &format!("ref={place},mode=max")],
    );
    let fresh = machine(&base);
    let naming = ["build", "-t", "image", "--cache-from", &place, "."];
    drop(fresh.kiln(&naming).success());
    assert_eq!(layers(&fresh), 0, "naming an image needs none of its files");
    let other = machine(&base);
    other.write(
        "Dockerfile",
        format!("{}RUN cat /copy\n", APP.replace("{base}", &base)),
    );
    let (_, executed) = build(&other, &["--cache-from", &place]);
    assert_eq!(executed.len(), 1, "{executed:?}");
    assert_eq!(fresh.shell("cat /copy"), "4\n", "and it runs later");
}

#[test]
fn min_has_the_results_of_the_image_only() {
    let (registry, base) = published();
    let place = format!("{}/cache", registry.address);
    build(&machine(&base), &["--cache-to", &place]);
    let (_, executed) = build(&machine(&base), &["--cache-from", &place]);
    assert_eq!(
        executed,
        Vec::<String>::new(),
        "links lead to the image's steps"
    );
    let changed = machine(&base);
    changed.write("in", "5678");
    let (_, executed) = build(&changed, &["--cache-from", &place]);
    assert_eq!(executed.len(), 2, "the other stage's: {executed:?}");
}

#[test]
fn a_build_that_hits_exports_the_same_cache() {
    let (registry, base) = published();
    let first = format!("{}/first", registry.address);
    let second = format!("{}/second", registry.address);
    let (digest, _) = build(
        &machine(&base),
        &["--cache-to", &format!("ref={first},mode=max")],
    );
    let onward = machine(&base);
    build(
        &onward,
        &[
            "--cache-from",
            &first,
            "--cache-to",
            &format!("ref={second},mode=max"),
        ],
    );
    let (same, executed) = build(&machine(&base), &["--cache-from", &second]);
    assert_eq!((same, executed), (digest, Vec::new()));
}

#[test]
fn other_times_and_other_compression_give_what_a_cold_build_gives() {
    let (registry, base) = published();
    let place = format!("{}/cache", registry.address);
    build(
        &machine(&base),
        &["--cache-to", &format!("ref={place},mode=max")],
    );
    #[track_caller]
    fn check(base: &str, place: &str, flags: &[&str]) {
        let (cold, _) = build(&machine(base), flags);
        let mut flags = flags.to_vec();
        flags.extend(["--cache-from", place]);
        let fresh = machine(base);
        assert_eq!(build(&fresh, &flags).0, cold, "{flags:?}");
        let imported = machine(base);
        build(&imported, &["--cache-from", place]);
        assert_eq!(
            build(&imported, &flags).0,
            cold,
            "{flags:?}, imported before"
        );
    }
    check(&base, &place, &["--timestamp", "1000000000"]);
    check(
        &base,
        &place,
        &["-o", "type=oci,dest=z.tar,compression=zstd"],
    );
}

#[test]
fn a_cache_that_is_not_there_is_a_note_and_one_that_cannot_be_written_an_error() {
    let (registry, base) = published();
    let place = format!("{}/nothing:here", registry.address);
    let project = machine(&base);
    let flags = ["build", "--progress", "plain", "--cache-from", &place, "."];
    drop(project.kiln(&flags).success().says(&["there is none yet"]));
    drop(
        project
            .kiln(&["build", "--cache-to", "127.0.0.1:1/x", "."])
            .code(1)
            .says(&["the cache to 127.0.0.1:1/x"]),
    );
    let ignored = "ref=127.0.0.1:1/x,ignore-error=true";
    let flags = ["build", "--progress", "plain", "--cache-to", ignored, "."];
    drop(project.kiln(&flags).success().says(&["(ignored)"]));
    let image = ["build", "--progress", "plain", "--cache-from", &base, "."];
    drop(project.kiln(&image).success());
}

#[test]
fn a_step_whose_cached_files_are_gone_is_executed() {
    let (_registry, base) = published();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let maker = machine(&base);
    build(
        &maker,
        &["--cache-to", &format!("type=local,mode=max,dest={path}")],
    );
    for blob in fs::read_dir(folder.path().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap().path();
        let bytes = fs::read(&blob).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            fs::remove_file(blob).unwrap();
        }
    }
    let other = machine(&base);
    let more = format!("{}RUN cat /copy\n", APP.replace("{base}", &base));
    other.write("Dockerfile", more);
    let (_, executed) = build(&other, &["--cache-from", &format!("type=local,src={path}")]);
    assert!(executed.len() > 1, "{executed:?}");
    assert_eq!(other.shell("cat /copy"), "4\n");
}
