//! A version 2 control group for one container: limits going in, memory events coming out.

use crate::message::{During, SetUpError};
use crate::spec::Cgroup;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use sys::fs::{CWD, Mode, OFlags};

/// Microseconds that a processor quota is counted over.
const CPU_PERIOD: u64 = 100_000;

/// A group that was made for a container.
pub(crate) struct Group {
    path: PathBuf,
    directory: OwnedFd,
}

impl Group {
    /// Makes the group and sets its limits.
    pub(crate) fn create(spec: &Cgroup, name: &str) -> Result<Group, SetUpError> {
        let path = spec.parent.join(name);
        std::fs::create_dir(&path)
            .during(|| format!("make the control group {}", path.display()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = sys::fs::openat(CWD, &path, flags, Mode::empty())
            .during(|| format!("open the control group {}", path.display()))?;
        let group = Group { path, directory };
        for (file, value) in limits(spec) {
            group.write(file, &value).during(|| {
                format!("set {file} to {value} (is its controller delegated to this user?)")
            })?;
        }
        Ok(group)
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        // Not created when missing: a name that the kernel has not got is an error.
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).open(self.path.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    }

    /// The group's directory, to start a process in it.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Whether the kernel killed something in it for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        std::fs::read_to_string(self.path.join("memory.events"))
            .is_ok_and(|events| oom_kills(&events) > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Busy while something lives in it; then it stays for the administrator to see.
        std::fs::remove_dir(&self.path).ok();
    }
}

/// Files of a group and what is written to them.
fn limits(spec: &Cgroup) -> Vec<(&'static str, String)> {
    let number = |file, value: Option<u64>| value.map(|value| (file, value.to_string()));
    let quota = spec.cpu_quota.map(|quota| format!("{quota} {CPU_PERIOD}"));
    [
        number("memory.max", spec.memory),
        number("memory.swap.max", spec.swap),
        number("pids.max", spec.pids),
        quota.map(|quota| ("cpu.max", quota)),
        number("cpu.weight", spec.cpu_weight),
        spec.cpuset.clone().map(|set| ("cpuset.cpus", set)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn oom_kills(events: &str) -> u64 {
    let line = events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() {
        let spec = Cgroup {
            memory: Some(1 << 20),
            cpu_quota: Some(50_000),
            cpuset: Some("0-1".to_owned()),
            ..Cgroup::default()
        };
        let files = [
            ("memory.max", "1048576".to_owned()),
            ("cpu.max", "50000 100000".to_owned()),
            ("cpuset.cpus", "0-1".to_owned()),
        ];
        assert_eq!(limits(&spec), files);
        assert_eq!(limits(&Cgroup::default()), []);
    }

    #[test]
    fn kills_are_counted() {
        assert_eq!(oom_kills("low 0\noom 2\noom_kill 3\noom_group_kill 0\n"), 3);
        assert_eq!(oom_kills(""), 0);
    }
}
