//! Finding the program, giving up privileges, and becoming it.

use crate::exec_error::{ExecError, explain};
use crate::message::{During, Failure, Notice, SetUpError};
use crate::seccomp::{Architecture, clock, docker_default};
use crate::spec::{ProcessSpec, Resource};
use crate::{one_id, wire};
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use sys::process::{Namespaces, Rlimit};
use sys::user_namespace::{IdKind, IdMapping};

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of a program file that are looked at to explain why it did not start.
const HEAD: u64 = 4096;

/// Everything is set; only `execve` is left.
pub(super) enum Ready {
    Program {
        path: CString,
        args: Vec<CString>,
        env: Vec<CString>,
    },
    /// There is no such program.
    Hopeless(ExecError),
}

impl Ready {
    /// Becomes the program; returns why it could not.
    pub(super) fn start(self) -> Failure {
        let error = match self {
            Ready::Hopeless(error) => error,
            Ready::Program { path, args, env } => {
                sys::signal::reset();
                // Everything is opened so already; a descriptor of the machine must not get in.
                sys::process::close_on_exec_from(3).ok();
                let errno = sys::process::exec(&path, &args, &env)
                    .raw_os_error()
                    .unwrap_or(0);
                let path = OsStr::from_bytes(path.as_bytes());
                explain_file(Path::new(path), errno)
            }
        };
        Failure::Exec { error }
    }
}

/// Applies limits, identity, capabilities and filter, and finds the program as its user would.
pub(super) fn prepare(spec: &ProcessSpec, channel: &UnixStream) -> Result<Ready, SetUpError> {
    for limit in &spec.rlimits {
        set_limit(limit).during(|| format!("set the limit {:?}", limit.resource))?;
    }
    std::env::set_current_dir(&spec.cwd)
        .during(|| format!("enter the working directory {}", spec.cwd.display()))?;
    let environment = environment(&spec.env);
    let strings = || -> Result<_, std::ffi::NulError> {
        let args = spec.args.iter().map(|arg| CString::new(arg.as_bytes()));
        let env = environment
            .iter()
            .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok((
            args.collect::<Result<Vec<_>, _>>()?,
            env.collect::<Result<Vec<_>, _>>()?,
        ))
    };
    let (args, env) = strings()
        .map_err(|_| io::Error::from_raw_os_error(sys::Errno::INVAL.raw_os_error()))
        .during(|| "take arguments and environment, which hold a NUL byte".to_owned())?;
    drop_privileges(spec, channel)?;
    let program = spec.args.first().cloned().unwrap_or_default();
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str());
    Ok(match find(&program, path) {
        Ok(path) => Ready::Program { path, args, env },
        Err(error) => Ready::Hopeless(error),
    })
}

fn set_limit(limit: &crate::spec::Rlimit) -> io::Result<()> {
    let bound = |value: u64| (value != u64::MAX).then_some(value);
    let rlimit = Rlimit {
        current: bound(limit.soft),
        maximum: bound(limit.hard),
    };
    Ok(sys::process::setrlimit(
        kernel_resource(limit.resource),
        rlimit,
    )?)
}

fn kernel_resource(resource: Resource) -> sys::process::Resource {
    use sys::process::Resource as Kernel;
    match resource {
        Resource::Core => Kernel::Core,
        Resource::Cpu => Kernel::Cpu,
        Resource::Data => Kernel::Data,
        Resource::Fsize => Kernel::Fsize,
        Resource::Locks => Kernel::Locks,
        Resource::Memlock => Kernel::Memlock,
        Resource::Msgqueue => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::Nofile => Kernel::Nofile,
        Resource::Nproc => Kernel::Nproc,
        Resource::Rss => Kernel::Rss,
        Resource::Rtprio => Kernel::Rtprio,
        Resource::Rttime => Kernel::Rttime,
        Resource::Sigpending => Kernel::Sigpending,
        Resource::Stack => Kernel::Stack,
    }
}

/// The last entry of each name, in the order of the first ones.
fn environment(entries: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        match environment.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => environment.push((name.clone(), value.clone())),
        }
    }
    environment
}

/// The order matters: the filter needs `CAP_SYS_ADMIN` to be installed while setuid programs still
/// work, the bounding set needs `CAP_SETPCAP`, and the change of user ends both.
fn drop_privileges(spec: &ProcessSpec, channel: &UnixStream) -> Result<(), SetUpError> {
    let security = &spec.security;
    let keep = security.capabilities.bits();
    if spec.one_id && spec.user.uid != 0 {
        rename_the_one_id(spec)?;
    }
    sys::credential::limit_capabilities(keep).during(|| "limit the capabilities".to_owned())?;
    if let (true, Some(architecture)) = (spec.clock_ahead != 0, Architecture::native()) {
        sys::seccomp::install(&clock::filter(architecture))
            .during(|| "install the filter for another clock".to_owned())?;
    }
    let is_heard = spec.one_id && install_asking_filter(spec, channel)?;
    if let (true, false, Some(architecture)) = (security.seccomp, is_heard, Architecture::native())
    {
        let filter = docker_default(architecture, security.capabilities);
        sys::seccomp::install(&filter).during(|| "install the system call filter".to_owned())?;
    }
    // Otherwise it is that user already, as far as the kernel is concerned.
    if !spec.one_id {
        set_user(spec)?;
    }
    sys::credential::set_capabilities(keep).during(|| "set the capabilities".to_owned())?;
    if security.no_new_privileges {
        sys::credential::set_no_new_privileges().during(|| "set no_new_privs".to_owned())?;
    }
    Ok(())
}

/// Moves into a user namespace in which the one id is the program's user: so it sees itself as the
/// owner of files, and not as root.
fn rename_the_one_id(spec: &ProcessSpec) -> Result<(), SetUpError> {
    let named = |kind, inside| {
        let map = IdMapping {
            inside,
            outside: 0,
            count: 1,
        };
        sys::user_namespace::write_own_map(kind, map)
    };
    let user = &spec.user;
    sys::process::unshare(Namespaces::default(), true)
        .and_then(|()| named(IdKind::User, user.uid))
        .and_then(|()| named(IdKind::Group, user.gid))
        .during(|| format!("become user {} and group {}", user.uid, user.gid))
}

/// Installs the filter that leaves calls about users and owners to the supervisor. `false` where
/// there can be none: the surroundings have such a filter themselves, or there is no table.
fn install_asking_filter(spec: &ProcessSpec, channel: &UnixStream) -> Result<bool, SetUpError> {
    let security = &spec.security;
    let Some(architecture) = Architecture::native() else {
        return Ok(false);
    };
    let docker = security.seccomp.then_some(security.capabilities);
    let filter = one_id::filter(architecture, docker);
    let Ok(listener) = sys::seccomp::listen(&filter) else {
        return Ok(false);
    };
    wire::send(channel, &Notice::Asks, &[listener.as_fd()])
        .during(|| "hand over the system call filter".to_owned())?;
    Ok(true)
}

fn set_user(spec: &ProcessSpec) -> Result<(), SetUpError> {
    let user = &spec.user;
    let set = match setgroups_denied() {
        // A user namespace that somebody else made, with one id: there are no other groups.
        true => sys::credential::set_ids(user.uid, user.gid),
        false => sys::credential::set_user(user.uid, user.gid, &user.groups),
    };
    set.during(|| {
        format!(
            "become user {} and group {} (are they mapped into the user namespace?)",
            user.uid, user.gid
        )
    })
}

fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

/// Finds a program as `execvp(3)` would.
fn find(program: &OsStr, path: &OsStr) -> Result<CString, ExecError> {
    let shown = program.to_string_lossy().into_owned();
    let string = |path: Vec<u8>| {
        CString::new(path).map_err(|_| ExecError::NotFound {
            program: shown.clone(),
            path: String::new(),
        })
    };
    if program.as_bytes().contains(&b'/') {
        return match candidate(Path::new(program)) {
            Candidate::Directory => Err(ExecError::Directory { program: shown }),
            _ => string(program.as_bytes().to_vec()),
        };
    }
    let mut refused = None;
    for directory in path.as_bytes().split(|&byte| byte == b':') {
        if program.is_empty() {
            break;
        }
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let full = OsString::from_vec([directory, b"/", program.as_bytes()].concat());
        match candidate(Path::new(&full)) {
            Candidate::Program => return string(full.into_vec()),
            Candidate::NotExecutable => {
                refused.get_or_insert(full.to_string_lossy().into_owned());
            }
            Candidate::Directory | Candidate::Absent => {}
        }
    }
    Err(match refused {
        Some(program) => ExecError::PermissionDenied { program },
        None => ExecError::NotFound {
            program: shown,
            path: path.to_string_lossy().into_owned(),
        },
    })
}

enum Candidate {
    Program,
    NotExecutable,
    Directory,
    Absent,
}

fn candidate(path: &Path) -> Candidate {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Candidate::Directory,
        Ok(found) if found.permissions().mode() & 0o111 != 0 => Candidate::Program,
        Ok(_) => Candidate::NotExecutable,
        Err(_) => Candidate::Absent,
    }
}

fn explain_file(path: &Path, errno: i32) -> ExecError {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    // A program that may be executed but not read is there all the same.
    let there = read.is_ok() || path.exists();
    let head = there.then_some(head.as_slice());
    explain(&path.to_string_lossy(), errno, head, |path| {
        Path::new(path).exists()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_variables_replace_earlier_ones() {
        let entry = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let merged = environment(&[entry("A", "1"), entry("B", "2"), entry("A", "3")]);
        assert_eq!(merged, [entry("A", "3"), entry("B", "2")]);
    }

    #[test]
    fn programs_are_found_in_path_order() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        make("a/tool", 0o644);
        make("b/tool", 0o755);
        make("a/text", 0o644);
        std::fs::create_dir(dir.path().join("a/dir")).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let path = OsString::from(format!("{}:{}", at("a"), at("b")));
        let find = |program: &str| find(OsStr::new(program), &path);
        assert_eq!(find("tool").unwrap().into_string().unwrap(), at("b/tool"));
        assert_eq!(find("text").unwrap_err().exit_code(), 126);
        assert_eq!(find("none").unwrap_err().exit_code(), 127);
        assert_eq!(find("dir").unwrap_err().exit_code(), 127);
        assert_eq!(find("").unwrap_err().exit_code(), 127);
        assert_eq!(find(&at("a/dir")).unwrap_err().exit_code(), 126);
    }
}
