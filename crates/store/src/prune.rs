//! Giving things up: what, in which order, and until when.
//!
//! Never what a living lease pins or an image needs. Layers that no result leads to go first,
//! then whatever is large and long unused (size times age), cache mounts last: they cannot be
//! made again by a look at the Dockerfile. A layer that goes takes the results that need it
//! along, unless it can be fetched again, and so its descendants become the next to go.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::blob::BLOBS;
use crate::cache::ResultRecord;
use crate::error::StoreError;
use crate::lease::{Pin, names};
use crate::store::{Inner, Store};
use crate::usage::{Usage, UsageId, UsageKind};
use crate::{Image, LayerId};

/// What to give up. Without a limit, everything that may go does.
#[derive(Clone, Debug, Default)]
pub struct PrunePolicy {
    /// Only these kinds; all without any.
    pub kinds: Vec<UsageKind>,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Stop as soon as the store takes no more bytes than this, those that are being written
    /// included.
    pub max_size: Option<u64>,
    /// Stop as soon as the file system has this many bytes free.
    pub min_free: Option<u64>,
    /// Stop as soon as the store takes no more bytes than this, whatever the other limits ask for.
    pub reserved: Option<u64>,
    /// Only tell what would go.
    pub dry_run: bool,
}

/// What was given up.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// Each of the things, in the order in which they went.
    pub removed: Vec<Usage>,
    /// How many bytes they took.
    pub freed: u64,
    /// How many bytes the store still takes.
    pub remaining: u64,
}

/// How many things are moved away while others wait at the gate.
const BATCH: usize = 32;

/// After which time without use small records are given up.
const SMALL_UNUSED: Duration = Duration::from_secs(60 * 24 * 3600);

/// Folders of small files without meaning for anything else.
const SMALL_FOLDERS: [&str; 8] = [
    crate::blocks::FOLDER,
    "cache/links",
    "cache/steps",
    "origins",
    "compressed",
    "notes",
    "stats",
    "logs",
];

impl Store {
    /// Gives up what the policy says and `may_go` agrees to. Runs beside builds.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub fn prune(
        &self,
        policy: &PrunePolicy,
        may_go: &dyn Fn(&Usage) -> bool,
    ) -> Result<PruneReport, StoreError> {
        let inner = &*self.inner;
        // Dead leases first: that alone may make the room which a lease of our own needs.
        let passage = inner.exclusive()?;
        let held = inner.live_pins()?;
        drop(passage);
        inner.lease_on_full_disk()?;

        let all = inner.usage(&held)?;
        let unfinished = inner.size_of_unfinished()?;
        let mut pruning = Pruning {
            inner,
            policy,
            size: unfinished + all.iter().map(|usage| usage.size).sum::<u64>(),
            free: self.room()?.0,
            results: inner.results()?,
            report: PruneReport::default(),
        };
        let now = SystemTime::now();
        let may = |usage: &Usage| {
            !usage.in_use
                && !usage.in_image
                && (policy.kinds.is_empty() || policy.kinds.contains(&usage.kind()))
                && policy
                    .unused_for
                    .is_none_or(|least| usage.age(now) >= least)
                && may_go(usage)
        };
        let candidates = all.into_iter().filter(may).collect();
        pruning.run(candidates, now)?;
        if !policy.dry_run {
            inner.sweep_small(now)?;
            inner.sweep_strays()?;
        }
        pruning.report.remaining = pruning.size;
        Ok(pruning.report)
    }
}

struct Pruning<'a> {
    inner: &'a Inner,
    policy: &'a PrunePolicy,
    size: u64,
    free: u64,
    results: Vec<(String, ResultRecord)>,
    report: PruneReport,
}

impl Pruning<'_> {
    fn run(&mut self, candidates: Vec<Usage>, now: SystemTime) -> Result<(), StoreError> {
        let mut leads: HashMap<LayerId, usize> = HashMap::new();
        for id in self.results.iter().flat_map(|(_, result)| &result.layers) {
            *leads.entry(*id).or_default() += 1;
        }
        let rank = |usage: &Usage| {
            let orphan = matches!(usage.id, UsageId::Layer(id) if !leads.contains_key(&id));
            let mount = usage.kind() == UsageKind::CacheMount;
            let weight = u128::from(usage.size) * u128::from(usage.age(now).as_secs().max(1));
            (mount, !orphan, std::cmp::Reverse(weight))
        };
        let mut queue = candidates;
        queue.sort_by_cached_key(rank);
        queue.reverse();
        while !queue.is_empty() && self.wanted() > 0 {
            let batch = self.next_batch(&mut queue);
            let gone = if self.policy.dry_run {
                batch
            } else {
                self.remove(batch)?
            };
            let orphans = self.note(gone, &mut leads)?;
            // What no result leads to any more is next.
            let (mut next, rest): (Vec<Usage>, Vec<Usage>) = queue
                .into_iter()
                .partition(|usage| matches!(usage.id, UsageId::Layer(id) if orphans.contains(&id)));
            queue = rest;
            queue.append(&mut next);
        }
        Ok(())
    }

    /// How many bytes are still to go.
    fn wanted(&self) -> u64 {
        let policy = self.policy;
        let over = policy.max_size.map(|max| self.size.saturating_sub(max));
        let short = policy.min_free.map(|min| min.saturating_sub(self.free));
        let above = policy.reserved.map(|least| self.size.saturating_sub(least));
        let wanted = over.max(short).unwrap_or(u64::MAX);
        above.map_or(wanted, |above| above.min(wanted))
    }

    /// As many as may be needed, and not too many at once.
    fn next_batch(&self, queue: &mut Vec<Usage>) -> Vec<Usage> {
        let wanted = self.wanted();
        let mut batch = Vec::new();
        let mut planned: u64 = 0;
        while batch.len() < BATCH
            && planned < wanted
            && let Some(usage) = queue.pop()
        {
            planned += usage.size;
            batch.push(usage);
        }
        batch
    }

    /// Moves things away while nobody can begin to use them, then removes them at leisure.
    fn remove(&self, batch: Vec<Usage>) -> Result<Vec<Usage>, StoreError> {
        let lease = self.inner.lease()?;
        let passage = self.inner.exclusive()?;
        let mut held = self.inner.live_pins()?;
        held.extend(self.inner.images()?.iter().flat_map(Image::pins));
        let mut trash: Vec<PathBuf> = Vec::new();
        let mut gone = Vec::new();
        for usage in batch {
            let moved = match &usage.id {
                UsageId::Layer(id) if held.contains(&Pin::Layer(*id)) => None,
                UsageId::Layer(id) => self.inner.discard(lease, &self.inner.layer_path(*id))?,
                UsageId::Blob(digest) if held.contains(&Pin::Blob(*digest)) => None,
                UsageId::Blob(digest) => {
                    self.inner.remove_blob(digest)?;
                    gone.push(usage);
                    continue;
                }
                UsageId::CacheMount(name) => self.inner.discard_mount(lease, name)?,
            };
            if let Some(path) = moved {
                trash.push(path);
                gone.push(usage);
            }
        }
        drop(passage);
        trash
            .iter()
            .try_for_each(|path| self.inner.disk.remove_tree(path))?;
        Ok(gone)
    }

    /// Counts what is gone, and drops the results that needed it. Returns the layers that no
    /// result leads to any more.
    fn note(
        &mut self,
        gone: Vec<Usage>,
        leads: &mut HashMap<LayerId, usize>,
    ) -> Result<HashSet<LayerId>, StoreError> {
        let mut lost = HashSet::new();
        for usage in &gone {
            self.size -= usage.size;
            self.free += usage.size;
            self.report.freed += usage.size;
            if let UsageId::Layer(id) = usage.id
                && self.inner.find_origin(id)?.is_none()
            {
                lost.insert(id);
            }
        }
        self.report.removed.extend(gone);
        let needs_lost =
            |(_, result): &(String, ResultRecord)| result.layers.iter().any(|id| lost.contains(id));
        let (dead, alive): (Vec<_>, Vec<_>) = self.results.drain(..).partition(needs_lost);
        self.results = alive;
        let mut orphans = HashSet::new();
        for (key, result) in dead {
            if !self.policy.dry_run {
                self.inner.remove_result(&key)?;
            }
            for id in result.layers {
                let count = leads.entry(id).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    orphans.insert(id);
                }
            }
        }
        Ok(orphans)
    }
}

impl Inner {
    /// A lease takes a file and a directory. Where there is no room even for these, what only
    /// saves work goes first: indexes of file stamps, explanations.
    fn lease_on_full_disk(&self) -> Result<(), StoreError> {
        match self.lease() {
            Err(error) if error.is_out_of_space() => {
                for folder in ["stats", "cache/steps"] {
                    self.sweep(&self.path(folder), SystemTime::now(), Duration::ZERO)?;
                }
                self.lease().map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Removes small files that nobody used for long.
    fn sweep_small(&self, now: SystemTime) -> Result<(), StoreError> {
        for folder in SMALL_FOLDERS {
            self.sweep(&self.path(folder), now, SMALL_UNUSED)?;
        }
        Ok(())
    }

    /// Removes what processes left behind that were killed.
    fn sweep_strays(&self) -> Result<(), StoreError> {
        for key in self.keys(BLOBS)? {
            if let Some(stem) = key.strip_suffix(".data") {
                self.drop_stray_bytes(stem)?;
            }
        }
        for name in names(&self.path("mounts"))? {
            self.mend_mount(&name)?;
        }
        Ok(())
    }

    /// Removes the files at and below a folder that were not used for so long.
    fn sweep(&self, folder: &Path, now: SystemTime, unused: Duration) -> Result<(), StoreError> {
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            for name in names(&folder)? {
                let path = folder.join(name);
                let Ok(metadata) = fs::symlink_metadata(&path) else {
                    continue;
                };
                if metadata.is_dir() {
                    open.push(path);
                } else if metadata
                    .modified()
                    .is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age >= unused))
                {
                    self.disk.remove_file(&path)?;
                }
            }
        }
        Ok(())
    }
}
