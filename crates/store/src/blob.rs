//! Blobs: bytes by digest. Documents (manifests, configs) are small blobs.
//!
//! A blob is there when its record is: the record is written after the bytes are complete and
//! hashed, and says how many they are.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use oci::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::error::{Attempt, StoreError, WrongDigest};
use crate::lease::Pin;
use crate::record::Kind;
use crate::store::{Inner, Store, Table};

/// Bytes in the store, verified when they came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What they hash to.
    pub digest: Digest,
    /// The file that holds them. Not to be written to.
    pub path: PathBuf,
    /// How many there are.
    pub len: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct BlobRecord {
    len: u64,
}

pub(crate) const BLOBS: Table = Table {
    kind: Kind {
        name: "blob",
        version: 1,
    },
    folder: "blobs",
};

impl Store {
    /// The blob with this digest, if it is there. It stays while the store is open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        self.inner
            .pinned(&[Pin::Blob(*digest)], |inner| inner.find_blob(digest))
    }

    /// Begins to take bytes in. Dropping the writer discards them.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn blob_writer(&self, expected: Option<&Digest>) -> Result<BlobWriter, StoreError> {
        let path = self.inner.lease()?.scratch();
        Ok(BlobWriter {
            file: self.inner.disk.create(&path)?,
            store: self.clone(),
            path,
            hasher: expected.map_or_else(Hasher::sha256, Hasher::like),
            expected: expected.copied(),
            len: 0,
        })
    }

    /// Takes in bytes that are in memory.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Blob, StoreError> {
        if let Some(blob) = self.blob(&Digest::sha256(bytes))? {
            return Ok(blob);
        }
        let mut writer = self.blob_writer(None)?;
        writer.write_all(bytes).attempt("write", &writer.path)?;
        writer.commit()
    }

    /// The bytes of a small blob, verified again. One that has gone bad is dropped.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(blob) = self.blob(digest)? else {
            return Ok(None);
        };
        let bytes = std::fs::read(&blob.path).attempt("read", &blob.path)?;
        if !digest.matches(&bytes) {
            self.inner.remove_blob(digest)?;
            return Ok(None);
        }
        Ok(Some(bytes))
    }
}

impl Inner {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.record_path(BLOBS, &blob_key(digest)).into_os_string();
        path.push(".data");
        path.into()
    }

    pub(crate) fn find_blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let key = blob_key(digest);
        let Some((record, stamp)) = self.get::<BlobRecord>(BLOBS, &key)? else {
            return Ok(None);
        };
        let path = self.blob_path(digest);
        let complete = path
            .metadata()
            .is_ok_and(|metadata| metadata.len() == record.len);
        let (digest, len) = (*digest, record.len);
        let blob = Blob { digest, path, len };
        if complete && (self.trusts(&stamp) || blob.verify()?) {
            if !self.trusts(&stamp) {
                self.put(BLOBS, &key, &record)?;
            }
            return Ok(Some(blob));
        }
        self.remove_blob(&digest)?;
        Ok(None)
    }

    /// Removes bytes without a record, unless somebody is about to write it: whoever brought them
    /// was killed. Returns what they should have hashed to.
    pub(crate) fn drop_stray_bytes(&self, key: &str) -> Result<Option<Digest>, StoreError> {
        let record = self.record_path(BLOBS, key);
        let Some(digest) = blob_digest(key).filter(|_| !record.exists()) else {
            return Ok(None);
        };
        let _passage = self.exclusive()?;
        if record.exists() || self.live_pins()?.contains(&Pin::Blob(digest)) {
            return Ok(None);
        }
        let path = self.blob_path(&digest);
        let were_there = path.exists();
        self.disk.remove_file(&path)?;
        Ok(were_there.then_some(digest))
    }

    /// Record first, so that nobody believes in bytes that are gone.
    pub(crate) fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.remove(BLOBS, &blob_key(digest))?;
        self.disk.remove_file(&self.blob_path(digest))
    }
}

impl Blob {
    /// Whether the bytes still hash to the digest.
    pub(crate) fn verify(&self) -> Result<bool, StoreError> {
        let mut hasher = Hasher::like(&self.digest);
        hash_file(&self.path, &mut hasher)?;
        Ok(hasher.finish() == self.digest)
    }
}

/// Takes bytes in, and hashes them on the way.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    expected: Option<Digest>,
    len: u64,
}

impl BlobWriter {
    /// How many bytes were taken so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte was taken so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts the bytes into the store.
    ///
    /// # Errors
    /// When they are not what was expected, or cannot be put in place.
    pub fn commit(mut self) -> Result<Blob, StoreError> {
        let found = std::mem::replace(&mut self.hasher, Hasher::sha256()).finish();
        let (expected, len) = (self.expected.unwrap_or(found), self.len);
        if expected != found {
            let wrong = WrongDigest {
                expected,
                found,
                len,
            };
            return Err(StoreError::WrongDigest(Box::new(wrong)));
        }
        let inner = &*self.store.inner;
        let present = inner.pinned(&[Pin::Blob(found)], |inner| inner.find_blob(&found))?;
        if let Some(blob) = present {
            return Ok(blob);
        }
        let path = inner.blob_path(&found);
        inner.disk.rename(&self.path, &path)?;
        inner.put(BLOBS, &blob_key(&found), &BlobRecord { len })?;
        Ok(Blob {
            digest: found,
            path,
            len,
        })
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.store.inner.disk.write(&self.file, &self.path, bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After a commit there is nothing; what cannot be removed now goes with the lease.
        _ = self.store.inner.disk.remove_file(&self.path);
    }
}

fn blob_key(digest: &Digest) -> String {
    match digest {
        Digest::Sha256(_) => digest.hex(),
        Digest::Sha512(_) => format!("{}.{}", digest.hex(), digest.algorithm()),
    }
}

/// The digest of the blob whose record has this key.
pub(crate) fn blob_digest(key: &str) -> Option<Digest> {
    let text = match key.strip_suffix(".sha512") {
        Some(hex) => format!("sha512:{hex}"),
        None => format!("sha256:{key}"),
    };
    text.parse().ok()
}

/// Feeds a whole file to a hasher, and tells its length.
pub(crate) fn hash_file(path: &std::path::Path, hasher: &mut Hasher) -> Result<u64, StoreError> {
    hash_start(path, u64::MAX, hasher)
}

/// Feeds the first bytes of a file to a hasher, and tells how many there were.
pub(crate) fn hash_start(
    path: &std::path::Path,
    most: u64,
    hasher: &mut Hasher,
) -> Result<u64, StoreError> {
    let mut file = File::open(path).attempt("open", path)?.take(most);
    let mut buffer = vec![0; 256 * 1024];
    let mut len = 0;
    loop {
        let read = file.read(&mut buffer).attempt("read", path)?;
        if read == 0 {
            return Ok(len);
        }
        hasher.update(&buffer[..read]);
        len += read as u64;
    }
}
