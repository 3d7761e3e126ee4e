//! `kiln du`, `kiln prune`, the configured limits, a full disk.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Project, Registry, tool};

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
fn a_limit_is_kept_while_a_step_writes() {
    let project = app();
    project.write("kiln.toml", "[gc]\nmax-size = \"4MB\"\n");
    let config = project.path("kiln.toml").display().to_string();
    let gate = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = gate.local_addr().unwrap().port();
    project.write(
        "Dockerfile",
        format!(
            "FROM busybox\nRUN dd if=/dev/urandom of=/own bs=1k count=4000 2>/dev/null; \
             nc 127.0.0.1 {port} < /dev/null\nRUN wc -c < /own > /size\n"
        ),
    );
    let mut build = project
        .command(&["--config", &config, "build", "-t", "image", "."])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The step is let go when the cache that nobody uses has made room for what it wrote.
    let deadline = Instant::now() + Duration::from_secs(30);
    while rows(&project, &[])
        .iter()
        .any(|row| row.contains("count=600"))
    {
        assert!(Instant::now() < deadline, "nothing is given up");
        assert!(build.try_wait().unwrap().is_none(), "the step waits");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(gate.accept().unwrap());
    assert!(build.wait().unwrap().success());
    // What the build itself made is kept, however large.
    assert_eq!(project.shell("cat /size"), "4096000\n");
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

/// A project whose store is on a disk of so many megabytes.
fn on_a_small_disk(megabytes: u32) -> (Project, Disk) {
    let project = Project::new();
    let path = project.store().display().to_string();
    drop(tool("mkdir", &["-p", &path]).success());
    let size = format!("size={megabytes}m");
    drop(tool("mount", &["-t", "tmpfs", "-o", &size, "kiln-test", &path]).success());
    (project, Disk(path))
}

#[track_caller]
fn cache_only(project: &Project, dockerfile: &str) -> crate::harness::Output {
    project.write("Dockerfile", dockerfile);
    project.kiln(&["build", "-o", "type=cacheonly", "."])
}

#[test]
fn a_full_disk_gives_up_cache_and_then_says_so() {
    let (project, _disk) = on_a_small_disk(24);
    project.busybox();
    let step = |megabytes: u32, name: &str| {
        format!("FROM busybox\nRUN dd if=/dev/zero of=/{name} bs=1M count={megabytes} 2>&1\n")
    };
    drop(cache_only(&project, &step(12, "one")).success());
    drop(cache_only(&project, &step(13, "two")).success());
    let done = cache_only(&project, &step(90, "three")).code(1);
    drop(done.says(&["the disk is full"]));
    drop(project.kiln(&["doctor"]).success());
}

#[test]
fn a_full_disk_makes_room_for_copies_and_downloads() {
    let registry = Registry::start();
    let base = format!("{}/large:1", registry.address);
    let maker = Project::with("FROM busybox\nCOPY large /\n");
    maker.write("large", noise(9 << 20));
    drop(maker.kiln(&["build", "--push", "-t", &base, "."]).success());

    let (project, _disk) = on_a_small_disk(32);
    // Twice what a copy takes does not fit, nor does a download beside a copy.
    for content in [1, 2, 3] {
        project.write("large", [noise(14 << 20), vec![content]].concat());
        drop(cache_only(&project, "FROM scratch\nCOPY large /\n").success());
    }
    drop(cache_only(&project, &format!("FROM {base}\nRUN ls -l /large\n")).success());
    project.write("large", noise(40 << 20));
    let done = cache_only(&project, "FROM scratch\nCOPY large /\n").code(1);
    drop(done.says(&["No space left on device"]));
    drop(project.kiln(&["doctor"]).success());
}

/// Bytes that do not compress.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    next.flatten().take(count).collect()
}
