//! Opening a store, and what all its parts share: paths, records, pins, trust, settling.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{Disk, Fault};
use crate::error::{Attempt, StoreError};
use crate::gate::{Gate, Generation, Passage};
use crate::lease::{Lease, Pin};
use crate::record::{self, Kind};
use crate::settled::{Settled, Stamp};

/// The format that this code writes, and the newest it reads.
const FORMAT: u32 = 1;

/// How often a use is noted in the time stamp of what is used.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);

/// The state directory, opened. Clones share one lease: whatever was looked up or made through
/// any of them survives garbage collection until the last one is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    root: PathBuf,
    pub(crate) disk: Disk,
    gate: Gate,
    boot: String,
    /// The generations of earlier boots that are on the disk for sure.
    settled: Settled,
    /// Something was recorded since the last time the store was settled.
    unsettled: AtomicBool,
    lease: OnceLock<Lease>,
    taking_lease: Mutex<()>,
}

/// How a store is opened where not everything is as usual.
#[derive(Clone, Default)]
pub struct Options {
    /// Identity of the machine's current boot, at most 64 bytes without white space; the kernel's
    /// `/proc/sys/kernel/random/boot_id` without one.
    pub boot_id: Option<String>,
    /// Makes changes to the disk fail.
    pub fault: Option<Fault>,
}

/// A folder of records of one kind, by key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) kind: Kind,
    pub(crate) folder: &'static str,
}

impl Store {
    /// Opens the store at `root`, and creates it if there is nothing.
    ///
    /// # Errors
    /// When the directory is of a newer format, holds other files, or cannot be written.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        Store::open_with(root, Options::default())
    }

    /// As [`Store::open`], with another boot id or a faulty disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(root: &Path, options: Options) -> Result<Store, StoreError> {
        let boot = match options.boot_id {
            Some(boot) => boot,
            None => sys::fs::boot_id().attempt("read the boot id for", root)?,
        };
        let inner = Inner {
            root: root.to_owned(),
            disk: Disk::new(options.fault),
            gate: Gate::new(root.join("gate")),
            boot,
            settled: read_settled(root),
            unsettled: AtomicBool::new(false),
            lease: OnceLock::new(),
            taking_lease: Mutex::new(()),
        };
        inner.check_format()?;
        inner.begin_boot()?;
        let inner = Arc::new(inner);
        Ok(Store { inner })
    }

    /// The state directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Forces everything that was recorded so far to the disk, and lets it be trusted after the
    /// machine stops without warning. Costs one `syncfs`; free when nothing was recorded.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn settle(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        if !inner.unsettled.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let settled = inner.settle();
        if settled.is_err() {
            inner.unsettled.store(true, Ordering::Relaxed);
        }
        settled
    }

    /// Whether nothing was recorded through this store since it was last settled.
    pub fn is_settled(&self) -> bool {
        !self.inner.unsettled.load(Ordering::Relaxed)
    }

    /// As [`Store::settle`], for what other processes recorded.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn settle_all(&self) -> Result<(), StoreError> {
        self.inner.settle()
    }

    /// A new directory of this process's own; removed when the store is closed, or after the
    /// process was killed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<PathBuf, StoreError> {
        let path = self.inner.lease()?.scratch();
        self.inner.disk.create_directory(&path)?;
        Ok(path)
    }

    /// Directory for logs; it exists.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn logs(&self) -> Result<PathBuf, StoreError> {
        let path = self.inner.path("logs");
        self.inner.disk.create_directory(&path)?;
        Ok(path)
    }

    /// Where the index of file stamps of this directory is kept; its folder exists.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn stat_index(&self, directory: &Path) -> Result<PathBuf, StoreError> {
        let folder = self.inner.path("stats");
        self.inner.disk.create_directory(&folder)?;
        let name = oci::Digest::sha256(directory.as_os_str().as_bytes()).hex();
        Ok(folder.join(name))
    }
}

impl Inner {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let path = self.path("version");
        loop {
            match fs::read_to_string(&path) {
                Ok(text) => return self.accept_format(&text, &path),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).attempt("read", &path),
            }
            let own = ["version", "lost+found"];
            if crate::lease::names(&self.root)?
                .iter()
                .any(|name| !own.contains(&name.as_str()))
            {
                let root = self.root.clone();
                // Somebody else may have created the store meanwhile.
                return if path.exists() {
                    Ok(())
                } else {
                    Err(StoreError::NotAStore { root })
                };
            }
            // Layers hold setuid programs and other people's secrets.
            self.disk.create_directory_with(&self.root, 0o700)?;
            match self
                .disk
                .write_new(&path, format!("kiln store {FORMAT}\n").as_bytes())
            {
                Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                }
                other => {
                    other?;
                    return self.disk.create_spreading_directory(&self.path("tmp"));
                }
            }
        }
    }

    fn accept_format(&self, text: &str, path: &Path) -> Result<(), StoreError> {
        if text.is_empty() {
            // Its creator is about to write it, or was killed before.
            return fs::write(path, format!("kiln store {FORMAT}\n")).attempt("write", path);
        }
        let root = self.root.clone();
        let found = text
            .strip_prefix("kiln store ")
            .and_then(|rest| rest.trim_end().parse().ok());
        match found {
            None => Err(StoreError::NotAStore { root }),
            Some(FORMAT) => Ok(()),
            Some(found) => Err(StoreError::NewerFormat {
                root,
                found,
                known: FORMAT,
            }),
        }
    }

    /// Sees to it that the current generation is one of this boot.
    fn begin_boot(&self) -> Result<(), StoreError> {
        let ours = |generation: &Option<Generation>| {
            generation
                .as_ref()
                .is_some_and(|generation| generation.boot == self.boot)
        };
        if let Ok(passage) = self.gate.shared()
            && ours(&passage.generation()?)
        {
            return Ok(());
        }
        let passage = self.gate.exclusive(&self.disk)?;
        let last = passage.generation()?;
        if ours(&last) {
            return Ok(());
        }
        let settled = read_settled(&self.root).greatest();
        let number = match last {
            // The file may be one generation behind what was recorded, if the machine stopped
            // while the store was being settled.
            Some(last) => last.number.max(settled) + 2,
            // New, or damaged: only a number that nobody can have used is safe.
            None => unix_nanoseconds().max(settled + 2),
        };
        let (first, boot) = (number, self.boot.clone());
        passage.begin(
            &self.disk,
            &Generation {
                number,
                first,
                boot,
            },
        )?;
        passage.sync(&self.disk)
    }

    fn settle(&self) -> Result<(), StoreError> {
        let (disk, root) = (&self.disk, &self.root);
        let lock = disk.open_lock(&self.path("settle.lock"))?;
        lock.lock().attempt("lock", root)?;
        let passage = self.exclusive()?;
        let Some(ended) = passage.generation()? else {
            return Ok(());
        };
        let next = Generation {
            number: ended.number + 1,
            ..ended.clone()
        };
        passage.begin(disk, &next)?;
        drop(passage);

        let directory = File::open(root).attempt("open", root)?;
        disk.sync_file_system(&directory, root)?;
        let mut settled = read_settled(root);
        settled.add(&ended);
        let (path, new) = (self.path("settled"), self.path("settled.new"));
        disk.remove_file(&new)?;
        let file = disk.write_new(&new, settled.to_string().as_bytes())?;
        disk.sync(&file, &new)?;
        disk.rename(&new, &path)?;
        disk.sync(&directory, root)
    }

    pub(crate) fn shared(&self) -> Result<Passage, StoreError> {
        self.gate.shared()
    }

    pub(crate) fn exclusive(&self) -> Result<Passage, StoreError> {
        self.gate.exclusive(&self.disk)
    }

    pub(crate) fn lease(&self) -> Result<&Lease, StoreError> {
        if let Some(lease) = self.lease.get() {
            return Ok(lease);
        }
        let _taking = self
            .taking_lease
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = self.lease.get() {
            return Ok(lease);
        }
        let _passage = self.gate.shared()?;
        let lease = Lease::take(&self.disk, &self.path("leases"), &self.path("tmp"))?;
        Ok(self.lease.get_or_init(|| lease))
    }

    /// Pins things, and then looks at them: what `look` sees stays until the lease ends.
    pub(crate) fn pinned<T>(
        &self,
        pins: &[Pin],
        look: impl FnOnce(&Inner) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lease = self.lease()?;
        let _passage = self.gate.shared()?;
        lease.pin(&self.disk, pins)?;
        look(self)
    }

    /// Everything pinned by anyone. The caller holds the gate exclusively.
    pub(crate) fn live_pins(&self) -> Result<HashSet<Pin>, StoreError> {
        crate::lease::live_pins(&self.disk, &self.path("leases"), &self.path("tmp"))
    }

    /// What a record that is written now is stamped with. The caller holds the gate until the
    /// record is in its place.
    pub(crate) fn stamp(&self, passage: &Passage) -> Result<Stamp, StoreError> {
        self.unsettled.store(true, Ordering::Relaxed);
        let boot = self.boot.clone();
        let current = passage.generation()?.filter(|current| current.boot == boot);
        // Without a generation of this boot nothing may be taken for settled later.
        let generation = current.map_or(u64::MAX, |current| current.number);
        Ok(Stamp { generation, boot })
    }

    /// Whether what a record of this stamp names is on the disk for sure.
    pub(crate) fn trusts(&self, stamp: &Stamp) -> bool {
        stamp.boot == self.boot || self.settled.contains(stamp.generation)
    }

    pub(crate) fn record_path(&self, table: Table, key: &str) -> PathBuf {
        self.root.join(table.folder).join(key)
    }

    /// Reads a record and notes its use. A damaged one is removed and counts as absent.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<(T, Stamp)>, StoreError> {
        let path = self.record_path(table, key);
        let Some((file, bytes)) = read(&path)? else {
            return Ok(None);
        };
        let record = record::decode(table.kind, &bytes);
        match record {
            Some(_) => touch(&file),
            None => self.disk.remove_file(&path)?,
        }
        Ok(record)
    }

    /// As [`Inner::get`], and notes no use.
    pub(crate) fn peek<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        let file = read(&self.record_path(table, key))?;
        let record = file.and_then(|(_, bytes)| record::decode(table.kind, &bytes));
        Ok(record.map(|(payload, _)| payload))
    }

    /// Whether a record that can be trusted is there and is `same`; its use is noted.
    pub(crate) fn holds<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
        same: impl FnOnce(&T) -> bool,
    ) -> Result<bool, StoreError> {
        let known = self.get::<T>(table, key)?;
        Ok(known.is_some_and(|(known, stamp)| self.trusts(&stamp) && same(&known)))
    }

    /// Writes a record, in place of any earlier one.
    pub(crate) fn put<T: Serialize>(
        &self,
        table: Table,
        key: &str,
        payload: &T,
    ) -> Result<(), StoreError> {
        let new = self.lease()?.scratch();
        let passage = self.gate.shared()?;
        let bytes = record::encode(table.kind, &self.stamp(&passage)?, payload);
        self.disk.write_new(&new, &bytes)?;
        self.disk.rename(&new, &self.record_path(table, key))
    }

    pub(crate) fn remove(&self, table: Table, key: &str) -> Result<(), StoreError> {
        self.disk.remove_file(&self.record_path(table, key))
    }

    /// All keys of a table, sorted.
    pub(crate) fn keys(&self, table: Table) -> Result<Vec<String>, StoreError> {
        crate::lease::names(&self.root.join(table.folder))
    }

    /// Moves something out of the way at once, to be removed at leisure: what it was is gone for
    /// everybody when this returns. Nothing there is fine.
    pub(crate) fn discard(
        &self,
        lease: &Lease,
        path: &Path,
    ) -> Result<Option<PathBuf>, StoreError> {
        if fs::symlink_metadata(path).is_err() {
            return Ok(None);
        }
        let trash = lease.scratch();
        self.disk.rename(path, &trash)?;
        Ok(Some(trash))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.get() {
            lease.release(&self.disk);
        }
    }
}

fn read_settled(root: &Path) -> Settled {
    // Without the file, nothing is settled.
    Settled::parse(&fs::read_to_string(root.join("settled")).unwrap_or_default())
}

fn unix_nanoseconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(0))
}

/// A file's content; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<(File, Vec<u8>)>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).attempt("open", path),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).attempt("read", path)?;
    Ok(Some((file, bytes)))
}

/// Notes that something was used, for the order in which things are given up.
pub(crate) fn touch(file: &File) {
    let now = SystemTime::now();
    let last = file.metadata().and_then(|metadata| metadata.modified());
    if last.is_ok_and(|last| {
        now.duration_since(last)
            .is_ok_and(|age| age > TOUCH_INTERVAL)
    }) {
        // A store that cannot be written is still good to read.
        _ = file.set_modified(now);
    }
}

/// The name of a file for something with any text as its name.
pub(crate) fn text_key(text: &str) -> String {
    oci::Digest::sha256(text).hex()
}
