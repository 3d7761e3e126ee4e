//! `kiln du`, `kiln prune`, the configured limits, a full disk.

use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Project, tool};

fn app() -> Project {
    let project = Project::with(
        "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1k count=600 2>/dev/null\n\
         RUN --mount=type=cache,target=/c,id=things echo > /c/f\n",
    );
    drop(
        project
            .kiln(&["build", "-o", "type=cacheonly", "."])
            .success(),
    );
    project
}

/// Rows of `kiln du` with these filters, as JSON lines.
#[track_caller]
fn rows(project: &Project, filters: &[&str]) -> Vec<String> {
    let mut arguments = vec!["du", "--format", "json"];
    filters
        .iter()
        .for_each(|filter| arguments.extend(["--filter", filter]));
    let done = project.kiln(&arguments).success();
    done.stdout.lines().map(str::to_string).collect()
}

#[test]
fn usage_is_shown_and_filtered() {
    let project = app();
    let all = rows(&project, &[]);
    assert!(
        all[0].contains("\"Type\":\"layer\""),
        "the largest first: {all:?}"
    );
    let table = project.kiln(&["du"]).success().stdout;
    assert!(
        table.contains("RECLAIMABLE") && table.contains("Total:"),
        "{table}"
    );
    let mounts = rows(&project, &["type=cachemount"]);
    assert_eq!(mounts.len(), 1, "{all:?}");
    assert!(mounts[0].contains("things"), "{mounts:?}");
    assert_eq!(rows(&project, &["until=1h"]).len(), 0, "all of it is new");
    assert_eq!(rows(&project, &["inuse=false"]).len(), all.len());
    let needed = rows(&project, &["shared=true"]).len();
    assert!(
        needed > 0 && needed < all.len(),
        "the image busybox needs some"
    );
    drop(project.kiln(&["du", "--filter", "colour=red"]).code(1));
}

#[test]
fn pruning_keeps_what_images_need() {
    let project = app();
    drop(
        project
            .kiln(&["prune", "-f", "--filter", "until=1h"])
            .success(),
    );
    assert_eq!(rows(&project, &["type=cachemount"]).len(), 1);
    drop(
        project
            .kiln(&["prune", "-f", "--filter", "type=cachemount"])
            .success(),
    );
    assert_eq!(rows(&project, &["type=cachemount"]).len(), 0);
    let done = project.kiln(&["prune", "-f", "-a"]).success();
    assert!(
        done.stdout.contains("Total reclaimed space:"),
        "{}",
        done.stdout
    );
    assert_eq!(rows(&project, &["shared=false"]).len(), 0);
    let again = project
        .kiln(&["build", "--progress", "plain", "."])
        .success();
    assert_eq!(again.executed().len(), 2, "what was pruned runs again");
    drop(project.kiln(&["doctor"]).success());
}

#[test]
fn a_limit_is_kept_without_being_asked() {
    let project = app();
    project.write("kiln.toml", "[gc]\nmax-size = \"1MB\"\n");
    let config = project.path("kiln.toml").display().to_string();
    project.write("Dockerfile", "FROM busybox\nRUN echo other\n");
    drop(project.kiln(&["--config", &config, "build", "."]).success());
    let left = rows(&project, &["shared=false", "type=layer"]);
    assert!(!left.iter().any(|row| row.contains("urandom")), "{left:?}");
}

#[test]
fn pruning_beside_a_build_takes_nothing_from_it() {
    let project = Project::with(
        "FROM busybox AS a\nRUN echo a > /a && sleep 0.3\nRUN echo b > /b && sleep 0.3\n\
         FROM busybox\nRUN sleep 0.4\nCOPY --from=a /a /b /\nRUN cat /a /b\n",
    );
    let mut build = project
        .command(&["build", "--progress", "plain", "-t", "image", "."])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while build.try_wait().unwrap().is_none() {
        drop(project.kiln(&["prune", "-f", "-a"]).success());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(build.wait().unwrap().success());
    assert_eq!(project.shell("cat /a /b"), "a\nb\n");
    drop(project.kiln(&["doctor"]).success());
}

/// A file system of its own for a store, unmounted at the end.
struct Disk(String);

impl Drop for Disk {
    fn drop(&mut self) {
        drop(tool("umount", &["-l", &self.0]).success());
    }
}

#[test]
fn a_full_disk_gives_up_cache_once_and_then_says_so() {
    let project = Project::new();
    let path = project.store().display().to_string();
    drop(tool("mkdir", &["-p", &path]).success());
    drop(
        tool(
            "mount",
            &["-t", "tmpfs", "-o", "size=24m", "kiln-test", &path],
        )
        .success(),
    );
    let _disk = Disk(path);
    project.busybox();
    let step = |megabytes: u32, name: &str| {
        format!("FROM busybox\nRUN dd if=/dev/zero of=/{name} bs=1M count={megabytes} 2>&1\n")
    };
    project.write("Dockerfile", step(12, "one"));
    drop(
        project
            .kiln(&["build", "-o", "type=cacheonly", "."])
            .success(),
    );
    project.write("Dockerfile", step(13, "two"));
    drop(
        project
            .kiln(&["build", "-o", "type=cacheonly", "."])
            .success(),
    );
    project.write("Dockerfile", step(90, "three"));
    let done = project
        .kiln(&["build", "-o", "type=cacheonly", "."])
        .code(1);
    drop(done.says(&["the disk is full"]));
    drop(project.kiln(&["doctor"]).success());
}
