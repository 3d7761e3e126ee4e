//! Outputs of a build, and what other tools make of them.

use std::fs;

use crate::harness::{Project, tool};

fn project() -> Project {
    let project =
        Project::with("FROM busybox\nCOPY f /dir/f\nRUN echo run > /dir/g && chmod 4755 /dir/g\n");
    project.write("f", "content");
    project
}

#[test]
fn an_oci_layout_archive_that_skopeo_copies() {
    let project = project();
    project
        .kiln(&["build", "-t", "app:1", "-o", "type=oci,dest=image.tar", "."])
        .success();
    let archive = project.path("image.tar");
    let shown = tool(
        "skopeo",
        &[
            "inspect",
            "--config",
            &format!("oci-archive:{}", archive.display()),
        ],
    )
    .success();
    assert!(shown.stdout.contains("\"diff_ids\""), "{}", shown.stdout);
    let layout = project.path("copy");
    let target = format!("oci:{}:app", layout.display());
    tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            &format!("oci-archive:{}", archive.display()),
            &target,
        ],
    )
    .success();
    let bundle = project.path("bundle");
    tool(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:app", layout.display()),
            bundle.to_str().unwrap(),
        ],
    )
    .success();
    assert_eq!(
        fs::read_to_string(project.path("bundle/rootfs/dir/f")).unwrap(),
        "content"
    );
}

#[test]
fn crun_runs_what_umoci_unpacked() {
    let project = project();
    project
        .kiln(&["build", "-o", "type=oci,dest=layout,tar=false", "."])
        .success();
    let layout = project.path("layout");
    let bundle = project.path("bundle");
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(index.contains("manifests"), "{index}");
    let copy = project.path("named");
    let target = format!("oci:{}:app", copy.display());
    tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            &format!("oci:{}", layout.display()),
            &target,
        ],
    )
    .success();
    tool(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:app", copy.display()),
            bundle.to_str().unwrap(),
        ],
    )
    .success();
    let config = bundle.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    spec["process"]["args"] = serde_json::json!(["/bin/cat", "/dir/g"]);
    spec["process"]["terminal"] = false.into();
    // The machine's control groups are none of this test's business.
    spec["linux"]["resources"] = serde_json::json!({});
    fs::write(&config, spec.to_string()).unwrap();
    // crun wants one hierarchy of control groups: it gets a fresh view of the second version.
    let script = format!(
        "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && \
         exec crun --cgroup-manager=disabled run --bundle {} kiln-test-{}",
        bundle.display(),
        std::process::id()
    );
    let run = tool("unshare", &["--mount", "sh", "-c", &script]).success();
    assert_eq!(run.stdout, "run\n");
}

#[test]
fn files_as_a_directory_and_as_tar() {
    let project = project();
    project.kiln(&["build", "-o", "out", "."]).success();
    assert_eq!(
        fs::read_to_string(project.path("out/dir/f")).unwrap(),
        "content"
    );
    project
        .kiln(&["build", "-o", "type=tar,dest=tree.tar", "."])
        .success();
    let archive = project.path("tree.tar");
    let listed = tool("tar", &["-tvf", archive.to_str().unwrap()])
        .success()
        .stdout;
    assert!(listed.contains("-rwsr-xr-x"), "{listed}");
    let piped = project.kiln(&["build", "-q", "-o", "-", "."]).success();
    assert!(piped.stdout.contains("content"));
}

/// Reads an archive as the daemons from docker 1.10 to 29 do: `manifest.json` names the config, whose
/// digest is the image's id, and a file for each of the config's layers, compressed or not.
#[track_caller]
fn check_docker_archive(options: &str) {
    let project = project();
    let output = format!("type=docker,dest=image.tar{options}");
    let tags = ["-t", "app:1", "-t", "example.org:5000/other/app"];
    let arguments = [
        &["build", "--iidfile", "id"],
        &tags[..],
        &["-o", &output, "."],
    ]
    .concat();
    project.kiln(&arguments).success();
    project.host("mkdir files && tar -C files -xf image.tar");
    let read = |name: &str| fs::read_to_string(project.path(&format!("files/{name}"))).unwrap();
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();

    let manifest = parse(&read("manifest.json"));
    assert_eq!(manifest.as_array().unwrap().len(), 1);
    let image = &manifest[0];
    let tags = serde_json::json!(["app:1", "example.org:5000/other/app:latest"]);
    assert_eq!(image["RepoTags"], tags);
    let config = image["Config"].as_str().unwrap();
    let sum = project.host(&format!("sha256sum files/{config}"));
    let id = fs::read_to_string(project.path("id")).unwrap();
    assert_eq!(format!("sha256:{}", &sum[..64]), id);

    let layers = image["Layers"].as_array().unwrap();
    let sums = layers.iter().map(|path| {
        let path = path.as_str().unwrap();
        let sum = project.host(&format!("gzip -dcf files/{path} | sha256sum"));
        format!("sha256:{}", &sum[..64])
    });
    let sums: Vec<serde_json::Value> = sums.map(Into::into).collect();
    let config = parse(&read(config));
    assert_eq!(config["rootfs"]["diff_ids"].as_array(), Some(&sums));
}

#[test]
fn a_docker_archive_as_daemons_read_it() {
    check_docker_archive("");
    check_docker_archive(",compression=uncompressed");
}

#[test]
fn a_docker_archive_that_skopeo_reads() {
    let project = project();
    let output = "type=docker,dest=image.tar";
    project
        .kiln(&["build", "-t", "app:1", "-o", output, "."])
        .success();
    let archive = format!("docker-archive:{}", project.path("image.tar").display());
    let shown = tool("skopeo", &["inspect", &archive]).success();
    assert!(shown.stdout.contains("\"Layers\""), "{}", shown.stdout);
}

#[test]
fn loading_is_keeping_in_the_store() {
    let project = project();
    for asks in [
        &["--load"][..],
        &["-o", "type=docker"],
        &["-o", "type=docker,name=app:1"],
    ] {
        project
            .kiln(&[&["build", "-t", "app:1"], asks, &["."]].concat())
            .success();
        let read = project.kiln(&["run", "--rm", "app:1", "cat", "/dir/f"]);
        assert_eq!(read.success().stdout, "content");
        project.kiln(&["rmi", "app:1"]).success();
    }
}

#[test]
fn ids_and_metadata_in_files() {
    let project = project();
    project
        .kiln(&[
            "build",
            "-t",
            "app:1",
            "--iidfile",
            "id",
            "--metadata-file",
            "meta.json",
            "-o",
            "type=oci,dest=image.tar",
            ".",
        ])
        .success();
    let id = fs::read_to_string(project.path("id")).unwrap();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let metadata = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(project.path(name)).unwrap()).unwrap()
    };
    let shipped = metadata("meta.json");
    assert_eq!(shipped["containerimage.config.digest"], id);
    assert_eq!(shipped["image.name"], "docker.io/library/app:1");
    let descriptor = &shipped["containerimage.descriptor"];
    assert_eq!(descriptor["digest"], shipped["containerimage.digest"]);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().unwrap();
    let listed = project.host("tar -tvf image.tar");
    let path = digest.replace(':', "/");
    let blob = listed.lines().find(|line| line.ends_with(&path)).unwrap();
    let size = blob.split_whitespace().nth(2).unwrap();
    assert_eq!(descriptor["size"].to_string(), size);

    let arguments = ["build", "--metadata-file", "local.json", "."];
    project.kiln(&arguments).success();
    let local = metadata("local.json");
    assert_eq!(local["containerimage.digest"], id, "not shipped, so its id");
    assert_eq!(local.get("image.name"), None);
}
