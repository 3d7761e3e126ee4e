//! `--cache-to` and `--cache-from`: what one machine made, another does not make again.

use std::fs;
use std::process::Stdio;

use testkit::Effect;

use crate::harness::{Gate, Project, Registry};

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

/// A registry that has the base image, and the cache of all steps of the application.
fn cached() -> (Registry, String, String) {
    let (registry, base) = published();
    let place = format!("{}/cache", registry.address);
    let to = format!("ref={place},mode=max");
    build(&machine(&base), &["--cache-to", &to]);
    (registry, base, place)
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
    fs::read_dir(project.store().join("layers")).map_or(0, Iterator::count)
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
    let (_registry, base, place) = cached();
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
    // Also of layers that the one in between never had: the document and one of them are enough.
    let fresh = machine(&base);
    let (stage, _) = APP.split_once("FROM {base}\n").unwrap();
    let other = format!("{stage}FROM scratch\nCOPY --from=build /out /\n");
    fresh.write("Dockerfile", other.replace("{base}", &base));
    registry.take_requests();
    build(&fresh, &["--cache-from", &second]);
    let mut asked = blobs(&registry, "GET ");
    asked.retain(|request| request.contains("/v2/second/"));
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn other_times_and_other_compression_give_what_a_cold_build_gives() {
    let (_registry, base, place) = cached();
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

/// How many blobs a registry was asked for, and took, since it was asked last.
fn blobs(registry: &Registry, method: &str) -> Vec<String> {
    let mut requests = registry.take_requests();
    requests.retain(|request| request.starts_with(method) && request.contains("/blobs/"));
    requests
}

#[test]
fn layers_are_sent_while_later_steps_still_run() {
    let registry = Registry::start();
    let gate = Gate::new();
    let project = Project::with(&format!(
        "FROM busybox\nRUN echo early > /early\n{}",
        gate.step()
    ));
    let place = format!("ref={}/cache,mode=max", registry.address);
    let build = project
        .command(&["build", "-t", "image", "--cache-to", &place, "."])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The last step is let go when the layer of the one before it has arrived.
    let has_arrived = || !blobs(&registry, "PUT ").is_empty();
    gate.open_when(build, has_arrived, "nothing is sent before the end");
    let requests = registry.take_requests();
    let last = requests.last().unwrap();
    assert!(
        last.starts_with("PUT ") && last.contains("/manifests/"),
        "the cache is named when all of it is there: {requests:?}"
    );
}

#[test]
fn a_build_that_fails_leaves_no_cache() {
    let registry = Registry::start();
    let project = Project::with("FROM busybox\nRUN echo early > /early\nRUN exit 3\n");
    let place = format!("ref={}/cache,mode=max", registry.address);
    drop(project.kiln(&["build", "--cache-to", &place, "."]).code(1));
    let requests = registry.take_requests();
    let named = |request: &String| request.contains("/manifests/");
    assert!(!requests.iter().any(named), "{requests:?}");
}

#[test]
fn a_fresh_machine_asks_for_no_more_than_it_needs() {
    let (registry, base, place) = cached();
    #[track_caller]
    fn check(
        registry: &Registry,
        project: &Project,
        place: &str,
        flags: &[&str],
        blobs_of: [usize; 2],
    ) {
        registry.take_requests();
        let mut arguments = vec!["build", "--cache-from", place];
        arguments.extend(flags);
        arguments.push(".");
        drop(project.kiln(&arguments).success());
        let asked = blobs(registry, "GET ");
        let of = |name: &str| {
            asked
                .iter()
                .filter(|request| request.contains(name))
                .count()
        };
        assert_eq!(
            [of("/v2/cache/"), of("/v2/busybox/")],
            blobs_of,
            "{asked:?}"
        );
    }
    let check = |project: &Project, flags: &[&str], blobs_of| {
        check(&registry, project, &place, flags, blobs_of);
    };
    let naming = &["-t", "image"][..];
    let fresh = machine(&base);
    // The document of the cache, and the config of the base image: no layer.
    check(&fresh, naming, [1, 1]);
    check(&fresh, naming, [0, 0]);
    // A file out of a stage is looked for from the top down: it is in the uppermost layer.
    let stage = format!(
        "FROM {base} AS build\nCOPY in /in\nRUN mkdir /out && wc -c < /in > /out/size\n\
         FROM scratch\nCOPY --from=build"
    );
    let fresh = machine(&base);
    fresh.write("Dockerfile", format!("{stage} /out/size /\n"));
    check(&fresh, &["-o", "out"], [2, 1]);
    assert_eq!(fs::read_to_string(fresh.path("out/size")).unwrap(), "4\n");
    // The one below that has this one. The document says again that the copy is not there.
    fresh.write("Dockerfile", format!("{stage} /in /\n"));
    check(&fresh, &["-o", "out"], [2, 0]);
    // A directory may have more in the layers below; the document says that it has not.
    let fresh = machine(&base);
    fresh.write("Dockerfile", format!("{stage} /out /\n"));
    check(&fresh, &["-o", "out"], [2, 1]);
    assert_eq!(fs::read_to_string(fresh.path("out/size")).unwrap(), "4\n");
    // Those that it says have to do with it come, and no others.
    fresh.write("Dockerfile", format!("{stage} /etc /\n"));
    check(&fresh, &["-o", "out"], [1, 1]);
    // Another last step runs on all that is below it.
    let fresh = machine(&base);
    let file = APP.replace("{base}", &base);
    fresh.write(
        "Dockerfile",
        file.replace("cp /out/size /copy", "cp /out/size /other"),
    );
    check(&fresh, naming, [2, 4]);
    // Another stage: its base, and that of the stage it is copied to, which are the same here.
    let fresh = machine(&base);
    fresh.write("in", "12345");
    check(&fresh, naming, [1, 4]);
    // The same output of another stage: the copy hits, and the last step is not even looked at.
    let fresh = machine(&base);
    fresh.write("in", "4321");
    check(&fresh, naming, [1, 4]);
}

/// A file of a stage is found in its uppermost layer; another stage then stands on all of them.
#[test]
fn a_stage_of_which_one_layer_was_read_is_whole_for_those_that_stand_on_it() {
    let (_registry, base, place) = cached();
    let fresh = machine(&base);
    fresh.write(
        "Dockerfile",
        format!(
            "FROM {base} AS build\nCOPY in /in\nRUN mkdir /out && wc -c < /in > /out/size\n\
             FROM scratch AS one\nCOPY --from=build /out/size /\n\
             FROM build AS two\nCOPY --from=one /size /out/size\n\
             FROM scratch\nCOPY --from=two /in /\n"
        ),
    );
    let flags = ["build", "--cache-from", &place, "-o", "out", "."];
    drop(fresh.kiln(&flags).success());
    assert_eq!(fs::read_to_string(fresh.path("out/in")).unwrap(), "1234");
}

#[test]
fn a_registry_that_takes_nothing_fails_the_cache_and_not_the_image() {
    #[track_caller]
    fn check(method: &str, part: &str, ignore: bool) {
        let registry = testkit::Registry::start();
        let refusal = Effect::Status(403, Vec::new());
        registry.fault(method, part, 1000, refusal);
        let project = Project::with("FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n");
        let place = format!(
            "ref={}/cache,mode=max,ignore-error={ignore}",
            registry.host()
        );
        let flags = [
            "build",
            "--progress",
            "plain",
            "-t",
            "image",
            "--cache-to",
            &place,
            ".",
        ];
        let done = project.kiln(&flags).code(i32::from(!ignore));
        assert_eq!(done.executed().len(), 2, "{}", done.stderr);
        drop(done.says(&["the cache to"]));
        assert_eq!(project.shell("cat /a /b"), "a\nb\n");
        assert!(registry.manifest("cache", "latest").is_none());
    }
    check("POST", "/uploads/", false);
    check("PUT", "/manifests/", true);
    check("HEAD", "/blobs/", true);
}
