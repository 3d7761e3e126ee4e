//! What the cache holds, as a user sees it, and giving some of it up.

use std::time::{SystemTime, UNIX_EPOCH};

use store::{PrunePolicy, Usage, UsageId, UsageKind};

use crate::Engine;
use crate::error::BuildError;

/// Something in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// Its name.
    pub id: String,
    /// Names of the layers that it lies directly on.
    pub parents: Vec<String>,
    /// `layer`, `blob` or `cachemount`.
    pub kind: &'static str,
    /// Bytes on the disk.
    pub size: u64,
    /// When it came into the store, in seconds since 1970.
    pub created: u64,
    /// When it was used last, in seconds since 1970, exact to an hour.
    pub last_used: u64,
    /// A living process uses it.
    pub in_use: bool,
    /// An image needs it.
    pub shared: bool,
    /// Its content changes: it is a cache mount.
    pub mutable: bool,
    /// What it is, for people.
    pub description: String,
}

impl UsageRow {
    /// Whether it may be given up.
    pub fn is_reclaimable(&self) -> bool {
        !self.in_use && !self.shared
    }
}

/// What to give up.
#[derive(Clone, Debug, Default)]
pub struct PruneRequest {
    /// Images without a name too.
    pub all: bool,
    /// Until the store takes no more bytes than this.
    pub max_size: Option<u64>,
    /// Until the disk has this many bytes free.
    pub min_free: Option<u64>,
    /// Never below this many bytes.
    pub reserved: Option<u64>,
}

/// What was given up.
#[derive(Clone, Debug)]
pub struct PruneReport {
    /// Each thing, in the order in which they went.
    pub removed: Vec<UsageRow>,
    /// Bytes.
    pub freed: u64,
}

impl Engine {
    /// What the store holds, largest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Vec<UsageRow>, BuildError> {
        let all = self.store.usage();
        let all = all.map_err(|error| BuildError::store("read the store", error))?;
        let mut rows: Vec<UsageRow> = all.iter().map(row).collect();
        rows.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        Ok(rows)
    }

    /// Gives up cache that no image and no living process needs, and that `may_go`.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub fn prune(
        &self,
        request: &PruneRequest,
        may_go: &dyn Fn(&UsageRow) -> bool,
    ) -> Result<PruneReport, BuildError> {
        let failed = |error| BuildError::store("prune the store", error);
        if request.all {
            for (image, names) in self.store.images().map_err(failed)? {
                if names.is_empty() {
                    self.store.remove_image(&image.id()).map_err(failed)?;
                }
            }
        }
        let policy = PrunePolicy {
            max_size: request.max_size,
            min_free: request.min_free,
            reserved: request.reserved,
            ..PrunePolicy::default()
        };
        let report = self.store.prune(&policy, &|usage| may_go(&row(usage)));
        let report = report.map_err(failed)?;
        Ok(PruneReport {
            removed: report.removed.iter().map(row).collect(),
            freed: report.freed,
        })
    }
}

fn row(usage: &Usage) -> UsageRow {
    UsageRow {
        id: name(&usage.id),
        parents: usage.parents.iter().map(ToString::to_string).collect(),
        kind: match usage.kind() {
            UsageKind::Layer => "layer",
            UsageKind::Blob => "blob",
            UsageKind::CacheMount => "cachemount",
        },
        size: usage.size,
        created: seconds(usage.created),
        last_used: seconds(usage.last_used),
        in_use: usage.in_use,
        shared: usage.in_image,
        mutable: usage.kind() == UsageKind::CacheMount,
        description: usage.description.clone(),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn name(id: &UsageId) -> String {
    match id {
        UsageId::Layer(id) => id.to_string(),
        UsageId::Blob(digest) => digest.to_string(),
        UsageId::CacheMount(name) => name.clone(),
    }
}
