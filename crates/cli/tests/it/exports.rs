//! What lands in layouts, archives and registries: documents, compression, annotations, and that
//! nothing moves that is there already.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use serde_json::Value;

use crate::harness::{Gate, Project, Registry, tool};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn project() -> Project {
    let project = Project::with("FROM busybox\nCOPY f /dir/f\nLABEL a=b\n");
    project.write("f", "content");
    project
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn blob(layout: &Path, descriptor: &Value) -> std::path::PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// Builds into a layout directory and returns its index and the first manifest.
#[track_caller]
fn layout(project: &Project, options: &str, arguments: &[&str]) -> (Value, Value) {
    let folder = project.path("layout");
    drop(fs::remove_dir_all(&folder));
    let output = format!("type=oci,dest=layout,tar=false{options}");
    let mut all = vec!["build", "-q", "-o", &output];
    all.extend(arguments);
    all.push(".");
    project.kiln(&all).success();
    let index = json(&folder.join("index.json"));
    let manifest = json(&blob(&folder, &index["manifests"][0]));
    (index, manifest)
}

#[test]
fn several_outputs_each_in_its_own_form() {
    let project = project();
    let outputs = [
        "type=oci,dest=oci,tar=false",
        "type=docker,dest=docker.tar",
        "type=local,dest=files",
        "type=tar,dest=files.tar",
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
        let mut arguments = vec!["build", "-t", "app:1"];
        for number in order {
            arguments.extend(["-o", outputs[number]]);
        }
        arguments.push(".");
        project.kiln(&arguments).success();
        let index = json(&project.path("oci/index.json"));
        let manifest = json(&blob(&project.path("oci"), &index["manifests"][0]));
        assert_eq!(manifest["mediaType"], OCI_MANIFEST);
        fs::create_dir(project.path("unpacked")).unwrap();
        let archive = project.path("docker.tar");
        let target = project.path("unpacked");
        let (archive, target) = (archive.to_str().unwrap(), target.to_str().unwrap());
        tool("tar", &["-xf", archive, "-C", target]).success();
        let index = json(&project.path("unpacked/index.json"));
        let manifest = json(&blob(&project.path("unpacked"), &index["manifests"][0]));
        assert_eq!(manifest["mediaType"], DOCKER_MANIFEST);
        let simple = json(&project.path("unpacked/manifest.json"));
        assert_eq!(simple[0]["RepoTags"][0], "app:1");
        let content = fs::read_to_string(project.path("files/dir/f")).unwrap();
        assert_eq!(content, "content");
        assert!(project.path("files.tar").exists());
        for name in ["unpacked", "oci", "files"] {
            fs::remove_dir_all(project.path(name)).unwrap();
        }
    }
}

#[test]
fn an_archive_on_standard_output_is_the_one_in_the_file() {
    let project = project();
    // Large enough that its bytes are not merely buffered.
    project.write("f", vec![7; 3 << 20]);
    for kind in ["oci", "docker", "tar"] {
        let file = format!("type={kind},dest=file.tar");
        project.kiln(&["build", "-q", "-o", &file, "."]).success();
        let piped = File::create(project.path("piped.tar")).unwrap();
        let to_pipe = format!("type={kind},dest=-");
        let status = project
            .command(&["build", "-q", "-o", &to_pipe, "."])
            .stdout(piped)
            .status()
            .unwrap();
        assert!(status.success());
        let bytes = |name| fs::read(project.path(name)).unwrap();
        assert!(bytes("file.tar") == bytes("piped.tar"), "{kind}");
    }
}

#[test]
fn an_unchanged_export_touches_nothing() {
    let project = project();
    let arguments = [
        "build",
        "-t",
        "app",
        "-o",
        "type=oci,dest=image.tar",
        "-o",
        "type=docker,dest=docker.tar",
        "-o",
        "type=oci,dest=layout,tar=false",
        ".",
    ];
    let stamps = || {
        [
            "image.tar",
            "docker.tar",
            "layout/index.json",
            "layout/oci-layout",
        ]
        .map(|name| {
            let metadata = fs::metadata(project.path(name)).unwrap();
            (metadata.ino(), metadata.modified().unwrap())
        })
    };
    project.kiln(&arguments).success();
    let before: [(u64, SystemTime); 4] = stamps();
    project.kiln(&arguments).success();
    assert_eq!(stamps(), before);
    fs::remove_file(project.path("image.tar")).unwrap();
    project.kiln(&arguments).success();
    assert!(
        project.path("image.tar").exists(),
        "what is gone is written again"
    );
    assert_eq!(stamps()[1..], before[1..]);
}

#[test]
fn compressions_and_their_media_types() {
    let project = project();
    let check = |options: &str, types: [&str; 4], magic: &[u8]| {
        let (_, manifest) = layout(&project, options, &[]);
        let layers = manifest["layers"].as_array().unwrap();
        let found: Vec<&str> = layers
            .iter()
            .map(|layer| layer["mediaType"].as_str().unwrap())
            .map(|name| name.rsplit_once('.').unwrap().1)
            .collect();
        assert_eq!(found, types, "{options}");
        let top = fs::read(blob(&project.path("layout"), &layers[3])).unwrap();
        assert!(top.starts_with(magic), "{options}: {:?}", &top[..8]);
        let target = format!("oci:{}:copy", project.path("copy").display());
        let source = format!("oci:{}", project.path("layout").display());
        tool("skopeo", &["--insecure-policy", "copy", &source, &target]).success();
        fs::remove_dir_all(project.path("copy")).unwrap();
        top.len()
    };
    let gzip = "tar+gzip";
    let zstd = "tar+zstd";
    check("", [gzip; 4], &[0x1f, 0x8b]);
    check(",compression=zstd", [zstd; 4], &[0x28, 0xb5, 0x2f, 0xfd]);
    check(",compression=uncompressed", ["tar"; 4], b"dir/");
    check(",oci-mediatypes=false", ["gzip"; 4], &[0x1f, 0x8b]);
    let stored = check(",compression-level=0", [gzip; 4], &[0x1f, 0x8b]);
    let small = check(",compression-level=9", [gzip; 4], &[0x1f, 0x8b]);
    assert!(small < stored, "{small} {stored}");
    let wrong = "type=oci,dest=x.tar,compression-level=12";
    let refused = project.kiln(&["build", "-o", wrong, "."]).code(1);
    refused.says(&["gzip has no level 12"]);
}

#[test]
fn layers_of_a_base_are_recompressed_only_by_force() {
    let registry = Registry::start();
    let base = format!("{}/base:1", registry.address);
    let publisher = Project::with("FROM busybox\n");
    publisher
        .kiln(&["build", "-t", &base, "--push", "."])
        .success();
    let project = Project::new();
    project.write("Dockerfile", format!("FROM {base}\nCOPY f /f\n"));
    project.write("f", "content");
    let types = |options| {
        let (_, manifest) = layout(&project, options, &[]);
        let layers = manifest["layers"].as_array().unwrap().clone();
        layers
            .iter()
            .map(|layer| layer["mediaType"].as_str().unwrap())
            .map(|name| name.rsplit_once('+').unwrap().1.to_string())
            .collect::<Vec<String>>()
    };
    assert_eq!(types(",compression=zstd"), ["gzip", "gzip", "gzip", "zstd"]);
    let forced = types(",compression=zstd,force-compression=true");
    assert_eq!(forced, ["zstd"; 4]);
}

#[test]
fn annotations_at_every_level() {
    let project = project();
    let arguments = [
        "--platform",
        "linux/amd64,linux/arm64",
        "--annotation",
        "m=1",
        "--annotation",
        "index:i=2",
        "--annotation",
        "manifest-descriptor:md=3",
        "--annotation",
        "index-descriptor:id=4",
    ];
    project.write("Dockerfile", "FROM scratch\nCOPY f /f\n");
    let (top, index) = layout(&project, "", &arguments);
    let folder = project.path("layout");
    let manifest = json(&blob(&folder, &index["manifests"][0]));
    assert_eq!(top["manifests"][0]["annotations"]["id"], "4");
    assert_eq!(index["annotations"]["i"], "2");
    for descriptor in index["manifests"].as_array().unwrap() {
        assert_eq!(descriptor["annotations"]["md"], "3");
    }
    assert_eq!(manifest["annotations"]["m"], "1");
    let (_, manifest) = layout(&project, ",annotation.k=v", &[]);
    assert_eq!(manifest["annotations"]["k"], "v");
}

#[test]
fn annotations_of_one_platform() {
    let project = project();
    project.write("Dockerfile", "FROM scratch\nCOPY f /f\n");
    let both = ["--platform", "linux/amd64,linux/arm64"];
    let asked = ["--annotation", "manifest[linux/arm64],index:k=v"];
    let (_, index) = layout(&project, "", &[both, asked].concat());
    assert_eq!(index["annotations"]["k"], "v");
    let descriptors = index["manifests"].as_array().unwrap();
    let annotated = descriptors.iter().map(|descriptor| {
        let manifest = json(&blob(&project.path("layout"), descriptor));
        manifest["annotations"]["k"] == "v"
    });
    assert_eq!(annotated.collect::<Vec<bool>>(), [false, true]);
}

#[test]
fn the_media_types_of_docker_or_of_oci_throughout() {
    let project = project();
    project.write("Dockerfile", "FROM scratch\nCOPY f /f\n");
    let check = |options: &str, prefix: &str, [index, manifest, config, layer]: [&str; 4]| {
        let both = ["--platform", "linux/amd64,linux/arm64"];
        let (top, list) = layout(&project, options, &both);
        let folder = project.path("layout");
        let name = |suffix: &str| Value::from(format!("application/vnd.{prefix}.{suffix}"));
        assert_eq!(top["manifests"][0]["mediaType"], name(index));
        assert_eq!(list["mediaType"], name(index));
        for descriptor in list["manifests"].as_array().unwrap() {
            assert_eq!(descriptor["mediaType"], name(manifest));
            let image = json(&blob(&folder, descriptor));
            assert_eq!(image["mediaType"], name(manifest));
            assert_eq!(image["config"]["mediaType"], name(config));
            assert_eq!(image["layers"][0]["mediaType"], name(layer));
        }
    };
    let layer = "layer.v1.tar+gzip";
    let oci = ["index.v1+json", "manifest.v1+json", "config.v1+json", layer];
    check("", "oci.image", oci);
    let list = "distribution.manifest.list.v2+json";
    let manifest = "distribution.manifest.v2+json";
    let layer = "image.rootfs.diff.tar.gzip";
    let docker = [list, manifest, "container.image.v1+json", layer];
    check(",oci-mediatypes=false", "docker", docker);
}

#[test]
fn files_merge_into_a_directory() {
    let project = project();
    project.write(
        "Dockerfile",
        "FROM scratch\nCOPY f /a/f\nCOPY f /replaced\n",
    );
    project.write("out/a/mine", "mine");
    project.write("out/replaced/by", "a file");
    project
        .kiln(&["build", "-o", "type=local,dest=out,mode=copy", "."])
        .success();
    let read = |name| fs::read_to_string(project.path(name)).unwrap();
    assert_eq!(read("out/a/f"), "content");
    assert_eq!(read("out/a/mine"), "mine");
    assert_eq!(read("out/replaced"), "content");
}

#[test]
fn files_take_the_place_of_a_directory() {
    let project = Project::with("FROM scratch\nCOPY f /a/f\n");
    project.write("f", "content");
    for name in ["out/a/f", "out/a/mine", "out/mine/deep", "out/top"] {
        project.write(name, "old");
    }
    let dest = |dest: &str| format!("type=local,dest={dest},mode=delete");
    project
        .kiln(&["build", "-o", &dest("."), "."])
        .code(1)
        .says(&["mode=delete would remove the context"]);
    project.kiln(&["build", "-o", &dest("out"), "."]).success();
    assert_eq!(project.host("cd out && find . | sort"), ".\n./a\n./a/f\n");
    assert_eq!(project.host("cat out/a/f"), "content");
}

#[test]
fn directories_of_platforms_on_request() {
    let project = Project::with("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /f\n");
    project.write("amd64", "amd");
    project.write("arm64", "arm");
    #[track_caller]
    fn check(project: &Project, platforms: &str, split: &str, expected: &str) {
        for output in [
            format!("type=local,dest=out{split}"),
            format!("type=tar,dest=out.tar{split}"),
        ] {
            drop(fs::remove_dir_all(project.path("out")));
            project
                .kiln(&["build", "--platform", platforms, "-o", &output, "."])
                .success();
            if output.contains("tar") {
                project.host("mkdir out && tar -C out -xf out.tar");
            }
            let found = project.host("cd out && grep -r . . | sort");
            assert_eq!(found, expected, "{output}");
        }
    }
    let both = "linux/amd64,linux/arm64";
    let apart = "./linux_amd64/f:amd\n./linux_arm64/f:arm\n";
    check(&project, both, "", apart);
    check(&project, both, ",platform-split=false", "./f:arm\n");
    check(&project, "linux/amd64", "", "./f:amd\n");
    let one = "./linux_amd64/f:amd\n";
    check(&project, "linux/amd64", ",platform-split=true", one);
}

#[test]
fn a_push_by_digest_leaves_no_tag() {
    let registry = Registry::start();
    let project = project();
    let name = format!("{}/app", registry.address);
    let output = format!("type=image,name={name},push=true,push-by-digest=true,store=false");
    let metadata = ["--metadata-file", "metadata.json"];
    project
        .kiln(&["build", "-o", &output, metadata[0], metadata[1], "."])
        .success();
    let metadata = json(&project.path("metadata.json"));
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    let requests = registry.take_requests();
    let put = |request: &&String| request.starts_with("PUT") && request.contains("/manifests/");
    let put: Vec<_> = requests.iter().filter(put).collect();
    assert!(!put.is_empty(), "{requests:?}");
    assert!(put.iter().all(|one| one.contains(digest)), "{put:?}");
    let listed = project.kiln(&["images", "-q"]).success();
    let kept = listed.stdout.lines().count();
    assert_eq!(kept, 1, "with store=false the base alone is kept");
    let tagged = output.replace("/app,", "/app:1,");
    project
        .kiln(&["build", "-o", &tagged, "."])
        .code(1)
        .says(&["push-by-digest=true pushes without a tag"]);
}

#[test]
fn annotations_are_kept_for_a_later_push() {
    let registry = Registry::start();
    let project = project();
    let name = format!("{}/app:1", registry.address);
    project
        .kiln(&["build", "-t", &name, "--annotation", "k=v", "."])
        .success();
    project.kiln(&["push", &name]).success();
    let url = format!("docker://{name}");
    let raw = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &url]).success();
    let manifest: Value = serde_json::from_str(&raw.stdout).unwrap();
    assert_eq!(manifest["annotations"]["k"], "v", "{manifest}");
    project
        .kiln(&["build", "--annotation", "index:k=v", "."])
        .code(1)
        .says(&["has no index to annotate"]);
}

#[test]
fn a_second_push_sends_nothing() {
    let registry = Registry::start();
    let project = project();
    let name = format!("{}/app:1", registry.address);
    let push = || {
        project
            .kiln(&["build", "-t", &name, "--push", "."])
            .success();
        registry.take_requests()
    };
    let sent = |requests: &[String]| {
        let is_upload = |request: &&String| request.contains("/uploads/");
        requests.iter().filter(is_upload).count()
    };
    let first = push();
    assert!(sent(&first) > 0, "{first:?}");
    let second = push();
    assert_eq!(sent(&second), 0, "{second:?}");
    assert!(
        !second.iter().any(|request| request.starts_with("PUT")),
        "{second:?}"
    );
}

#[test]
fn a_base_that_is_only_pushed_on_is_mounted_and_never_downloaded() {
    let registry = Registry::start();
    let base = format!("{}/library/base:1", registry.address);
    let publisher = project();
    publisher
        .kiln(&["build", "-t", &base, "--push", "."])
        .success();
    registry.take_requests();
    let project = Project::new();
    project.write("Dockerfile", format!("FROM {base}\nLABEL mine=yes\n"));
    let name = format!("{}/team/app:1", registry.address);
    project
        .kiln(&["build", "-t", &name, "--push", "."])
        .success();
    let requests = registry.take_requests();
    let mounts = requests
        .iter()
        .filter(|request| request.starts_with("POST") && request.contains("mount=sha256"));
    assert_eq!(mounts.count(), 4, "{requests:?}");
    let fetched: Vec<_> = requests
        .iter()
        .filter(|request| request.starts_with("GET") && request.contains("/blobs/"))
        .collect();
    assert_eq!(fetched.len(), 1, "only the config is read: {requests:?}");
    let run = Project::new();
    run.kiln(&["pull", &name]).success();
    let read = run.kiln(&["run", "--rm", &name, "cat", "/dir/f"]);
    assert_eq!(read.success().stdout, "content");
}

/// Blobs of the project's store: their files, the largest first.
fn stored_blobs(project: &Project) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(project.store().join("blobs"));
    let files = files.into_iter().flatten().map(|file| file.unwrap().path());
    let data = files.filter(|path| path.extension().is_some_and(|end| end == "data"));
    let mut found: Vec<_> = data.collect();
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).map_or(0, |data| data.len())));
    found
}

#[test]
fn layers_are_compressed_while_later_steps_still_run() {
    let gate = Gate::new();
    let project = Project::with(&format!("FROM busybox\nCOPY f /f\n{}", gate.step()));
    project.write("f", "content");
    let build = project
        .command(&["build", "-o", "type=oci,dest=image.tar", "."])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The last step is let go when the layer of the one before it is a blob.
    let is_compressed = || project.store().join("compressed").exists();
    gate.open_when(build, is_compressed, "nothing is compressed before the end");
    assert!(project.path("image.tar").exists());
}

/// 3 MB that compress by half, another for each seed.
fn half_noise(mut seed: u64) -> Vec<u8> {
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..3_000_000)
        .map(|place| if place % 2 == 0 { b'.' } else { next() })
        .collect()
}

/// The layer has another time when one file changed, which is in all its headers: their blocks are
/// known again all the same.
#[test]
fn one_changed_file_is_compressed_with_its_block_alone() {
    let project_with = |changed: &str| {
        let project = Project::with("FROM busybox\nCOPY data /data\n");
        for (number, file) in half_noise(5)[..2_000_000].chunks(7000).enumerate() {
            project.write(&format!("data/{number:03}"), file);
        }
        project.write("data/200", changed);
        project
    };
    let archive = |project: &Project| {
        let output = "type=oci,dest=image.tar";
        project.kiln(&["build", "-q", "-o", output, "."]).success();
        fs::read(project.path("image.tar")).unwrap()
    };
    let project = project_with("before");
    let remembered = || fs::metadata(project.store().join("blocks/places")).map(|file| file.len());
    archive(&project);
    let before = remembered().unwrap();
    project.write("data/200", "after");
    assert!(archive(&project) == archive(&project_with("after")));
    // What was compressed is remembered in addition.
    let new = remembered().unwrap() - before;
    assert!(
        0 < new && new * 3 <= before,
        "{new} bytes more than {before}"
    );
}

/// What earlier blobs have in common with a layer is copied from them, and shows in nothing: the
/// archive is the one of a store that never saw them, even when they are damaged by now.
#[test]
fn an_archive_is_the_same_whatever_was_compressed_before() {
    let dockerfile = "FROM busybox\nCOPY data /data\n";
    let files = |project: &Project, changed: bool| {
        for number in 0..3 {
            project.write(&format!("data/{number}"), half_noise(number));
        }
        if changed {
            project.write("data/1", half_noise(77));
        }
    };
    let archive = |project: &Project| {
        let output = "type=oci,dest=image.tar";
        project.kiln(&["build", "-q", "-o", output, "."]).success();
        fs::read(project.path("image.tar")).unwrap()
    };
    let fresh = Project::with(dockerfile);
    files(&fresh, true);
    let expected = archive(&fresh);

    for damaged in [false, true] {
        let project = Project::with(dockerfile);
        files(&project, false);
        archive(&project);
        let blob = stored_blobs(&project).remove(0);
        if damaged {
            let mut bytes = fs::read(&blob).unwrap();
            for place in (0..bytes.len()).step_by(100_000) {
                bytes[place] ^= 0x55;
            }
            fs::write(&blob, bytes).unwrap();
        }
        files(&project, true);
        assert!(archive(&project) == expected, "damaged: {damaged}");
    }
}
