//! `kiln doctor`: every kind of file of the store, damaged, is found and dropped, and the next
//! build is right.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Project, Registry};

/// A project whose store has files of every kind: layers in both forms, compressed ones, imported
/// records with origins, a cache mount, an index of stamps, notes.
fn project(registry: &Registry) -> Project {
    let place = format!("{}/cache:1", registry.address);
    let base = format!("{}/base:1", registry.address);
    let maker = Project::with("FROM busybox\n");
    drop(maker.kiln(&["build", "--push", "-t", &base, "."]).success());
    let file = format!(
        "FROM {base} AS made\nRUN echo made > /made\n\
         FROM {base}\nCOPY --from=made /made /\nCOPY src /src\nRUN cat /src/* > /all\n\
         RUN --mount=type=cache,target=/c,id=things echo c > /c/f; cp /c/f /f\n"
    );
    let make = |project: &Project| {
        project.write("Dockerfile", &file);
        project.write("src/a", "a");
        project.write("src/b", "b".repeat(100_000));
    };
    make(&maker);
    let to = format!("ref={place},mode=max");
    drop(maker.kiln(&["build", "--cache-to", &to, "."]).success());
    let project = Project::new();
    make(&project);
    drop(
        project
            .kiln(&["build", "--cache-from", &place, "."])
            .success(),
    );
    // The stamps of files that were written a moment ago are not kept.
    std::thread::sleep(std::time::Duration::from_millis(30));
    build(&project);
    project
}

/// Builds from the beginning without a cache from elsewhere: digest of the image.
#[track_caller]
fn build(project: &Project) -> String {
    let output = "type=oci,dest=image.tar,compression=zstd";
    drop(
        project
            .kiln(&["build", "-o", output, "-t", "image", "."])
            .success(),
    );
    assert_eq!(project.shell("cat /f; wc -c < /all"), "c\n100001\n");
    let index = project.host("tar -xOf image.tar index.json; rm image.tar");
    index.split_once("sha256:").unwrap().1[..64].to_string()
}

/// Every file below a folder of the store that `wanted` takes.
fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let len = path.metadata().unwrap().len();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(len / 2).unwrap();
}

/// What the doctor says is wrong.
#[track_caller]
fn findings(project: &Project) -> Vec<String> {
    let report = project.kiln(&["doctor"]).success().stdout;
    let lines = report.lines().filter(|line| !line.ends_with(" dropped"));
    lines.map(str::to_string).collect()
}

/// Files to damage: below which folder of the store, with which name or extension, and how; and
/// what the doctor says of each.
type Damage = (&'static str, &'static str, fn(&Path), &'static str);

#[track_caller]
fn check(project: &Project, expected: &str, damages: &[Damage]) {
    let counts = damages.iter().map(|(folder, name, damage, _)| {
        let wanted = |path: &Path| match *name {
            "" => path.extension().is_none(),
            name => path.ends_with(name) || path.extension().is_some_and(|it| it == name),
        };
        let damaged = files(&project.store().join(folder), &wanted);
        assert!(!damaged.is_empty(), "{folder} {name}");
        damaged.iter().for_each(|path| damage(path));
        damaged.len()
    });
    let counts: Vec<usize> = counts.collect();
    let found = findings(project);
    for ((folder, name, _, says), count) in damages.iter().zip(counts) {
        let fitting = found.iter().filter(|line| line.contains(says)).count();
        assert!(
            fitting >= count,
            "{folder} {name}: {count} damaged: {found:#?}"
        );
    }
    assert_eq!(findings(project), Vec::<String>::new(), "{found:#?}");
    assert_eq!(build(project), expected, "{found:#?}");
}

#[test]
fn whatever_is_damaged_is_found_and_dropped() {
    let registry = Registry::start();
    let project = project(&registry);
    let expected = build(&project);
    assert_eq!(findings(&project), Vec::<String>::new());
    let check = |damages: &[Damage]| check(&project, &expected, damages);
    check(&[
        ("layers", "tar", flip_a_bit, "its tar or index changed"),
        (
            "blobs",
            "data",
            flip_a_bit,
            "its bytes do not hash to its digest",
        ),
        ("cache/links", "", flip_a_bit, "cache/links/"),
        ("cache/steps", "", truncate, "cache/steps/"),
        ("stats", "", flip_a_bit, "this index of stamps is damaged"),
    ]);
    check(&[
        ("layers", "tar", truncate, "layer "),
        ("blobs", "data", truncate, "blob "),
        ("origins", "", flip_a_bit, "origins/"),
        ("compressed", "", flip_a_bit, "compressed/"),
        ("notes", "", flip_a_bit, "notes/"),
    ]);
    check(&[
        ("layers", "index", flip_a_bit, "its tar or index changed"),
        ("blobs", "", flip_a_bit, "blob "),
        ("mounts", "versions", flip_a_bit, "cache mount "),
        ("images/tags", "", flip_a_bit, "tag "),
    ]);
    // A step's layer is a directory until an image is made of it.
    let only_cache = ["build", "--no-cache", "-o", "type=cacheonly", "."];
    drop(project.kiln(&only_cache).success());
    check(&[
        ("layers", "packed", flip_a_bit, "a record of it is damaged"),
        ("layers", "dir", flip_a_bit, "a record of it is damaged"),
        ("cache/results", "", flip_a_bit, "result "),
        ("images/ids", "", truncate, "image "),
    ]);
}
