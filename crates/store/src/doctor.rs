//! Verifying everything, and mending by dropping what is wrong.

use std::fs;
use std::path::Path;

use crate::LayerId;
use crate::blob::{BLOBS, blob_digest};
use crate::cache::RESULTS;
use crate::error::StoreError;
use crate::image::{IMAGES, TAGS, TagRecord};
use crate::layers::part;
use crate::lease::names;
use crate::store::{Inner, Store, read};

/// What was verified, and what was wrong.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// How many layers were verified.
    pub layers: usize,
    /// How many blobs were verified.
    pub blobs: usize,
    /// How many records were read.
    pub records: usize,
    /// What was wrong. It was dropped, so that the store is right now.
    pub findings: Vec<Finding>,
}

/// Something that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it was: "layer step-…", "blob sha256:…", …
    pub what: String,
    /// What was wrong with it.
    pub why: &'static str,
}

impl Health {
    fn find(&mut self, what: impl Into<String>, why: &'static str) {
        let what = what.into();
        self.findings.push(Finding { what, why });
    }
}

impl Store {
    /// Reads everything, compares every digest, and drops what is wrong. Runs beside builds.
    ///
    /// What has no digest is believed: the files of a layer that is only a directory, and those of
    /// cache mounts. `stat_index_is_whole` says whether a file is an index of file stamps, whose
    /// form is not the store's.
    ///
    /// # Errors
    /// When something cannot be read for another reason than being wrong, or not be dropped.
    pub fn doctor(
        &self,
        stat_index_is_whole: &dyn Fn(&Path) -> bool,
    ) -> Result<Health, StoreError> {
        let inner = &*self.inner;
        let mut health = Health::default();
        // Dead leases first: that alone may make the room which a lease of our own needs.
        let passage = inner.exclusive()?;
        inner.live_pins()?;
        drop(passage);
        inner.lease()?;
        // First what stands for itself: looking things up drops what is damaged, unsaid.
        for folder in [
            "cache/links",
            "cache/steps",
            "origins",
            "compressed",
            "notes",
        ] {
            inner.check_small(folder, &mut health)?;
        }
        inner.check_blobs(&mut health)?;
        inner.check_layers(&mut health)?;
        inner.check_results(&mut health)?;
        self.check_images(&mut health)?;
        inner.check_mounts(&mut health)?;
        let stats = inner.path("stats");
        for name in names(&stats)? {
            let path = stats.join(&name);
            // Another build may be about to put a new one in its place.
            if path.extension().is_some() {
                continue;
            }
            health.records += 1;
            if !stat_index_is_whole(&path) {
                inner.disk.remove_file(&path)?;
                health.find(format!("stats/{name}"), "this index of stamps is damaged");
            }
        }
        Ok(health)
    }

    fn check_images(&self, health: &mut Health) -> Result<(), StoreError> {
        let inner = &*self.inner;
        for key in inner.keys(IMAGES)? {
            health.records += 1;
            let whole = match inner.peek(IMAGES, &key)? {
                Some(image) => self.is_whole(&image)?,
                None => false,
            };
            if !whole {
                inner.remove(IMAGES, &key)?;
                health.find(format!("image {key}"), "something that it needs is gone");
            }
        }
        for key in inner.keys(TAGS)? {
            health.records += 1;
            if inner.peek::<TagRecord>(TAGS, &key)?.is_none() {
                inner.remove(TAGS, &key)?;
                health.find(format!("tag {key}"), "its record is damaged");
            }
        }
        for tag in inner.tags()? {
            if !inner.record_path(IMAGES, &tag.id.hex()).exists() {
                self.untag(&tag.reference)?;
                health.find(format!("tag {}", tag.reference), "its image is gone");
            }
        }
        Ok(())
    }
}

impl Inner {
    fn check_blobs(&self, health: &mut Health) -> Result<(), StoreError> {
        for key in self.keys(BLOBS)? {
            if let Some(stem) = key.strip_suffix(".data") {
                if let Some(digest) = self.drop_stray_bytes(stem)? {
                    health.find(
                        format!("bytes of blob {digest}"),
                        "there is no record of them",
                    );
                }
                continue;
            }
            health.blobs += 1;
            let Some(digest) = blob_digest(&key) else {
                self.remove(BLOBS, &key)?;
                health.find(format!("blobs/{key}"), "it is no digest");
                continue;
            };
            let good = match self.find_blob(&digest)? {
                Some(blob) => blob.verify()?,
                None => false,
            };
            if !good {
                self.remove_blob(&digest)?;
                health.find(
                    format!("blob {digest}"),
                    "its bytes do not hash to its digest",
                );
            }
        }
        Ok(())
    }

    fn check_layers(&self, health: &mut Health) -> Result<(), StoreError> {
        for id in self.layer_ids()? {
            health.layers += 1;
            let what = || format!("layer {id}");
            let path = self.layer_path(id);
            for record in [part::PACKED, part::DIRECTORY, part::BELOW] {
                let bytes = read(&path.join(record))?.map(|(_, bytes)| bytes);
                if bytes.is_some_and(|bytes| !crate::record::is_sound(&bytes)) {
                    health.find(what(), "a record of it is damaged");
                }
            }
            let Some(layer) = self.find_layer(id)? else {
                health.find(what(), "it has no form that can be trusted");
                continue;
            };
            if let Some(packed) = &layer.packed
                && !packed.verify()?
            {
                health.find(what(), "its tar or index changed");
                self.disk.remove_file(&path.join(part::PACKED))?;
            }
            if layer.directory.is_some_and(|directory| !directory.is_dir()) {
                health.find(what(), "its directory is gone");
                self.disk.remove_file(&path.join(part::DIRECTORY))?;
            }
            self.find_layer(id)?;
        }
        Ok(())
    }

    fn check_results(&self, health: &mut Health) -> Result<(), StoreError> {
        for key in self.keys(RESULTS)? {
            health.records += 1;
            let record = self.peek::<crate::ResultRecord>(RESULTS, &key)?;
            let good = match record {
                Some(record) => self.verify_layers(&record.layers)?,
                None => false,
            };
            if !good {
                self.remove(RESULTS, &key)?;
                health.find(
                    format!("result {key}"),
                    "a layer of it is gone, or it is damaged",
                );
            }
        }
        Ok(())
    }

    fn check_mounts(&self, health: &mut Health) -> Result<(), StoreError> {
        let mounts = self.path("mounts");
        for name in names(&mounts)? {
            health.records += 1;
            let folder = mounts.join(&name);
            let recorded = folder.join("versions").exists();
            if self.mount_record(&folder)?.is_none() && recorded {
                health.find(
                    format!("cache mount {name}"),
                    "its record is damaged or cannot be trusted",
                );
            }
            self.mend_mount(&name)?;
        }
        Ok(())
    }

    /// Records that stand for themselves: only their own form can be wrong.
    fn check_small(&self, folder: &str, health: &mut Health) -> Result<(), StoreError> {
        let folder = self.path(folder);
        for name in names(&folder)? {
            let path = folder.join(name);
            let Ok(bytes) = fs::read(&path) else {
                continue;
            };
            health.records += 1;
            if !crate::record::is_sound(&bytes) {
                self.disk.remove_file(&path)?;
                health.find(path.display().to_string(), "its checksum is wrong");
            }
        }
        Ok(())
    }

    /// Whether every layer is there in a form that can be trusted, or can be fetched.
    pub(crate) fn verify_layers(&self, layers: &[LayerId]) -> Result<bool, StoreError> {
        for &id in layers {
            if self.find_layer(id)?.is_none() && self.find_origin(id)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
