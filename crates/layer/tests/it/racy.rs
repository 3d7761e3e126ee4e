//! The stat index never vouches for bytes that are not there: the same size and time with other
//! bytes, however they came about.

use layer::{ContentDigest, HostView, RelPath, StatIndex, View};
use sha2::{Digest, Sha256};
use std::fs::{File, FileTimes};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Older than the window of local file systems.
const SETTLED: Duration = Duration::from_millis(40);

struct Context {
    directory: tempfile::TempDir,
}

impl Context {
    /// A context with one file, which the index knows.
    fn known(bytes: &[u8]) -> Context {
        let directory = tempfile::tempdir().unwrap();
        let context = Context { directory };
        std::fs::create_dir(context.root()).unwrap();
        std::fs::write(context.file(), bytes).unwrap();
        std::thread::sleep(SETTLED);
        context.check();
        context
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    fn file(&self) -> PathBuf {
        self.root().join("file")
    }

    fn index(&self) -> PathBuf {
        self.directory.path().join("index")
    }

    /// A new build: the digest is that of the bytes that are there.
    #[track_caller]
    fn check(&self) {
        let stats = Arc::new(StatIndex::open(&self.index()));
        let digest = digest(&self.root(), &stats);
        let bytes = std::fs::read(self.file()).unwrap();
        assert_eq!(digest.0, <[u8; 32]>::from(Sha256::digest(bytes)));
        stats.save().unwrap();
    }

    /// Whether the index has the digest of the bytes that are there.
    fn is_remembered(&self) -> bool {
        let bytes = std::fs::read(self.index()).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(std::fs::read(self.file()).unwrap()).into();
        bytes.windows(32).any(|window| window == digest)
    }
}

fn digest(root: &Path, stats: &Arc<StatIndex>) -> ContentDigest {
    let view = HostView::open(root, None, Some(Arc::clone(stats))).unwrap();
    let path = RelPath::new("file").unwrap();
    let node = view.lookup(&path).unwrap().unwrap();
    view.digest(&path, &node).unwrap()
}

#[test]
fn settled_files_are_remembered() {
    let context = Context::known(b"one");
    assert!(context.is_remembered());
    context.check();
}

#[test]
fn same_size_and_time_by_setting_the_time() {
    let context = Context::known(b"one");
    let before = std::fs::metadata(context.file())
        .unwrap()
        .modified()
        .unwrap();
    std::fs::write(context.file(), b"two").unwrap();
    let file = File::options().write(true).open(context.file()).unwrap();
    file.set_times(FileTimes::new().set_modified(before))
        .unwrap();
    context.check();
}

#[test]
fn same_size_and_time_by_copying_with_times() {
    let context = Context::known(b"one");
    let modified = std::fs::metadata(context.file())
        .unwrap()
        .modified()
        .unwrap();
    let other = context.directory.path().join("other");
    std::fs::write(&other, b"two").unwrap();
    let file = File::options().write(true).open(&other).unwrap();
    file.set_times(FileTimes::new().set_modified(modified))
        .unwrap();
    let copied = Command::new("cp")
        .arg("-p")
        .arg(&other)
        .arg(context.file())
        .status();
    assert!(copied.unwrap().success());
    context.check();
}

#[test]
fn same_size_and_time_by_renaming_another_over_it() {
    let context = Context::known(b"one");
    let modified = std::fs::metadata(context.file())
        .unwrap()
        .modified()
        .unwrap();
    let other = context.root().join("other");
    std::fs::write(&other, b"two").unwrap();
    let file = File::options().write(true).open(&other).unwrap();
    file.set_times(FileTimes::new().set_modified(modified))
        .unwrap();
    std::fs::rename(&other, context.file()).unwrap();
    context.check();
}

#[test]
fn writes_within_a_tick_of_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let context = Context { directory };
    std::fs::create_dir(context.root()).unwrap();
    let mut file = File::create(context.file()).unwrap();
    for round in 0..200u32 {
        file.rewind().unwrap();
        file.write_all(&round.to_le_bytes()).unwrap();
        context.check();
    }
}

#[test]
fn writes_through_a_shared_mapping() {
    const WRITE: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    m[:] = b'two'
";
    // On tmpfs such a write may leave no stamp at all.
    for parent in [std::env::temp_dir(), "/dev/shm".into()] {
        let Ok(directory) = tempfile::tempdir_in(parent) else {
            continue;
        };
        let context = Context { directory };
        std::fs::create_dir(context.root()).unwrap();
        std::fs::write(context.file(), b"one").unwrap();
        std::thread::sleep(SETTLED);
        context.check();
        match Command::new("python3")
            .arg("-c")
            .arg(WRITE)
            .arg(context.file())
            .status()
        {
            Ok(status) => assert!(status.success()),
            Err(error) if std::env::var_os("KILN_REQUIRE").is_none() => {
                eprintln!("skipped: no python3 to map a file with: {error}");
                return;
            }
            Err(error) => panic!("python3: {error}"),
        }
        assert_eq!(std::fs::read(context.file()).unwrap(), b"two");
        context.check();
    }
}

#[test]
fn attributes_set_later_are_seen() {
    let context = Context::known(b"one");
    let root = layer::Root::open(&context.root()).unwrap();
    let path = RelPath::new("file").unwrap();
    root.set_xattr(&path, b"user.colour", b"blue").unwrap();
    let stats = Arc::new(StatIndex::open(&context.index()));
    let view = HostView::open(&context.root(), None, Some(stats)).unwrap();
    let node = view.lookup(&path).unwrap().unwrap();
    assert_eq!(node.metadata.xattrs[b"user.colour".as_slice()], b"blue");
}

#[test]
fn a_file_that_never_rests_is_an_error() {
    let context = Context::known(&vec![0; 8 << 20]);
    let path = context.file();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let mut file = File::options().append(true).open(path).unwrap();
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            file.write_all(b"more").unwrap();
            std::thread::yield_now();
        }
    });
    let view = HostView::open(&context.root(), None, None).unwrap();
    let path = RelPath::new("file").unwrap();
    let node = view.lookup(&path).unwrap().unwrap();
    let result = view.digest(&path, &node);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    let error = result.unwrap_err().to_string();
    assert!(error.contains("changed while it was read"), "{error}");
}
