//! The cache tables: results by key, checksums by link, the latest inputs of every step.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lease::Pin;
use crate::record::Kind;
use crate::store::{Inner, Store, Table};
use crate::{LayerId, StoreError};

/// 32 bytes that something is found under: a cache key, a link, the identity of a step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Takes the bytes of a key that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn parse(text: &str) -> Option<Key> {
        match format!("sha256:{text}").parse() {
            Ok(oci::Digest::Sha256(bytes)) => Some(Key(bytes)),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    /// 64 lowercase hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The chain of layers, the lowest first.
    pub layers: Vec<LayerId>,
    /// What the key is made of: names and values for people.
    pub inputs: Vec<(String, String)>,
    /// What the step was, for people.
    pub description: String,
    /// When it was made, in seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
}

/// What a step was made of when it was last looked at, so that a miss can be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its key.
    pub key: String,
    /// What the key is made of.
    pub inputs: Vec<(String, String)>,
}

/// One difference between the inputs of two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputChange {
    /// Name of the input.
    pub name: String,
    /// Its value then; `None` when it is new.
    pub before: Option<String>,
    /// Its value now; `None` when it is gone.
    pub after: Option<String>,
}

pub(crate) const RESULTS: Table = Table {
    kind: Kind {
        name: "result",
        version: 1,
    },
    folder: "cache/results",
};
const LINKS: Table = Table {
    kind: Kind {
        name: "link",
        version: 1,
    },
    folder: "cache/links",
};
const STEPS: Table = Table {
    kind: Kind {
        name: "step",
        version: 1,
    },
    folder: "cache/steps",
};

impl Store {
    /// The result under a key. Every layer of it is there and stays while the store is open, or
    /// has an origin that it can be fetched from.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn result(&self, key: &Key) -> Result<Option<ResultRecord>, StoreError> {
        let (inner, name) = (&*self.inner, key.to_string());
        let Some((record, stamp)) = inner.get::<ResultRecord>(RESULTS, &name)? else {
            return Ok(None);
        };
        let pins: Vec<Pin> = record.layers.iter().copied().map(Pin::Layer).collect();
        let mut there = inner.pinned(&pins, |inner| inner.has_layers(&record.layers))?;
        if there && !inner.trusts(&stamp) {
            there = inner.verify_layers(&record.layers)?;
            if there {
                inner.put(RESULTS, &name, &record)?;
            }
        }
        if !there {
            inner.remove(RESULTS, &name)?;
        }
        Ok(there.then_some(record))
    }

    /// Remembers a result, in place of any earlier one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_result(&self, key: &Key, record: &ResultRecord) -> Result<(), StoreError> {
        self.inner.put(RESULTS, &key.to_string(), record)
    }

    /// The checksum under a link.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn link(&self, link: &Key) -> Result<Option<Key>, StoreError> {
        let record = self.inner.get::<String>(LINKS, &link.to_string())?;
        Ok(record.and_then(|(sum, _)| Key::parse(&sum)))
    }

    /// Remembers a checksum, in place of any earlier one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_link(&self, link: &Key, sum: &Key) -> Result<(), StoreError> {
        self.inner.put(LINKS, &link.to_string(), &sum.to_string())
    }

    /// What the step of this identity was made of the last time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step(&self, identity: &Key) -> Result<Option<StepRecord>, StoreError> {
        let record = self.inner.get(STEPS, &identity.to_string())?;
        Ok(record.map(|(step, _)| step))
    }

    /// Remembers what a step is made of now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_step(&self, identity: &Key, step: &StepRecord) -> Result<(), StoreError> {
        self.inner.put(STEPS, &identity.to_string(), step)
    }
}

impl StepRecord {
    /// What is different now, in the order of `now`; what is gone comes last.
    pub fn changes(&self, now: &[(String, String)]) -> Vec<InputChange> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        before.extend(
            self.inputs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let mut changes = Vec::new();
        for (name, value) in now {
            let old = before.remove(name.as_str());
            if old != Some(value.as_str()) {
                changes.push(InputChange {
                    name: name.clone(),
                    before: old.map(str::to_owned),
                    after: Some(value.clone()),
                });
            }
        }
        changes.extend(before.into_iter().map(|(name, value)| InputChange {
            name: name.to_owned(),
            before: Some(value.to_owned()),
            after: None,
        }));
        changes
    }
}

impl Inner {
    fn has_layers(&self, layers: &[LayerId]) -> Result<bool, StoreError> {
        for &id in layers {
            if !self.visit_layer(id) && self.find_origin(id)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All results, without noting a use; damaged ones are left out.
    pub(crate) fn results(&self) -> Result<Vec<(String, ResultRecord)>, StoreError> {
        let mut results = Vec::new();
        for key in self.keys(RESULTS)? {
            if let Some(record) = self.peek(RESULTS, &key)? {
                results.push((key, record));
            }
        }
        Ok(results)
    }

    pub(crate) fn remove_result(&self, key: &str) -> Result<(), StoreError> {
        self.remove(RESULTS, key)
    }
}
