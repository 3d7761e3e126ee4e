//! A layer's tar becomes a blob: once, whoever asks first, and of its blocks only those that no
//! blob in the store has.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

use layer::compress::Compression;
use oci::{Descriptor, DiffId, MediaType};
use store::{Packed, Store};

use crate::blocks::Blocks;
use crate::cancel::Cancel;
use crate::error::StepError;
use crate::lock::lock;
use crate::turns::Turns;

/// Compresses layers of one store.
pub(crate) struct Compressor<'e> {
    store: &'e Store,
    cancel: Cancel,
    blocks: Blocks<'e>,
    busy: Turns<(DiffId, Compression)>,
    /// Tars that this process wrote, and hashed as it did. Others are hashed again, so that damage
    /// on the disk never becomes a blob.
    trusted: Mutex<HashSet<DiffId>>,
}

impl<'e> Compressor<'e> {
    pub(crate) fn new(store: &'e Store, cancel: Cancel) -> Compressor<'e> {
        Compressor {
            store,
            cancel,
            blocks: Blocks::new(store),
            busy: Turns::default(),
            trusted: Mutex::default(),
        }
    }

    /// Says that this process just wrote a tar that hashes to this.
    pub(crate) fn trust(&self, diff_id: DiffId) {
        self.trusted().insert(diff_id);
    }

    fn trusted(&self) -> std::sync::MutexGuard<'_, HashSet<DiffId>> {
        lock(&self.trusted)
    }

    /// The blob of a layer, compressed now if it never was or is gone.
    ///
    /// # Errors
    /// When the tar cannot be read or is damaged, the blob cannot be written, or the build was
    /// cancelled.
    pub(crate) fn compressed(
        &self,
        packed: &Packed,
        compression: Compression,
    ) -> Result<Descriptor, StepError> {
        let _turn = self.busy.take((packed.diff_id, compression));
        let failed = || format!("compress layer {}", packed.diff_id);
        let name = compression.identity();
        let known = self
            .store
            .compressed(packed.diff_id, &name)
            .map_err(StepError::failed(failed()))?;
        if let Some(descriptor) = known
            && self
                .store
                .blob(&descriptor.digest)
                .map_err(StepError::failed(failed()))?
                .is_some()
        {
            return Ok(descriptor);
        }
        let tar = File::open(&packed.tar).map_err(StepError::failed(failed()))?;
        let mut writer = self
            .store
            .blob_writer(None)
            .map_err(StepError::failed(failed()))?;
        let expected = (!self.trusted().contains(&packed.diff_id)).then_some(packed.diff_id);
        let draft = self.blocks.draft();
        let compressed = layer::compress::compress(
            &tar,
            packed.tar_len,
            expected,
            compression,
            Some(&draft),
            &mut UntilCancelled(&mut writer, &self.cancel),
        );
        if self.cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        compressed.map_err(StepError::failed(failed()))?;
        let blob = writer.commit().map_err(StepError::failed(failed()))?;
        let descriptor = Descriptor::new(media_type(compression), blob.digest, blob.len);
        self.store
            .save_compressed(packed.diff_id, &name, &descriptor)
            .map_err(StepError::failed(failed()))?;
        draft.keep(blob.digest);
        Ok(descriptor)
    }
}

/// Takes bytes until nobody wants them any more.
struct UntilCancelled<'w, W>(&'w mut W, &'w Cancel);

impl<W: Write> Write for UntilCancelled<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.1.is_cancelled() {
            return Err(std::io::Error::other("the build was cancelled"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn media_type(compression: Compression) -> MediaType {
    MediaType::OciLayer(match compression {
        Compression::None => oci::Compression::None,
        Compression::Gzip { .. } => oci::Compression::Gzip,
        Compression::Zstd { .. } => oci::Compression::Zstd,
    })
}
