//! Cache mounts: directories that persist from build to build, published only on success.
//!
//! ```text
//! mounts/<key>/versions   the record: which directories, the lowest first
//!             /use        locked shared by whoever has it mounted, exclusively to merge
//!             /turn       locked by whoever wants to be the only one
//!             /<n>/       one directory of changes, in overlayfs's form
//! ```
//!
//! A step never writes to what is published. It gets an overlay of its own over the published
//! directories, and publishing puts its changes on top: whatever was published meanwhile stays
//! below, so steps that share a mount add up file by file, and the last one wins. A step that
//! fails, or is killed, leaves the mount as it was. When nobody has the mount in use, the
//! directories are merged into one, by renames, which do not change what is seen.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Attempt, StoreError};
use crate::lease::Lease;
use crate::merge::merge_into;
use crate::record::{self, Kind};
use crate::store::{Inner, Store, read, text_key, touch};

/// How steps that use a cache mount at once get along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All at once; what they publish adds up.
    Shared,
    /// All at once; what one publishes is lost if another one published meanwhile.
    Private,
    /// One after the other.
    Locked,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountRecord {
    /// The mount's id, for people.
    pub(crate) id: String,
    /// Names of the directories, the lowest first.
    pub(crate) versions: Vec<String>,
}

const MOUNT: Kind = Kind {
    name: "mount",
    version: 1,
};

/// How long a wait for a turn pauses between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A cache mount in use. Dropped, what was written is discarded.
#[derive(Debug)]
pub struct CacheMount {
    store: Store,
    folder: PathBuf,
    /// As it was when the use began.
    begun: MountRecord,
    sharing: Sharing,
    draft: PathBuf,
    /// Locked as long as they are open.
    users: File,
    _turn: Option<File>,
}

impl Store {
    /// Begins to use the cache mount of this id; it need not exist. With [`Sharing::Locked`] it
    /// waits for its turn.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] as soon as `cancelled` says so while waiting; else when files
    /// cannot be locked or made.
    pub fn cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<CacheMount, StoreError> {
        let inner = &*self.inner;
        let folder = inner.mount_folder(id);
        inner.disk.create_directory(&folder)?;
        let turn = match sharing {
            Sharing::Locked => Some(inner.take_turn(&folder, id, cancelled)?),
            Sharing::Shared | Sharing::Private => None,
        };
        let Some(users) = inner.join_users(&folder)? else {
            // It was pruned a moment ago.
            return self.cache_mount(id, sharing, cancelled);
        };
        let draft = inner.lease()?.scratch();
        inner.disk.create_directory_with(&draft.join("fs"), 0o755)?;
        inner.disk.create_directory(&draft.join("work"))?;
        let mut begun = inner.mount_record(&folder)?.unwrap_or_default();
        begun.id = id.to_owned();
        let store = self.clone();
        Ok(CacheMount {
            store,
            folder,
            begun,
            sharing,
            draft,
            users,
            _turn: turn,
        })
    }
}

impl Store {
    /// Empties a cache mount that nobody uses; true when it was there and is empty now.
    ///
    /// # Errors
    /// When it cannot be moved away or removed.
    pub fn forget_cache_mount(&self, id: &str) -> Result<bool, StoreError> {
        let inner = &*self.inner;
        let lease = inner.lease()?;
        match inner.discard_mount(lease, &text_key(id))? {
            Some(trash) => inner.disk.remove_tree(&trash).map(|()| true),
            None => Ok(false),
        }
    }
}

impl CacheMount {
    /// Whether nothing was ever published.
    pub fn is_new(&self) -> bool {
        self.begun.versions.is_empty()
    }

    /// What is published, the lowest first. It stays as it is while the mount is in use.
    pub fn lowers(&self) -> Vec<PathBuf> {
        self.begun
            .versions
            .iter()
            .map(|name| self.folder.join(name))
            .collect()
    }

    /// Receives every change, in overlayfs's form. Its mode and owner are those of the mounted
    /// directory: 0755 and the creator's for a new mount, until somebody sets others.
    pub fn upper(&self) -> PathBuf {
        self.draft.join("fs")
    }

    /// A directory for overlayfs's own use.
    pub fn work(&self) -> PathBuf {
        self.draft.join("work")
    }

    /// Publishes what was written. Nothing may be mounted on it any more.
    ///
    /// # Errors
    /// When it cannot be put in place; what was published before stays.
    pub fn publish(self) -> Result<(), StoreError> {
        let inner = &*self.store.inner;
        let path = self.folder.join("publish");
        let publishing = inner.disk.open_lock(&path)?;
        publishing.lock().attempt("lock", &path)?;

        let mut current = inner.mount_record(&self.folder)?.unwrap_or_default();
        if self.sharing == Sharing::Private && current.versions != self.begun.versions {
            return Ok(());
        }
        let name = (0u64..)
            .map(|n| n.to_string())
            .find(|name| !self.folder.join(name).exists());
        let name = name.expect("there are more numbers than directories");
        inner.disk.rename(&self.upper(), &self.folder.join(&name))?;
        current.id.clone_from(&self.begun.id);
        current.versions.push(name);
        inner.put_mount_record(&self.folder, &current)?;

        // The lock of this use is given up by taking it exclusively, if nobody else has it.
        if current.versions.len() > 1 && self.users.try_lock().is_ok() {
            inner.merge_versions(&self.folder, current)?;
        }
        Ok(())
    }
}

impl Drop for CacheMount {
    fn drop(&mut self) {
        // What cannot be removed now goes with the lease.
        _ = self.store.inner.disk.remove_tree(&self.draft);
    }
}

impl Inner {
    fn mount_folder(&self, id: &str) -> PathBuf {
        self.path("mounts").join(text_key(id))
    }

    /// Locks the mount against being merged or removed; `None` when it was removed meanwhile.
    fn join_users(&self, folder: &Path) -> Result<Option<File>, StoreError> {
        let path = folder.join("use");
        let users = match self.disk.open_lock(&path) {
            Ok(users) => users,
            Err(_) if !folder.exists() => return Ok(None),
            Err(error) => return Err(error),
        };
        users.lock_shared().attempt("lock", &path)?;
        let mine = users.metadata().attempt("look at", &path)?.ino();
        let same = path.metadata().is_ok_and(|current| current.ino() == mine);
        Ok(same.then_some(users))
    }

    pub(crate) fn is_mount_in_use(&self, folder: &Path) -> Result<bool, StoreError> {
        let path = folder.join("use");
        match File::open(&path) {
            Ok(users) => Ok(users.try_lock().is_err()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).attempt("open", &path),
        }
    }

    /// Moves a mount that nobody uses out of the way; `None` when somebody does.
    pub(crate) fn discard_mount(
        &self,
        lease: &Lease,
        name: &str,
    ) -> Result<Option<PathBuf>, StoreError> {
        let folder = self.path("mounts").join(name);
        let path = folder.join("use");
        if !folder.exists() {
            return Ok(None);
        }
        let users = self.disk.open_lock(&path)?;
        if users.try_lock().is_err() {
            return Ok(None);
        }
        self.discard(lease, &folder)
    }

    /// What is wrong with a mount, if anything: strays of somebody who was killed are removed.
    pub(crate) fn mend_mount(&self, name: &str) -> Result<(), StoreError> {
        let folder = self.path("mounts").join(name);
        let path = folder.join("use");
        let users = self.disk.open_lock(&path)?;
        if users.try_lock().is_err() {
            return Ok(());
        }
        let record = self.mount_record(&folder)?.unwrap_or_default();
        self.drop_strays(&folder, &record)
    }

    fn take_turn(
        &self,
        folder: &Path,
        id: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<File, StoreError> {
        let path = folder.join("turn");
        let turn = self.disk.open_lock(&path)?;
        loop {
            match turn.try_lock() {
                Ok(()) => return Ok(turn),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).attempt("lock", &path),
            }
            if cancelled() {
                let what = format!("cache mount {id:?}");
                return Err(StoreError::Cancelled { what });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What is published. After a crash of the machine, what was not settled before is dropped.
    pub(crate) fn mount_record(&self, folder: &Path) -> Result<Option<MountRecord>, StoreError> {
        let path = folder.join("versions");
        let Some((file, bytes)) = read(&path)? else {
            return Ok(None);
        };
        let record = record::decode::<MountRecord>(MOUNT, &bytes);
        let record = record
            .filter(|(_, stamp)| self.trusts(stamp))
            .map(|(record, _)| record);
        match record {
            Some(_) => touch(&file),
            None => self.disk.remove_file(&path)?,
        }
        Ok(record)
    }

    fn put_mount_record(&self, folder: &Path, record: &MountRecord) -> Result<(), StoreError> {
        let new = self.lease()?.scratch();
        let passage = self.shared()?;
        let bytes = record::encode(MOUNT, &self.stamp(&passage)?, record);
        self.disk.write_new(&new, &bytes)?;
        self.disk.rename(&new, &folder.join("versions"))
    }

    /// Makes one directory of several. What the overlay of them shows is the same at every
    /// moment, so being killed on the way is fine. The caller has the mount to itself.
    fn merge_versions(&self, folder: &Path, mut record: MountRecord) -> Result<(), StoreError> {
        while let [.., below, top] = &record.versions[..] {
            let (below, top) = (folder.join(below), folder.join(top));
            let bottom = record.versions.len() == 2;
            merge_into(&self.disk, &top, &below, bottom)?;
            record.versions.pop();
            self.put_mount_record(folder, &record)?;
            self.disk.remove_tree(&top)?;
        }
        self.drop_strays(folder, &record)
    }

    /// Removes directories that no record names: left behind by whoever was killed.
    fn drop_strays(&self, folder: &Path, record: &MountRecord) -> Result<(), StoreError> {
        for name in crate::lease::names(folder)? {
            let is_version = name.bytes().all(|byte| byte.is_ascii_digit());
            if is_version && !record.versions.contains(&name) {
                self.disk.remove_tree(&folder.join(name))?;
            }
        }
        Ok(())
    }
}
