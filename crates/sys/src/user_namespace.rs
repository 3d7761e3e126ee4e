//! User namespaces: which ids a user may map, and mapping them.

use std::ffi::{CStr, CString};
use std::io;
use std::process::Command;

/// A run of ids that a user may use in user namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id, outside.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// One line of an id map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside of it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `/etc/subuid`, `newuidmap`, `uid_map`.
    User,
    /// `/etc/subgid`, `newgidmap`, `gid_map`.
    Group,
}

impl IdKind {
    /// The program that writes maps for ordinary users.
    pub fn helper(self) -> &'static str {
        match self {
            IdKind::User => "newuidmap",
            IdKind::Group => "newgidmap",
        }
    }

    /// The file that grants ranges.
    pub fn grants(self) -> &'static str {
        match self {
            IdKind::User => "/etc/subuid",
            IdKind::Group => "/etc/subgid",
        }
    }

    fn map_name(self) -> &'static str {
        match self {
            IdKind::User => "uid_map",
            IdKind::Group => "gid_map",
        }
    }
}

/// The ranges that a `subuid(5)` text grants to a user, who may stand there by name or by number.
/// Lines that are malformed are skipped, as the tools of shadow do.
pub fn parse_grants(text: &str, name: Option<&str>, uid: u32) -> Vec<IdRange> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let start = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            let ours = owner == number || Some(owner) == name;
            (ours && count > 0 && fields.next().is_none()).then_some(IdRange { start, count })
        })
        .collect()
}

/// The ranges in the output of `getsubids(1)` (`0: name 100000 65536`).
pub fn parse_getsubids(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let count = words.next()?.parse().ok()?;
            let start = words.next()?.parse().ok()?;
            Some(IdRange { start, count })
        })
        .collect()
}

/// The ranges granted to a user: from the file, else from `getsubids`, which also asks network
/// directories.
pub fn grants(kind: IdKind, name: Option<&str>, uid: u32) -> Vec<IdRange> {
    let text = std::fs::read_to_string(kind.grants()).unwrap_or_default();
    let ranges = parse_grants(&text, name, uid);
    if !ranges.is_empty() {
        return ranges;
    }
    let Some(name) = name else {
        return ranges;
    };
    let mut command = Command::new("getsubids");
    if kind == IdKind::Group {
        command.arg("-g");
    }
    match command.arg(name).output() {
        Ok(output) if output.status.success() => {
            parse_getsubids(&String::from_utf8_lossy(&output.stdout))
        }
        _ => ranges,
    }
}

/// Has `newuidmap` or `newgidmap` write the map of the process `pid`, which is in a new user
/// namespace. Runs in the parent namespace.
///
/// # Errors
/// When the program cannot be started, or what it said when it refused.
pub fn write_map_by_helper(kind: IdKind, pid: i32, map: &[IdMapping]) -> io::Result<()> {
    let mut command = Command::new(kind.helper());
    command.arg(pid.to_string());
    for mapping in map {
        command
            .arg(mapping.inside.to_string())
            .arg(mapping.outside.to_string())
            .arg(mapping.count.to_string());
    }
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}

/// Writes the map of this process with its own rights: one id, its own.
///
/// # Errors
/// The errno of `write(2)` on the map.
pub fn write_own_map(kind: IdKind, mapping: IdMapping) -> io::Result<()> {
    if kind == IdKind::Group {
        // Without this an ordinary user may not map groups.
        std::fs::write("/proc/self/setgroups", "deny")?;
    }
    write_map("self", kind, &[mapping])
}

/// Writes the map of the process `pid`, which is in a new user namespace below this one.
///
/// # Errors
/// The errno of `write(2)` on the map; `EPERM` without `CAP_SETUID` or `CAP_SETGID`.
pub fn write_map_of(pid: i32, kind: IdKind, map: &[IdMapping]) -> io::Result<()> {
    write_map(&pid.to_string(), kind, map)
}

fn write_map(process: &str, kind: IdKind, map: &[IdMapping]) -> io::Result<()> {
    let lines: String = map
        .iter()
        .map(|line| format!("{} {} {}\n", line.inside, line.outside, line.count))
        .collect();
    // One write: the kernel takes a map only whole.
    std::fs::write(format!("/proc/{process}/{}", kind.map_name()), lines)
}

/// The id map in force for this process.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn current_map(kind: IdKind) -> io::Result<Vec<IdMapping>> {
    let text = std::fs::read_to_string(format!("/proc/self/{}", kind.map_name()))?;
    Ok(parse_map(&text))
}

/// The lines of a `uid_map` or `gid_map` file.
pub fn parse_map(text: &str) -> Vec<IdMapping> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse);
            Some(IdMapping {
                inside: words.next()?.ok()?,
                outside: words.next()?.ok()?,
                count: words.next()?.ok()?,
            })
        })
        .collect()
}

/// The login name of a user, from the password database; `None` when it has no entry.
pub fn user_name(uid: u32) -> Option<String> {
    let mut buffer = vec![0; 16 * 1024];
    // SAFETY: `passwd` consists of integers and pointers, for which zeros are valid.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are live for the call and the buffer has the length passed.
    let result = unsafe {
        libc::getpwuid_r(
            uid,
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success the name is a NUL-terminated string inside `buffer`, which is still live.
    let name: CString = unsafe { CStr::from_ptr(entry.pw_name) }.to_owned();
    name.into_string().ok()
}
