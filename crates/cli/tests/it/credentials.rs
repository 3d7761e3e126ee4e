//! Secrets that authenticate downloads and repositories (rows C18, C19): they reach the host that
//! they are meant for, and no other.

use crate::add::repository;
use crate::harness::{Output, Project};
use crate::servers::{GitWeb, Page, Web};

/// Builds with secrets that all have the value `tok`.
fn build(project: &Project, dockerfile: &str, secrets: &[&str], context: &str) -> Output {
    project.write("Dockerfile", dockerfile);
    project.write("tok", "tok\n");
    let secrets: Vec<String> = secrets
        .iter()
        .map(|id| format!("id={id},src=tok"))
        .collect();
    let mut arguments = vec!["build", "--no-cache", "-o", "type=tar,dest=out.tar"];
    arguments.extend(secrets.iter().flat_map(|secret| ["--secret", secret]));
    arguments.push(context);
    project.kiln(&arguments)
}

#[test]
fn downloads() {
    let (asked, other) = (Web::start(), Web::start());
    asked.put("/f", "one");
    other.put("/f", "two");
    let moved = Page {
        moved: Some(other.url("/f")),
        ..Page::new("")
    };
    asked.serve("/moved", moved);
    let project = Project::new();
    let check = |secret: &str, page: &str, sent: Option<&str>| {
        let dockerfile = format!("FROM scratch\nADD {} /\n", asked.url(page));
        build(&project, &dockerfile, &[secret], ".").success();
        let authorizations = asked.take_authorizations();
        assert!(!authorizations.is_empty());
        for found in authorizations {
            assert_eq!(found.as_deref(), sent, "{secret} {page}");
        }
    };
    let of = |kind: &str, web: &Web| format!("HTTP_AUTH_{kind}_{}", web.address);
    check(&of("TOKEN", &asked), "/f", Some("Bearer tok"));
    check(&of("HEADER", &asked), "/f", Some("tok"));
    check(&of("TOKEN", &other), "/f", None);
    check(&of("TOKEN", &asked), "/moved", Some("Bearer tok"));
    let authorizations = other.take_authorizations();
    assert!(!authorizations.is_empty());
    assert!(
        authorizations.iter().all(Option::is_none),
        "{authorizations:?}"
    );
}

#[test]
fn repositories() {
    let project = Project::new();
    std::fs::create_dir(project.path("git")).unwrap();
    let (asked, other) = (
        GitWeb::start(&project.path("git")),
        GitWeb::start(&project.path("git")),
    );
    // The submodule lies on the other server.
    repository(&project, &other.address);
    project.host(&format!(
        "cd repo; git config -f .gitmodules submodule.mod.url {}
         git -c user.name=t -c user.email=t@t commit -qam three; git push -q ../git/repo.git main",
        other.url("/sub.git")
    ));
    let check = |secret: &str, dockerfile: &str, context: &str, file: &str, sent: &str| {
        build(&project, dockerfile, &[secret], context).success();
        assert_eq!(project.host(&format!("tar -xOf out.tar {file}")), "2\n");
        let authorizations = asked.take_authorizations();
        assert!(!authorizations.is_empty());
        for found in authorizations {
            assert_eq!(found.as_deref(), Some(sent), "{secret}");
        }
        let elsewhere = other.take_authorizations();
        assert!(!elsewhere.is_empty(), "the submodule comes from there");
        assert!(elsewhere.iter().all(Option::is_none), "{elsewhere:?}");
    };
    let url = asked.url("/repo.git");
    let added = format!("FROM scratch\nADD {url} /d\n");
    // `x-access-token:tok`
    let basic = "basic eC1hY2Nlc3MtdG9rZW46dG9r";
    check("GIT_AUTH_TOKEN", &added, ".", "d/dir/f", basic);
    let kept = format!("FROM scratch\nADD --keep-git-dir {url} /d\n");
    check("GIT_AUTH_HEADER.127.0.0.1", &kept, ".", "d/dir/f", "tok");
    // The context itself, whose Dockerfile has a base that is not here.
    project.host(
        "cd repo; printf 'FROM scratch\\nCOPY dir/f /d/\\n' > Dockerfile
         git -c user.name=t -c user.email=t@t commit -qam four; git push -q ../git/repo.git main",
    );
    check("GIT_AUTH_TOKEN", "", &url, "d/f", basic);
}
