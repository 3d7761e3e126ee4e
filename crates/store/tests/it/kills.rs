//! Writers that are killed at any moment leave a store that is right.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use store::{Key, PrunePolicy, Sharing, Store};

use crate::fixture::{Fixture, check_healthy, result, shared_layer, step_layer};

const ROOT: &str = "KILN_TEST_STORE";
const SEED: &str = "KILN_TEST_SEED";

/// The writer: does nothing unless it was started by [`start`].
#[test]
fn writer() {
    let (Some(root), Some(seed)) = (env::var_os(ROOT), env::var_os(SEED)) else {
        return;
    };
    let seed: u16 = seed.to_str().unwrap().parse().unwrap();
    let store = Store::open(Path::new(&root)).unwrap();
    for n in 0u16.. {
        let key = record_key(seed, n);
        let content = format!("{seed} {n}");
        let layer = if n % 2 == 0 {
            step_layer(&store, &[], &content)
        } else {
            shared_layer(&store, content.as_bytes())
        };
        store.put_blob(content.as_bytes()).unwrap();
        store.save_result(&key, &result(&[layer])).unwrap();
        let mount = store
            .cache_mount("shared", Sharing::Shared, &|| false)
            .unwrap();
        std::fs::write(mount.upper().join(n.to_string()), &content).unwrap();
        mount.publish().unwrap();
        if n % 16 == 15 {
            store.settle().unwrap();
        }
        // Past the harness's capture, straight to the pipe.
        let mut out = std::fs::File::options()
            .write(true)
            .open("/proc/self/fd/1")
            .unwrap();
        writeln!(out, "done {n}").unwrap();
    }
}

fn record_key(seed: u16, n: u16) -> Key {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&seed.to_le_bytes());
    bytes[2..4].copy_from_slice(&n.to_le_bytes());
    Key::from_bytes(bytes)
}

fn start(root: &Path, seed: u16) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "kills::writer", "--nocapture"])
        .env(ROOT, root)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets two writers run for a moment, kills them, and tells how far each said it got.
fn run_and_kill(root: &Path, round: u16) -> Vec<(u16, u16)> {
    let seeds = [2 * round, 2 * round + 1];
    let writers: Vec<(u16, Child)> = seeds.map(|seed| (seed, start(root, seed))).into();
    let mut running = Vec::new();
    for (seed, mut writer) in writers {
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Most are killed in full swing, some while they begin.
        let first = if round.is_multiple_of(4) {
            None
        } else {
            lines.find_map(progress)
        };
        running.push((seed, writer, lines, first));
    }
    std::thread::sleep(Duration::from_micros(u64::from(round) * 997 % 7_000));
    let mut done = Vec::new();
    for (seed, mut writer, lines, first) in running {
        writer.kill().unwrap();
        let last = lines
            .map_while(|line| Some(progress(line)))
            .flatten()
            .last();
        done.extend(last.or(first).map(|last| (seed, last)));
        writer.wait().unwrap();
    }
    done
}

fn progress(line: io::Result<String>) -> Option<u16> {
    line.ok()?.strip_prefix("done ")?.parse().ok()
}

#[test]
fn what_was_acknowledged_is_there_and_the_rest_is_tidied_up() {
    let fixture = Fixture::new();
    fixture.open();
    let mut acknowledged = Vec::new();
    for round in 0..40 {
        acknowledged.extend(run_and_kill(fixture.root(), round));
        if round % 8 == 7 {
            check_store(&fixture, &acknowledged);
        }
    }
    assert!(
        acknowledged.len() > 10,
        "the writers hardly ran: {acknowledged:?}"
    );
}

#[track_caller]
fn check_store(fixture: &Fixture, acknowledged: &[(u16, u16)]) {
    let store = fixture.open();
    for finding in store.doctor(&|_| true).unwrap().findings {
        assert!(finding.what.starts_with("bytes of blob"), "{finding:?}");
    }
    check_healthy(&store);
    for &(seed, last) in acknowledged {
        for n in 0..=last {
            let found = store.result(&record_key(seed, n)).unwrap();
            let found = found.unwrap_or_else(|| panic!("{seed} {n} is lost"));
            assert!(
                store.layer(found.layers[0]).unwrap().is_some(),
                "{seed} {n}"
            );
        }
    }
    // A dry run removes nothing but the leases of the dead.
    let policy = PrunePolicy {
        dry_run: true,
        ..PrunePolicy::default()
    };
    store.prune(&policy, &|_| true).unwrap();
    for folder in ["leases", "tmp"] {
        let left = std::fs::read_dir(fixture.root().join(folder))
            .unwrap()
            .count();
        assert_eq!(left, 1, "{folder} has more than this process's own");
    }
    assert!(
        !store
            .cache_mount("shared", Sharing::Shared, &|| false)
            .unwrap()
            .is_new()
    );
}
