//! `ADD`: archives, downloads and repositories (rows C17 to C21).

use crate::harness::{Project, tool};
use crate::servers::{CHANGED, GitServer, Page, Web};

#[test]
fn archives_are_known_by_their_content() {
    let project = Project::with(
        "FROM busybox\nADD plain gz bz2 xz zst /d/\nADD fake.tar.gz /d/\nADD --unpack=false gz /kept\nADD --chown=3:4 plain /owned\n\
         ADD --chmod=600 --exclude=*.txt xz /whole/\n",
    );
    project.host(
        "mkdir t; for f in plain gz bz2 xz zst; do echo $f > t/$f.txt; chmod 640 t/$f.txt; tar --owner=8 --group=9 -cf $f.tar -C t $f.txt; done; \
         mv plain.tar plain; gzip -c gz.tar > gz; bzip2 -c bz2.tar > bz2; xz -c xz.tar > xz; zstd -qc zst.tar > zst; echo no > fake.tar.gz",
    );
    project.build();
    assert_eq!(
        project.shell(
            "cd /d; ls; stat -c %u:%g gz.txt /owned/plain.txt; stat -c %a /whole/xz.txt; head -c 2 /kept | od -An -tx1"
        ),
        "bz2.txt\nfake.tar.gz\ngz.txt\nplain.txt\nxz.txt\nzst.txt\n8:9\n3:4\n640\n 1f 8b\n"
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
fn whatever_tells_versions_apart_saves_the_download() {
    let web = Web::start();
    let project = Project::new();
    let url = web.url("/f");
    project.write("Dockerfile", format!("FROM scratch\nADD {url} /d/\n"));
    let page = |tagged: bool, modified: Option<&'static str>, content: &str| Page {
        tagged,
        modified,
        ..Page::new(content)
    };
    let later = Some("Mon, 07 Nov 1994 08:49:37 GMT");
    for (what, page, answer, runs) in [
        ("nothing known yet", page(true, None, "one"), "200 /f", true),
        ("the same tag", page(true, None, "one"), "304 /f", false),
        ("another tag", page(true, None, "two"), "200 /f", true),
        (
            "a time instead",
            page(false, Some(CHANGED), "two"),
            "200 /f",
            true,
        ),
        (
            "the same time",
            page(false, Some(CHANGED), "two"),
            "304 /f",
            false,
        ),
        ("another time", page(false, later, "six"), "200 /f", true),
        (
            "another time, the same bytes",
            page(false, Some(CHANGED), "six"),
            "200 /f",
            true,
        ),
        ("no validator", page(false, None, "ten"), "200 /f", true),
        (
            "no validator, the same bytes",
            page(false, None, "ten"),
            "200 /f",
            false,
        ),
        (
            "no validator, other bytes",
            page(false, None, "any"),
            "200 /f",
            true,
        ),
    ] {
        let content = String::from_utf8(page.content.clone()).unwrap();
        web.serve("/f", page);
        let arguments = [
            "build",
            "--progress",
            "plain",
            "-o",
            "type=tar,dest=out.tar",
            ".",
        ];
        let executed = project.kiln(&arguments).success().executed();
        assert_eq!(!executed.is_empty(), runs, "{what}: {executed:?}");
        assert_eq!(project.host("tar -xOf out.tar d/f"), content, "{what}");
        assert_eq!(web.take_log(), [answer], "{what}");
    }
}

#[test]
fn redirects_and_names_of_downloads() {
    let web = Web::start();
    let project = Project::new();
    web.put("/there/b.txt", "moved");
    web.put("/with%20space.txt?x=1", "spaced");
    web.put("/", "root");
    let moved = |to: String| Page {
        moved: Some(to),
        ..Page::new("")
    };
    web.serve("/a.txt", moved(web.url("/there/b.txt")));
    web.serve("/relative", moved("there/b.txt".into()));
    web.serve("/circle", moved("/circle".into()));
    let secret = web.url("/none").replace("http://", "http://user:hidden@");
    let build = |sources: &str| {
        project.write("Dockerfile", format!("FROM scratch\nADD {sources} /d/\n"));
        project.kiln(&["build", "-o", "type=tar,dest=out.tar", "."])
    };
    let [a, relative, spaced, root, circle] = [
        "/a.txt",
        "/relative",
        "/with%20space.txt?x=1",
        "/",
        "/circle",
    ]
    .map(|path| web.url(path));
    build(&format!("{a} {relative} {spaced} {root}")).success();
    let listed = "tar -xf out.tar; cd d; for f in *; do echo $f=$(cat \"$f\"); done";
    assert_eq!(
        project.host(listed),
        "__unnamed__=root\na.txt=moved\nrelative=moved\nwith space.txt=spaced\n"
    );
    build(&circle).code(1).says(&["Dockerfile:2", "redirect"]);
    let done = build(&secret).code(1).says(&["Dockerfile:2", "404"]);
    let message = done.stderr.lines().filter(|line| line.contains("404"));
    assert!(message.clone().count() > 0 && message.clone().all(|line| !line.contains("hidden")));
}

#[test]
fn authorities_of_the_machine_vouch_for_downloads() {
    let Some(server) = testkit::DockerRegistry::start_with_tls() else {
        return;
    };
    let dockerfile = format!("FROM scratch\nADD https://{}/v2/ /d/\n", server.host());
    let stranger = Project::new();
    stranger.write("Dockerfile", &dockerfile);
    stranger
        .kiln(&["build", "."])
        .code(1)
        .says(&["Dockerfile:2", "certificate"]);
    let certificate = server.certificate();
    let project = Project::new().env("SSL_CERT_FILE", certificate.to_str().unwrap());
    project.write("Dockerfile", &dockerfile);
    project
        .kiln(&["build", "-o", "type=tar,dest=out.tar", "."])
        .success();
    assert_eq!(project.host("tar -xOf out.tar d/v2").trim(), "{}");
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

/// Every way to say which commit, which part of it, and what of it (row C19).
#[test]
fn forms_of_git_urls() {
    let project = Project::new();
    std::fs::create_dir(project.path("git")).unwrap();
    let server = GitServer::start(&project.path("git"));
    let first = repository(&project, &server.address);
    let second = project
        .host("git -C git/repo.git rev-parse main")
        .trim()
        .to_string();
    let url = server.url("/repo.git");
    let build = |flags: &str, source: &str| {
        let text = format!("FROM scratch\nADD {flags} {source} /d\n");
        project.write("Dockerfile", text);
        project.kiln(&["build", "-o", "type=tar,dest=out.tar", "."])
    };
    let (whole_one, whole_two) = ("d/dir/f=1", "d/dir/f=2");
    for (flags, suffix, file) in [
        ("", "?ref=v1", whole_one),
        ("", "?ref=other", whole_one),
        ("", "?ref=refs/tags/v1", whole_one),
        ("", "?ref=refs/heads/main", whole_two),
        ("", "?tag=refs/tags/v1", whole_one),
        ("", "?branch=main", whole_two),
        ("", &format!("?ref={first}"), whole_one),
        ("", &format!("?commit={first}"), whole_one),
        ("", &format!("?ref=v1&commit={first}"), whole_one),
        (
            "",
            &format!("?branch=main&checksum={}", &second[..12]),
            whole_two,
        ),
        ("", &format!("?checksum={second}"), whole_two),
        (&format!("--checksum={second}"), "", whole_two),
        (&format!("--checksum={first}"), "#v1", whole_one),
        ("", "?subdir=dir", "d/f=2"),
        ("", "?ref=v1&subdir=/dir/", "d/f=1"),
        ("", "#:dir", "d/f=2"),
        ("", "#v1:dir", "d/f=1"),
        ("", "#v1:../../dir", "d/f=1"),
        ("", "#main:mod", "d/s=sub"),
        ("", "?submodules=true&subdir=mod", "d/s=sub"),
        (
            "",
            "?tag=v1&keep-git-dir=1",
            &format!("d/.git/HEAD={first}"),
        ),
        (
            "--keep-git-dir=true",
            "?tag=v1",
            &format!("d/.git/HEAD={first}"),
        ),
        (
            "--keep-git-dir",
            "?branch=main&mtime=commit&fetch-by-commit=true",
            whole_two,
        ),
        ("--exclude=run", "#v1", whole_one),
    ] {
        build(flags, &format!("{url}{suffix}")).success();
        let (path, content) = file.split_once('=').unwrap();
        let read = format!("tar -xOf out.tar {path}");
        assert_eq!(project.host(&read).trim(), content, "{flags} {suffix}");
    }
    build("", &format!("{url}?submodules=false")).success();
    assert_eq!(
        project
            .host("tar -tf out.tar | grep -c mod/ || true")
            .trim(),
        "1",
        "an empty directory"
    );
    for (flags, suffix, says) in [
        ("", "?reff=v1", "unknown query parameter"),
        ("", "?tag=v1&branch=main", "two references"),
        ("", "?ref=v1#main", "both a fragment and a query"),
        ("", "?tag=main", "no branch, tag or commit"),
        ("", "?branch=v1", "no branch, tag or commit"),
        ("", "?ref=v1&checksum=0123", &first[..]),
        ("", "#v1:nothing", "nothing"),
        ("--keep-git-dir=false", "?keep-git-dir=true", "keep-git-dir"),
        (
            &format!("--checksum={first}"),
            &format!("?checksum={second}"),
            "checksum",
        ),
    ] {
        build(flags, &format!("{url}{suffix}"))
            .code(1)
            .says(&["Dockerfile:2", says]);
    }
}

/// What `ssh` is called with; it runs the command here instead of there.
#[test]
fn repositories_over_ssh() {
    let project = Project::new();
    std::fs::create_dir(project.path("git")).unwrap();
    let server = GitServer::start(&project.path("git"));
    let first = repository(&project, &server.address);
    let base = project.path("git").to_string_lossy().into_owned();
    project.write(
        "bin/ssh",
        "#!/bin/sh\necho \"$@\" >> \"$LOG\"\nfor command; do :; done\nexec sh -c \"$command\"\n",
    );
    project.host("chmod 755 bin/ssh");
    let bin = project.path("bin").to_string_lossy().into_owned();
    let log = project.path("log").to_string_lossy().into_owned();
    let project = project
        .env("PATH", &format!("{bin}:/usr/bin:/bin"))
        .env("LOG", &log)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*");
    for (source, called) in [
        (
            format!("ssh://git@host.example:2222{base}/repo.git?tag=v1"),
            "-p 2222 git@host.example git-upload-pack",
        ),
        (
            format!("git@host.example:{base}/repo.git#v1"),
            "git@host.example git-upload-pack",
        ),
        (
            format!("ssh://host.example{base}/repo.git?commit={first}"),
            "host.example git-upload-pack",
        ),
    ] {
        project.write("Dockerfile", format!("FROM scratch\nADD {source} /d\n"));
        project
            .kiln(&["build", "--no-cache", "-o", "type=tar,dest=out.tar", "."])
            .success();
        assert_eq!(project.host("tar -xOf out.tar d/dir/f"), "1\n", "{source}");
        let log = project.host("cat log; : > log");
        assert!(
            log.contains("BatchMode=yes") && log.contains(called),
            "{source}: {log}"
        );
    }
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
