//! `ADD`: archives, downloads and repositories (rows C17 to C21).

use crate::harness::{Project, tool};
use crate::servers::{GitServer, Web};

#[test]
fn archives_are_known_by_their_content() {
    let project = Project::with(
        "FROM busybox\nADD plain gz bz2 xz zst /d/\nADD fake.tar.gz /d/\nADD --unpack=false gz /kept\nADD --chown=3:4 plain /owned\n",
    );
    project.host(
        "mkdir t; for f in plain gz bz2 xz zst; do echo $f > t/$f.txt; tar --owner=8 --group=9 -cf $f.tar -C t $f.txt; done; \
         mv plain.tar plain; gzip -c gz.tar > gz; bzip2 -c bz2.tar > bz2; xz -c xz.tar > xz; zstd -qc zst.tar > zst; echo no > fake.tar.gz",
    );
    project.build();
    assert_eq!(
        project.shell(
            "cd /d; ls; stat -c %u:%g gz.txt /owned/plain.txt; head -c 2 /kept | od -An -tx1"
        ),
        "bz2.txt\nfake.tar.gz\ngz.txt\nplain.txt\nxz.txt\nzst.txt\n8:9\n3:4\n 1f 8b\n"
    );
}

#[test]
fn hostile_archives_stay_inside() {
    let project = Project::with("FROM busybox\nADD evil.tar /d/\n");
    project.host(
        "echo evil > x; tar -P --transform='s,^x$,../../../../up,' -cf evil.tar x; \
         tar -P --transform='s,^x$,/abs,' -rf evil.tar x; ln -s / way; tar -rf evil.tar way; \
         tar -P --transform='s,^x$,way/through,' -rf evil.tar x",
    );
    // Either everything lands below the destination, or it is an error; never beside it.
    let output = project.kiln(&["build", "-t", "image", "."]);
    if output.succeeded() {
        assert_eq!(
            project.shell("ls /up /abs /through 2>/dev/null | wc -l"),
            "0\n"
        );
    } else {
        output.code(1).says(&["Dockerfile:2"]);
    }
    for name in ["/up", "/abs", "/through"] {
        assert!(
            !std::path::Path::new(name).exists(),
            "{name} on the machine"
        );
    }
}

#[test]
fn downloads_are_revalidated_and_checked() {
    let web = Web::start();
    web.put("/f.txt", "one");
    let project = Project::with("");
    let dockerfile = |flags: &str| {
        let text = format!("FROM busybox\nADD {flags} {} /d/\n", web.url("/f.txt"));
        project.write("Dockerfile", text);
    };
    dockerfile("");
    project.build();
    assert_eq!(web.take_log(), ["200 /f.txt"]);
    assert_eq!(
        project.shell("cat /d/f.txt; stat -c ' %a %Y' /d/f.txt"),
        "one 600 784111777\n"
    );
    assert_eq!(project.build().executed(), Vec::<String>::new());
    assert_eq!(web.take_log(), ["304 /f.txt"]);
    web.put("/f.txt", "three");
    assert!(!project.build().executed().is_empty());
    assert_eq!(project.shell("cat /d/f.txt"), "three");
    assert_eq!(web.take_log(), ["200 /f.txt"]);
    // What is named by its digest is not asked for again.
    let sum = project.host("printf three | sha256sum | cut -d' ' -f1");
    dockerfile(&format!("--checksum=sha256:{}", sum.trim()));
    project.build();
    assert_eq!(web.take_log(), Vec::<String>::new());
    dockerfile(&format!("--checksum=sha256:{}", "0".repeat(64)));
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["Dockerfile:2", "f.txt"]);
    project.write(
        "Dockerfile",
        format!("FROM busybox\nADD {} /d/\n", web.url("/none")),
    );
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["Dockerfile:2", "404"]);
}

#[test]
fn downloads_are_unpacked_only_when_asked() {
    let web = Web::start();
    let project = Project::with("");
    project.host("echo in > in; tar -czf t.tgz in");
    web.put("/t.tgz", std::fs::read(project.path("t.tgz")).unwrap());
    let url = web.url("/t.tgz");
    project.write(
        "Dockerfile",
        format!("FROM busybox\nADD {url} /a/\nADD --unpack=true {url} /b/\n"),
    );
    project.build();
    assert_eq!(project.shell("ls /a /b"), "/a:\nt.tgz\n\n/b:\nin\n");
}

/// A repository `repo.git` with a branch, an annotated tag and a submodule, in `work/git`.
pub(crate) fn repository(project: &Project, address: &str) -> String {
    project.host(&format!(
        "export GIT_CONFIG_COUNT=3 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=t GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=t@t \
           GIT_CONFIG_KEY_2=protocol.file.allow GIT_CONFIG_VALUE_2=always
         mkdir -p git; umask 077
         git init -q -b main sub; cd sub; echo sub > s; git add .; git commit -qm s; cd ..; git clone -q --bare sub git/sub.git
         git init -q -b main repo; cd repo; mkdir dir; echo 1 > dir/f; echo x > run; chmod +x run; ln -s /etc out
         printf 'FROM busybox\nCOPY dir/f run /d/\n' > Dockerfile
         git add .; git commit -qm one; git tag -a v1 -m v1
         git submodule --quiet add ../git/sub.git mod; git config -f .gitmodules submodule.mod.url git://{address}/sub.git
         echo 2 > dir/f; git add .; git commit -qm two; git branch other v1; cd ..; git clone -q --bare repo git/repo.git"
    ));
    project
        .host("git -C git/repo.git rev-parse v1^{commit}")
        .trim()
        .to_string()
}

#[test]
fn repositories() {
    let project = Project::with("");
    std::fs::create_dir(project.path("git")).unwrap();
    let server = GitServer::start(&project.path("git"));
    let first = repository(&project, &server.address);
    let url = server.url("/repo.git");
    let add = |flags: &str, suffix: &str| {
        project.write(
            "Dockerfile",
            format!("FROM busybox\nADD {flags} {url}{suffix} /d\n"),
        );
        project.kiln(&["build", "-t", "image", "--progress", "plain", "."])
    };
    add("", "").success();
    assert_eq!(
        project.shell(
            "cd /d; cat dir/f mod/s; ls -d .git mod/.git 2>/dev/null; stat -c '%a %u' run dir/f dir"
        ),
        "2\nsub\n755 0\n644 0\n755 0\n"
    );
    assert_eq!(add("", "").success().executed(), Vec::<String>::new());
    for suffix in [
        "#v1",
        "#other",
        "?tag=v1",
        "?branch=other",
        &format!("#{first}"),
    ] {
        add("", suffix).success();
        assert_eq!(
            project.shell("cat /d/dir/f; ls /d/mod 2>/dev/null; true"),
            "1\n",
            "{suffix}"
        );
    }
    add("", "#v1:dir").success();
    assert_eq!(project.shell("ls /d"), "f\n");
    add("--keep-git-dir", "#v1").success();
    assert_eq!(project.shell("cat /d/.git/HEAD").trim(), first);
    add(&format!("--checksum={}", &first[..10]), "#v1").success();
    add(&format!("--checksum={}", "0".repeat(40)), "#v1")
        .code(1)
        .says(&["Dockerfile:2", &first]);
    add("", "#none").code(1).says(&["Dockerfile:2", "none"]);
    // A link out of the repository leads to nothing of this machine.
    add("", "#v1:out").code(1).says(&["Dockerfile:2"]);
    tool("git", &["--version"]).success();
}

#[test]
fn repositories_as_contexts() {
    let project = Project::with("");
    std::fs::create_dir(project.path("git")).unwrap();
    let server = GitServer::start(&project.path("git"));
    repository(&project, &server.address);
    project.write("mode", "FROM busybox\nCOPY --from=other . /d\n");
    for (reference, content) in [("", "2"), ("#v1", "1"), ("#other:", "1")] {
        let url = format!("{}{reference}", server.url("/repo.git"));
        project.kiln(&["build", "-t", "image", &url]).success();
        assert_eq!(
            project.shell("cat /d/f; stat -c %a /d/f /d/run"),
            format!("{content}\n644\n755\n"),
            "{reference}"
        );
    }
    let named = format!("other={}", server.url("/repo.git#v1:dir"));
    project
        .kiln(&[
            "build",
            "-t",
            "image",
            "-f",
            "mode",
            "--build-context",
            &named,
            ".",
        ])
        .success();
    assert_eq!(project.shell("ls /d; cat /d/f"), "f\n1\n");
}
