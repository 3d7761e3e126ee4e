//! Other users in a user namespace that has one id: changes of owners are written down, changes of
//! a process's own ids are remembered, and neither reaches the kernel, which would refuse them.
//!
//! ```text
//! container   chown("f", 33, 33) ──► filter: ask ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─► 0
//! supervisor                              └─► find f as the process would
//!                                             chown(f, 0, 0): clears setuid and the like
//!                                             write 33:33 down ([`sys::fs::record_owner`])
//! ```
//!
//! Owners are written down in the container's root file system alone. On what is mounted over it,
//! volumes, caches and the like, a change of owner succeeds and has no effect. What cannot be made
//! sense of is left to the kernel.
//!
//! A process's ids are a row of a table, and the number of the row is kept in a limit of the
//! process that the kernel has had no use for since Linux 2.4 (`RLIMIT_LOCKS`): so children inherit
//! it, programs keep it, and it ends with them. Processes cannot set that limit themselves; `su` with
//! `pam_limits` would reset it.
//!
//! Not here: what `stat(2)` says of owners, which is the one id; access rights, which are those of
//! root for every process.

mod calls;
mod credentials;
mod files;

use crate::capability::CapabilitySet;
use crate::seccomp::{self, Architecture};
use crate::spec::User;
use calls::{ASKED, Change, File, Kind, Question, Request, Table};
use credentials::{Credentials, Ids, Refused, Rights};
use files::{Files, Start};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use sys::Errno;
use sys::fs::{FileType, Target};
use sys::process::{Resource, Rlimit};
use sys::seccomp::{Answer, Call, Instruction, Listener};

/// Upper half of the limit of a process whose ids are a row of the table. The other half is the
/// number of the row.
const ROW: u64 = 0x6b69_6c6e << 32;

/// `NGROUPS_MAX`
const MOST_GROUPS: u32 = 65536;

/// Rows of the table; a process that needs another one is refused.
const MOST_ROWS: usize = 65536;

/// The filter that leaves calls to a listener: docker's for a process with these capabilities, or
/// with `None` one that allows every other call.
pub(crate) fn filter(
    architecture: Architecture,
    docker: Option<CapabilitySet>,
) -> Cow<'static, [Instruction]> {
    match docker {
        Some(CapabilitySet::DOCKER_DEFAULT) if Some(architecture) == Architecture::native() => {
            Cow::Borrowed(&USUAL)
        }
        docker => Cow::Owned(seccomp::compile(architecture, docker, ASKED)),
    }
}

/// The filter of nearly all containers.
static USUAL: LazyLock<Vec<Instruction>> = LazyLock::new(|| {
    let docker = Some(CapabilitySet::DOCKER_DEFAULT);
    let compile = |architecture| seccomp::compile(architecture, docker, ASKED);
    Architecture::native().map_or_else(Vec::new, compile)
});

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Architecture::native().map_or_else(Table::default, Table::new));

/// Makes what nearly all containers need where there is one id, so that copies of this process have
/// it. Elsewhere it does nothing.
pub(crate) fn warm_up() {
    // Nobody may set groups in such a namespace.
    if std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny")) {
        LazyLock::force(&USUAL);
        LazyLock::force(&TABLE);
    }
}

/// Decides on the calls of one container's processes.
#[derive(Debug)]
pub(crate) struct OneId {
    listener: Listener,
    files: Files,
    /// The mount of the container's root.
    mount: u64,
    /// The owner that every file has in the eyes of the processes.
    seen: (u32, u32),
    /// The first is what the container's program begins with.
    rows: Vec<Credentials>,
}

impl OneId {
    /// Takes a listener over from the first process of a container, which has its root already and
    /// will run its program as `user`.
    pub(crate) fn new(listener: OwnedFd, process: u32, user: &User) -> io::Result<OneId> {
        let files = Files::open()?;
        let mount = sys::fs::stat(files.root_of(process)?)?.mount;
        let listener = Listener::from(listener);
        listener.take_turns();
        Ok(OneId {
            listener,
            files,
            mount,
            seen: match user.uid {
                0 => (0, 0),
                uid => (uid, user.gid),
            },
            rows: vec![Credentials::new(user.uid, user.gid, user.groups.clone())],
        })
    }

    /// Decides on the call that waits. `false` when nobody is left who could make one.
    pub(crate) fn serve(&mut self) -> io::Result<bool> {
        let Some(call) = self.listener.next()? else {
            return Ok(false);
        };
        let answer = self.decide(&call);
        match self.listener.answer(&call, answer) {
            // It was killed while it waited.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(true),
            answered => answered.map(|()| true),
        }
    }

    /// Users that processes became besides root and the program's, each with the group that came
    /// last: some set the user first.
    pub(crate) fn became(self) -> Vec<(u32, u32)> {
        let program = self.rows.first().map_or(0, |row| row.users.effective);
        let mut became = BTreeMap::new();
        for row in self.rows {
            let user = row.users.effective;
            if ![0, program].contains(&user) {
                became.insert(user, row.groups.effective);
            }
        }
        became.into_iter().collect()
    }

    fn decide(&mut self, call: &Call) -> Answer {
        let arguments = &call.arguments;
        let request = TABLE.request(call.architecture, call.number, arguments);
        let Some((request, short)) = request else {
            return Answer::Through;
        };
        let row = row_of(call.thread).filter(|&row| row < self.rows.len());
        let who = &self.rows[row.unwrap_or(0)];
        let decided = match request {
            Request::ChangeOwner { file, uid, gid } => match self.file(call, file) {
                Some(file) => self.change_owner(call, who, &file, (uid, gid)),
                None => return Answer::Through,
            },
            Request::Is(question) => self.say(call, who, question, short),
            Request::Become(change) => {
                let mut who = who.clone();
                let changed = self.change(call, &mut who, change, short);
                changed.and_then(|answer| self.remember(call, who).map(|()| answer))
            }
        };
        decided.unwrap_or_else(|error| {
            let errno = error.raw_os_error();
            Answer::Fail(errno.unwrap_or(Errno::PERM.raw_os_error()))
        })
    }

    /// The file that a call means; `None` when the kernel may say what is wrong with it.
    fn file(&self, call: &Call, file: File) -> Option<OwnedFd> {
        let found = match file {
            File::Open(number) => self.files.start(call.thread, Start::Descriptor(number)),
            File::Path {
                directory,
                path,
                follow,
                or_directory,
            } => {
                let path = files::read_path(call.thread, path)?;
                let start = directory.map_or(Start::WorkingDirectory, Start::Descriptor);
                match path.is_empty() && or_directory {
                    true => self.files.start(call.thread, start),
                    false => self.files.find(call.thread, start, &path, follow),
                }
            }
        };
        // Another thread may have its number by now.
        found.ok().filter(|_| self.listener.waits(call))
    }

    fn change_owner(
        &self,
        call: &Call,
        who: &Credentials,
        file: &OwnedFd,
        ids: (Option<u32>, Option<u32>),
    ) -> io::Result<Answer> {
        let stat = sys::fs::stat(file)?;
        if stat.mount == self.mount {
            let target = Target::Fd(file.as_fd());
            let recorded = sys::fs::recorded_owner(target, stat.kind)?;
            let old = recorded.unwrap_or(self.seen);
            let new = who.chown(old, ids, self.rights(call, who));
            let new = new.map_err(refused)?;
            // To the kernel it stays whose it is, but loses what an inode loses that is given away.
            sys::fs::set_owner(file, "", 0, 0)?;
            let as_seen = new == (0, 0) && old == new && stat.kind == FileType::RegularFile;
            match as_seen {
                true => sys::fs::record_seen_owner(target)?,
                false => sys::fs::record_owner(target, stat.kind, new)?,
            }
        }
        Ok(Answer::Return(0))
    }

    /// Makes a change to what a process is.
    fn change(
        &self,
        call: &Call,
        who: &mut Credentials,
        change: Change,
        short: bool,
    ) -> io::Result<Answer> {
        let rights = self.rights(call, who);
        match change {
            Change::Users(ids) => who.change_users(ids, rights).map_err(refused)?,
            Change::Groups(ids) => who.change_groups(ids, rights).map_err(refused)?,
            Change::Supplementary { count, address } => {
                let groups = read_groups(call.thread, count, address, short)?;
                who.set_supplementary(groups, rights).map_err(refused)?;
            }
            Change::KeepRights(keep) => {
                let program = self.files.program_of(call.thread);
                who.kept_by = program.filter(|_| keep);
                // Its capabilities are the kernel's affair too.
                return Ok(Answer::Through);
            }
        }
        Ok(Answer::Return(0))
    }

    fn rights(&self, call: &Call, who: &Credentials) -> Rights {
        who.rights(|| self.files.program_of(call.thread))
    }

    /// Tells a process what it is.
    fn say(
        &self,
        call: &Call,
        who: &Credentials,
        question: Question,
        short: bool,
    ) -> io::Result<Answer> {
        let ids = |kind| match kind {
            Kind::User => who.users,
            Kind::Group => who.groups,
        };
        let id = |id: u32| match short {
            true => Answer::Return(shortened(id).into()),
            false => Answer::Return(id.into()),
        };
        Ok(match question {
            Question::Real(kind) => id(ids(kind).real),
            Question::Effective(kind) => id(ids(kind).effective),
            Question::Three(kind, addresses) => {
                let Ids {
                    real,
                    effective,
                    saved,
                } = ids(kind);
                for (id, address) in [real, effective, saved].into_iter().zip(addresses) {
                    self.write(call, address, &bytes(&[id], short))?;
                }
                Answer::Return(0)
            }
            Question::Supplementary { room, address } => {
                let groups = &who.supplementary;
                let count = groups.len() as u32;
                if room > 0 {
                    if room < count {
                        return Err(Errno::INVAL.into());
                    }
                    self.write(call, address, &bytes(groups, short))?;
                }
                Answer::Return(count.into())
            }
        })
    }

    /// Writes to the memory of whoever asks. The memory is opened before it is certain that they
    /// still wait: their number may be somebody else's by now, what is open is not.
    fn write(&self, call: &Call, address: u64, bytes: &[u8]) -> io::Result<()> {
        let memory = self.files.memory_of(call.thread)?;
        if !self.listener.waits(call) {
            return Err(Errno::SRCH.into());
        }
        let written = memory.write_all_at(bytes, address);
        // The kernel's own answer to an address where nothing is.
        written.map_err(|_| Errno::FAULT.into())
    }

    /// Remembers who a process is from here on.
    fn remember(&mut self, call: &Call, who: Credentials) -> io::Result<()> {
        let row = match self.rows.iter().position(|known| *known == who) {
            Some(row) => row,
            None if self.rows.len() == MOST_ROWS => return Err(Errno::AGAIN.into()),
            None => {
                self.rows.push(who);
                self.rows.len() - 1
            }
        };
        let limit = Rlimit {
            current: Some(ROW | row as u64),
            maximum: None,
        };
        if !self.listener.waits(call) {
            return Err(Errno::SRCH.into());
        }
        sys::process::limit_of(call.thread, Resource::Locks, Some(limit)).map(drop)
    }
}

impl AsFd for OneId {
    /// Can be read when a call waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The row of a thread's process, if it ever changed its ids or descends from one that did.
fn row_of(thread: u32) -> Option<usize> {
    let limit = sys::process::limit_of(thread, Resource::Locks, None).ok()?;
    let row = limit.current.filter(|current| current >> 32 == ROW >> 32)?;
    usize::try_from(row & u64::from(u32::MAX)).ok()
}

/// The groups that `setgroups(2)` is given.
fn read_groups(thread: u32, count: u32, address: u64, short: bool) -> io::Result<Vec<u32>> {
    if count > MOST_GROUPS {
        return Err(Errno::INVAL.into());
    }
    let width = if short { 2 } else { 4 };
    let mut read = vec![0; count as usize * width];
    if count > 0 && sys::process::read_memory(thread, address, &mut read)? != read.len() {
        return Err(Errno::FAULT.into());
    }
    let number = |bytes: &[u8]| match *bytes {
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
        _ => unreachable!("a group has 2 or 4 bytes"),
    };
    Ok(read.chunks_exact(width).map(number).collect())
}

fn refused(_: Refused) -> io::Error {
    Errno::PERM.into()
}

/// An id with 16 bits; one that needs more is the kernel's number for that.
fn shortened(id: u32) -> u16 {
    u16::try_from(id).unwrap_or(65534)
}

/// Ids as they lie in a process's memory.
fn bytes(ids: &[u32], short: bool) -> Vec<u8> {
    match short {
        true => {
            let ids = ids.iter().map(|&id| shortened(id));
            ids.flat_map(u16::to_ne_bytes).collect()
        }
        false => ids.iter().flat_map(|id| id.to_ne_bytes()).collect(),
    }
}
