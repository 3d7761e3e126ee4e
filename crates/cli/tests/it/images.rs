//! Images in the store and in registries, and what other tools make of them.

use crate::harness::{Project, Registry, tool};

fn project() -> Project {
    let project = Project::with(
        "FROM busybox\nLABEL made=here\nCOPY f /f\nRUN ln /f /g && ln -s f /s && mkfifo /p\n",
    );
    project.write("f", "content");
    project
}

#[test]
fn push_then_pull_into_another_store() {
    let registry = Registry::start();
    let project = project();
    let name = format!("{}/some/app:1.0", registry.address);
    project.kiln(&["build", "-t", &name, "."]).success();
    let pushed = project.kiln(&["push", "-q", &name]).success().stdout;
    assert!(pushed.starts_with("sha256:"), "{pushed}");

    let other = Project::new();
    other.kiln(&["pull", &name]).success();
    let run = other
        .kiln(&[
            "run",
            "--rm",
            &name,
            "sh",
            "-c",
            "cat /f /g /s && stat -c %h /f",
        ])
        .success();
    assert_eq!(run.stdout, "contentcontentcontent2\n");
    assert_eq!(
        other.kiln(&["push", "-q", &name]).success().stdout,
        pushed,
        "what was pulled is pushed unchanged"
    );
}

#[test]
fn skopeo_umoci_and_crun_read_it() {
    let registry = Registry::start();
    let project = project();
    let name = format!("{}/app:1", registry.address);
    project
        .kiln(&["build", "-t", &name, "--push", "."])
        .success();
    let image = format!("docker://{name}");
    let shown = tool("skopeo", &["inspect", "--tls-verify=false", &image])
        .success()
        .stdout;
    assert!(shown.contains("\"made\": \"here\""), "{shown}");
    let layout = project.path("layout");
    let layout = layout.to_str().unwrap();
    let target = format!("oci:{layout}:app");
    tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            &image,
            &target,
        ],
    )
    .success();
    let bundle = project.path("bundle");
    let bundle = bundle.to_str().unwrap();
    tool(
        "umoci",
        &["unpack", "--image", &format!("{layout}:app"), bundle],
    )
    .success();
    let content = std::fs::read_to_string(project.path("bundle/rootfs/f")).unwrap();
    assert_eq!(content, "content");
}

#[test]
fn names_ids_and_removal() {
    let project = project();
    project.build();
    project.kiln(&["tag", "image", "other:2"]).success();
    let listed = project.kiln(&["images"]).success().stdout;
    assert!(
        listed.contains("other") && listed.contains("image"),
        "{listed}"
    );
    let id = project
        .kiln(&["images", "-q", "image"])
        .success()
        .stdout
        .trim()
        .to_string();
    project.kiln(&["run", "--rm", &id, "true"]).success();
    let removed = project.kiln(&["rmi", "image"]).success().stdout;
    assert_eq!(removed, "Untagged: image:latest\n");
    project.kiln(&["run", "--rm", "other:2", "true"]).success();
    project.kiln(&["rmi", "other:2"]).success();
    project.kiln(&["rmi", "other:2"]).code(1).says(&["other:2"]);
    project
        .kiln(&["inspect", "other:2"])
        .code(1)
        .says(&["other:2"]);
}

#[test]
fn a_base_image_comes_through_a_mirror() {
    let registry = Registry::start();
    let publisher = Project::with("FROM busybox\n");
    publisher
        .kiln(&[
            "tag",
            "busybox",
            &format!("{}/library/busybox", registry.address),
        ])
        .success();
    publisher
        .kiln(&["push", &format!("{}/library/busybox", registry.address)])
        .success();

    let project = Project::new();
    project.write(
        "config.toml",
        format!(
            "[registry.\"docker.io\"]\nmirrors = [\"{}\"]\n",
            registry.address
        ),
    );
    project.write("Dockerfile", "FROM busybox\nRUN echo mirrored > /f\n");
    project
        .kiln(&["--config", "config.toml", "build", "-t", "image", "."])
        .success();
    assert_eq!(project.shell("cat /f"), "mirrored\n");
    let unknown = project
        .kiln(&["--config", "missing.toml", "images"])
        .code(1);
    assert!(
        unknown.stderr.contains("missing.toml"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn history_tells_how_it_was_made() {
    let project = project();
    project.build();
    let shown = project
        .kiln(&["history", "--no-trunc", "image"])
        .success()
        .stdout;
    assert!(
        shown.contains("RUN /bin/sh -c ln /f /g") && shown.contains("LABEL made=here"),
        "{shown}"
    );
}

#[test]
fn what_was_resolved_once_is_not_asked_for_again() {
    let registry = Registry::start();
    let publisher = project();
    let name = format!("{}/base", registry.address);
    publisher.kiln(&["build", "-t", &name, "."]).success();
    let digest = publisher.kiln(&["push", "-q", &name]).success().stdout;

    let project = Project::new();
    for base in [name.clone(), format!("{name}@{}", digest.trim())] {
        project.write(
            "Dockerfile",
            format!("FROM {base}\nRUN echo {} > /g\n", base.len()),
        );
        project.build();
    }
    drop(registry);
    assert_eq!(project.build().executed(), Vec::<String>::new());
    project
        .kiln(&["build", "--pull", "."])
        .code(1)
        .says(&["Dockerfile:1"]);
}

#[test]
fn templates_and_dockers_spellings() {
    let project = project();
    let id = project
        .kiln(&["buildx", "build", "-q", "-t", "app:1", "."])
        .success()
        .stdout;
    let id = id.trim();
    #[track_caller]
    fn check(project: &Project, arguments: &[&str], expected: &str) {
        let shown = project.kiln(arguments).success().stdout;
        assert_eq!(shown, format!("{expected}\n"), "{arguments:?}");
    }
    check(&project, &["inspect", "-f", "{{.Id}}", "app:1"], id);
    check(
        &project,
        &[
            "image",
            "inspect",
            "--format={{index .Config.Labels \"made\"}} {{.Config.Cmd}}",
            "app:1",
        ],
        "here [sh]",
    );
    check(
        &project,
        &[
            "image",
            "ls",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}}",
            "app",
        ],
        &format!("app:1 {}", &id["sha256:".len()..][..12]),
    );
    check(
        &project,
        &[
            "images",
            "--format",
            "table {{.Tag}}\\t{{.Repository}}",
            "app",
        ],
        "TAG   REPOSITORY\n1     app",
    );
    check(
        &project,
        &[
            "image",
            "history",
            "--format",
            "{{truncate .CreatedBy 4}}",
            "app:1",
        ],
        "RUN \nCOPY\nLABE\nCMD \nRUN \nRUN \nCOPY",
    );
    check(
        &project,
        &["container", "run", "app:1", "echo", "ran"],
        "ran",
    );
    project.kiln(&["image", "tag", "app:1", "other"]).success();
    check(
        &project,
        &["version", "--format", "{{.Client.Os}}"],
        "linux",
    );
    project.kiln(&["system", "df"]).success();
    project.kiln(&["builder", "prune", "-f"]).success();

    #[track_caller]
    fn refused(project: &Project, template: &str, code: i32, expected: &str) {
        let refused = project
            .kiln(&["inspect", "-f", template, "app:1"])
            .code(code);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    let known = "no field Envs in .Config: did you mean Env?";
    refused(&project, "{{.Config.Envs}}", 1, known);
    refused(&project, "{{.Id", 125, "character 1: {{ without }}");
}

#[test]
fn archives_of_images_are_loaded() {
    let project = project();
    let outputs = [
        "-o",
        "type=docker,dest=docker.tar",
        "-o",
        "type=oci,dest=oci.tar",
        "-o",
        "type=oci,tar=false,dest=layout",
    ];
    let build = ["build", "-t", "some/app:1", "-t", "app:2", "."];
    project.kiln(&[&build[..], &outputs].concat()).success();
    project.host("gzip -k docker.tar");
    tool(
        "skopeo",
        &[
            "copy",
            &format!("oci:{}:2", project.path("layout").display()),
            &format!(
                "docker-archive:{}:else:where",
                project.path("skopeo.tar").display()
            ),
        ],
    )
    .success();

    #[track_caller]
    fn check(project: &Project, file: &str, names: &[&str]) {
        let other = Project::new();
        let path = project.path(file);
        let lines: String = names
            .iter()
            .map(|name| format!("Loaded image: {name}\n"))
            .collect();
        let loaded = if path.is_dir() {
            other.kiln(&["load", "-q", "-i", path.to_str().expect("UTF-8")])
        } else {
            other.write("archive", std::fs::read(&path).expect("written"));
            other.kiln_reading(&["image", "load"], "archive")
        };
        assert_eq!(loaded.success().stdout, lines, "{file}");
        // The archive is not needed any more.
        std::fs::remove_file(other.path("archive")).ok();
        for name in names {
            let run = other
                .kiln(&["run", "--rm", name, "cat", "/f", "/g"])
                .success();
            assert_eq!(run.stdout, "contentcontent", "{file}");
        }
    }
    let both = ["some/app:1", "app:2"];
    check(&project, "docker.tar", &both);
    check(&project, "docker.tar.gz", &both);
    check(&project, "oci.tar", &both);
    check(&project, "layout", &both);
    check(&project, "skopeo.tar", &["else:where"]);

    project.write("no.tar", "no archive");
    let refused = project.kiln(&["load", "-i", "no.tar"]).code(1);
    drop(refused.says(&["cannot load no.tar"]));
    let refused = project.kiln(&["load", "-i", "missing.tar"]).code(1);
    drop(refused.says(&["cannot load missing.tar: No such file"]));
}
