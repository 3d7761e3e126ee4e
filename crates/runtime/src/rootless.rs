//! Privileges: on which rung of the ladder this process stands, and how an ordinary user gets into
//! a user namespace where containers work.
//!
//! The process itself moves into the namespace and goes on as its root, so that signals, terminal
//! and exit code need no go-between. Only the ids are mapped from outside: a short-lived copy of
//! the process stays behind to run `newuidmap` and `newgidmap`.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use sys::process::{Cloned, Namespaces};
use sys::user_namespace::{self, IdKind, IdMapping, IdRange};

/// What a user can do on this machine, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// (a) Root, of the machine or of a pod with its own user namespace: everything.
    Root,
    /// (b) An ordinary user with subordinate ids: everything in a user namespace.
    Mapped,
    /// (c) An ordinary user without them: a user namespace with one user and group.
    Single,
    /// (d) No namespaces: builds without RUN.
    None,
}

/// Where a process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The rung.
    pub rung: Rung,
    /// One line for the user: the rung and what it costs.
    pub explanation: String,
    /// What must be granted to stand higher; `None` where nothing is wanting.
    pub missing: Option<String>,
    /// Whether overlays need `userxattr`: this process is not root of the machine.
    pub userxattr: bool,
}

/// A user namespace that was left half made: the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The ids could not be mapped.
    #[error("map ids into the user namespace: {said}")]
    Map {
        /// What `newuidmap`, `newgidmap` or the kernel said.
        said: String,
    },
    /// The process could not become root of it.
    #[error("become root of the user namespace")]
    Become {
        /// The errno.
        source: io::Error,
    },
}

/// Finds out where this process stands and, if it is not root already, moves it into a user and
/// mount namespace where it is.
///
/// Called early in `main`, while the process has one thread. On [`Rung::None`] nothing has changed
/// and the process goes on as the user it is.
///
/// # Errors
/// [`EnterError`]; the process is then in a namespace where it can do nothing, and should end.
pub fn enter() -> Result<Standing, EnterError> {
    if sys::process::geteuid().is_root() && can_unshare(false).is_ok() {
        return Ok(root_standing());
    }
    if let Err(error) = can_unshare(true) {
        return Ok(no_standing(&error));
    }
    let plan = Plan::of_this_user();
    let who = match plan {
        Plan::Direct { .. } => "root without CAP_SYS_ADMIN",
        Plan::Helpers { .. } => "ordinary user with subordinate ids",
        Plan::Single { .. } => "ordinary user without subordinate ids",
    };
    let missing = plan.carry_out()?;
    let (rung, cost) = match missing {
        None => (Rung::Mapped, "layers are kept as directories"),
        Some(_) => (Rung::Single, "owners are recorded, processes see one user"),
    };
    Ok(Standing {
        rung,
        explanation: format!("{who}: containers run in a user namespace, {cost}"),
        missing,
        userxattr: true,
    })
}

/// Moves this process, which is root of the machine and has one thread, into a user and mount
/// namespace whose ids from 0 on are `first` and following ones outside, `count` of them.
///
/// # Errors
/// [`EnterError`]; the process is then in a namespace where it can do nothing, and should end.
pub fn enter_mapped(first: u32, count: u32) -> Result<Standing, EnterError> {
    let map = vec![IdMapping {
        inside: 0,
        outside: first,
        count,
    }];
    let plan = Plan::Direct {
        users: map.clone(),
        groups: map,
    };
    map_from_outside(&plan)
        .map_err(|error| map_error(&error))?
        .map_err(|said| EnterError::Map { said })?;
    sys::credential::set_user(0, 0, &[]).map_err(|source| EnterError::Become { source })?;
    Ok(Standing {
        rung: Rung::Mapped,
        explanation: "root of a user namespace of other ids: layers are kept as directories".into(),
        missing: None,
        userxattr: true,
    })
}

fn root_standing() -> Standing {
    let initial = is_initial_namespace();
    Standing {
        rung: Rung::Root,
        explanation: match initial {
            true => "root: all namespaces, kernel overlayfs, packed layers".to_owned(),
            false => "root of a user namespace: all namespaces, kernel overlayfs, layers are \
                      kept as directories"
                .to_owned(),
        },
        missing: None,
        userxattr: !initial,
    }
}

/// Whether this is the user namespace that the machine booted with.
fn is_initial_namespace() -> bool {
    let all = IdMapping {
        inside: 0,
        outside: 0,
        count: u32::MAX,
    };
    user_namespace::current_map(IdKind::User).is_ok_and(|map| map == [all])
}

fn no_standing(error: &io::Error) -> Standing {
    Standing {
        rung: Rung::None,
        explanation: "no namespaces: FROM, COPY and the like work, RUN does not".to_owned(),
        missing: Some(what_forbids(error, |path| {
            std::fs::read_to_string(path).ok()
        })),
        userxattr: true,
    }
}

/// What to grant so that user namespaces can be made, from the errno and the kernel's switches.
fn what_forbids(error: &io::Error, read: impl Fn(&str) -> Option<String>) -> String {
    let switch = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    if switch("/proc/sys/user/max_user_namespaces") == Some(0) {
        return "user namespaces are switched off: sysctl user.max_user_namespaces=15000".into();
    }
    if switch("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return "user namespaces are for root only: sysctl kernel.unprivileged_userns_clone=1"
            .into();
    }
    if switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return "AppArmor restricts user namespaces: sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0, or a profile with `userns,`"
            .into();
    }
    let status = read("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| line == "Seccomp:\t2") {
        return "the system call filter of the surrounding container forbids namespaces: in a \
                pod, set `hostUsers: false` with capability SYS_ADMIN, or \
                `securityContext.seccompProfile.type: Unconfined`"
            .into();
    }
    format!("the kernel refuses to make a user namespace: {error}")
}

/// Whether a mount namespace (in a user namespace of its own, if `user`) can be made and mounted
/// in. Tried in a copy of this process.
fn can_unshare(user: bool) -> io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let namespaces = Namespaces {
        mount: true,
        pid: true,
        ..Namespaces::default()
    };
    match sys::process::clone_process(Namespaces::default(), None)? {
        Cloned::Child => {
            let tried =
                sys::process::unshare(namespaces, user).and_then(|()| sys::mount::make_private());
            let errno = tried.err().and_then(|error| error.raw_os_error());
            (&theirs).write_all(&errno.unwrap_or(0).to_le_bytes()).ok();
            sys::process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let mut errno = [0; 4];
            let answer = ours.read_exact(&mut errno);
            sys::process::wait(pidfd)?;
            answer?;
            match i32::from_le_bytes(errno) {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

/// How ids are mapped.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// By `newuidmap` and `newgidmap`.
    Helpers {
        users: Vec<IdMapping>,
        groups: Vec<IdMapping>,
    },
    /// By the process's own right to set any id.
    Direct {
        users: Vec<IdMapping>,
        groups: Vec<IdMapping>,
    },
    /// Only its own user and group; what would have to be granted for more.
    Single { missing: String },
}

impl Plan {
    fn of_this_user() -> Plan {
        let (uid, gid) = (
            sys::process::geteuid().as_raw(),
            sys::process::getegid().as_raw(),
        );
        if uid == 0 {
            let identity = |kind| -> Vec<IdMapping> {
                let map = user_namespace::current_map(kind).unwrap_or_default();
                let same = |line: IdMapping| IdMapping {
                    outside: line.inside,
                    ..line
                };
                map.into_iter().map(same).collect()
            };
            return Plan::Direct {
                users: identity(IdKind::User),
                groups: identity(IdKind::Group),
            };
        }
        let name = user_namespace::user_name(uid);
        let granted = |kind| user_namespace::grants(kind, name.as_deref(), uid);
        let who = name.clone().unwrap_or_else(|| uid.to_string());
        for kind in [IdKind::User, IdKind::Group] {
            if granted(kind).is_empty() {
                return Plan::Single {
                    missing: format!(
                        "{who} has no line in {}: usermod --add-subuids 100000-165535 \
                         --add-subgids 100000-165535 {who}",
                        kind.grants()
                    ),
                };
            }
        }
        Plan::Helpers {
            users: with_root(uid, &granted(IdKind::User)),
            groups: with_root(gid, &granted(IdKind::Group)),
        }
    }

    /// Makes the namespaces. Tells what kept it from mapping more than one id.
    fn carry_out(self) -> Result<Option<String>, EnterError> {
        let own = |id: u32| IdMapping {
            inside: 0,
            outside: id,
            count: 1,
        };
        let (uid, gid) = (
            sys::process::geteuid().as_raw(),
            sys::process::getegid().as_raw(),
        );
        let refused = match &self {
            Plan::Single { missing } => {
                unshare().map_err(|error| map_error(&error))?;
                Some(missing.clone())
            }
            plan => map_from_outside(plan)
                .map_err(|error| map_error(&error))?
                .err()
                .map(|said| format!("ids could not be mapped ({said}): install uidmap")),
        };
        let Some(missing) = refused else {
            sys::credential::set_user(0, 0, &[]).map_err(|source| EnterError::Become { source })?;
            return Ok(None);
        };
        user_namespace::write_own_map(IdKind::User, own(uid))
            .and_then(|()| user_namespace::write_own_map(IdKind::Group, own(gid)))
            .map_err(|error| map_error(&error))?;
        sys::credential::set_ids(0, 0).map_err(|source| EnterError::Become { source })?;
        Ok(Some(missing))
    }
}

fn map_error(error: &io::Error) -> EnterError {
    EnterError::Map {
        said: error.to_string(),
    }
}

/// Root inside is the user outside; the granted ids follow from 1 on.
fn with_root(id: u32, granted: &[IdRange]) -> Vec<IdMapping> {
    let mut map = vec![IdMapping {
        inside: 0,
        outside: id,
        count: 1,
    }];
    let mut next = 1;
    for range in granted {
        map.push(IdMapping {
            inside: next,
            outside: range.start,
            count: range.count,
        });
        next += range.count;
    }
    map
}

fn unshare() -> io::Result<()> {
    let namespaces = Namespaces {
        mount: true,
        ..Namespaces::default()
    };
    sys::process::unshare(namespaces, true)
}

/// Moves into new namespaces and has a copy that stays outside map the ids. The inner result is
/// what the copy says.
fn map_from_outside(plan: &Plan) -> io::Result<Result<(), String>> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let pid = sys::process::getpid().as_raw_nonzero().get();
    match sys::process::clone_process(Namespaces::default(), None)? {
        Cloned::Child => {
            drop(ours);
            let mut moved = [0];
            if theirs.read_exact(&mut moved).is_ok()
                && let Err(error) = map_all(plan, pid)
            {
                theirs.write_all(error.to_string().as_bytes()).ok();
            }
            sys::process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            unshare()?;
            ours.write_all(&[1])?;
            let mut said = String::new();
            ours.read_to_string(&mut said)?;
            sys::process::wait(pidfd)?;
            Ok(match said.is_empty() {
                true => Ok(()),
                false => Err(said),
            })
        }
    }
}

fn map_all(plan: &Plan, pid: i32) -> io::Result<()> {
    match plan {
        Plan::Helpers { users, groups } => {
            user_namespace::write_map_by_helper(IdKind::User, pid, users)?;
            user_namespace::write_map_by_helper(IdKind::Group, pid, groups)
        }
        Plan::Direct { users, groups } => {
            user_namespace::write_map_of(pid, IdKind::User, users)?;
            user_namespace::write_map_of(pid, IdKind::Group, groups)
        }
        Plan::Single { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_ids_follow_root() {
        let ranges = [
            IdRange {
                start: 100_000,
                count: 10,
            },
            IdRange {
                start: 500_000,
                count: 5,
            },
        ];
        let map: Vec<_> = with_root(1000, &ranges)
            .iter()
            .map(|line| (line.inside, line.outside, line.count))
            .collect();
        assert_eq!(map, [(0, 1000, 1), (1, 100_000, 10), (11, 500_000, 5)]);
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], expect: &str) {
        let read = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        let said = what_forbids(&io::Error::from_raw_os_error(1), read);
        assert!(said.contains(expect), "{said}");
    }

    #[test]
    fn the_missing_permission_is_named() {
        check(
            &[("/proc/sys/user/max_user_namespaces", "0\n")],
            "sysctl user.max_user_namespaces",
        );
        check(
            &[("/proc/sys/kernel/unprivileged_userns_clone", "0\n")],
            "unprivileged_userns_clone=1",
        );
        check(
            &[(
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
            )],
            "AppArmor",
        );
        check(
            &[("/proc/self/status", "NoNewPrivs:\t0\nSeccomp:\t2\n")],
            "hostUsers: false",
        );
        check(&[], "Operation not permitted");
    }
}
