//! The trees of control groups that this process sees, and where it is in them. Reads nothing:
//! the kernel's texts come in as such.

use std::path::{Path, PathBuf};

/// The kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A tree for each controller, or for a few (`cgroup-v1`).
    One,
    /// One tree (`cgroup2`).
    Two,
}

/// A mounted tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Its controllers, for version 1. In version 2 each group says itself what it has.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// This process's group; the mount where that lies outside of it.
    pub(super) own: PathBuf,
}

/// Understands `/proc/self/mountinfo` and `/proc/self/cgroup`. A tree counts once, where this
/// process's group `is_there`: something else may be mounted over it.
pub(super) fn parse(
    mountinfo: &str,
    membership: &str,
    is_there: impl Fn(&Path) -> bool,
) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some(hierarchy) = mounted(line, membership) else {
            continue;
        };
        if !is_there(&hierarchy.own) {
            continue;
        }
        let known = |other: &Hierarchy| {
            other.version == hierarchy.version && other.controllers == hierarchy.controllers
        };
        if !found.iter().any(known) {
            found.push(hierarchy);
        }
    }
    found
}

/// The tree of a line `id parent device root mount options… - type source options`.
fn mounted(line: &str, membership: &str) -> Option<Hierarchy> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount) = (place.next()?, unescaped(place.next()?));
    let mut kind = kind.split(' ');
    let (version, options) = match kind.next()? {
        "cgroup2" => (Version::Two, ""),
        "cgroup" => (Version::One, kind.nth(1)?),
        _ => return None,
    };
    let (names, own) = membership.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (names, own) = line.split_once(':')?;
        let named = |name: &str| options.split(',').any(|option| option == name);
        let fits = match version {
            Version::Two => names.is_empty(),
            Version::One => !names.is_empty() && names.split(',').all(named),
        };
        fits.then_some((names, own))
    })?;
    let below = Path::new(own).strip_prefix(unescaped(root));
    let visible = below.ok().filter(|below| !below.starts_with(".."));
    Some(Hierarchy {
        version,
        controllers: names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        // Through its components, so that an empty path adds no slash.
        own: visible.map_or_else(
            || mount.clone(),
            |below| mount.join(below).components().collect(),
        ),
        mount,
    })
}

/// A path of mountinfo, where blanks and the like are three octal digits after a backslash.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_at_checked(3) {
            Some((code, rest)) if let Ok(byte) = u8::from_str_radix(code, 8) => {
                path.push(char::from(byte));
                path.push_str(rest);
            }
            _ => path.push_str(part),
        }
    }
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expect`: version, controllers, mount and own group, a line each.
    #[track_caller]
    fn check(mountinfo: &str, membership: &str, expect: &[&str]) {
        let found: Vec<_> = parse(mountinfo, membership, |path| !path.starts_with("/hidden"))
            .iter()
            .map(|hierarchy| {
                format!(
                    "{:?} {} {} {}",
                    hierarchy.version,
                    hierarchy.controllers.join(","),
                    hierarchy.mount.display(),
                    hierarchy.own.display()
                )
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn one_tree() {
        check(
            "24 1 0:21 / /proc rw - proc proc rw\n\
             31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user-1000.slice/session-1.scope\n",
            &["Two  /sys/fs/cgroup /sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope"],
        );
    }

    #[test]
    fn a_tree_for_each_controller() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             36 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "4:memory:/a/b\n1:name=systemd:/\n2:cpuacct,cpu:/c\n0::/\n",
            &[
                "One cpuacct,cpu /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct/c",
                "One memory /sys/fs/cgroup/memory /sys/fs/cgroup/memory/a/b",
                "One name=systemd /sys/fs/cgroup/systemd /sys/fs/cgroup/systemd",
                "Two  /sys/fs/cgroup/unified /sys/fs/cgroup/unified",
            ],
        );
    }

    #[test]
    fn what_a_container_shows() {
        // Mounted from further down than this process's namespace begins, and from elsewhere.
        check(
            "31 24 0:27 /a /my\\040groups rw - cgroup2 cgroup rw\n",
            "0::/a/b\n",
            &["Two  /my groups /my groups/b"],
        );
        check(
            "31 24 0:27 / /groups rw - cgroup2 cgroup rw\n",
            "0::/../other\n",
            &["Two  /groups /groups"],
        );
        check("31 24 0:27 / /x rw - cgroup cgroup rw,memory\n", "", &[]);
        // The same tree in two places, one of which cannot be seen.
        check(
            "31 24 0:27 / /hidden rw - cgroup2 cgroup rw\n\
             32 24 0:27 / /seen rw - cgroup2 cgroup rw\n\
             33 24 0:27 / /too rw - cgroup2 cgroup rw\n",
            "0::/a\n",
            &["Two  /seen /seen/a"],
        );
        check("nonsense\n\n", "nonsense\n", &[]);
    }
}
