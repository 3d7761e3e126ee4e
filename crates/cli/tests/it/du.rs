//! `kiln du`: what it shows, in which form, and its filters, which are buildx's.

use crate::harness::Project;

/// A large layer, a cache mount, and the image they stand on.
pub(crate) fn app() -> Project {
    let project = Project::with(
        "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1k count=600 2>/dev/null\n\
         RUN --mount=type=cache,target=/c,id=things echo > /c/f\n",
    );
    cache_only(&project);
    project
}

/// Builds, and keeps no image.
#[track_caller]
pub(crate) fn cache_only(project: &Project) {
    let arguments = ["build", "-o", "type=cacheonly", "."];
    drop(project.kiln(&arguments).success());
}

/// Rows of `kiln du` with these filters, as JSON lines.
#[track_caller]
pub(crate) fn rows(project: &Project, filters: &[&str]) -> Vec<String> {
    let mut arguments = vec!["du", "--format", "json"];
    filters
        .iter()
        .for_each(|filter| arguments.extend(["--filter", filter]));
    let done = project.kiln(&arguments).success();
    done.stdout.lines().map(str::to_string).collect()
}

#[track_caller]
fn du(project: &Project, flags: &[&str]) -> String {
    let mut arguments = vec!["du"];
    arguments.extend(flags);
    project.kiln(&arguments).success().stdout
}

#[test]
fn filters() {
    let project = app();
    let all = rows(&project, &[]);
    assert!(
        all[0].contains("\"Type\":\"layer\""),
        "large first: {all:?}"
    );
    /// How much fits, and what a line of it contains.
    #[track_caller]
    fn check(project: &Project, filters: &[&str], count: usize, contains: &str) {
        let found = rows(project, filters);
        assert_eq!(found.len(), count, "{filters:?}: {found:?}");
        let missing = |row: &&String| !row.contains(contains);
        assert_eq!(found.iter().find(missing), None, "{filters:?}");
    }
    // The image: three layers and their blobs, or documents. Of the build: two layers, a mount.
    let check = |filters: &[&str], count, contains| check(&project, filters, count, contains);
    check(&["type=cachemount"], 1, "things");
    check(&["type=exec.cachemount", "mutable"], 1, "things");
    check(
        &["type!=exec.cachemount"],
        all.len() - 1,
        "\"Mutable\":false",
    );
    check(&["type=regular"], all.len() - 1, "");
    check(&["type=source.local"], 0, "");
    check(&["until=1h"], 0, "");
    check(&["unused-for=0s"], all.len(), "");
    check(&["inuse=false"], all.len(), "\"InUse\":false");
    check(&["inuse"], 0, "");
    check(&["shared=true"], all.len() - 3, "\"Reclaimable\":false");
    check(&["private"], 3, "\"Reclaimable\":true");
    check(&["description~=RUN dd .*count=600"], 1, "urandom");
    check(&["description=things"], 1, "cachemount");
    check(&["private", "immutable", "description!=x"], 2, "RUN");
    let big = &rows(&project, &["description~=urandom"])[0];
    let id = big
        .split_once("\"ID\":\"")
        .unwrap()
        .1
        .split('"')
        .next()
        .unwrap();
    check(&[&format!("parents={id}")], 1, "RUN --mount");
    check(&[&format!("id={}", &id[10..])], 1, "urandom");
    check(&[&format!("id~=^{id}$")], 1, "urandom");
    check(&[&format!("id!={id}"), "private"], 2, "");
    for wrong in [
        "colour=red",
        "type=image",
        "id~=(",
        "until=soon",
        "shared=maybe",
    ] {
        let done = project.kiln(&["du", "--filter", wrong]).code(125);
        drop(done.says(&["--filter", wrong]));
    }
}

#[test]
fn forms() {
    let project = app();
    let table = du(&project, &[]);
    for text in ["RECLAIMABLE", "LAST USED", "Shared:", "Private:", "Total:"] {
        assert!(table.contains(text), "{table}");
    }
    let mount = ["--filter", "type=cachemount"];
    let verbose = du(&project, &[&mount[..], &["--verbose"]].concat());
    for text in [
        "\nMutable:      yes\n",
        "\nDescription:  things\n",
        "\nIn use:       no\n",
    ] {
        assert!(verbose.contains(text), "{verbose}");
    }
    let template = "{{.Type}} {{.Description}} {{.Shared}} {{json .Mutable}}";
    let lines = du(&project, &[&mount[..], &["--format", template]].concat());
    assert_eq!(lines, "cachemount things false true\n");
    let template = "table {{.Type}}\\t{{.LastUsedAt}}";
    let lines = du(&project, &[&mount[..], &["--format", template]].concat());
    assert!(
        lines.starts_with("TYPE         LAST USED\ncachemount   "),
        "{lines}"
    );
    let done = project.kiln(&["du", "--format", "{{.Sise}}"]).code(1);
    drop(done.says(&["no field Sise in .: did you mean Size?"]));
    drop(project.kiln(&["du", "--format", "tabel"]).code(125));
    let template = "{{.Repository}}:{{.Tag}} {{.Digest}}";
    let images = project.kiln(&["images", "--format", template]).success();
    assert_eq!(images.stdout, "busybox:latest <none>\n");
}
