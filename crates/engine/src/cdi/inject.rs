//! What a container is given for a device.

use runtime::{Device, DeviceNode, Mount, MountKind, ProcessSpec};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use sys::fs::{CWD, FileType};

use super::document::{self, Edits};
use super::{CdiError, Found};

/// What a new node may be used by when nobody says.
const MODE: u32 = 0o666;

/// Adds to a container what these devices need, each file's common part once.
pub(crate) fn inject(found: &[Found<'_>], spec: &mut ProcessSpec) -> Result<(), CdiError> {
    let mut seen: Vec<&Path> = Vec::new();
    for device in found {
        if !seen.contains(&device.path) {
            seen.push(device.path);
            apply(device.common(), device.path, spec)?;
        }
        apply(device.own(), device.path, spec)?;
    }
    Ok(())
}

fn apply(edits: &Edits, file: &Path, spec: &mut ProcessSpec) -> Result<(), CdiError> {
    let unsupported = |what: String| CdiError::Unsupported {
        file: file.to_owned(),
        what,
    };
    if let Some(hook) = edits.hooks.first() {
        return Err(unsupported(format!(
            "the hook {} ({}), a program of this machine that would change the container's files: \
             write a specification without hooks",
            hook.path.display(),
            hook.hook_name
        )));
    }
    if edits.intel_rdt.is_some() {
        return Err(unsupported(
            "a class of cache and memory bandwidth (intelRdt)".into(),
        ));
    }
    if !edits.net_devices.is_empty() {
        return Err(unsupported("network devices".into()));
    }
    for variable in &edits.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        spec.env.push((name.into(), OsString::from(value)));
    }
    for node in &edits.device_nodes {
        spec.devices.push(device(node, file)?);
    }
    for mount in &edits.mounts {
        let mount = self::mount(mount).map_err(unsupported)?;
        if let MountKind::Bind { source, .. } = &mount.kind {
            std::fs::metadata(source).map_err(|error| CdiError::Machine {
                path: source.clone(),
                source: error,
            })?;
        }
        spec.mounts.push(mount);
    }
    for &gid in &edits.additional_gids {
        if gid != 0 && !spec.user.groups.contains(&gid) {
            spec.user.groups.push(gid);
        }
    }
    Ok(())
}

/// The machine's node, or one with numbers, permissions and an owner of its own.
fn device(node: &document::DeviceNode, file: &Path) -> Result<Device, CdiError> {
    let source = node.host_path.as_ref().unwrap_or(&node.path).clone();
    let kind = match node.kind.as_deref() {
        None | Some("") => None,
        Some("c" | "u") => Some(FileType::CharacterDevice),
        Some("b") => Some(FileType::BlockDevice),
        Some(other) => {
            return Err(CdiError::Unsupported {
                file: file.to_owned(),
                what: format!("a node of type `{other}`"),
            });
        }
    };
    let numbers = node.major.zip(node.minor);
    let is_changed = node.file_mode.is_some() || node.uid.is_some() || node.gid.is_some();
    let (kind, numbers) = match kind.zip(numbers) {
        Some(said) => said,
        None => {
            let found = look_at(&source)?;
            if !is_changed {
                return Ok(Device {
                    source,
                    target: node.path.clone(),
                    node: None,
                });
            }
            found
        }
    };
    Ok(Device {
        source,
        target: node.path.clone(),
        node: Some(DeviceNode {
            block: kind == FileType::BlockDevice,
            major: numbers.0,
            minor: numbers.1,
            mode: node.file_mode.map_or(MODE, |mode| mode & 0o777),
            uid: node.uid.unwrap_or(0),
            gid: node.gid.unwrap_or(0),
        }),
    })
}

/// Kind and numbers of a device of the machine.
fn look_at(path: &Path) -> Result<(FileType, (u32, u32)), CdiError> {
    // A link's end: `/dev/disk/by-id` and the like have nothing else.
    let machine = |source| CdiError::Machine {
        path: path.to_owned(),
        source,
    };
    let end = std::fs::canonicalize(path).map_err(machine)?;
    let stat = sys::fs::stat_at(CWD, &end).map_err(machine)?;
    match is_device(stat.kind) {
        true => Ok((stat.kind, stat.rdev)),
        false => Err(CdiError::NoDevice {
            path: path.to_owned(),
        }),
    }
}

/// Adds a device of the machine to a container, or all that are in a directory.
pub(crate) fn inject_machine(
    source: &Path,
    target: &Path,
    spec: &mut ProcessSpec,
) -> Result<(), CdiError> {
    if source.is_dir() {
        let entries = std::fs::read_dir(source).map_err(|error| CdiError::Machine {
            path: source.to_owned(),
            source: error,
        })?;
        for entry in entries.flatten() {
            let kind = entry.file_type();
            let (source, target) = (entry.path(), target.join(entry.file_name()));
            if kind.is_ok_and(|kind| kind.is_dir()) {
                inject_machine(&source, &target, spec)?;
            } else if look_at(&source).is_ok() {
                spec.devices.push(machine(source, target));
            }
        }
        return Ok(());
    }
    look_at(source)?;
    spec.devices
        .push(machine(source.to_owned(), target.to_owned()));
    Ok(())
}

fn machine(source: PathBuf, target: PathBuf) -> Device {
    Device {
        source,
        target,
        node: None,
    }
}

fn is_device(kind: FileType) -> bool {
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
}

fn mount(mount: &document::Mount) -> Result<Mount, String> {
    /// Those that say what is so anyway (mounts of kiln's are private, recursive and without
    /// devices), or that matter to nobody.
    const REDUNDANT: [&str; 12] = [
        "bind", "rbind", "rw", "nodev", "suid", "exec", "private", "rprivate", "slave", "rslave",
        "relatime", "noatime",
    ];
    const HEEDED: [&str; 4] = ["ro", "rro", "nosuid", "noexec"];
    let has = |name: &str| mount.options.iter().any(|option| option == name);
    let known = |option: &&String| {
        REDUNDANT.contains(&option.as_str()) || HEEDED.contains(&option.as_str())
    };
    if let Some(other) = mount.options.iter().find(|option| !known(option)) {
        return Err(format!("a mount with the option `{other}`"));
    }
    let kind = match mount.kind.as_deref() {
        None | Some("" | "none" | "bind") => MountKind::Bind {
            source: mount.host_path.clone(),
            readonly: has("ro") || has("rro"),
            nosuid: has("nosuid"),
            noexec: has("noexec"),
        },
        Some("tmpfs") => MountKind::Tmpfs {
            size: None,
            mode: 0o1777,
        },
        Some(other) => return Err(format!("a mount of type `{other}`")),
    };
    Ok(Mount {
        target: mount.container_path.clone(),
        kind,
    })
}
