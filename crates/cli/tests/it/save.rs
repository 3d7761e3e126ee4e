//! `kiln save`: archives of images as docker and others read them, and as kiln does.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Project, output, tool, wrap, wrap_in};

/// Two images that share a layer: `some/app:1`, which is `app:2` too, and `app:3`.
fn project() -> Project {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nCOPY f /\nCOPY g /\n");
    project.write("f", "in both");
    project.write("g", "in one");
    let names = ["-t", "some/app:1", "-t", "app:2", "."];
    project
        .kiln(&[&["build", "-q"][..], &names].concat())
        .success();
    project.write("g", "in the other");
    project.kiln(&["build", "-q", "-t", "app:3", "."]).success();
    project
}

fn id(project: &Project, image: &str) -> String {
    let format = ["inspect", "--format", "{{.Id}}", image];
    let shown = project.kiln(&format).success().stdout;
    shown.trim_end().to_string()
}

/// Saves to `image.tar`, and returns a document of the archive.
#[track_caller]
fn save(project: &Project, arguments: &[&str], document: &str) -> Value {
    let save = ["save", "-o", "image.tar"];
    project.kiln(&[&save[..], arguments].concat()).success();
    let text = project.host(&format!("tar -xOf image.tar {document}"));
    serde_json::from_str(&text).unwrap()
}

/// Loads `image.tar` into a store of its own; `names` are what it says that it loaded.
#[track_caller]
fn load(project: &Project, arguments: &[&str], names: &[&str]) -> Project {
    let other = Project::new();
    other.write("image.tar", fs::read(project.path("image.tar")).unwrap());
    let load = ["image", "load", "-q", "-i", "image.tar"];
    let loaded = other.kiln(&[&load[..], arguments].concat()).success();
    let lines = names.iter().map(|name| format!("Loaded image{name}\n"));
    assert_eq!(loaded.stdout, lines.collect::<String>());
    other
}

#[test]
fn what_was_saved_is_loaded_again() {
    let project = project();
    let (first, second) = (id(&project, "app:2"), id(&project, "app:3"));

    let names = ["some/app:1", "app:3", "app:2", "app:3"];
    let manifest = save(&project, &names, "manifest.json");
    let tags = |image: usize| manifest[image]["RepoTags"].clone();
    assert_eq!(tags(0), json!(["some/app:1", "app:2"]));
    assert_eq!(tags(1), json!(["app:3"]));
    assert_eq!(manifest.as_array().unwrap().len(), 2);
    assert_eq!(manifest[0]["Layers"][0], manifest[1]["Layers"][0]);
    let other = load(&project, &[], &[": some/app:1", ": app:2", ": app:3"]);
    assert_eq!(id(&other, "some/app:1"), first);
    assert_eq!(id(&other, "app:2"), first);
    assert_eq!(id(&other, "app:3"), second);

    // An id brings no name.
    let short = &second["sha256:".len()..][..12];
    let manifest = save(&project, &[short], "manifest.json");
    assert_eq!(manifest[0]["RepoTags"], json!([]));
    let other = load(&project, &[], &[&format!(" ID: {second}")]);
    assert_eq!(id(&other, &second), second);

    // What was loaded is saved as it was.
    let command = ["image", "save", "-o", "again.tar", short];
    other.kiln(&command).success();
    let saved = [project.path("image.tar"), other.path("again.tar")];
    assert_eq!(fs::read(&saved[0]).unwrap(), fs::read(&saved[1]).unwrap());
}

#[test]
fn a_repository_without_a_tag_is_all_its_tags() {
    let project = project();
    let repositories = save(&project, &["app"], "repositories");
    let tags = repositories["app"].as_object().unwrap();
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["2", "3"]);
    let index = save(&project, &["app"], "index.json");
    let names = index["manifests"].as_array().unwrap().iter();
    let names: Vec<&Value> = names
        .map(|image| &image["annotations"]["io.containerd.image.name"])
        .collect();
    let both = ["docker.io/library/app:2", "docker.io/library/app:3"];
    assert_eq!(names, both);
}

#[test]
fn others_read_it() {
    let project = project();
    let into = fs::File::create(project.path("image.tar")).unwrap();
    let mut command = project.command(&["save", "app:2", "some/app:1"]);
    assert!(command.stdout(into).status().unwrap().success());
    let archive = project.path("image.tar").display().to_string();
    let copy = format!("oci:{}", project.path("copy").display());
    for source in ["docker-archive:FILE:some/app:1", "oci-archive:FILE:2"] {
        let source = source.replace("FILE", &archive);
        let config = tool("skopeo", &["inspect", "--raw", "--config", &source]).success();
        project.write("config.json", config.stdout);
        let sum = project.host("sha256sum < config.json");
        assert_eq!(format!("sha256:{}", &sum[..64]), id(&project, "app:2"));
        // Every blob is what its digest says.
        drop(tool("skopeo", &["copy", "-q", &source, &copy]).success());
    }
    // A file gets the same bytes.
    project.host("mv image.tar piped.tar");
    save(&project, &["app:2", "some/app:1"], "manifest.json");
    project.host("cmp piped.tar image.tar");
}

#[test]
fn all_platforms_or_those_that_are_wanted() {
    let project = Project::new();
    project.write(
        "Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY f-$TARGETARCH /f\n",
    );
    project.write("f-amd64", "one");
    project.write("f-s390x", "another");
    let platforms = "linux/s390x,linux/amd64";
    project
        .kiln(&["build", "-q", "--platform", platforms, "-t", "app", "."])
        .success();
    let config = |manifest: &Value| {
        let path = manifest[0]["Config"].as_str().unwrap();
        format!("sha256:{}", path.rsplit('/').next().unwrap())
    };

    let all = save(&project, &["app"], "manifest.json");
    let other = load(&project, &[], &[": app:latest"]);
    assert_eq!(id(&other, "app"), config(&all), "this machine's");
    let other = load(&project, &["--platform", "linux/s390x"], &[": app:latest"]);
    let another = id(&other, "app");
    assert_ne!(another, config(&all));

    let one = save(
        &project,
        &["--platform", "linux/s390x", "app"],
        "manifest.json",
    );
    assert_eq!(config(&one), another);
    let other = load(&project, &["--platform", "linux/s390x"], &[": app:latest"]);
    assert_eq!(id(&other, "app"), another);
    project
        .kiln(&["save", "--platform", "linux/arm64", "-o", "no.tar", "app"])
        .code(1)
        .says(&["app is not for linux/arm64: the store has linux/s390x, linux/amd64"]);
    assert!(!project.path("no.tar").exists());
}

#[test]
fn nothing_is_half_written() {
    let project = project();
    project
        .kiln(&["save", "-o", "no.tar", "app:2", "none:1"])
        .code(1)
        .says(&["there is no image none:1 in the store"]);
    assert!(!project.path("no.tar").exists());

    let mut command = project.command(&["save", "app:2"]);
    // The standard output of what `script` runs is a terminal.
    wrap(&mut command, r#"exec script -qec "$0 $*" /dev/null"#);
    let said = output(&mut command).code(1).stdout;
    assert!(said.contains("an archive is not for a terminal"), "{said}");

    project.write("full/before", "");
    let mut command = project.command(&["save", "-o", "full/image.tar", "app:2"]);
    let script = "mount -t tmpfs -o size=4k none full && echo before > full/image.tar && \
                  { \"$0\" \"$@\"; code=$?; ls -A full; cat full/image.tar; exit $code; }";
    wrap_in(&mut command, &["/usr/bin/unshare", "--mount"], script);
    let failed = output(&mut command).code(1);
    assert_eq!(failed.stdout, "image.tar\nbefore\n");
    drop(failed.says(&["cannot export full/image.tar: No space left on device"]));
}
