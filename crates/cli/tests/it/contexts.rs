//! Where a build's files come from (rows B1 to B5), and bind mounts of them.

use crate::harness::Project;
use crate::servers::Web;

fn project() -> Project {
    let project = Project::with("FROM busybox\nCOPY f /f\n");
    project.write("f", "from the directory\n");
    project
}

#[test]
fn archives_and_dockerfiles_on_standard_input() {
    let project = project();
    project.host(
        "mkdir c c/sub; echo tar > c/f; printf 'FROM busybox\nCOPY f /f\n' > c/Dockerfile; cp c/Dockerfile c/sub/other; \
         tar -cf c.tar -C c .; gzip -k c.tar; bzip2 -k c.tar; xz -k c.tar; zstd -q c.tar; \
         ln -s /etc/hostname c/link; tar -cf evil.tar -C c link; printf 'FROM busybox\nRUN echo in > /f\n' > text",
    );
    for archive in ["c.tar", "c.tar.gz", "c.tar.bz2", "c.tar.xz", "c.tar.zst"] {
        project
            .kiln_reading(&["build", "-t", "image", "-"], archive)
            .success();
        assert_eq!(project.shell("cat /f"), "tar\n", "{archive}");
    }
    project
        .kiln_reading(&["build", "-t", "image", "-f", "sub/other", "-"], "c.tar")
        .success();
    assert_eq!(project.shell("cat /f"), "tar\n");
    // The Dockerfile of a stranger's archive is not a file of this machine.
    project
        .kiln_reading(&["build", "-f", "link", "-"], "evil.tar")
        .code(1)
        .says(&["link that leads out"]);
    project
        .kiln_reading(&["build", "-t", "image", "-"], "text")
        .success();
    assert_eq!(project.shell("cat /f"), "in\n");
    project
        .kiln_reading(&["build", "-t", "image", "-f", "-", "."], "Dockerfile")
        .success();
    assert_eq!(project.shell("cat /f"), "from the directory\n");
    project
        .kiln_reading(&["build", "-"], "Dockerfile")
        .code(1)
        .says(&["Dockerfile:2", "f"]);
}

#[test]
fn a_dockerfile_outside_the_context_and_over_http() {
    let project = project();
    project.write("ctx/f", "inner\n");
    project
        .kiln(&["build", "-t", "image", "-f", "Dockerfile", "ctx"])
        .success();
    assert_eq!(project.shell("cat /f"), "inner\n");
    let web = Web::start();
    web.put("/Dockerfile", "FROM busybox\nCOPY f /g\n");
    project
        .kiln(&["build", "-t", "image", "-f", &web.url("/Dockerfile"), "ctx"])
        .success();
    assert_eq!(project.shell("cat /g"), "inner\n");
}

#[test]
fn contexts_over_http() {
    let project = project();
    let web = Web::start();
    project.host("mkdir c; echo web > c/f; cp Dockerfile c; tar -czf c.tgz -C c .");
    web.put("/c", std::fs::read(project.path("c.tgz")).unwrap());
    project
        .kiln(&["build", "-t", "image", &web.url("/c")])
        .success();
    assert_eq!(project.shell("cat /f"), "web\n");
    web.put("/text", "FROM busybox\nRUN echo text > /f\n");
    project
        .kiln(&["build", "-t", "image", &web.url("/text")])
        .success();
    assert_eq!(project.shell("cat /f"), "text\n");
    project
        .kiln(&["build", &web.url("/none")])
        .code(1)
        .says(&["404"]);
}

#[test]
fn named_contexts_of_every_kind() {
    let project = project();
    let build = |dockerfile: &str, context: &str| {
        project.write("Dockerfile", dockerfile);
        project.kiln(&["build", "-t", "image", "--build-context", context, "."])
    };
    project.write("other/f", "other");
    project.write("other/hidden", "h");
    project.write("other/.dockerignore", "hidden\n");
    build("FROM busybox\nCOPY --from=other . /d\n", "other=other").success();
    assert_eq!(project.shell("ls /d"), "f\n");
    project.write(
        "Dockerfile",
        "FROM busybox\nENV FROM_LAYOUT=yes\nRUN touch /layout\n",
    );
    project
        .kiln(&[
            "build",
            "-t",
            "base:v1",
            "-o",
            "type=oci,dest=layout,tar=false",
            ".",
        ])
        .success();
    project.host("mv layout \"lay.out\"");
    for version in ["", ":v1"] {
        let context = format!("base=oci-layout://lay.out{version}");
        build("FROM base\nRUN [ $FROM_LAYOUT = yes ]\n", &context).success();
        assert_eq!(project.shell("ls /layout"), "/layout\n", "{version}");
    }
    let digest = project.host("grep -o 'sha256:[0-9a-f]*' lay.out/index.json | head -1");
    let context = format!("base=oci-layout://lay.out@{}", digest.trim());
    build("FROM base\nRUN true\n", &context).success();
    build(
        "FROM nowhere.example/x\nRUN true\n",
        "nowhere.example/x=docker-image://busybox",
    )
    .success();
    let web = Web::start();
    project.host("tar -cf other.tar -C other f");
    web.put("/o.tar", std::fs::read(project.path("other.tar")).unwrap());
    build(
        "FROM busybox\nCOPY --from=web f /f\n",
        &format!("web={}", web.url("/o.tar")),
    )
    .success();
    assert_eq!(project.shell("cat /f"), "other");
    web.put("/text", "no archive\n");
    let text = web.url("/text").replace("http://", "http://user:hidden@");
    let done = build("FROM busybox\n", &format!("web={text}"))
        .code(1)
        .says(&["context web", "/text is no tar archive", "ADD"]);
    assert!(!done.stderr.contains("hidden"), "{}", done.stderr);
    build("FROM busybox\n", &format!("web={}", web.url("/none")))
        .code(1)
        .says(&["404"]);
    build("FROM busybox\n", "gone=no-such-directory")
        .code(1)
        .says(&["no-such-directory"]);
}

#[test]
fn bind_mounts() {
    let project = project();
    project.write("dir/x", "x");
    project.host("chmod 700 dir; ln -s dir link");
    project.write(
        "Dockerfile",
        "FROM busybox AS stage\nRUN mkdir /s && echo stage > /s/y\n\
         FROM busybox\n\
         RUN --mount=type=bind,target=/all --mount=type=bind,source=f,target=/one cat /all/f /one > /out && ! touch /all/new\n\
         RUN --mount=type=bind,source=dir,target=/m,rw echo changed > /m/x && stat -c %a /m >> /out\n\
         RUN --mount=type=bind,source=link,target=/m cat /m/x >> /out\n\
         RUN --mount=type=bind,from=stage,source=/s,target=/m cat /m/y >> /out\n",
    );
    project.build();
    assert_eq!(
        project.shell("cat /out; ls -d /all /m /one 2>/dev/null; true"),
        "from the directory\nfrom the directory\n700\nxstage\n"
    );
    assert_eq!(project.host("cat dir/x"), "x", "writes are discarded");
    // Only steps that see a file run again when it changes.
    project.write("dir/x", "X");
    let executed = project.build().executed();
    assert!(executed.len() >= 3, "{executed:?}");
    project.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=bind,source=gone,target=/m true\n",
    );
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["Dockerfile:2", "gone"]);
}
