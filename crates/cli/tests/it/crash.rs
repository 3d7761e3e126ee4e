//! Builds that are killed at any moment, and the builds after them.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Project, times};

/// xorshift: the same numbers from run to run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

const APP: &str = "FROM busybox AS a\nCOPY src /src\nRUN cat /src/* > /all\n\
    FROM busybox AS b\nRUN --mount=type=cache,target=/c date +%N > /c/now; echo b > /b\n\
    FROM busybox\nCOPY --from=a /all /\nCOPY --from=b /b /\nRUN cat /all /b > /c\n";

/// Digest of the image that is built, all of it made again if `flags` say so.
#[track_caller]
fn digest(project: &Project, flags: &[&str]) -> String {
    let dest = project.path("image.tar");
    let output = format!("type=oci,dest={}", dest.display());
    let mut arguments = vec!["build", "--metadata-file", "meta", "-o", &output];
    arguments.extend(flags);
    arguments.push(".");
    drop(project.kiln(&arguments).success());
    let meta = fs::read_to_string(project.path("meta")).unwrap();
    let (_, rest) = meta.split_once("containerimage.digest\"").unwrap();
    rest.split('"').nth(1).unwrap().to_string()
}

#[test]
fn killed_at_any_moment() {
    let project = Project::with(APP);
    project.write("src/a", "a");
    project.write("limits.toml", "[gc]\nmax-size = \"1MB\"\n");
    let began = Instant::now();
    digest(&project, &[]);
    let whole = began.elapsed().max(Duration::from_millis(50));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for run in 0..times("KILN_CRASH_RUNS", 30) {
        project.write("src/a", format!("{run}"));
        let mut arguments = vec!["build", "-t", "image"];
        // Out in several ways, and with limits that take cache away while it writes.
        arguments.extend(match random.below(4) {
            0 => ["-o", "type=oci,dest=killed.tar"],
            1 => ["-o", "type=local,dest=out,mode=delete"],
            2 => ["--cache-to", "type=local,dest=cache,mode=max"],
            _ => ["--config", "limits.toml"],
        });
        arguments.push(".");
        let mut build = project
            .command(&arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let part = random.below(1000);
        std::thread::sleep(whole.mul_f64(part as f64 / 900.0));
        build.kill().unwrap();
        build.wait().unwrap();
        if random.below(10) == 0 {
            drop(project.kiln(&["prune", "-f"]).success());
        }
        if run % 10 == 9 {
            drop(project.kiln(&["doctor"]).success());
            let after = digest(&project, &[]);
            assert_eq!(after, digest(&project, &["--no-cache"]), "run {run}");
        }
    }
    drop(project.kiln(&["doctor"]).success());
    drop(project.kiln(&["prune", "-f", "-a"]).success());
    let rest = fs::read_dir(project.store().join("tmp")).map_or(0, Iterator::count);
    assert_eq!(rest, 0, "the killed leave nothing behind");
}

#[test]
fn with_a_cache_as_without_over_random_edits() {
    const FILE: &str = "FROM busybox AS a\nWORKDIR /w\nCOPY . .\nRUN find . | sort > /list; cat $(find . -type f | sort) > /all\n\
        FROM busybox\nARG X\nCOPY --from=a /list /all /\nCOPY d/* /flat/\nRUN echo $X; wc -c < /all > /size\n";
    let project = Project::with(FILE);
    project.write("d/keep", "keep");
    project.write(".dockerignore", "meta\nimage.tar\n*.log\n");
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for run in 0..times("KILN_EDIT_RUNS", 8) {
        let name = format!(
            "{}/f{}",
            ["d", "e", "e/deep"][random.below(3) as usize],
            random.below(3)
        );
        let path = project.path(&name);
        match random.below(6) {
            0 if path.exists() => fs::remove_file(&path).unwrap(),
            1 if path.exists() => {
                fs::rename(
                    &path,
                    project.path("d").join(format!("moved{}", random.below(2))),
                )
                .unwrap();
            }
            2 => project.write("ignored.log", format!("{run}")),
            3 => {
                project.write(&name, "mode");
                let mode =
                    std::os::unix::fs::PermissionsExt::from_mode(0o700 | random.below(64) as u32);
                fs::set_permissions(&path, mode).unwrap();
            }
            4 => project.write(
                "Dockerfile",
                FILE.replace("$X", &format!("$X {}", random.below(3))),
            ),
            _ => project.write(&name, format!("{}", random.below(4))),
        }
        let argument = format!("X={}", random.below(2));
        let flags = ["--build-arg", &argument];
        let cached = digest(&project, &flags);
        let all: Vec<&str> = flags.iter().copied().chain(["--no-cache"]).collect();
        assert_eq!(cached, digest(&project, &all), "run {run}");
    }
}
