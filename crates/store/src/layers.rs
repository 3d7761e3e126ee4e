//! Layers: each a directory of its own, in one or both of two forms.
//!
//! ```text
//! layers/<id>/tar  index  packed     uncompressed tar, EROFS index, and the record of both
//!            /fs/         dir        a directory in overlayfs's form, and its record
//!            /below                  the layers that it was made on, where that may matter
//!            /size                   how much the directory takes, once somebody asked
//! ```
//!
//! A form is there when its record is. A layer comes into being by one rename of the complete
//! directory; a second form is attached later, data first.

use std::fs::File;
use std::path::{Path, PathBuf};

use oci::{DiffId, Digest, Hasher};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sys::mount::Lower;

use crate::LayerId;
use crate::blob::{hash_file, hash_start};
use crate::error::{Attempt, StoreError};
use crate::lease::Pin;
use crate::record::{self, Kind};
use crate::settled::Stamp;
use crate::store::{Inner, Store, read, touch};

/// A layer in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub id: LayerId,
    /// As tar and index, if it has that form.
    pub packed: Option<Packed>,
    /// As a directory in overlayfs's form, if it has that form.
    pub directory: Option<PathBuf>,
}

/// A layer as an uncompressed tar and an EROFS index into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The tar.
    pub tar: PathBuf,
    /// The index.
    pub index: PathBuf,
    /// What the tar hashes to.
    pub diff_id: DiffId,
    /// Length of the tar in bytes.
    pub tar_len: u64,
    /// Length of the stored file, which begins with the tar.
    pub stored_len: u64,
    /// Length of the index in bytes.
    pub index_len: u64,
}

/// The tar of a layer. The stored file may be longer: files that the tar has in pieces are kept
/// behind it in one piece, for the index to point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TarIdentity {
    /// What the tar hashes to.
    pub diff_id: DiffId,
    /// Its length in bytes.
    pub len: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedRecord {
    diff_id: DiffId,
    tar_len: u64,
    stored_len: u64,
    index_len: u64,
    index_digest: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DirectoryRecord {}

/// The layers that a layer was made on, the lowest first.
#[derive(Debug, Serialize, Deserialize)]
struct BelowRecord {
    layers: Vec<LayerId>,
}

const BELOW: Kind = Kind {
    name: "below",
    version: 1,
};
const PACKED: Kind = Kind {
    name: "packed",
    version: 2,
};
const DIRECTORY: Kind = Kind {
    name: "dir",
    version: 1,
};

/// Names of the parts of a layer's directory.
pub(crate) mod part {
    pub(crate) const TAR: &str = "tar";
    pub(crate) const INDEX: &str = "index";
    pub(crate) const PACKED: &str = "packed";
    pub(crate) const TREE: &str = "fs";
    pub(crate) const DIRECTORY: &str = "dir";
    pub(crate) const BELOW: &str = "below";
    pub(crate) const SIZE: &str = "size";
}

impl Layer {
    /// What to mount the layer from: the directory if there is one, else the packed tree if
    /// `erofs` says that it can be mounted here.
    ///
    /// # Errors
    /// When it has no form that can be mounted: a directory has to be attached first.
    pub fn lower(&self, erofs: bool) -> Result<Lower, StoreError> {
        match (&self.directory, &self.packed) {
            (Some(directory), _) => Ok(Lower::Dir(directory.clone())),
            (None, Some(Packed { tar, index, .. })) if erofs => {
                let (index, tar) = (index.clone(), tar.clone());
                Ok(Lower::Erofs { index, tar })
            }
            _ => Err(StoreError::MissingLayer {
                layer: self.id,
                form: "directory",
            }),
        }
    }
}

impl Store {
    /// The layer of this name, if it is there in any form. It stays while the store is open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn layer(&self, id: LayerId) -> Result<Option<Layer>, StoreError> {
        self.inner.pinned(&[Pin::Layer(id)], |_| Ok(()))?;
        self.inner.find_layer(id)
    }

    /// The layers that a layer was made on, the lowest first: none if nobody said so.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn below(&self, id: LayerId) -> Result<Vec<LayerId>, StoreError> {
        let path = self.inner.layer_path(id).join(part::BELOW);
        // The record has a checksum and never changes, so that it says the truth or nothing.
        let record = form::<BelowRecord>(BELOW, &path)?;
        Ok(record.map_or_else(Vec::new, |(record, _)| record.layers))
    }

    /// A directory in which a layer's files are written before they are committed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn layer_draft(&self) -> Result<LayerDraft, StoreError> {
        let path = self.inner.lease()?.scratch();
        self.inner.disk.create_directory(&path)?;
        Ok(LayerDraft {
            store: self.clone(),
            path,
        })
    }

    /// Gives a layer its packed form, which was written to a draft. A form that it got meanwhile
    /// wins.
    ///
    /// # Errors
    /// When the layer is gone, or the files cannot be put in place.
    pub fn attach_packed(
        &self,
        id: LayerId,
        draft: LayerDraft,
        tar: TarIdentity,
    ) -> Result<Layer, StoreError> {
        draft.record_packed(tar)?;
        self.attach(id, &draft, &[part::TAR, part::INDEX, part::PACKED])
    }

    /// Gives a layer its directory form, which was written to a draft. A form that it got
    /// meanwhile wins.
    ///
    /// # Errors
    /// When the layer is gone, or the files cannot be put in place.
    pub fn attach_directory(&self, id: LayerId, draft: LayerDraft) -> Result<Layer, StoreError> {
        draft.record_directory()?;
        self.attach(id, &draft, &[part::TREE, part::DIRECTORY])
    }

    fn attach(&self, id: LayerId, draft: &LayerDraft, parts: &[&str]) -> Result<Layer, StoreError> {
        let inner = &*self.inner;
        let record = parts[parts.len() - 1];
        let missing = StoreError::MissingLayer {
            layer: id,
            form: "directory to attach to",
        };
        if self.layer(id)?.is_none() {
            return Err(missing);
        }
        let lease = inner.lease()?;
        let to = inner.layer_path(id);
        let passage = inner.exclusive()?;
        if !to.join(record).exists() {
            for part in parts {
                // Left behind by somebody who was killed before the record was in its place.
                inner.discard(lease, &to.join(part))?;
                inner.disk.rename(&draft.path.join(part), &to.join(part))?;
            }
        }
        drop(passage);
        inner.find_layer(id)?.ok_or(missing)
    }

    /// Drops the directory form of a layer that has the packed form too. Mounts of it that are
    /// alive keep working only in processes that hold the directory open, so this is for layers
    /// that nobody has pinned but this process.
    ///
    /// # Errors
    /// When it cannot be moved away.
    pub fn drop_directory(&self, id: LayerId) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let lease = inner.lease()?;
        let path = inner.layer_path(id);
        let passage = inner.exclusive()?;
        let trash = match path.join(part::PACKED).exists() {
            true => inner.discard_form(lease, &path, part::DIRECTORY, &[part::TREE, part::SIZE])?,
            false => Vec::new(),
        };
        drop(passage);
        trash
            .iter()
            .try_for_each(|path| inner.disk.remove_tree(path))
    }
}

impl Inner {
    pub(crate) fn layer_path(&self, id: LayerId) -> PathBuf {
        self.path("layers").join(id.to_string())
    }

    pub(crate) fn has_layer(&self, id: LayerId) -> bool {
        self.layer_path(id).symlink_metadata().is_ok()
    }

    /// Whether a layer is there in some form, whose use is noted.
    pub(crate) fn visit_layer(&self, id: LayerId) -> bool {
        match File::open(self.layer_path(id)) {
            Ok(directory) => {
                touch(&directory);
                true
            }
            Err(_) => false,
        }
    }

    /// Reads a layer. A form that cannot be trusted is verified or dropped, and a layer without a
    /// form is dropped altogether. The caller does not hold the gate.
    pub(crate) fn find_layer(&self, id: LayerId) -> Result<Option<Layer>, StoreError> {
        let path = self.layer_path(id);
        if !self.has_layer(id) {
            return Ok(None);
        }
        let mut layer = Layer {
            id,
            packed: None,
            directory: None,
        };
        if let Some((record, stamp)) = form::<PackedRecord>(PACKED, &path.join(part::PACKED))? {
            let packed = record.locate(&path);
            if self.trusts(&stamp) && packed.is_complete() {
                layer.packed = Some(packed);
            } else if packed.stored_len == packed.tar_len && record.verify(&packed)? {
                // What lies behind the tar has no digest: after a crash it may be anything.
                self.restamp(PACKED, &path.join(part::PACKED), &record)?;
                layer.packed = Some(packed);
            }
        }
        if let Some((_, stamp)) = form::<DirectoryRecord>(DIRECTORY, &path.join(part::DIRECTORY))?
            && self.trusts(&stamp)
        {
            layer.directory = Some(path.join(part::TREE));
        }
        let doubtful = (layer.packed.is_none() && path.join(part::PACKED).exists())
            || (layer.directory.is_none() && path.join(part::DIRECTORY).exists());
        if doubtful || (layer.packed.is_none() && layer.directory.is_none()) {
            self.drop_doubtful_forms(&path)?;
        }
        let some = layer.packed.is_some() || layer.directory.is_some();
        Ok(some.then_some(layer))
    }

    /// Looks again where nobody else can change anything, and drops what is still doubtful.
    fn drop_doubtful_forms(&self, path: &Path) -> Result<(), StoreError> {
        let lease = self.lease()?;
        let passage = self.exclusive()?;
        let trusted = |form: Option<Stamp>| form.is_some_and(|stamp| self.trusts(&stamp));
        let packed = form::<PackedRecord>(PACKED, &path.join(part::PACKED))?;
        let complete = packed
            .as_ref()
            .is_some_and(|(r, _)| r.locate(path).is_complete());
        let packed = complete && trusted(packed.map(|(_, stamp)| stamp));
        let directory = form::<DirectoryRecord>(DIRECTORY, &path.join(part::DIRECTORY))?;
        let directory = trusted(directory.map(|(_, stamp)| stamp));
        let mut trash = Vec::new();
        match (packed, directory) {
            (false, false) => trash.extend(self.discard(lease, path)?),
            (false, true) => {
                let parts = [part::TAR, part::INDEX];
                trash = self.discard_form(lease, path, part::PACKED, &parts)?;
            }
            (true, false) => {
                let parts = [part::TREE, part::SIZE];
                trash = self.discard_form(lease, path, part::DIRECTORY, &parts)?;
            }
            (true, true) => {}
        }
        drop(passage);
        trash
            .iter()
            .try_for_each(|path| self.disk.remove_tree(path))
    }

    /// Record first, then the data.
    fn discard_form(
        &self,
        lease: &crate::lease::Lease,
        path: &Path,
        record: &str,
        parts: &[&str],
    ) -> Result<Vec<PathBuf>, StoreError> {
        let mut trash = Vec::new();
        for part in std::iter::once(&record).chain(parts) {
            trash.extend(self.discard(lease, &path.join(part))?);
        }
        Ok(trash)
    }

    fn restamp(&self, kind: Kind, path: &Path, payload: &impl Serialize) -> Result<(), StoreError> {
        let new = self.lease()?.scratch();
        let passage = self.shared()?;
        let bytes = record::encode(kind, &self.stamp(&passage)?, payload);
        self.disk.write_new(&new, &bytes)?;
        self.disk.rename(&new, path)
    }
}

impl PackedRecord {
    fn locate(&self, path: &Path) -> Packed {
        Packed {
            tar: path.join(part::TAR),
            index: path.join(part::INDEX),
            diff_id: self.diff_id,
            tar_len: self.tar_len,
            stored_len: self.stored_len,
            index_len: self.index_len,
        }
    }

    fn verify(&self, packed: &Packed) -> Result<bool, StoreError> {
        if !packed.is_complete() {
            return Ok(false);
        }
        let mut tar = Hasher::like(&self.diff_id.digest());
        hash_start(&packed.tar, self.tar_len, &mut tar)?;
        let mut index = Hasher::like(&self.index_digest);
        hash_file(&packed.index, &mut index)?;
        Ok(tar.finish() == self.diff_id.digest() && index.finish() == self.index_digest)
    }
}

impl Packed {
    fn is_complete(&self) -> bool {
        let has = |path: &Path, len| path.metadata().is_ok_and(|metadata| metadata.len() == len);
        has(&self.tar, self.stored_len) && has(&self.index, self.index_len)
    }

    /// Whether tar and index still hash to what they should; also when the record is gone.
    pub(crate) fn verify(&self) -> Result<bool, StoreError> {
        let record = self.tar.with_file_name(part::PACKED);
        match form::<PackedRecord>(PACKED, &record)? {
            Some((record, _)) => record.verify(self),
            None => Ok(true),
        }
    }
}

fn form<T: DeserializeOwned>(kind: Kind, path: &Path) -> Result<Option<(T, Stamp)>, StoreError> {
    Ok(read(path)?.and_then(|(_, bytes)| record::decode(kind, &bytes)))
}

/// A private directory in which a layer's files are written. Dropped, it is discarded.
#[derive(Debug)]
pub struct LayerDraft {
    pub(crate) store: Store,
    pub(crate) path: PathBuf,
}

impl LayerDraft {
    /// Where the tar belongs.
    pub fn tar(&self) -> PathBuf {
        self.path.join(part::TAR)
    }

    /// Where the index belongs.
    pub fn index(&self) -> PathBuf {
        self.path.join(part::INDEX)
    }

    /// Makes the root of the directory form, of mode 0755.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn directory(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.join(part::TREE);
        self.store.inner.disk.create_directory_with(&path, 0o755)?;
        Ok(path)
    }

    /// Says which layers it was made on, the lowest first.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn stands_on(&self, layers: &[LayerId]) -> Result<(), StoreError> {
        let layers = layers.to_vec();
        self.record(BELOW, part::BELOW, &BelowRecord { layers })
    }

    /// Makes the tar and the index a new layer of its own.
    ///
    /// # Errors
    /// When it cannot be put in place.
    pub fn commit_packed(self, tar: TarIdentity) -> Result<LayerId, StoreError> {
        let id = self.store.inner.lease()?.layer_id();
        self.record_packed(tar)?;
        self.commit(id)
    }

    /// Makes the tar and the index the layer of that digest, which all images share.
    ///
    /// # Errors
    /// When it cannot be put in place.
    pub fn commit_shared(self, tar: TarIdentity) -> Result<LayerId, StoreError> {
        let id = LayerId::shared(tar.diff_id);
        if let Some(layer) = self.store.layer(id)? {
            if layer.packed.is_none() {
                let store = self.store.clone();
                store.attach_packed(id, self, tar)?;
            }
            return Ok(id);
        }
        self.record_packed(tar)?;
        self.commit(id)
    }

    /// Makes the directory a new layer.
    ///
    /// # Errors
    /// When it cannot be put in place.
    pub fn commit_directory(self) -> Result<LayerId, StoreError> {
        let id = self.store.inner.lease()?.layer_id();
        self.record_directory()?;
        self.commit(id)
    }

    fn record_packed(&self, tar: TarIdentity) -> Result<(), StoreError> {
        let len = |path: &Path| path.metadata().map(|m| m.len()).attempt("look at", path);
        let mut index = Hasher::sha256();
        let index_len = hash_file(&self.index(), &mut index)?;
        let index_digest = index.finish();
        let stored_len = len(&self.tar())?;
        let record = PackedRecord {
            diff_id: tar.diff_id,
            tar_len: tar.len,
            stored_len,
            index_len,
            index_digest,
        };
        self.record(PACKED, part::PACKED, &record)
    }

    fn record_directory(&self) -> Result<(), StoreError> {
        self.record(DIRECTORY, part::DIRECTORY, &DirectoryRecord {})
    }

    /// The stamp may be of a generation that ends before the draft is in its place: it is told
    /// when the data are complete, and nothing names the layer before.
    fn record(&self, kind: Kind, name: &str, payload: &impl Serialize) -> Result<(), StoreError> {
        let inner = &*self.store.inner;
        let passage = inner.shared()?;
        let bytes = record::encode(kind, &inner.stamp(&passage)?, payload);
        inner.disk.write_new(&self.path.join(name), &bytes)?;
        Ok(())
    }

    fn commit(self, id: LayerId) -> Result<LayerId, StoreError> {
        let inner = &*self.store.inner;
        inner.pinned(&[Pin::Layer(id)], |_| Ok(()))?;
        match inner.disk.rename(&self.path, &inner.layer_path(id)) {
            // Somebody else made the same layer meanwhile.
            Err(_) if inner.has_layer(id) => Ok(id),
            other => other.map(|()| id),
        }
    }
}

impl Drop for LayerDraft {
    fn drop(&mut self) {
        // After a commit there is nothing; what cannot be removed now goes with the lease.
        _ = self.store.inner.disk.remove_tree(&self.path);
    }
}
