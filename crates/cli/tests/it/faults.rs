//! Every change of the disk fails once, with the disk full or broken: tars, indexes, records, what
//! steps write, what goes out. A build says so or copes, the store is right, and so is the next
//! build.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use testkit::{FaultyDisk, Observed};

use crate::harness::{Project, times, tool};
use crate::parallel::alive;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

const APP: &str = "FROM busybox AS a\nCOPY src /src\nRUN cat /src/* > /all\n\
    FROM busybox\nRUN --mount=type=cache,target=/c echo c > /c/c && cp /c/c /d\n\
    COPY --from=a /all /\n";

/// A project whose store can be put back to what it was.
struct Faulty {
    project: Project,
    kept: PathBuf,
}

impl Faulty {
    fn new() -> Faulty {
        let project = Project::with(APP);
        project.write("src/a", "a");
        project.write("src/b", "b".repeat(70_000));
        let kept = project.path("../kept");
        // What the last build left for afterwards writes to the store.
        while alive(&project.store().display().to_string()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let faulty = Faulty { project, kept };
        faulty.copy(faulty.project.store().to_owned(), faulty.kept.clone());
        faulty
    }

    #[track_caller]
    fn copy(&self, from: PathBuf, to: PathBuf) {
        drop(fs::remove_dir_all(&to));
        let [from, to] = [from, to].map(|path| path.display().to_string());
        drop(tool("cp", &["-a", &from, &to]).success());
    }

    /// Builds from the beginning over a disk on which one change fails.
    #[track_caller]
    fn build(&self, at: Option<usize>, errno: i32) -> Observed {
        self.copy(self.kept.clone(), self.project.store().to_owned());
        drop(fs::remove_file(self.project.path("image.tar")));
        self.run(at, errno)
    }

    /// Builds, and waits for what the build leaves for afterwards.
    fn run(&self, at: Option<usize>, errno: i32) -> Observed {
        let disk = FaultyDisk {
            below: self.project.path("..").canonicalize().unwrap(),
            at,
            errno,
        };
        disk.run(&mut self.project.command(&BUILD))
    }

    /// Digest of the image, if one was written.
    fn digest(&self) -> String {
        let index = self.project.host("tar -xOf image.tar index.json");
        let (_, rest) = index.split_once("sha256:").unwrap();
        rest[..64].to_string()
    }

    /// What is wrong after a build with this fault, if anything is: it is right or says why not,
    /// and all is well afterwards. Tells whether it was right.
    fn trial(&self, at: usize, errno: i32, expected: &str) -> Result<bool, String> {
        let Observed { output, failed, .. } = self.build(Some(at), errno);
        let failed = failed.unwrap_or_else(|| "nothing".into());
        let trouble = |what: &str, output: &Output| {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("change {at}, {failed}: {what}:\n{said}"))
        };
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = ["No space left on device", "Input/output error"][usize::from(errno == EIO)];
        match output.status.code() {
            Some(0) if self.digest() != expected => return trouble("another image", &output),
            Some(0) => {}
            Some(1) if said.contains(reason) => {}
            _ => return trouble("no clear error", &output),
        }
        let doctor = self.project.command(&["doctor"]).output().unwrap();
        let lines = String::from_utf8_lossy(&doctor.stdout);
        let fine = |line: &str| line.starts_with("bytes of blob") || line.contains(" verified, ");
        if !doctor.status.success() || !lines.lines().all(fine) {
            return trouble(&format!("the doctor finds {lines}"), &doctor);
        }
        let next = self.run(None, errno).output;
        if !next.status.success() || self.digest() != expected {
            return trouble("the next build is wrong", &next);
        }
        Ok(output.status.success())
    }
}

const BUILD: [&str; 7] = [
    "build",
    "--progress=plain",
    "-o",
    "type=oci,dest=image.tar",
    "-t",
    "image",
    ".",
];

#[track_caller]
fn check(errno: i32) {
    let faulty = Faulty::new();
    let whole = faulty.build(None, errno);
    assert!(whole.output.status.success(), "{whole:?}");
    assert!(
        whole.changes > 100,
        "only {}: are they asked?",
        whole.changes
    );
    let expected = faulty.digest();
    // Spread over all of them; some more than there were, as threads take turns differently.
    let count = times("KILN_FAULT_RUNS", 4);
    let most = u64::try_from(whole.changes).unwrap();
    let step = (most / count.min(most)).max(1);
    let begin = u64::from(errno.unsigned_abs()) % step;
    let places = (begin..most).step_by(usize::try_from(step).unwrap());
    let (mut right, mut refused, mut wrong) = (0, 0, Vec::new());
    for at in places {
        match faulty.trial(usize::try_from(at).unwrap(), errno, &expected) {
            Ok(true) => right += 1,
            Ok(false) => refused += 1,
            Err(what) => wrong.push(what),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong: {}",
        wrong.len(),
        wrong.join("\n")
    );
    // A full disk is mostly coped with: cache goes, and the step runs again.
    let reached = if errno == EIO { refused } else { right };
    assert!(
        reached > 0,
        "of {most} changes {right} did not matter, {refused} were an error"
    );
}

#[test]
fn a_full_disk_does_no_harm() {
    check(ENOSPC);
}

#[test]
fn a_broken_disk_does_no_harm() {
    check(EIO);
}
