//! Who a process believes to be, and how it may change that: `credentials(7)` and `capabilities(7)`
//! for the ids alone. Nothing here asks the kernel.

/// Users or groups of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
}

/// All ids of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) users: Ids,
    pub(super) groups: Ids,
    pub(super) supplementary: Vec<u32>,
    /// Device and inode of the program that keeps root's rights, whatever user it becomes.
    pub(super) kept_by: Option<(u64, u64)>,
}

/// Whether a process has root's rights over ids and owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights(bool);

/// The process may not do that: `EPERM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Ids {
    fn all(id: u32) -> Ids {
        Ids {
            real: id,
            effective: id,
            saved: id,
        }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// `setuid(2)`, `setgid(2)`
    fn set(&mut self, id: u32, privileged: bool) -> Result<(), Refused> {
        if privileged {
            *self = Ids::all(id);
        } else if id == self.real || id == self.saved {
            self.effective = id;
        } else {
            return Err(Refused);
        }
        Ok(())
    }

    /// `setreuid(2)`, `setregid(2)`; `None` leaves an id.
    fn set_two(
        &mut self,
        real: Option<u32>,
        effective: Option<u32>,
        privileged: bool,
    ) -> Result<(), Refused> {
        let old = *self;
        let may_real = real.is_none_or(|id| id == old.real || id == old.effective);
        let may_effective = effective.is_none_or(|id| old.has(id));
        if !(privileged || may_real && may_effective) {
            return Err(Refused);
        }
        self.real = real.unwrap_or(old.real);
        self.effective = effective.unwrap_or(old.effective);
        if real.is_some() || effective.is_some_and(|id| id != old.real) {
            self.saved = self.effective;
        }
        Ok(())
    }

    /// `setresuid(2)`, `setresgid(2)`; `None` leaves an id.
    fn set_three(&mut self, ids: [Option<u32>; 3], privileged: bool) -> Result<(), Refused> {
        if !privileged && !ids.iter().flatten().all(|&id| self.has(id)) {
            return Err(Refused);
        }
        let [real, effective, saved] = ids;
        self.real = real.unwrap_or(self.real);
        self.effective = effective.unwrap_or(self.effective);
        self.saved = saved.unwrap_or(self.saved);
        Ok(())
    }
}

/// A change of users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetIds {
    One(u32),
    Two([Option<u32>; 2]),
    Three([Option<u32>; 3]),
}

impl Credentials {
    pub(super) fn new(uid: u32, gid: u32, supplementary: Vec<u32>) -> Credentials {
        Credentials {
            users: Ids::all(uid),
            groups: Ids::all(gid),
            supplementary,
            kept_by: None,
        }
    }

    /// The rights of a process that has these ids and runs the program with this device and inode.
    pub(super) fn rights(&self, program: impl FnOnce() -> Option<(u64, u64)>) -> Rights {
        Rights(self.users.effective == 0 || (self.kept_by.is_some() && self.kept_by == program()))
    }

    pub(super) fn change_users(&mut self, change: SetIds, rights: Rights) -> Result<(), Refused> {
        apply(&mut self.users, change, rights)
    }

    pub(super) fn change_groups(&mut self, change: SetIds, rights: Rights) -> Result<(), Refused> {
        apply(&mut self.groups, change, rights)
    }

    pub(super) fn set_supplementary(
        &mut self,
        groups: Vec<u32>,
        rights: Rights,
    ) -> Result<(), Refused> {
        let Rights(true) = rights else {
            return Err(Refused);
        };
        self.supplementary = groups;
        Ok(())
    }

    /// The owner that a file gets, which belongs to `old`; `None` leaves an id. An owner may give
    /// a file to a group that they are in; all else is root's.
    pub(super) fn chown(
        &self,
        old: (u32, u32),
        (uid, gid): (Option<u32>, Option<u32>),
        rights: Rights,
    ) -> Result<(u32, u32), Refused> {
        let in_group = |gid| self.groups.effective == gid || self.supplementary.contains(&gid);
        let owns = old.0 == self.users.effective;
        let may_user = uid.is_none_or(|uid| owns && uid == old.0);
        let may_group = gid.is_none_or(|gid| owns && (gid == old.1 || in_group(gid)));
        match rights == Rights(true) || (may_user && may_group) {
            true => Ok((uid.unwrap_or(old.0), gid.unwrap_or(old.1))),
            false => Err(Refused),
        }
    }
}

fn apply(ids: &mut Ids, change: SetIds, Rights(privileged): Rights) -> Result<(), Refused> {
    match change {
        SetIds::One(id) => ids.set(id, privileged),
        SetIds::Two([real, effective]) => ids.set_two(real, effective, privileged),
        SetIds::Three(three) => ids.set_three(three, privileged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SetIds::{One, Three, Two};

    /// Changes of the user that a process of root's makes one after the other, whether each is
    /// allowed, and the ids in the end.
    #[track_caller]
    fn check(changes: &[(SetIds, bool)], expect: [u32; 3]) {
        let mut credentials = Credentials::new(0, 0, vec![0]);
        for &(change, allowed) in changes {
            let done = credentials.change_users(change, credentials.rights(|| None));
            assert_eq!(done.is_ok(), allowed, "{change:?} in {changes:?}");
        }
        let Ids {
            real,
            effective,
            saved,
        } = credentials.users;
        assert_eq!([real, effective, saved], expect, "{changes:?}");
    }

    #[test]
    fn privileges_are_given_up_for_good_or_for_a_while() {
        check(&[(One(33), true), (One(0), false)], [33, 33, 33]);
        check(&[(One(33), true), (One(33), true)], [33, 33, 33]);
        // seteuid(2) is the second or third call with one id.
        let seteuid = |id| Three([None, Some(id), None]);
        check(&[(seteuid(33), true), (seteuid(0), true)], [0, 0, 0]);
        check(&[(seteuid(33), true), (One(7), false)], [0, 33, 0]);
        check(
            &[
                (Three([Some(1), Some(2), Some(3)]), true),
                (Three([Some(3), Some(1), Some(2)]), true),
                (Three([Some(4), None, None]), false),
            ],
            [3, 1, 2],
        );
        check(
            &[(Two([Some(33), Some(33)]), true), (One(0), false)],
            [33; 3],
        );
        check(&[(Two([None, Some(33)]), true), (One(0), true)], [0, 0, 33]);
        // The real and the effective id change places.
        check(
            &[
                (Two([Some(5), Some(6)]), true),
                (Two([Some(6), Some(5)]), true),
                (Two([Some(7), None]), false),
            ],
            [6, 5, 5],
        );
    }

    #[test]
    fn groups_follow_the_user_s_rights() {
        let mut who = Credentials::new(0, 0, vec![0]);
        let root = who.rights(|| None);
        assert_eq!(who.set_supplementary(vec![5], root), Ok(()));
        assert_eq!(who.change_groups(One(33), root), Ok(()));
        assert_eq!(who.change_users(One(33), root), Ok(()));
        let user = who.rights(|| None);
        assert_eq!(who.set_supplementary(Vec::new(), user), Err(Refused));
        assert_eq!(who.change_groups(One(0), user), Err(Refused));
        assert_eq!(who.supplementary, [5]);
    }

    #[test]
    fn rights_are_kept_until_the_next_program() {
        let mut who = Credentials::new(33, 33, Vec::new());
        let (this, next) = (Some((1, 2)), Some((1, 3)));
        assert_eq!(who.rights(|| this), Rights(false));
        who.kept_by = this;
        assert_eq!(who.rights(|| this), Rights(true));
        assert_eq!(who.rights(|| next), Rights(false));
        assert_eq!(who.rights(|| None), Rights(false));
    }

    #[test]
    fn files_are_given_away_by_root_only() {
        let user = Credentials::new(33, 33, vec![33, 50]);
        let (to, none) = (Some(7), None);
        for (old, ids, by_root, by_user) in [
            ((1, 2), (to, none), (7, 2), Err(Refused)),
            ((1, 2), (none, to), (1, 7), Err(Refused)),
            ((33, 33), (to, none), (7, 33), Err(Refused)),
            ((33, 33), (Some(33), Some(50)), (33, 50), Ok((33, 50))),
            ((33, 33), (none, Some(51)), (33, 51), Err(Refused)),
            ((1, 33), (none, Some(50)), (1, 50), Err(Refused)),
            ((1, 2), (none, none), (1, 2), Ok((1, 2))),
        ] {
            assert_eq!(user.chown(old, ids, Rights(true)), Ok(by_root), "{ids:?}");
            assert_eq!(user.chown(old, ids, Rights(false)), by_user, "{ids:?}");
        }
    }
}
