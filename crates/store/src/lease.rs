//! Leases: what a living process uses or makes survives garbage collection.
//!
//! A lease is a locked file with one line for each thing that is pinned, and a directory below
//! `tmp/` for what is being made. The lock goes with the process, however it ends; whoever then
//! can lock the file removes both.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use oci::Digest;

use crate::LayerId;
use crate::disk::Disk;
use crate::error::{Attempt, StoreError};

/// Something that a lease keeps alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pin {
    Layer(LayerId),
    Blob(Digest),
}

#[derive(Debug)]
pub(crate) struct Lease {
    seed: [u8; 12],
    path: PathBuf,
    scratch: PathBuf,
    next: AtomicU32,
    pins: Mutex<Pins>,
}

#[derive(Debug)]
struct Pins {
    file: File,
    /// What the file has already.
    written: HashSet<Pin>,
}

impl Lease {
    /// Takes a new lease. The caller holds the gate, so that nobody takes the file for a dead
    /// lease before it is locked.
    pub(crate) fn take(disk: &Disk, leases: &Path, tmp: &Path) -> Result<Lease, StoreError> {
        let seed = random()?;
        let name: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        let (path, scratch) = (leases.join(&name), tmp.join(&name));
        disk.create_directory(leases)?;
        let file = disk.create(&path)?;
        file.lock().attempt("lock", &path)?;
        disk.create_directory(&scratch)?;
        let written = HashSet::new();
        let pins = Mutex::new(Pins { file, written });
        let next = AtomicU32::new(0);
        Ok(Lease {
            seed,
            path,
            scratch,
            next,
            pins,
        })
    }

    /// A path below `tmp/` that nobody else has or gets.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.scratch.join(self.number().to_string())
    }

    pub(crate) fn layer_id(&self) -> LayerId {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&self.seed);
        bytes[12..].copy_from_slice(&self.number().to_be_bytes());
        LayerId::fresh(bytes)
    }

    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps things alive from now on. The caller holds the gate, and only then looks whether
    /// they exist.
    pub(crate) fn pin(&self, disk: &Disk, pins: &[Pin]) -> Result<(), StoreError> {
        let mut known = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<Pin> = pins
            .iter()
            .filter(|pin| !known.written.contains(pin))
            .copied()
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let lines: String = new.iter().map(Pin::line).collect();
        disk.write(&known.file, &self.path, lines.as_bytes())
            .attempt("write", &self.path)?;
        known.written.extend(new);
        Ok(())
    }

    /// Ends the lease.
    pub(crate) fn release(&self, disk: &Disk) {
        // Whatever stays behind is removed by the next garbage collection, as after a kill.
        _ = disk.remove_tree(&self.scratch);
        _ = disk.remove_file(&self.path);
    }
}

impl Pin {
    fn line(&self) -> String {
        match self {
            Pin::Layer(id) => format!("layer {id}\n"),
            Pin::Blob(digest) => format!("blob {digest}\n"),
        }
    }

    fn parse(line: &str) -> Option<Pin> {
        match line.split_once(' ')? {
            ("layer", id) => LayerId::from_str(id).ok().map(Pin::Layer),
            ("blob", digest) => Digest::from_str(digest).ok().map(Pin::Blob),
            _ => None,
        }
    }
}

/// Everything that living leases pin. Dead ones are removed on the way. The caller holds the
/// gate exclusively.
pub(crate) fn live_pins(
    disk: &Disk,
    leases: &Path,
    tmp: &Path,
) -> Result<HashSet<Pin>, StoreError> {
    let mut pins = HashSet::new();
    for name in names(leases)? {
        let path = leases.join(&name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // Released a moment ago.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).attempt("open", &path),
        };
        if file.try_lock().is_ok() {
            if remove_scratch(disk, &tmp.join(&name))? {
                disk.remove_file(&path)?;
            }
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).attempt("read", &path)?;
        pins.extend(text.lines().filter_map(Pin::parse));
    }
    // Scratch directories whose lease is gone, because a release was interrupted.
    for name in names(tmp)? {
        if !leases.join(&name).exists() {
            remove_scratch(disk, &tmp.join(&name))?;
        }
    }
    Ok(pins)
}

/// Removes what a dead lease left behind; false when something is left. A process that was killed
/// may have children, which die a moment later and write until then: the next one tidies up.
fn remove_scratch(disk: &Disk, path: &Path) -> Result<bool, StoreError> {
    match disk.remove_tree(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::DirectoryNotEmpty => {
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

/// The names in a directory, sorted; none when there is no such directory.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).attempt("list", directory),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.attempt("list", directory)?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn random() -> Result<[u8; 12], StoreError> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 12];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .attempt("read", path)?;
    Ok(bytes)
}
