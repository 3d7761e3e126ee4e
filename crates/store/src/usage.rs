//! What takes how much room, and who holds it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci::Digest;

use crate::blob::{BLOBS, blob_digest};
use crate::error::{Attempt, StoreError};
use crate::layers::part;
use crate::lease::{Pin, names};
use crate::store::{Inner, Store, read};
use crate::{Image, LayerId};

/// What something in the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageKind {
    /// A layer: the output of a step, or of an image.
    Layer,
    /// A blob: a compressed layer or a document.
    Blob,
    /// A cache mount.
    CacheMount,
}

/// The name of something in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageId {
    /// A layer.
    Layer(LayerId),
    /// A blob.
    Blob(Digest),
    /// A cache mount, by the name of its directory.
    CacheMount(String),
}

/// Something in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its name.
    pub id: UsageId,
    /// Bytes on the disk.
    pub size: u64,
    /// When it came into the store.
    pub created: SystemTime,
    /// When it was used last, exact to an hour.
    pub last_used: SystemTime,
    /// The layers that it lies directly on in one result or another.
    pub parents: Vec<LayerId>,
    /// A living process uses it.
    pub in_use: bool,
    /// An image needs it.
    pub in_image: bool,
    /// What it is, for people: the step of a layer, the id of a cache mount.
    pub description: String,
}

impl Usage {
    /// What it is.
    pub fn kind(&self) -> UsageKind {
        match self.id {
            UsageId::Layer(_) => UsageKind::Layer,
            UsageId::Blob(_) => UsageKind::Blob,
            UsageId::CacheMount(_) => UsageKind::CacheMount,
        }
    }

    /// How long ago it was used.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.last_used).unwrap_or_default()
    }
}

impl Store {
    /// Everything in the store that takes room worth counting: layers, blobs, cache mounts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Vec<Usage>, StoreError> {
        let inner = &*self.inner;
        inner.lease()?;
        let passage = inner.exclusive()?;
        let held = inner.live_pins()?;
        drop(passage);
        inner.usage(&held)
    }

    /// Bytes that the store takes on the disk: everything that [`Store::usage`] tells, and what is
    /// being written. Asks for no more than is needed to know that.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn size(&self) -> Result<u64, StoreError> {
        let inner = &*self.inner;
        let mut size = inner.size_of_unfinished()?;
        for id in inner.layer_ids()? {
            size += layer_size(&inner.layer_path(id))?;
        }
        // The bytes of blobs and their records.
        for name in inner.keys(BLOBS)? {
            size += on_disk(&inner.record_path(BLOBS, &name));
        }
        let mounts = inner.path("mounts");
        for name in names(&mounts)? {
            size += tree_size(&mounts.join(name))?;
        }
        Ok(size)
    }

    /// Room on the file system of the store: free for this user, and altogether, in bytes.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn room(&self) -> Result<(u64, u64), StoreError> {
        let stat = self.file_system()?;
        let block = u64::try_from(stat.f_bsize).unwrap_or(1);
        Ok((stat.f_bavail * block, stat.f_blocks * block))
    }

    /// How many files can still be made on the file system of the store; `None` where as many as
    /// fit.
    ///
    /// # Errors
    /// When the file system cannot be asked.
    pub fn free_files(&self) -> Result<Option<u64>, StoreError> {
        let stat = self.file_system()?;
        Ok((stat.f_files > 0).then_some(stat.f_ffree))
    }

    fn file_system(&self) -> Result<sys::fs::StatFs, StoreError> {
        let root = fs::File::open(self.root()).attempt("open", self.root())?;
        let stat = sys::fs::fstatfs(&root).map_err(std::io::Error::from);
        stat.attempt("ask the file system of", self.root())
    }
}

impl Inner {
    /// Bytes of what living processes write and have not put in its place.
    pub(crate) fn size_of_unfinished(&self) -> Result<u64, StoreError> {
        let tmp = self.path("tmp");
        let mut size = 0;
        for lease in names(&tmp)? {
            for name in names(&tmp.join(&lease))? {
                let path = tmp.join(&lease).join(name);
                size += match path.is_dir() {
                    true => tree_size(&path)?,
                    false => on_disk(&path),
                };
            }
        }
        Ok(size)
    }

    pub(crate) fn usage(&self, held: &HashSet<Pin>) -> Result<Vec<Usage>, StoreError> {
        let wanted: HashSet<Pin> = self.images()?.iter().flat_map(Image::pins).collect();
        let mut usage = self.layer_usage(held, &wanted)?;
        usage.extend(self.blob_usage(held, &wanted)?);
        usage.extend(self.mount_usage()?);
        Ok(usage)
    }

    fn layer_usage(
        &self,
        held: &HashSet<Pin>,
        wanted: &HashSet<Pin>,
    ) -> Result<Vec<Usage>, StoreError> {
        let mut descriptions = HashMap::new();
        let mut parents: HashMap<LayerId, BTreeSet<LayerId>> = HashMap::new();
        for (_, result) in self.results()? {
            for pair in result.layers.windows(2) {
                parents.entry(pair[1]).or_default().insert(pair[0]);
            }
            if let Some(&top) = result.layers.last() {
                descriptions.insert(top, result.description);
            }
        }
        let mut usage = Vec::new();
        for id in self.layer_ids()? {
            let path = self.layer_path(id);
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            usage.push(Usage {
                id: UsageId::Layer(id),
                size: layer_size(&path)?,
                created: created(&metadata),
                last_used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                parents: parents
                    .remove(&id)
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
                in_use: held.contains(&Pin::Layer(id)),
                in_image: wanted.contains(&Pin::Layer(id)),
                description: descriptions.remove(&id).unwrap_or_default(),
            });
        }
        Ok(usage)
    }

    fn blob_usage(
        &self,
        held: &HashSet<Pin>,
        wanted: &HashSet<Pin>,
    ) -> Result<Vec<Usage>, StoreError> {
        let mut usage = Vec::new();
        for digest in self.keys(BLOBS)?.iter().filter_map(|key| blob_digest(key)) {
            let path = self.blob_path(&digest);
            let record = path.with_extension("");
            let Ok(metadata) = record.symlink_metadata() else {
                continue;
            };
            usage.push(Usage {
                id: UsageId::Blob(digest),
                size: on_disk(&path) + on_disk(&record),
                created: path
                    .symlink_metadata()
                    .map_or(SystemTime::UNIX_EPOCH, |data| created(&data)),
                parents: Vec::new(),
                last_used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                in_use: held.contains(&Pin::Blob(digest)),
                in_image: wanted.contains(&Pin::Blob(digest)),
                description: String::new(),
            });
        }
        Ok(usage)
    }

    fn mount_usage(&self) -> Result<Vec<Usage>, StoreError> {
        let mounts = self.path("mounts");
        let mut usage = Vec::new();
        for name in names(&mounts)? {
            let folder = mounts.join(&name);
            let record = self.mount_record(&folder)?.unwrap_or_default();
            let last_used = folder
                .join("versions")
                .metadata()
                .and_then(|m| m.modified());
            usage.push(Usage {
                size: tree_size(&folder)?,
                created: folder
                    .symlink_metadata()
                    .map_or(SystemTime::UNIX_EPOCH, |folder| created(&folder)),
                parents: Vec::new(),
                last_used: last_used.unwrap_or(SystemTime::UNIX_EPOCH),
                in_use: self.is_mount_in_use(&folder)?,
                in_image: false,
                description: record.id,
                id: UsageId::CacheMount(name),
            });
        }
        Ok(usage)
    }

    /// The names of all layers, sorted.
    pub(crate) fn layer_ids(&self) -> Result<Vec<LayerId>, StoreError> {
        let names = names(&self.path("layers"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// When a file was made; where its file system does not know, when it was changed last.
fn created(metadata: &fs::Metadata) -> SystemTime {
    let created = metadata.created().or_else(|_| metadata.modified());
    created.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What a layer takes. A directory is measured once, and the figure is kept beside it.
fn layer_size(path: &Path) -> Result<u64, StoreError> {
    let packed = on_disk(&path.join(part::TAR)) + on_disk(&path.join(part::INDEX));
    let tree = path.join(part::TREE);
    if tree.symlink_metadata().is_err() {
        return Ok(packed);
    }
    let kept = path.join(part::SIZE);
    let known =
        read(&kept)?.and_then(|(_, bytes)| String::from_utf8(bytes).ok()?.parse::<u64>().ok());
    let size = match known {
        Some(size) => size,
        None => {
            let last_used = path.metadata().and_then(|metadata| metadata.modified());
            let size = tree_size(&tree)?;
            // Only saves work; a store that cannot be written can still be measured.
            _ = fs::write(&kept, size.to_string());
            // Making the file is no use of the layer.
            if let (Ok(directory), Ok(last_used)) = (fs::File::open(path), last_used) {
                _ = directory.set_modified(last_used);
            }
            size
        }
    };
    Ok(packed + size)
}

/// Bytes that a file takes on the disk; nothing when it is not there.
fn on_disk(path: &Path) -> u64 {
    path.symlink_metadata()
        .map_or(0, |metadata| metadata.blocks() * 512)
}

/// Bytes that everything at and below `top` takes on the disk, hard links counted once.
pub(crate) fn tree_size(top: &Path) -> Result<u64, StoreError> {
    let mut seen = HashSet::new();
    let mut open = vec![top.to_owned()];
    let mut size = 0;
    while let Some(directory) = open.pop() {
        size += on_disk(&directory);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // Moved away meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).attempt("list", &directory),
        };
        for entry in entries {
            let entry = entry.attempt("list", &directory)?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.nlink() == 1 || seen.insert(metadata.ino()) {
                size += metadata.blocks() * 512;
            }
        }
    }
    Ok(size)
}
