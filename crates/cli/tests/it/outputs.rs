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

#[test]
fn a_docker_archive() {
    let project = project();
    project
        .kiln(&[
            "build",
            "-t",
            "app:1",
            "-o",
            "type=docker,dest=image.tar",
            ".",
        ])
        .success();
    let archive = project.path("image.tar");
    let shown = tool(
        "skopeo",
        &["inspect", &format!("docker-archive:{}", archive.display())],
    )
    .success();
    assert!(shown.stdout.contains("\"Layers\""), "{}", shown.stdout);
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
    let text = fs::read_to_string(project.path("meta.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert!(metadata["containerimage.digest"].is_string(), "{metadata}");
}
