//! `kiln prune`, the configured limits, a full disk.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::du::{app, cache_only, rows};
use crate::harness::{Project, Registry, tool};

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
fn pruning_stops_at_limits() {
    let project = app();
    /// Prunes the application, whose large layer is 0.6 MB: whether that one goes.
    #[track_caller]
    fn check(project: &Project, flags: &[&str], goes: bool) {
        let mut arguments = vec!["prune", "-f"];
        arguments.extend(flags);
        let done = project.kiln(&arguments).success();
        assert_eq!(done.stdout.contains("urandom"), goes, "{}", done.stdout);
        let left = rows(project, &["description~=urandom"]);
        assert_eq!(left.is_empty(), goes, "{left:?}");
        assert_eq!(rows(project, &["shared"]).len(), 4, "the image is whole");
        cache_only(project);
    }
    let check = |flags: &[&str], goes| check(&project, flags, goes);
    check(&["--max-used-space", "100m"], false);
    check(&["--min-free-space", "1"], false);
    check(&["--reserved-space", "100m"], false);
    check(
        &["--max-used-space", "1k", "--reserved-space", "100m"],
        false,
    );
    check(&["--filter", "type=exec.cachemount"], false);
    check(&["--filter", "until=1h"], false);
    check(&["--max-used-space", "1.8m"], true);
    check(&["--keep-storage", "1.8m"], true);
    check(&["--min-free-space", "1000000g"], true);
    check(&["--filter", "immutable", "--filter", "until=0s"], true);
    check(&["--filter", "description!=things", "--verbose"], true);
    check(&[], true);
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

/// A project whose store is on a disk with these limits.
fn on_a_small_disk(limit: &str) -> (Project, Disk) {
    let project = Project::new();
    let path = project.store().display().to_string();
    drop(tool("mkdir", &["-p", &path]).success());
    drop(tool("mount", &["-t", "tmpfs", "-o", limit, "kiln-test", &path]).success());
    (project, Disk(path))
}

#[track_caller]
fn build_only(project: &Project, dockerfile: &str) -> crate::harness::Output {
    project.write("Dockerfile", dockerfile);
    project.kiln(&["build", "-o", "type=cacheonly", "."])
}

#[test]
fn a_full_disk_gives_up_cache_and_then_says_so() {
    let (project, _disk) = on_a_small_disk("size=24m");
    project.busybox();
    let step = |megabytes: u32, name: &str| {
        format!("FROM busybox\nRUN dd if=/dev/zero of=/{name} bs=1M count={megabytes} 2>&1\n")
    };
    drop(build_only(&project, &step(12, "one")).success());
    drop(build_only(&project, &step(13, "two")).success());
    let done = build_only(&project, &step(90, "three")).code(1);
    drop(done.says(&["the disk is full"]));
    drop(project.kiln(&["doctor"]).success());
}

#[test]
fn a_disk_without_room_for_more_files_is_full_too() {
    let (project, _disk) = on_a_small_disk("nr_inodes=1200");
    project.busybox();
    let step = |files: u32| {
        format!("FROM busybox\nRUN for n in $(seq {files}); do : > /f$n || exit 1; done\n")
    };
    drop(build_only(&project, &step(500)).success());
    drop(build_only(&project, &step(501)).success());
    let done = build_only(&project, &step(2000)).code(1);
    drop(done.says(&["the disk is full"]));
    drop(project.kiln(&["doctor"]).success());
    // The way out needs no room.
    let store = project.store().display().to_string();
    let fill = format!("n=0; while touch {store}/logs/$n 2>/dev/null; do n=$((n+1)); done");
    project.host(&format!("mkdir -p {store}/logs; {fill}"));
    drop(project.kiln(&["prune", "-f"]).success());
}

#[test]
fn a_full_disk_makes_room_for_copies_and_downloads() {
    let registry = Registry::start();
    let base = format!("{}/large:1", registry.address);
    let maker = Project::with("FROM busybox\nCOPY large /\n");
    maker.write("large", noise(9 << 20));
    drop(maker.kiln(&["build", "--push", "-t", &base, "."]).success());

    let (project, _disk) = on_a_small_disk("size=32m");
    // Twice what a copy takes does not fit, nor does a download beside a copy.
    for content in [1, 2, 3] {
        project.write("large", [noise(14 << 20), vec![content]].concat());
        drop(build_only(&project, "FROM scratch\nCOPY large /\n").success());
    }
    drop(build_only(&project, &format!("FROM {base}\nRUN ls -l /large\n")).success());
    project.write("large", noise(40 << 20));
    let done = build_only(&project, "FROM scratch\nCOPY large /\n").code(1);
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
