//! Whose is what the processes of a step made: in a user namespace of one id the kernel gives every
//! new file to that id, be the process another user in name, or the directory another group's.
//!
//! Nobody was there when it was made, so this is told by what can be seen afterwards:
//!
//! | made | belongs to |
//! |---|---|
//! | in a directory of a user that a process of the step became (`su app -c …`) | that user |
//! | elsewhere | the user that the step's program ran as |
//! | in a directory with the setgid bit | the directory's group |
//! | in the place of a regular file with the same permissions, and given the owner that all files seem to have | the old file's owner |
//!
//! A program that puts a new file in the place of an old one, as `sed -i` and `useradd` do, gives it
//! the owner that it saw the old one have. That is the one id, which is not what the program meant.
//!
//! An overlay upper directory tells what was made from what came up out of a layer below because
//! something changed it: the latter has a mark of where it came from. Links and pipes can have no
//! such mark; of those, one that is below just the same came up.

use crate::host::kind_of;
use crate::owner::Ids;
use crate::root::{PathError, Root};
use crate::walk::{Descend, Listed, preorder};
use crate::{Kind, Marks, RelPath, View};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use sys::fs::{FileType, Stat, Target};

/// Who may have made something.
#[derive(Clone, Copy, Debug)]
pub struct Makers<'a> {
    /// What the step's program ran as.
    pub program: Ids,
    /// What processes became besides.
    pub others: &'a [Ids],
}

/// What a directory says of what is made in it.
#[derive(Clone, Copy, Default)]
struct Given {
    owner: Option<Ids>,
    group: Option<u32>,
}

/// Writes owners down for what was made in the upper directory `upper`, of an overlay mounted with
/// `userxattr` over `below`; not for what has an owner written down.
///
/// # Errors
/// When the directory cannot be read, or an owner not be written.
pub fn record_owners_of_new(upper: &Path, below: &dyn View, makers: Makers<'_>) -> io::Result<()> {
    let root = Root::open(upper)?;
    let mut directories: HashMap<RelPath, Given> = HashMap::new();
    let entries = preorder(&RelPath::root(), |directory| list(&root, directory))?;
    for (path, stat) in entries {
        let given = path.parent().and_then(|parent| directories.get(&parent));
        let Given { owner, group } = given.copied().unwrap_or_default();
        let owner = owner.unwrap_or(makers.program);
        let owner = Ids {
            gid: group.unwrap_or(owner.gid),
            ..owner
        };
        let setgid = stat.kind == FileType::Directory && stat.mode & SETGID != 0;
        let gives = setgid || (stat.kind == FileType::Directory && !makers.others.is_empty());
        let may_replace = stat.kind == FileType::RegularFile;
        if owner == Ids::default() && !gives && !may_replace {
            continue;
        }
        let entry = || {
            let (parent, name) = root.parent(&path)?;
            let there = (parent.as_fd(), name);
            recorded(there, &path, &stat, below, owner)
        };
        let ids = entry().map_err(|error| PathError::new("give away", &path, error))?;
        if gives {
            let owner = makers.others.iter().find(|maker| maker.uid == ids.uid);
            let given = Given {
                owner: owner.copied(),
                group: setgid.then_some(ids.gid),
            };
            directories.insert(path, given);
        }
    }
    Ok(())
}

const SETGID: u32 = 0o2000;

/// Writes the owner down for an inode that was made. Returns whose the inode is.
fn recorded(
    (parent, name): (BorrowedFd<'_>, &[u8]),
    path: &RelPath,
    stat: &Stat,
    below: &dyn View,
    owner: Ids,
) -> io::Result<Ids> {
    let target = Target::Name(parent, name);
    let recorded = sys::fs::recorded_owner(target, stat.kind)?;
    let came_up = || match stat.kind {
        FileType::RegularFile | FileType::Directory => {
            let origin = [Marks::User.prefix(), b"origin"].concat();
            Ok(sys::fs::get_xattr(target, &origin)?.is_some())
        }
        _ => is_below(below, path, &kind_of(parent, name, stat)?, stat),
    };
    let owner = match recorded {
        Some((0, 0)) if !came_up()? => replaced(below, path, stat)?,
        None if owner != Ids::default() && !came_up()? => Some(owner),
        _ => None,
    };
    let Some(owner) = owner else {
        let (uid, gid) = recorded.unwrap_or_default();
        return Ok(Ids { uid, gid });
    };
    sys::fs::record_owner(target, stat.kind, (owner.uid, owner.gid))?;
    Ok(owner)
}

/// The owner of the file whose place another one took, if it has the same permissions.
fn replaced(below: &dyn View, path: &RelPath, stat: &Stat) -> io::Result<Option<Ids>> {
    let node = below.lookup(path)?;
    let node = node.filter(|node| matches!(node.kind, Kind::File { .. }));
    Ok(node.map(|node| node.metadata).and_then(|metadata| {
        let owner = Ids {
            uid: metadata.uid,
            gid: metadata.gid,
        };
        (metadata.mode == stat.mode && owner != Ids::default()).then_some(owner)
    }))
}

fn is_below(below: &dyn View, path: &RelPath, kind: &Kind, stat: &Stat) -> io::Result<bool> {
    let time = (stat.mtime.seconds, stat.mtime.nanos);
    let node = below.lookup(path)?;
    Ok(node.is_some_and(|node| {
        let mtime = node.metadata.mtime;
        node.kind == *kind && (mtime.seconds, mtime.nanos) == time
    }))
}

/// What is in a directory, without whiteouts.
fn list(root: &Root, directory: &RelPath) -> io::Result<Vec<Listed<Stat>>> {
    let opened = root.open_directory(directory)?;
    let mut entries = sys::fs::read_dir(&opened)?;
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut listed = Vec::with_capacity(entries.len());
    for entry in entries {
        let path = directory.join(&entry.name).map_err(io::Error::other)?;
        let stat = sys::fs::stat_at(&opened, &*entry.name)
            .map_err(|error| PathError::new("read", &path, error))?;
        if stat.kind == FileType::CharacterDevice && stat.rdev == (0, 0) {
            continue;
        }
        let descend = Descend::into_directory(stat.kind == FileType::Directory);
        listed.push(Listed {
            path,
            item: stat,
            descend,
        });
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;
    use crate::mem::{MemView, node};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    /// How something comes to be in the upper directory.
    #[derive(Clone, Copy)]
    enum Way {
        Made,
        CameUp,
        /// Made, and given the owner that all files seem to have.
        AsSeen,
        Given(u32, u32),
    }
    use Way::{AsSeen, CameUp, Given, Made};

    const USER: Ids = Ids { uid: 33, gid: 44 };
    /// A process of each step was this user too.
    const OTHER: Ids = Ids { uid: 7, gid: 9 };
    const ROOT: Ids = Ids { uid: 0, gid: 0 };

    fn of(node: Node, uid: u32, gid: u32) -> Node {
        let mut node = node;
        (node.metadata.uid, node.metadata.gid) = (uid, gid);
        node
    }

    /// Puts `entries` (a directory ends in `/`) into an upper directory over a tree in which `old`
    /// is a file of 5:6 with mode 0640, and compares the owners that are written down then.
    #[track_caller]
    fn check(entries: &[(&str, u32, Way)], program: Ids, expect: &[(&str, Option<(u32, u32)>)]) {
        let upper = tempfile::tempdir().expect("a directory");
        let mut below = MemView::new();
        let old = of(node(Kind::File { size: 0 }, 0o640), 5, 6);
        below.put(&RelPath::new("old").expect("a path"), old, b"");
        let target = |path: &Path| std::fs::File::open(path).expect("it is there");
        for &(name, mode, way) in entries {
            let path = upper.path().join(name);
            let kind = match name.ends_with('/') {
                true => std::fs::create_dir(&path).map(|()| FileType::Directory),
                false => std::fs::write(&path, "").map(|()| FileType::RegularFile),
            };
            let kind = kind.expect("it is made");
            let set = std::fs::set_permissions(&path, Permissions::from_mode(mode));
            set.expect("it has its mode");
            let file = target(&path);
            let inode = Target::File(file.as_fd());
            let marked = match way {
                Made => Ok(()),
                CameUp => sys::fs::set_xattr(inode, b"user.overlay.origin", b""),
                AsSeen => sys::fs::record_seen_owner(inode),
                Given(uid, gid) => sys::fs::record_owner(inode, kind, (uid, gid)),
            };
            marked.expect("the file system has attributes");
        }
        let makers = Makers {
            program,
            others: &[OTHER],
        };
        record_owners_of_new(upper.path(), &below, makers).expect("owners are recorded");
        for &(name, expect) in expect {
            let file = target(&upper.path().join(name));
            let recorded =
                sys::fs::recorded_owner(Target::File(file.as_fd()), FileType::RegularFile);
            assert_eq!(recorded.expect("it is read"), expect, "{name}");
        }
    }

    #[test]
    fn what_a_user_made_is_the_user_s() {
        check(
            &[
                ("d/", 0o755, Made),
                ("d/f", 0o644, Made),
                ("up/", 0o755, CameUp),
                ("up/f", 0o644, Made),
                ("file", 0o644, CameUp),
                ("given", 0o644, Given(5, 8)),
            ],
            USER,
            &[
                ("d", Some((33, 44))),
                ("d/f", Some((33, 44))),
                ("up", None),
                ("up/f", Some((33, 44))),
                ("file", None),
                ("given", Some((5, 8))),
            ],
        );
    }

    #[test]
    fn what_is_made_where_another_user_is_at_home_is_that_user_s() {
        check(
            &[
                ("home/", 0o755, Given(7, 8)),
                ("home/f", 0o644, Made),
                ("home/d/", 0o755, Made),
                ("home/d/f", 0o644, Made),
                ("home/up", 0o644, CameUp),
                ("home/root", 0o644, AsSeen),
                ("stranger/", 0o755, Given(10, 8)),
                ("stranger/f", 0o644, Made),
            ],
            ROOT,
            &[
                ("home/f", Some((7, 9))),
                ("home/d", Some((7, 9))),
                ("home/d/f", Some((7, 9))),
                ("home/up", None),
                ("home/root", Some((0, 0))),
                ("stranger/f", None),
            ],
        );
    }

    #[test]
    fn a_directory_gives_its_group_to_what_is_made_in_it() {
        check(
            &[
                ("d/", 0o2775, Given(0, 50)),
                ("d/f", 0o644, Made),
                ("d/e/", 0o2775, Made),
                ("d/e/f", 0o644, Made),
                ("d/up", 0o644, CameUp),
                ("other", 0o644, Made),
            ],
            ROOT,
            &[
                ("d/f", Some((0, 50))),
                ("d/e", Some((0, 50))),
                ("d/e/f", Some((0, 50))),
                ("d/up", None),
                ("other", None),
            ],
        );
    }

    #[test]
    fn what_takes_the_place_of_a_file_takes_its_owner_if_it_meant_to() {
        for (mode, way, expect) in [
            (0o640, AsSeen, Some((5, 6))),
            (0o644, AsSeen, Some((0, 0))),
            (0o640, Made, None),
            (0o640, Given(1, 1), Some((1, 1))),
        ] {
            check(&[("old", mode, way)], ROOT, &[("old", expect)]);
        }
        check(&[("new", 0o640, AsSeen)], ROOT, &[("new", Some((0, 0)))]);
    }
}
