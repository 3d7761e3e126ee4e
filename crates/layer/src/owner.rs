//! Users and groups by name, from the `passwd` and `group` files of a tree.
//!
//! Three rules meet here and they differ on purpose: `--chown` and `WORKDIR` give a number without
//! group the group of the same number, a process's user gives a number without entry group 0. An
//! unknown name is an error, but for `WORKDIR`, which takes root.

use std::io;
use std::os::unix::fs::FileExt;

use crate::resolve::{Links, ResolveError, resolve};
use crate::{Kind, RelPath, View};

/// Most bytes of a `passwd` or `group` file that are read.
pub const MAX_ACCOUNT_FILE: u64 = 16 << 20;

/// A user or group, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// `user[:group]` of `--chown` and `WORKDIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerSpec {
    /// User.
    pub user: Principal,
    /// Group; `None` follows from the user.
    pub group: Option<Principal>,
}

/// Owner and group of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessUser {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// For `HOME`: the home directory of the user's entry, `/` without one.
    pub home: String,
}

/// The accounts of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// Why accounts could not be read or a process's user not be found.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The path of the file leads in circles, or the tree cannot be read.
    #[error("find /{path}")]
    Resolve {
        /// `etc/passwd` or `etc/group`.
        path: &'static str,
        /// Why.
        source: ResolveError,
    },
    /// The file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file, links followed.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// The file is longer than [`MAX_ACCOUNT_FILE`].
    #[error("read {path}: {size} bytes are more than the limit of {MAX_ACCOUNT_FILE}")]
    TooLarge {
        /// The file, links followed.
        path: RelPath,
        /// Its length in bytes.
        size: u64,
    },
    /// No such user.
    #[error(
        "unable to find user {name}: no matching entries in passwd file{}",
        known_names(known)
    )]
    UnknownUser {
        /// The name.
        name: String,
        /// The names that there are, in the order of the file.
        known: Vec<String>,
    },
    /// No such group.
    #[error(
        "unable to find group {name}: no matching entries in group file{}",
        known_names(known)
    )]
    UnknownGroup {
        /// The name.
        name: String,
        /// The names that there are, in the order of the file.
        known: Vec<String>,
    },
}

/// ` (it has a, b, c and 7 more)`
fn known_names(known: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = known
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match known.len() {
        0 => " (it is empty or missing)".to_owned(),
        n if n > SHOWN => format!(" (it has {shown} and {} more)", n - SHOWN),
        _ => format!(" (it has {shown})"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl OwnerSpec {
    /// Parses `user[:group]`; numbers are ids. An empty user is 0, an empty group none.
    pub fn parse(text: &str) -> OwnerSpec {
        let principal = |text: &str| match text.parse() {
            Ok(id) => Principal::Id(id),
            Err(_) if text.is_empty() => Principal::Id(0),
            Err(_) => Principal::Name(text.to_owned()),
        };
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let group = (!group.is_empty()).then(|| principal(group));
        OwnerSpec {
            user: principal(user),
            group,
        }
    }

    /// Whether a name has to be looked up.
    pub fn has_names(&self) -> bool {
        let named = |p: &Principal| matches!(p, Principal::Name(_));
        named(&self.user) || self.group.as_ref().is_some_and(named)
    }

    /// The ids, when there is no name to look up.
    pub fn ids(&self) -> Option<Ids> {
        let ids = (!self.has_names()).then(|| Accounts::default().owner(self));
        ids?.ok()
    }
}

impl Accounts {
    /// Reads `etc/passwd` and `etc/group`, following links inside the tree. A file that is
    /// missing, or no regular file, has no entries; a line that makes no sense is skipped.
    ///
    /// # Errors
    /// When a file exists but cannot be read or is too large.
    pub fn read(view: &dyn View) -> Result<Accounts, OwnerError> {
        let users = read_file(view, "etc/passwd")?
            .lines()
            .filter_map(parse_user)
            .collect();
        let groups = read_file(view, "etc/group")?
            .lines()
            .filter_map(parse_group)
            .collect();
        Ok(Accounts { users, groups })
    }

    /// The owner that `--chown` gives. A number is taken as it is, and without a group means the
    /// group of that number; a name means its entry's group.
    ///
    /// # Errors
    /// When a name has no entry.
    pub fn owner(&self, spec: &OwnerSpec) -> Result<Ids, OwnerError> {
        let mut ids = match &spec.user {
            Principal::Id(id) => Ids { uid: *id, gid: *id },
            Principal::Name(name) => {
                let user = self.users.iter().find(|user| user.name == *name);
                let user = user.ok_or_else(|| self.unknown_user(name))?;
                Ids {
                    uid: user.uid,
                    gid: user.gid,
                }
            }
        };
        match &spec.group {
            None => {}
            Some(Principal::Id(id)) => ids.gid = *id,
            Some(Principal::Name(name)) => {
                let group = self.groups.iter().find(|group| group.name == *name);
                ids.gid = group.ok_or_else(|| self.unknown_group(name))?.gid;
            }
        }
        Ok(ids)
    }

    fn unknown_user(&self, name: &str) -> OwnerError {
        OwnerError::UnknownUser {
            name: name.to_owned(),
            known: self.users.iter().map(|user| user.name.clone()).collect(),
        }
    }

    fn unknown_group(&self, name: &str) -> OwnerError {
        OwnerError::UnknownGroup {
            name: name.to_owned(),
            known: self.groups.iter().map(|group| group.name.clone()).collect(),
        }
    }

    /// The user of a process, from the text of `USER` (empty is root): `user`, `uid`,
    /// `user:group`, … A user with an entry and without an explicit group is in all groups that
    /// list it.
    ///
    /// # Errors
    /// When a name has no entry.
    pub fn process_user(&self, text: &str) -> Result<ProcessUser, OwnerError> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let user = if user.is_empty() { "0" } else { user };
        let number: Option<u32> = user.parse().ok();
        let entry = self
            .users
            .iter()
            .find(|u| u.name == user || Some(u.uid) == number);
        let (uid, gid, home) = match (entry, number) {
            (Some(entry), _) => (entry.uid, entry.gid, entry.home.clone()),
            (None, Some(uid)) => (uid, 0, String::new()),
            (None, None) => return Err(self.unknown_user(user)),
        };
        let home = if home.is_empty() {
            "/".to_owned()
        } else {
            home
        };
        if !group.is_empty() {
            let gid = self.gid(group)?;
            return Ok(ProcessUser {
                uid,
                gid,
                groups: vec![gid],
                home,
            });
        }
        let mut groups = vec![gid];
        if let Some(entry) = entry {
            for group in self
                .groups
                .iter()
                .filter(|g| g.members.contains(&entry.name))
            {
                if !groups.contains(&group.gid) {
                    groups.push(group.gid);
                }
            }
        }
        Ok(ProcessUser {
            uid,
            gid,
            groups,
            home,
        })
    }

    fn gid(&self, group: &str) -> Result<u32, OwnerError> {
        let number: Option<u32> = group.parse().ok();
        let entry = self
            .groups
            .iter()
            .find(|g| g.name == group || Some(g.gid) == number);
        entry
            .map(|g| g.gid)
            .or(number)
            .ok_or_else(|| self.unknown_group(group))
    }
}

fn read_file(view: &dyn View, path: &'static str) -> Result<String, OwnerError> {
    let found = resolve(view, path.as_bytes(), Links::All)
        .map_err(|source| OwnerError::Resolve { path, source })?;
    let Some(Kind::File { size }) = found.node.map(|n| n.kind) else {
        return Ok(String::new());
    };
    let path = found.path;
    if size > MAX_ACCOUNT_FILE {
        return Err(OwnerError::TooLarge { path, size });
    }
    let read = || {
        let content = view.open(&path)?;
        // `size` is small, and so is `len` unless the file has grown since.
        let mut bytes = vec![0; content.len.min(MAX_ACCOUNT_FILE) as usize];
        content.file.read_exact_at(&mut bytes, content.offset)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|source| OwnerError::Read {
        path: path.clone(),
        source,
    })
}

/// `name:password:uid:gid:comment:home:shell`
fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|n| !n.is_empty() && !n.starts_with('#'))?
        .to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).unwrap_or_default().to_owned();
    Some(User {
        name,
        uid,
        gid,
        home,
    })
}

/// `name:password:gid:member,member`
fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|n| !n.is_empty() && !n.starts_with('#'))?
        .to_owned();
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields.next().unwrap_or_default().split(',');
    let members = members
        .filter(|m| !m.is_empty())
        .map(str::to_owned)
        .collect();
    Some(Group { name, gid, members })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{MemView, node};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\n\napp:x:1000:1001::/home/app:\n\
                          +nis\nbroken:x:a:b\nnohome:x:7:8\n42:x:500:501::/odd:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app,other\nwheel:x:10:root,app\napp:x:1001:app\n";

    fn accounts() -> Accounts {
        let mut view = MemView::parse("etc/passwd ->../lib/passwd\n");
        for (path, text) in [("lib/passwd", PASSWD), ("etc/group", GROUP)] {
            let kind = Kind::File {
                size: text.len() as u64,
            };
            view.put(
                &RelPath::new(path).unwrap(),
                node(kind, 0o644),
                text.as_bytes(),
            );
        }
        Accounts::read(&view).unwrap()
    }

    #[test]
    fn c12_chown() {
        for (text, uid, gid) in [
            ("0", 0, 0),
            ("1000", 1000, 1000),
            ("1000:5", 1000, 5),
            ("app", 1000, 1001),
            ("app:staff", 1000, 50),
            ("7:staff", 7, 50),
            ("", 0, 0),
        ] {
            let ids = accounts().owner(&OwnerSpec::parse(text)).unwrap();
            assert_eq!(ids, Ids { uid, gid }, "{text}");
        }
        let missing = Accounts::read(&MemView::new()).unwrap();
        for (accounts, text, says) in [
            (accounts(), "unknown", "user unknown"),
            (accounts(), "app:unknown", "group unknown"),
            (accounts(), "unknown:staff", "user unknown"),
            (missing, "app:app", "empty or missing"),
        ] {
            let error = accounts.owner(&OwnerSpec::parse(text)).unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        assert_eq!(OwnerSpec::parse("3").ids(), Some(Ids { uid: 3, gid: 3 }));
        assert_eq!(OwnerSpec::parse("3:g").ids(), None);
    }

    #[test]
    fn r5_process_user() {
        for (text, uid, groups, home) in [
            ("", 0, &[0, 10][..], "/root"),
            ("root", 0, &[0, 10], "/root"),
            ("app", 1000, &[1001, 50, 10], "/home/app"),
            ("1000", 1000, &[1001, 50, 10], "/home/app"),
            ("app:staff", 1000, &[50], "/home/app"),
            ("app:99", 1000, &[99], "/home/app"),
            ("1234", 1234, &[0], "/"),
            ("1234:10", 1234, &[10], "/"),
            ("nohome", 7, &[8], "/"),
            ("42", 500, &[501], "/odd"),
        ] {
            let user = accounts().process_user(text).unwrap();
            assert_eq!(
                (user.uid, &user.groups[..], &*user.home),
                (uid, groups, home),
                "{text}"
            );
            assert_eq!(user.gid, groups[0]);
        }
    }

    #[test]
    fn unknown_users_are_named_together_with_what_exists() {
        let error = accounts().process_user("ap").unwrap_err().to_string();
        assert_eq!(
            error,
            "unable to find user ap: no matching entries in passwd file (it has root, app, nohome, 42)"
        );
        let error = Accounts::default()
            .process_user("app:x")
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("(it is empty or missing)"), "{error}");
        let error = accounts().process_user("app:x").unwrap_err().to_string();
        assert!(error.starts_with("unable to find group x:"), "{error}");
    }

    #[test]
    fn account_files_never_lead_outside_or_block() {
        let odd = MemView::parse("etc/passwd ->/../../proc/self/environ\netc/group %fifo\n");
        assert_eq!(Accounts::read(&odd).unwrap(), Accounts::default());
        let circle = MemView::parse("etc/passwd ->group\netc/group ->passwd\n");
        assert!(matches!(
            Accounts::read(&circle),
            Err(OwnerError::Resolve { .. })
        ));
    }
}
