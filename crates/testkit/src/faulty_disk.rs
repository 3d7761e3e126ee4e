//! A disk on which one change fails: a command and all its children run under a filter of system
//! calls, and one of those that change files is answered with an errno in place of the kernel.
//!
//! What counts is a change to a regular file or a directory below a given one, or anywhere on the
//! file system of a container that the command makes: data written, names made, moved and taken
//! away, space reserved, files forced to the disk.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;

use sys::seccomp::{Answer, Call, Instruction, Listener};

/// Which change fails, and how.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    /// The directory whose changes count.
    pub below: PathBuf,
    /// The one that fails: the first is 0. None does without a number.
    pub at: Option<usize>,
    /// The error.
    pub errno: i32,
}

/// What was seen.
#[derive(Debug)]
pub struct Observed {
    /// What the command said, and how it ended.
    pub output: Output,
    /// How many changes were begun.
    pub changes: usize,
    /// The one that failed, for people.
    pub failed: Option<String>,
}

/// Calls that change an open file, named by their first argument.
const OPEN: [libc::c_long; 12] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_sendfile,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_fsetxattr,
];

/// Calls that name what they change: position of the directory among their arguments, if there is
/// one, and of the path.
const NAMED: [(libc::c_long, Option<usize>, usize); 9] = [
    (libc::SYS_openat, Some(0), 1),
    (libc::SYS_openat2, Some(0), 1),
    (libc::SYS_mkdirat, Some(0), 1),
    (libc::SYS_mknodat, Some(0), 1),
    (libc::SYS_symlinkat, Some(1), 2),
    (libc::SYS_linkat, Some(2), 3),
    (libc::SYS_renameat, Some(2), 3),
    (libc::SYS_renameat2, Some(2), 3),
    (libc::SYS_unlinkat, Some(0), 1),
];

/// The same without a directory, where the architecture has such.
#[cfg(target_arch = "x86_64")]
const NAMED_OLD: [(libc::c_long, Option<usize>, usize); 6] = [
    (libc::SYS_mkdir, None, 0),
    (libc::SYS_symlink, None, 1),
    (libc::SYS_link, None, 1),
    (libc::SYS_rename, None, 1),
    (libc::SYS_unlink, None, 0),
    (libc::SYS_rmdir, None, 0),
];
#[cfg(not(target_arch = "x86_64"))]
const NAMED_OLD: [(libc::c_long, Option<usize>, usize); 0] = [];

impl FaultyDisk {
    /// Runs a command to the end of all its children.
    ///
    /// # Panics
    /// When the kernel does not let it: it takes `CAP_SYS_ADMIN`, or the command cannot start.
    pub fn run(&self, command: &mut Command) -> Observed {
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            // The filter is for this thread and whatever it starts.
            let running = scope.spawn(move || {
                let listener = sys::seccomp::listen(&program()).expect("a filter that listens");
                sender.send(listener).expect("somebody waits for it");
                command.output().expect("the command starts")
            });
            let listener = receiver.recv().expect("the filter is in force");
            let (changes, failed) = self.decide(&listener).expect("system calls are answered");
            let output = running.join().expect("the command was started");
            Observed {
                output,
                changes,
                failed,
            }
        })
    }

    fn decide(&self, listener: &Listener) -> io::Result<(usize, Option<String>)> {
        let (mut changes, mut failed) = (0, None);
        while let Some(call) = listener.next()? {
            let mut answer = Answer::Through;
            if let Some(target) = self.changed(&call) {
                if self.at == Some(changes) {
                    answer = Answer::Fail(self.errno);
                    failed = Some(format!("call {} on {}", call.number, target.display()));
                }
                changes += 1;
            }
            match listener.answer(&call, answer) {
                // It was killed while it waited.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                other => other?,
            }
        }
        Ok((changes, failed))
    }

    /// What a call changes, if that counts.
    fn changed(&self, call: &Call) -> Option<PathBuf> {
        let process = Path::new("/proc").join(call.thread.to_string());
        let number = libc::c_long::from(call.number);
        if OPEN.contains(&number) {
            let link = process.join("fd").join(descriptor(call.arguments[0]));
            let metadata = link.metadata().ok()?;
            let target = link.read_link().ok()?;
            let counts = (metadata.is_file() || metadata.is_dir())
                && (target.starts_with(&self.below) || is_contained(&process));
            return (counts && !is_virtual(&target)).then_some(target);
        }
        let mut named = NAMED.iter().chain(&NAMED_OLD);
        let &(_, directory, path) = named.find(|(named, ..)| *named == number)?;
        let memory = File::open(process.join("mem")).ok()?;
        if number == libc::SYS_openat2 {
            let mut flags = [0; 8];
            memory.read_exact_at(&mut flags, call.arguments[2]).ok()?;
            if u64::from_ne_bytes(flags) & CREATE == 0 {
                return None;
            }
        }
        let path = read_path(&memory, call.arguments[path])?;
        let start = match directory.map(|position| descriptor(call.arguments[position])) {
            Some(number) if !number.starts_with('-') => process.join("fd").join(number),
            _ => process.join("cwd"),
        };
        let target = start.read_link().ok()?.join(path);
        let counts = target.starts_with(&self.below) || is_contained(&process);
        (counts && !is_virtual(&target)).then_some(target)
    }
}

/// Opening creates the file, or makes one without a name.
const CREATE: u64 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;

/// The kernel reads descriptors as 32 bits with a sign.
fn descriptor(argument: u64) -> String {
    (argument as u32).cast_signed().to_string()
}

fn read_path(memory: &File, address: u64) -> Option<PathBuf> {
    let mut path = Vec::new();
    // Byte by byte up to the end of its page at most: the next one may not be there.
    let mut page = [0; 4096];
    while path.len() < 4096 {
        let at = address + path.len() as u64;
        let rest = 4096 - usize::try_from(at % 4096).ok()?;
        let read = memory.read_at(&mut page[..rest], at).ok()?;
        let bytes = &page[..read];
        match bytes.iter().position(|&byte| byte == 0) {
            Some(end) => {
                path.extend(&bytes[..end]);
                return Some(OsString::from_vec(path).into());
            }
            None if read == 0 => return None,
            None => path.extend(bytes),
        }
    }
    None
}

/// Whether a process has another root directory than this one.
fn is_contained(process: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|it| (it.dev(), it.ino())).ok();
    identity(&process.join("root")) != identity(Path::new("/"))
}

fn is_virtual(path: &Path) -> bool {
    ["/dev", "/proc", "/sys"]
        .iter()
        .any(|top| path.starts_with(top))
}

/// Leaves the calls above to the listener, `openat` only where it creates.
fn program() -> Vec<Instruction> {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
    /// Of the system call's number, and of the low half of its third argument, in the data that
    /// the program sees.
    const NUMBER: u32 = 0;
    const THIRD: u32 = 16 + 2 * 8;

    let step = |code, operand, jump_true, jump_false| Instruction {
        code,
        jump_true,
        jump_false,
        operand,
    };
    let number = |call: libc::c_long| u32::try_from(call).expect("calls have small numbers");
    let mut program = vec![step(LOAD, NUMBER, 0, 0)];
    let calls = OPEN.into_iter();
    let named = NAMED.iter().chain(&NAMED_OLD).map(|(call, ..)| *call);
    for call in calls.chain(named) {
        if call == libc::SYS_openat {
            program.extend([
                step(JUMP_EQUAL, number(call), 0, 4),
                step(LOAD, THIRD, 0, 0),
                step(JUMP_SET, CREATE as u32, 0, 1),
                step(RETURN, ASK, 0, 0),
                step(RETURN, ALLOW, 0, 0),
            ]);
        } else {
            program.extend([
                step(JUMP_EQUAL, number(call), 0, 1),
                step(RETURN, ASK, 0, 0),
            ]);
        }
    }
    program.push(step(RETURN, ALLOW, 0, 0));
    program
}
