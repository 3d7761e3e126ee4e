//! Compressed blocks, taken out of the blobs that the store has already.
//!
//! A blob that is gone, or has other bytes than it should, only means that a block is compressed
//! again: every block is compared with its checksum, and found by what it was made of.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use layer::compress::{BlockCache, BlockKey, Deflated};
use oci::Digest;
use store::{BlockName, BlockPlace, Store};

use crate::lock::lock;

/// No block that was ever written is longer.
const LONGEST: u32 = 2 << 20;

/// The blocks of all blobs.
pub(crate) struct Blocks<'e> {
    store: &'e Store,
    places: OnceLock<Mutex<HashMap<BlockName, BlockPlace>>>,
    /// Blobs that were looked into, for as long as this lives.
    blobs: Mutex<HashMap<Digest, Option<Arc<File>>>>,
}

/// A blob that is being written with the help of [`Blocks`].
pub(crate) struct Drafted<'b, 'e> {
    blocks: &'b Blocks<'e>,
    /// Its own, so far.
    own: Mutex<Vec<Own>>,
}

/// A block of a blob whose digest is not known yet.
struct Own {
    name: BlockName,
    offset: u64,
    len: u32,
    checksum: u32,
    slots: Box<[u8]>,
}

impl Own {
    fn place(self, blob: Digest) -> (BlockName, BlockPlace) {
        let place = BlockPlace {
            blob,
            offset: self.offset,
            len: self.len,
            checksum: self.checksum,
            slots: self.slots,
        };
        (self.name, place)
    }
}

impl<'e> Blocks<'e> {
    pub(crate) fn new(store: &'e Store) -> Blocks<'e> {
        Blocks {
            store,
            places: OnceLock::new(),
            blobs: Mutex::default(),
        }
    }

    /// For a blob that is about to be written.
    pub(crate) fn draft(&self) -> Drafted<'_, 'e> {
        Drafted {
            blocks: self,
            own: Mutex::default(),
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<BlockName, BlockPlace>> {
        let read = || Mutex::new(self.store.blocks().unwrap_or_default());
        lock(self.places.get_or_init(read))
    }

    fn read(&self, name: &BlockName) -> Option<Deflated> {
        let place = self.places().get(name)?.clone();
        let blob = self.blob(place.blob)?;
        if place.len > LONGEST {
            return None;
        }
        let mut bytes = vec![0; place.len as usize];
        blob.read_exact_at(&mut bytes, place.offset).ok()?;
        let block = Deflated {
            bytes,
            slots: place.slots.into(),
        };
        (checksum(&block) == place.checksum).then_some(block)
    }

    fn blob(&self, digest: Digest) -> Option<Arc<File>> {
        let mut blobs = lock(&self.blobs);
        let open = || {
            let blob = self.store.blob(&digest).ok()??;
            Some(Arc::new(File::open(blob.path).ok()?))
        };
        blobs.entry(digest).or_insert_with(open).clone()
    }
}

impl Drafted<'_, '_> {
    /// Remembers its blocks, now that it is a blob. They are a help: a store that cannot be
    /// written to only forgets them.
    pub(crate) fn keep(self, blob: Digest) {
        let own = self.own.into_inner();
        let own = own.unwrap_or_else(PoisonError::into_inner);
        if own.is_empty() {
            return;
        }
        let own: Vec<_> = own.into_iter().map(|own| own.place(blob)).collect();
        self.blocks.places().extend(own.iter().cloned());
        drop(self.blocks.store.add_blocks(&own));
    }
}

impl BlockCache for Drafted<'_, '_> {
    fn get(&self, key: &BlockKey) -> Option<Deflated> {
        self.blocks.read(key.as_bytes())
    }

    fn put(&self, key: &BlockKey, offset: u64, block: &Deflated) {
        lock(&self.own).push(Own {
            name: *key.as_bytes(),
            offset,
            len: u32::try_from(block.bytes.len()).unwrap_or(u32::MAX),
            checksum: checksum(block),
            slots: block.slots.as_slice().into(),
        });
    }
}

fn checksum(block: &Deflated) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block.bytes);
    hasher.update(&block.slots);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use layer::compress::{Compression, compress};
    use oci::DiffId;

    use super::*;

    /// Bytes that compress by half, and their file.
    fn tar(len: usize) -> (Vec<u8>, File) {
        let mut state = 1_u64;
        let mut bytes = vec![b'.'; len];
        for byte in bytes.iter_mut().step_by(2) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (bytes, file)
    }

    /// Compresses in a store; returns the blob's path, and how many blocks were compressed.
    fn blob(store: &Store, (bytes, file): &(Vec<u8>, File)) -> (std::path::PathBuf, usize) {
        /// Counts what has to be compressed.
        struct Counted<'c, 'b, 'e>(&'c Drafted<'b, 'e>, Mutex<usize>);
        impl BlockCache for Counted<'_, '_, '_> {
            fn get(&self, key: &BlockKey) -> Option<Deflated> {
                let known = self.0.get(key);
                *lock(&self.1) += usize::from(known.is_none());
                known
            }
            fn put(&self, key: &BlockKey, offset: u64, block: &Deflated) {
                self.0.put(key, offset, block);
            }
        }
        let blocks = Blocks::new(store);
        let draft = blocks.draft();
        let mut writer = store.blob_writer(None).unwrap();
        let diff_id = DiffId::new(Digest::sha256(bytes));
        let counted = Counted(&draft, Mutex::new(0));
        compress(
            file,
            bytes.len() as u64,
            Some(diff_id),
            Compression::GZIP,
            Some(&counted),
            &mut writer,
        )
        .unwrap();
        let compressed = counted.1.into_inner().unwrap();
        let blob = writer.commit().unwrap();
        draft.keep(blob.digest);
        (blob.path, compressed)
    }

    /// An archive of small files whose entries have this time.
    fn archive(seconds: i64) -> (Vec<u8>, File) {
        let (mut bytes, no_xattrs) = (Vec::new(), layer::Xattrs::new());
        for (number, content) in tar(2 << 20).0.chunks(5000).enumerate() {
            let path = format!("dir/{number}").into_bytes();
            let header = layer::tar::Header {
                path: &path,
                type_flag: layer::tar::TypeFlag::File,
                link: b"",
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: content.len() as u64,
                mtime: layer::Time { seconds, nanos: 0 },
                device: (0, 0),
                xattrs: &no_xattrs,
            };
            bytes.extend(layer::tar::encode(&header).unwrap());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (bytes, file)
    }

    #[test]
    fn a_block_is_taken_from_where_it_was_written_and_a_damaged_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut content = tar(3 << 20);
        let (path, all) = blob(&store, &content);
        assert!(all > 3, "{all} blocks");
        assert_eq!(blob(&store, &content), (path.clone(), 0));
        content.0[1] ^= 1;
        content.1.write_all_at(&content.0[..2], 0).unwrap();
        let (other, new) = blob(&store, &content);
        assert!(new == 1 && other != path, "{new} of {all}");

        let mut damaged = fs::read(&other).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&other, &damaged).unwrap();
        assert_eq!(blob(&store, &content).1, 1);
        fs::remove_file(&other).unwrap();
        assert_eq!(
            blob(&store, &content).1,
            all,
            "the latest blob had them all"
        );
    }

    #[test]
    fn another_time_is_filled_in_unless_its_places_are_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("one")).unwrap();
        let (path, all) = blob(&store, &archive(950_000_000));
        assert!(all > 2, "{all} blocks");
        let (other, new) = blob(&store, &archive(977_777_777));
        assert_eq!(new, 0);
        let fresh = Store::open(&directory.path().join("two")).unwrap();
        let (compressed, _) = blob(&fresh, &archive(977_777_777));
        assert_eq!(compressed.file_name(), other.file_name());
        assert_ne!(path, other);

        let mut places: Vec<_> = store.blocks().unwrap().into_iter().collect();
        for (_, place) in &mut places {
            let slot = place.slots.last_mut().unwrap();
            *slot ^= 1;
        }
        store.add_blocks(&places).unwrap();
        assert_eq!(blob(&store, &archive(977_777_777)), (other, all));
    }
}
