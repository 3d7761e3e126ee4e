//! Where a layer can be fetched from when it is not there, and what it was compressed to.

use oci::{Descriptor, DiffId};
use serde::{Deserialize, Serialize};

use crate::record::Kind;
use crate::store::{Inner, Store, Table, text_key};
use crate::{LayerId, StoreError};

/// Where a layer's compressed bytes can be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The compressed bytes.
    pub blob: Descriptor,
    /// Repositories that have them, the latest first.
    pub repositories: Vec<String>,
}

const ORIGINS: Table = Table {
    kind: Kind {
        name: "origin",
        version: 1,
    },
    folder: "origins",
};
const COMPRESSED: Table = Table {
    kind: Kind {
        name: "compressed",
        version: 1,
    },
    folder: "compressed",
};

/// How many repositories are remembered for one layer.
const MAX_REPOSITORIES: usize = 8;

impl Store {
    /// Where a layer can be fetched from, if anybody said so.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn origin(&self, id: LayerId) -> Result<Option<Origin>, StoreError> {
        self.inner.find_origin(id)
    }

    /// Remembers that a repository has a layer's bytes. From now on results and images that name
    /// the layer are good although it may not be there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_origin(
        &self,
        id: LayerId,
        blob: &Descriptor,
        repository: &str,
    ) -> Result<(), StoreError> {
        let mut repositories = vec![repository.to_owned()];
        if let Some(known) = self.inner.find_origin(id)? {
            if known.blob == *blob && known.repositories.first() == repositories.first() {
                return Ok(());
            }
            repositories.extend(known.repositories.into_iter().filter(|r| r != repository));
            repositories.truncate(MAX_REPOSITORIES);
        }
        let blob = blob.clone();
        self.inner
            .put(ORIGINS, &origin_key(id), &Origin { blob, repositories })
    }

    /// The blob that a layer's bytes were compressed to, in the way that `how` says: algorithm,
    /// level and version of the writer. The blob itself need not be there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn compressed(&self, layer: DiffId, how: &str) -> Result<Option<Descriptor>, StoreError> {
        let record = self.inner.get(COMPRESSED, &compressed_key(layer, how))?;
        Ok(record.map(|(descriptor, _)| descriptor))
    }

    /// Remembers what a layer's bytes were compressed to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_compressed(
        &self,
        layer: DiffId,
        how: &str,
        blob: &Descriptor,
    ) -> Result<(), StoreError> {
        self.inner
            .put(COMPRESSED, &compressed_key(layer, how), blob)
    }
}

impl Inner {
    pub(crate) fn find_origin(&self, id: LayerId) -> Result<Option<Origin>, StoreError> {
        Ok(self
            .get(ORIGINS, &origin_key(id))?
            .map(|(origin, _)| origin))
    }
}

fn origin_key(id: LayerId) -> String {
    text_key(&id.to_string())
}

fn compressed_key(layer: DiffId, how: &str) -> String {
    text_key(&format!("{layer} {how}"))
}
