//! Where groups for containers can be made, found out before the first one is needed.
//!
//! ```text
//! version 2, nobody says where:  own group, if this process is alone in it (it moves into a child
//!                                first), else the nearest one around it that takes children
//! version 1, nobody says where:  own group of each tree
//! --cgroup-parent:               that path in every tree, made if need be
//! ```

use super::group::{Group, LockedGroup, remove_abandoned, write};
use super::hierarchy::{self, Hierarchy, Version};
use super::resources::{Controller, Resources};
use super::{Cgroup, Node, Setting};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Component, Path, PathBuf};

/// Why no control group can be had with what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// No tree has the controller.
    #[error("this kernel shows no controller `{}` of control groups", .0.name())]
    NoController(Controller),
    /// There is a tree, but this process may make no groups with these controllers.
    #[error("get the controllers {controllers} of control groups below {}: they are not delegated", path.display())]
    NotDelegated {
        /// Their names.
        controllers: String,
        /// The group that lacks them.
        path: PathBuf,
    },
    /// The kernel does not let this process make a group.
    #[error("make a control group in {}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Whose rules hold there.
        version: Version,
        /// The errno.
        source: io::Error,
    },
    /// A value is not accepted.
    #[error("set {} of a control group in {} to {}", setting.file, path.display(), setting.value)]
    Setting {
        /// What was to be written.
        setting: Setting,
        /// The group.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// Processors or memory nodes that are not there, or not for this process.
    #[error("requested {what} are not available: requested {asked}, available: {available}")]
    NotAvailable {
        /// Which of both.
        what: &'static str,
        /// What was asked for.
        asked: String,
        /// What there is.
        available: String,
    },
    /// A text that names no group.
    #[error(
        "{0:?} names no control group: write a path without `..`, or a slice as in `a-b.slice`"
    )]
    Parent(String),
}

impl GroupError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<String> {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
        const SCOPE: &str =
            "systemd-run --user --scope -p Delegate=yes kiln … (as root without --user)";
        let text = match self {
            GroupError::NoController(Controller::Memory) => {
                "boot the kernel with cgroup_enable=memory".to_owned()
            }
            GroupError::NotDelegated { .. } => format!(
                "have systemd delegate them: `systemctl edit user@.service` with the lines \
                 [Service] and Delegate=cpu cpuset io memory pids; log in again, and {SCOPE}"
            ),
            GroupError::Refused {
                version, source, ..
            } => match (source.kind(), version) {
                (ReadOnlyFilesystem, _) => "the surrounding container may only read control \
                     groups: start it with --privileged, or in docker with --security-opt \
                     writable-cgroups=true"
                    .to_owned(),
                (PermissionDenied, Version::One) => "control groups of version 1 are root's: run \
                     kiln as root, or boot with version 2 (systemd.unified_cgroup_hierarchy=1)"
                    .to_owned(),
                (PermissionDenied | ResourceBusy, Version::Two) => {
                    format!("run kiln in a group of its own that it may divide: {SCOPE}")
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(text)
    }
}

/// Control groups for the containers of this process.
#[derive(Debug)]
pub struct Groups {
    cgroup: Cgroup,
    /// Where this process went, so that its group could have others. It lives there to its end.
    _home: Option<ManuallyDrop<LockedGroup>>,
}

impl Groups {
    /// Finds out where groups with these limits can be made, and tries. `parent` is a path from
    /// the top of the trees, or the name of a slice. Takes away what dead processes left there.
    ///
    /// Called before the first container is started: it may move this process into a group of its
    /// own.
    ///
    /// # Errors
    /// [`GroupError`]; nothing has changed but that parents were made.
    pub fn prepare(resources: &Resources, parent: Option<&str>) -> Result<Groups, GroupError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (mounts, membership) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let hierarchies = hierarchy::parse(&mounts, &membership, Path::is_dir);
        let groups = find(&hierarchies, resources, parent, std::process::id())?;
        for node in &groups.cgroup.nodes {
            remove_abandoned(&node.parent);
        }
        drop(Group::create(&groups.cgroup)?);
        Ok(groups)
    }

    /// What a container needs to be given to be in one.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }
}

/// Finds a directory in each tree that takes part. `process` is this one's number.
fn find(
    hierarchies: &[Hierarchy],
    resources: &Resources,
    parent: Option<&str>,
    process: u32,
) -> Result<Groups, GroupError> {
    let parent = parent.map(parent_path).transpose()?;
    let (mut nodes, mut home) = (Vec::new(), None);
    let mut missing: BTreeSet<_> = resources.controllers().into_iter().collect();
    for hierarchy in hierarchies {
        let here = controllers_of(hierarchy);
        let wanted: Vec<_> = missing.intersection(&here).copied().collect();
        let takes_part = match &parent {
            // Whatever the parent limits is to hold.
            Some(parent) => {
                hierarchy.version == Version::Two
                    || !here.is_empty()
                    || hierarchy.mount.join(parent).is_dir()
            }
            None => !wanted.is_empty(),
        };
        if !takes_part {
            continue;
        }
        let directory = match (&parent, hierarchy.version) {
            (Some(parent), _) => make_parents(hierarchy, parent, &wanted)?,
            (None, Version::One) => hierarchy.own.clone(),
            (None, Version::Two) => {
                let (directory, moved) = divisible(hierarchy, &wanted, process)?;
                home = moved;
                directory
            }
        };
        nodes.push(node(hierarchy.version, directory, resources, &here)?);
        missing.retain(|controller| !here.contains(controller));
    }
    match missing.first() {
        Some(&controller) => Err(GroupError::NoController(controller)),
        None => Ok(Groups {
            cgroup: Cgroup {
                nodes,
                memory: resources.memory,
            },
            _home: home.map(ManuallyDrop::new),
        }),
    }
}

/// The path of `--cgroup-parent`, relative to the top of a tree. The name of a slice stands for
/// the slices around it too, as systemd has it.
fn parent_path(text: &str) -> Result<PathBuf, GroupError> {
    let wrong = || GroupError::Parent(text.to_owned());
    let mut path = PathBuf::new();
    if let Some(name) = text.strip_suffix(".slice")
        && !text.contains('/')
    {
        let ends = name.match_indices('-').map(|(at, _)| at);
        for end in ends.chain([name.len()]) {
            path.push(format!("{}.slice", &name[..end]));
        }
    } else {
        for component in Path::new(text).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::RootDir | Component::CurDir => {}
                _ => return Err(wrong()),
            }
        }
    }
    match path.as_os_str().is_empty() {
        true => Err(wrong()),
        false => Ok(path),
    }
}

/// Those of kiln's controllers that a tree has.
fn controllers_of(hierarchy: &Hierarchy) -> BTreeSet<Controller> {
    let names = match hierarchy.version {
        Version::One => hierarchy.controllers.clone(),
        Version::Two => words(&hierarchy.mount.join("cgroup.controllers")).unwrap_or_default(),
    };
    let all = Controller::ALL.into_iter();
    all.filter(|controller| names.iter().any(|name| name == controller.name()))
        .collect()
}

/// Makes the groups from the top of a tree down to `parent`, those that are missing.
fn make_parents(
    hierarchy: &Hierarchy,
    parent: &Path,
    wanted: &[Controller],
) -> Result<PathBuf, GroupError> {
    let wanted: Vec<_> = wanted.iter().map(|controller| controller.name()).collect();
    let mut directory = hierarchy.mount.clone();
    for name in parent {
        if hierarchy.version == Version::Two {
            give(&directory, &to_give(&directory, &wanted)?)?;
        }
        let above = directory.clone();
        directory.push(name);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(refused(&directory, hierarchy.version)(error));
            }
            _ => {}
        }
        if hierarchy.version == Version::One {
            inherit_sets(&above, &directory).map_err(refused(&directory, Version::One))?;
        }
    }
    if hierarchy.version == Version::Two {
        give(&directory, &to_give(&directory, &wanted)?)?;
    }
    Ok(directory)
}

/// A new group of version 1 has no processors and memory nodes, and takes no process before it has.
fn inherit_sets(above: &Path, group: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty()) {
            fs::write(own, fs::read(above.join(file))?)?;
        }
    }
    Ok(())
}

/// The nearest group of version 2 that this process can divide, and what keeps it there if it had
/// to move for that.
fn divisible(
    hierarchy: &Hierarchy,
    wanted: &[Controller],
    process: u32,
) -> Result<(PathBuf, Option<LockedGroup>), GroupError> {
    let wanted: Vec<_> = wanted.iter().map(|controller| controller.name()).collect();
    // Where it went when groups were prepared before, there is nothing to divide.
    let own = match LockedGroup::is_name(hierarchy.own.file_name()) {
        true => hierarchy.own.parent().unwrap_or(&hierarchy.own),
        false => &hierarchy.own,
    };
    let mut refusal = None;
    for directory in own
        .ancestors()
        .take_while(|path| path.starts_with(&hierarchy.mount))
    {
        let tried = divide(directory, &wanted, process);
        match tried {
            Ok(home) => return Ok((directory.to_owned(), home)),
            // What is wanting further up says more of what is to be done.
            Err(error) if refusal.is_none() || matches!(error, GroupError::NotDelegated { .. }) => {
                refusal = Some(error);
            }
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or(GroupError::NoController(Controller::Memory)))
}

/// Gets a group ready to have groups with these controllers in it, and tries to make one.
fn divide(
    directory: &Path,
    wanted: &[&str],
    process: u32,
) -> Result<Option<LockedGroup>, GroupError> {
    let refused = || refused(directory, Version::Two);
    let missing = to_give(directory, wanted)?;
    let mut home = None;
    if !missing.is_empty() && is_alone(directory, process) {
        let moved = LockedGroup::create(directory).map_err(refused())?;
        moved.take_in(process).map_err(refused())?;
        home = Some(moved);
    }
    give(directory, &missing)?;
    // Whoever moves a process must be able to write here.
    File::options()
        .write(true)
        .open(directory.join("cgroup.procs"))
        .map_err(refused())?;
    drop(LockedGroup::create(directory).map_err(refused())?);
    Ok(home)
}

fn is_alone(group: &Path, process: u32) -> bool {
    words(&group.join("cgroup.procs")).is_ok_and(|processes| processes == [process.to_string()])
}

/// The controllers that the groups in this one do not have yet.
fn to_give<'w>(directory: &Path, wanted: &[&'w str]) -> Result<Vec<&'w str>, GroupError> {
    let read = |file| words(&directory.join(file)).map_err(refused(directory, Version::Two));
    let (here, given) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let lacks = |have: &[String]| -> Vec<&'w str> {
        let mut names = wanted.to_vec();
        names.retain(|name| !have.iter().any(|one| one == name));
        names
    };
    match lacks(&here).as_slice() {
        [] => Ok(lacks(&given)),
        absent => Err(GroupError::NotDelegated {
            controllers: absent.join(", "),
            path: directory.to_owned(),
        }),
    }
}

/// Lets the groups in this one have controllers.
fn give(directory: &Path, controllers: &[&str]) -> Result<(), GroupError> {
    let all: Vec<_> = controllers.iter().map(|name| format!("+{name}")).collect();
    match all.is_empty() {
        true => Ok(()),
        false => write(&directory.join("cgroup.subtree_control"), &all.join(" "))
            .map_err(refused(directory, Version::Two)),
    }
}

/// What is made in a tree that has these controllers.
fn node(
    version: Version,
    parent: PathBuf,
    resources: &Resources,
    here: &BTreeSet<Controller>,
) -> Result<Node, GroupError> {
    let mut settings = Vec::new();
    for &controller in here {
        if controller == Controller::Cpuset {
            check_sets(&parent, resources)?;
        }
        settings.extend(resources.settings(controller, version));
    }
    if version == Version::One && here.contains(&Controller::Cpuset) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if settings.iter().all(|setting| setting.file != file) {
                let value = words(&parent.join(file)).unwrap_or_default().join("");
                settings.push(Setting {
                    file: file.to_owned(),
                    value,
                    optional: false,
                });
            }
        }
    }
    Ok(Node {
        version,
        parent,
        settings,
    })
}

/// Whether the processors and memory nodes that are asked for are among a group's.
fn check_sets(group: &Path, resources: &Resources) -> Result<(), GroupError> {
    let sets = [
        (
            "processors",
            &resources.cpuset_cpus,
            "cpuset.cpus",
            "cpuset.effective_cpus",
        ),
        (
            "memory nodes",
            &resources.cpuset_mems,
            "cpuset.mems",
            "cpuset.effective_mems",
        ),
    ];
    for (what, asked, file, old_name) in sets {
        let Some(asked) = asked else {
            continue;
        };
        let names = [
            format!("{file}.effective"),
            old_name.to_owned(),
            file.to_owned(),
        ];
        let text = names
            .iter()
            .find_map(|name| fs::read_to_string(group.join(name)).ok());
        // The kernel will say whether it takes them.
        let Some(available) = text.as_deref().map(str::trim).and_then(numbers) else {
            continue;
        };
        if !numbers(asked).is_some_and(|asked| asked.is_subset(&available)) {
            return Err(GroupError::NotAvailable {
                what,
                asked: asked.clone(),
                available: text.unwrap_or_default().trim().to_owned(),
            });
        }
    }
    Ok(())
}

/// The numbers of a list like `0-3,7`; `None` when it is none, or goes beyond what any kernel has.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    const MOST: u32 = 1 << 16;
    let mut all = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last > MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

fn words(file: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn refused(path: &Path, version: Version) -> impl FnOnce(io::Error) -> GroupError + '_ {
    move |source| GroupError::Refused {
        path: path.to_owned(),
        version,
        source,
    }
}

#[cfg(test)]
mod tests;
