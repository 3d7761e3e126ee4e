//! The system calls that are decided here, and how their arguments read on each architecture.

use super::credentials::SetIds;
use crate::seccomp::{Architecture, Number, numbers};
use std::collections::HashMap;

/// What is decided on, by name; on limits, by the filter itself. The names with `32` are variants of
/// 32-bit architectures, whose calls without it take 16-bit ids.
pub(super) const ASKED: &[&str] = &[
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "prctl",
    "prlimit64",
    "setrlimit",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getuid",
    "getuid32",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Group,
}

/// Which file a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// A descriptor.
    Open(i32),
    /// A path, from a directory or from the working directory.
    Path {
        directory: Option<i32>,
        /// Address of the path.
        path: u64,
        follow: bool,
        /// An empty path is the directory itself.
        or_directory: bool,
    },
}

/// What a process asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    ChangeOwner {
        file: File,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Is(Question),
    Become(Change),
}

/// What a process asks about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Real(Kind),
    /// The calls that set the id for file systems say this too, whether they change it or not.
    Effective(Kind),
    /// Real, effective and saved id, to these addresses.
    Three(Kind, [u64; 3]),
    /// All groups, if there is room for so many.
    Supplementary {
        room: u32,
        address: u64,
    },
}

/// What a process asks to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Users(SetIds),
    Groups(SetIds),
    Supplementary {
        count: u32,
        address: u64,
    },
    /// `PR_SET_KEEPCAPS`: root's rights outlast a change of user, until the next program.
    KeepRights(bool),
}

/// The numbers of [`ASKED`].
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<(u32, u32), (&'static str, bool)>);

/// `AT_FDCWD`, `AT_SYMLINK_NOFOLLOW`, `AT_EMPTY_PATH`
const CURRENT: i32 = -100;
const NOFOLLOW: u32 = 0x100;
const EMPTY_PATH: u32 = 0x1000;

impl Table {
    pub(super) fn new(architecture: Architecture) -> Table {
        let all = numbers(architecture).filter(|(name, _)| ASKED.contains(name));
        Table(all.map(entry).collect())
    }

    /// What a call asks for, and whether it speaks of ids with 16 bits; `None` if it makes no
    /// sense, which the kernel may say.
    pub(super) fn request(
        &self,
        audit: u32,
        number: i32,
        arguments: &[u64; 6],
    ) -> Option<(Request, bool)> {
        let &(name, short) = self.0.get(&(audit, number.cast_unsigned()))?;
        Some((request(name, short, arguments)?, short))
    }
}

fn entry((name, at): (&'static str, Number)) -> ((u32, u32), (&'static str, bool)) {
    let plain = name.strip_suffix("32");
    // It came later than the wide ids.
    let short = at.has_short_ids && plain.is_none() && name != "fchownat";
    ((at.audit, at.number), (plain.unwrap_or(name), short))
}

fn request(name: &str, short: bool, arguments: &[u64; 6]) -> Option<Request> {
    use Kind::{Group, User};
    let word = |at: usize| arguments[at] as u32;
    let number = |at: usize| word(at).cast_signed();
    // All bits set leave an id.
    let id = |at: usize| match short {
        true => Some(word(at) & 0xffff).filter(|&id| id != 0xffff),
        false => Some(word(at)).filter(|&id| id != u32::MAX),
    };
    let three = || SetIds::Three([id(0), id(1), id(2)]);
    let addresses = || [arguments[0], arguments[1], arguments[2]];
    let path = |directory, at: usize, follow| File::Path {
        directory,
        path: arguments[at],
        follow,
        or_directory: false,
    };
    let change_owner = |file, first: usize| Request::ChangeOwner {
        file,
        uid: id(first),
        gid: id(first + 1),
    };
    Some(match name {
        "chown" => change_owner(path(None, 0, true), 1),
        "lchown" => change_owner(path(None, 0, false), 1),
        "fchown" => change_owner(File::Open(number(0)), 1),
        "fchownat" => {
            let flags = word(4);
            if flags & !(NOFOLLOW | EMPTY_PATH) != 0 {
                return None;
            }
            let file = File::Path {
                directory: Some(number(0)).filter(|&directory| directory != CURRENT),
                path: arguments[1],
                follow: flags & NOFOLLOW == 0,
                or_directory: flags & EMPTY_PATH != 0,
            };
            change_owner(file, 2)
        }
        "prctl" => Request::Become(Change::KeepRights(arguments[1] != 0)),
        "setuid" => Request::Become(Change::Users(SetIds::One(id(0)?))),
        "setgid" => Request::Become(Change::Groups(SetIds::One(id(0)?))),
        "setreuid" => Request::Become(Change::Users(SetIds::Two([id(0), id(1)]))),
        "setregid" => Request::Become(Change::Groups(SetIds::Two([id(0), id(1)]))),
        "setresuid" => Request::Become(Change::Users(three())),
        "setresgid" => Request::Become(Change::Groups(three())),
        "setgroups" => Request::Become(Change::Supplementary {
            count: word(0),
            address: arguments[1],
        }),
        "getuid" => Request::Is(Question::Real(User)),
        "getgid" => Request::Is(Question::Real(Group)),
        "geteuid" | "setfsuid" => Request::Is(Question::Effective(User)),
        "getegid" | "setfsgid" => Request::Is(Question::Effective(Group)),
        "getresuid" => Request::Is(Question::Three(User, addresses())),
        "getresgid" => Request::Is(Question::Three(Group, addresses())),
        "getgroups" => Request::Is(Question::Supplementary {
            room: word(0),
            address: arguments[1],
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const X86: u32 = 0x4000_0003;
    const AARCH64: u32 = 0xc000_00b7;
    const ARM: u32 = 0x4000_0028;
    /// -1 as a 64-bit process passes a 32-bit id.
    const LEAVE: u64 = 0xffff_ffff;

    #[track_caller]
    fn check(audit: u32, number: i32, arguments: [u64; 6], expect: Option<(Request, bool)>) {
        let architecture = match audit {
            AARCH64 | ARM => Architecture::Aarch64,
            _ => Architecture::X86_64,
        };
        let found = Table::new(architecture).request(audit, number, &arguments);
        assert_eq!(found, expect, "call {number} of {audit:#x}");
    }

    #[test]
    fn every_architecture_changes_owners() {
        let by_path = |directory, follow, or_directory| File::Path {
            directory,
            path: 8,
            follow,
            or_directory,
        };
        let gives = |file, uid, gid| Request::ChangeOwner { file, uid, gid };
        let (one, two) = (Some(1), Some(2));
        let plain = by_path(None, true, false);
        let from_cwd = u64::from(CURRENT.cast_unsigned());
        for (audit, number) in [
            (X86_64, 92),
            (X86_64, 0x4000_0000 | 92),
            (X86, 212),
            (ARM, 212),
        ] {
            let expect = Some((gives(plain, one, two), false));
            check(audit, number, [8, 1, 2, 0, 0, 0], expect);
        }
        for audit in [X86, ARM] {
            let expect = Some((gives(plain, None, two), true));
            check(audit, 182, [8, 0xffff, 0x1_0002, 0, 0, 0], expect);
        }
        for (audit, number) in [(X86_64, 260), (X86, 298), (AARCH64, 54), (ARM, 325)] {
            let at = |directory, flags| [directory, 8, LEAVE, 2, flags, 0];
            for (directory, flags, file) in [
                (from_cwd, 0, by_path(None, true, false)),
                (7, 0x100, by_path(Some(7), false, false)),
                (7, 0x1000, by_path(Some(7), true, true)),
            ] {
                let expect = Some((gives(file, None, two), false));
                check(audit, number, at(directory, flags), expect);
            }
            check(audit, number, at(7, 0x800), None);
        }
        let open = Some((gives(File::Open(5), one, two), false));
        check(AARCH64, 55, [5, 1, 2, 0, 0, 0], open);
    }

    #[test]
    fn identities_are_read_and_set() {
        let users = |ids| Some((Request::Become(Change::Users(ids)), false));
        check(X86_64, 105, [33, 0, 0, 0, 0, 0], users(SetIds::One(33)));
        let two = SetIds::Two([None, Some(33)]);
        check(X86_64, 113, [LEAVE, 33, 0, 0, 0, 0], users(two));
        let real = Some((Request::Is(Question::Real(Kind::User)), true));
        check(X86, 24, [0; 6], real);
        check(X86_64, 1, [0; 6], None);
    }

    #[test]
    fn every_name_is_in_the_table_of_calls() {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            let known: Vec<&str> = numbers(architecture).map(|(name, _)| name).collect();
            for name in ASKED {
                assert!(known.contains(name), "{name}");
                let plain = name.strip_suffix("32").unwrap_or(name);
                let by_filter = matches!(plain, "prlimit64" | "setrlimit");
                assert!(
                    by_filter || request(plain, false, &[0; 6]).is_some(),
                    "{name}"
                );
            }
        }
    }
}
