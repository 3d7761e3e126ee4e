//! A store in a directory of its own, and short words for putting things into it.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci::{DiffId, Digest};
use store::{Key, LayerId, Options, ResultRecord, Store, TarIdentity};
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        Fixture { directory }
    }

    /// A store whose disk is memory, where forcing things to the disk costs nothing.
    pub(crate) fn in_memory() -> Fixture {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        Fixture { directory }
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Opens the store, as another process would.
    pub(crate) fn open(&self) -> Store {
        Store::open(self.root()).unwrap()
    }

    /// Opens the store in another boot of the machine.
    pub(crate) fn boot(&self, boot: &str) -> Store {
        let boot_id = Some(boot.to_owned());
        Store::open_with(
            self.root(),
            Options {
                boot_id,
                fault: None,
            },
        )
        .unwrap()
    }
}

pub(crate) fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

/// A step's layer with one file.
pub(crate) fn step_layer(store: &Store, parents: &[LayerId], content: &str) -> LayerId {
    let active = store.active(parents).unwrap();
    fs::write(active.upper().join("file"), content).unwrap();
    active.commit().unwrap()
}

/// A layer that came as bytes; they are no real tar, which the store does not mind.
pub(crate) fn shared_layer(store: &Store, bytes: &[u8]) -> LayerId {
    let draft = store.layer_draft().unwrap();
    fs::write(draft.tar(), bytes).unwrap();
    fs::write(draft.index(), b"index").unwrap();
    draft
        .commit_shared(TarIdentity {
            diff_id: DiffId::new(Digest::sha256(bytes)),
            len: bytes.len() as u64,
        })
        .unwrap()
}

pub(crate) fn result(layers: &[LayerId]) -> ResultRecord {
    ResultRecord {
        layers: layers.to_vec(),
        inputs: vec![("args[0]".into(), "true".into())],
        description: "RUN true".into(),
        created: 1,
    }
}

/// Makes every layer, blob and record of the store look as if it was used long ago.
pub(crate) fn age(root: &Path, by: Duration) {
    let then = SystemTime::now() - by;
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        fs::File::open(&path).unwrap().set_modified(then).unwrap();
    }
}

/// Asserts that the doctor finds nothing.
#[track_caller]
pub(crate) fn check_healthy(store: &Store) {
    assert_eq!(store.doctor(&|_| true).unwrap().findings, []);
}
