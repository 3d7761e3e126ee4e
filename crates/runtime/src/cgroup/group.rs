//! Groups that exist: made, joined, asked, removed.

use super::{Cgroup, GroupError, Node, Shortage, Version};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PREFIX: &str = "kiln-";
/// Names that are tried before giving up.
const MOST_NAMES: u32 = 1000;

/// The groups of one container. Dropping removes them.
pub(crate) struct Group {
    made: Vec<(Version, LockedGroup)>,
    memory: Option<u64>,
}

impl Group {
    /// Makes them and sets their limits.
    pub(crate) fn create(plan: &Cgroup) -> Result<Group, GroupError> {
        let mut group = Group {
            made: Vec::new(),
            memory: plan.memory,
        };
        for node in &plan.nodes {
            let made = LockedGroup::create(&node.parent).map_err(|source| GroupError::Refused {
                path: node.parent.clone(),
                version: node.version,
                source,
            })?;
            apply(node, &made)?;
            group.made.push((node.version, made));
        }
        Ok(group)
    }

    /// The directory of version 2, to start a process in it.
    pub(crate) fn to_start_in(&self) -> Option<&File> {
        let mut made = self.made.iter();
        made.find(|(version, _)| *version == Version::Two)
            .map(|(_, group)| &group.directory)
    }

    /// Whether a process that was started in it has others to [`Group::join`].
    pub(crate) fn has_to_be_joined(&self) -> bool {
        self.made
            .iter()
            .any(|(version, _)| *version == Version::One)
    }

    /// Moves this process into those of version 1.
    pub(crate) fn join(&self) -> io::Result<()> {
        const THIS_PROCESS: u32 = 0;
        for (version, group) in &self.made {
            if *version == Version::One {
                group.take_in(THIS_PROCESS)?;
            }
        }
        Ok(())
    }

    /// What the kernel killed something in it for.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        // Version 2, and version 1.
        const EVENTS: [&str; 2] = ["memory.events", "memory.oom_control"];
        const PEAKS: [&str; 2] = ["memory.peak", "memory.max_usage_in_bytes"];
        let read = |files: [&str; 2]| {
            let all = self.made.iter();
            let paths = all.flat_map(|(_, group)| files.map(|file| group.path.join(file)));
            paths
                .filter_map(|path| fs::read_to_string(path).ok())
                .next()
        };
        (oom_kills(&read(EVENTS)?) > 0).then(|| Shortage {
            limit: self.memory,
            peak: read(PEAKS).and_then(|text| text.trim().parse().ok()),
        })
    }
}

fn apply(node: &Node, group: &LockedGroup) -> Result<(), GroupError> {
    for setting in &node.settings {
        match write(&group.path.join(&setting.file), &setting.value) {
            Ok(()) => {}
            Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(GroupError::Setting {
                    setting: setting.clone(),
                    path: node.parent.clone(),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Writes to a file of the kernel's. Never makes one: a name that the kernel has not got is an
/// error.
pub(super) fn write(file: &Path, value: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(file)?
        .write_all(value.as_bytes())
}

fn oom_kills(events: &str) -> u64 {
    let line = events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// A group that belongs to this process as long as it holds the lock on its directory. Dropping
/// removes it, unless something lives in it.
#[derive(Debug)]
pub(super) struct LockedGroup {
    pub(super) path: PathBuf,
    directory: File,
}

impl LockedGroup {
    /// Makes one under a name of its own.
    pub(super) fn create(parent: &Path) -> io::Result<LockedGroup> {
        for number in 0..MOST_NAMES {
            let name = format!("{PREFIX}{}-{number}", std::process::id());
            let path = parent.join(name);
            match fs::create_dir(&path) {
                // Another namespace's process has the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            let directory = File::open(&path)?;
            // Somebody may have taken it for abandoned meanwhile.
            if directory.try_lock().is_ok() && is_still(&path, &directory) {
                return Ok(LockedGroup { path, directory });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Whether a group is called as those are that this makes.
    pub(super) fn is_name(name: Option<&OsStr>) -> bool {
        let name = name.and_then(OsStr::to_str);
        let numbers = name.and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        numbers.is_some_and(|(process, number)| {
            process.parse::<u32>().is_ok() && number.parse::<u32>().is_ok()
        })
    }

    /// Moves a process into it; 0 is this one.
    pub(super) fn take_in(&self, process: u32) -> io::Result<()> {
        write(&self.path.join("cgroup.procs"), &process.to_string())
    }
}

impl Drop for LockedGroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn is_still(path: &Path, directory: &File) -> bool {
    let number = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|found| found.ino());
    number(fs::metadata(path)) == number(directory.metadata())
}

/// Removes groups below `parent` that nobody holds a lock on.
pub(super) fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if LockedGroup::is_name(Some(&entry.file_name()))
            && let Ok(directory) = File::open(entry.path())
            && directory.try_lock().is_ok()
        {
            remove(&entry.path());
        }
    }
}

/// Removes a group and those in it. One that something lives in stays.
fn remove(path: &Path) {
    /// The kernel takes a moment to forget processes that have ended.
    const WAITS: [u64; 5] = [1, 2, 5, 20, 50];
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    for wait in WAITS {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(wait));
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted() {
        assert_eq!(oom_kills("low 0\noom 2\noom_kill 3\noom_group_kill 0\n"), 3);
        assert_eq!(
            oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            1
        );
        assert_eq!(oom_kills(""), 0);
    }

    #[test]
    fn abandoned_groups_are_removed_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let held = LockedGroup::create(folder.path()).unwrap();
        for name in ["kiln-1-0/nested", "kiln-2-7", "kiln-x", "other-1-0"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        remove_abandoned(folder.path());
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let own = format!("kiln-{}-0", std::process::id());
        assert_eq!(left, [own.as_str(), "kiln-x", "other-1-0"]);
        drop(held);
        assert!(!folder.path().join(own).exists());
    }
}
