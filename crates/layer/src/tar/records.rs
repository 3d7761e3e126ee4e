//! What the extended headers of an archive say, as values.

use super::pax;
use super::sparse::{self, Segment};
use crate::model::{Time, Xattrs};

/// The records of one extended header that mean something to a layer. Others are passed over.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: Sparse,
}

/// The `GNU.sparse.*` records.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    version: (Option<u64>, Option<u64>),
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// The map of the forms 0.0 and 0.1.
    pub(super) map: Option<Vec<Segment>>,
    /// Offset of the form 0.0 that waits for its length.
    pending: Option<u64>,
    blocks: Option<u64>,
}

impl Sparse {
    /// Whether the entry is a sparse file.
    pub(super) fn is_some(&self) -> bool {
        self.is_version_1() || self.map.is_some()
    }

    /// Whether the map stands at the beginning of the data.
    pub(super) fn is_version_1(&self) -> bool {
        self.version == (Some(1), Some(0))
    }

    /// One record, whose key begins with `GNU.sparse.`.
    fn set(&mut self, key: &[u8], value: &[u8], most: usize) -> Option<()> {
        match key {
            b"major" => self.version.0 = Some(pax::decimal(value)?),
            b"minor" => self.version.1 = Some(pax::decimal(value)?),
            b"name" if value.contains(&0) => return None,
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => {
                let size = pax::decimal(value)?;
                if self.size.is_some_and(|other| other != size) {
                    return None;
                }
                self.size = Some(size);
            }
            b"numblocks" => {
                self.blocks = Some(pax::decimal(value)?);
                self.map.get_or_insert_default();
            }
            b"map" => self.map = Some(sparse::comma_separated(value)?),
            b"offset" => {
                let offset = pax::decimal(value)?;
                if self.pending.replace(offset).is_some() {
                    return None;
                }
            }
            b"numbytes" => {
                let offset = self.pending.take()?;
                let len = pax::decimal(value)?;
                let map = self.map.get_or_insert_default();
                if map.len() >= most {
                    return None;
                }
                map.push(Segment { offset, len });
            }
            _ => {}
        }
        Some(())
    }

    /// Whether the records agree with each other.
    fn is_whole(&self) -> bool {
        let version = match self.version {
            (None, None) => true,
            (Some(0), Some(0 | 1)) => self.map.is_some(),
            (Some(1), Some(0)) => self.map.is_none(),
            _ => false,
        };
        let count = match (self.blocks, &self.map) {
            (Some(blocks), Some(map)) => blocks == map.len() as u64,
            (Some(_), None) => self.is_version_1(),
            (None, _) => true,
        };
        version && count && self.pending.is_none()
    }
}

impl Records {
    /// Reads the data of an extended header; `None` when a record is malformed.
    pub(super) fn parse(data: &[u8], most_segments: usize) -> Option<Records> {
        let mut records = Records::default();
        let mut rest = data;
        while !rest.is_empty() {
            let (key, value, after) = pax::split(rest)?;
            records.set(key, value, most_segments)?;
            rest = after;
        }
        records.sparse.is_whole().then_some(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8], most_segments: usize) -> Option<()> {
        if let Some(name) = key.strip_prefix(pax::XATTR) {
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Some(());
        }
        // An empty value takes a record back: the header's own field counts again.
        let id = |value: &[u8]| match value {
            b"" => Some(None),
            value => Some(Some(u32::try_from(pax::decimal(value)?).ok()?)),
        };
        let path = |value: &[u8]| match value {
            b"" => Some(None),
            value => (!value.contains(&0)).then(|| Some(value.to_vec())),
        };
        match key {
            b"path" => self.path = path(value)?,
            b"linkpath" => self.link_path = path(value)?,
            b"uid" => self.uid = id(value)?,
            b"gid" => self.gid = id(value)?,
            b"size" if value.is_empty() => self.size = None,
            b"size" => self.size = Some(pax::decimal(value)?),
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(pax::parse_time(value)?),
            key => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(key, value, most_segments)?;
                }
            }
        }
        Some(())
    }

    /// Whether they name or measure a file, which a global header has no business to.
    pub(super) fn is_about_one_entry(&self) -> bool {
        self.path.is_some()
            || self.link_path.is_some()
            || self.size.is_some()
            || self.sparse.is_some()
            || self.sparse.name.is_some()
            || self.sparse.size.is_some()
    }

    /// Takes over what a later global header says.
    pub(super) fn replace(&mut self, later: Records) {
        *self = later.over(self);
    }

    /// These records, and those of `global` where these say nothing.
    pub(super) fn over(mut self, global: &Records) -> Records {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime = self.mtime.or(global.mtime);
        for (name, value) in &global.xattrs {
            let own = self.xattrs.entry(name.clone());
            own.or_insert_with(|| value.clone());
        }
        self
    }
}
