//! The file that another process means by a descriptor or a path: found as that process would,
//! from its root and its directories.
//!
//! A path is looked up once, by the kernel, with the process's root as this one's own for that
//! moment. What it leads to is held by a descriptor from there on, so that whatever the process
//! changes meanwhile, names or its memory, leads nowhere it could not have gone by itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use sys::fs::{CWD, Mode, OFlags, ResolveFlags};

/// Bytes of a path, with its end: `PATH_MAX`.
const LONGEST: usize = 4096;
const PAGE: u64 = 4096;

/// What it takes to look at other processes.
#[derive(Debug)]
pub(super) struct Files {
    /// `/proc`, in which their numbers are the ones that this process sees.
    processes: OwnedFd,
    root: OwnedFd,
}

/// Where a path that is not absolute begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    WorkingDirectory,
    Descriptor(i32),
}

impl Files {
    pub(super) fn open() -> io::Result<Files> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &str| sys::fs::openat(CWD, path, flags, Mode::empty());
        Ok(Files {
            processes: open("/proc")?,
            root: open("/")?,
        })
    }

    /// The root directory of a thread.
    pub(super) fn root_of(&self, thread: u32) -> io::Result<OwnedFd> {
        self.link(thread, "root")
    }

    /// What a descriptor or the working directory of a thread is.
    pub(super) fn start(&self, thread: u32, start: Start) -> io::Result<OwnedFd> {
        match start {
            Start::WorkingDirectory => self.link(thread, "cwd"),
            Start::Descriptor(number) => self.link(thread, &format!("fd/{number}")),
        }
    }

    /// Device and inode of the program that a thread runs.
    pub(super) fn program_of(&self, thread: u32) -> Option<(u64, u64)> {
        let program = self.link(thread, "exe").and_then(sys::fs::stat).ok()?;
        Some((program.device, program.inode))
    }

    /// The memory of a thread's process, to be written to.
    pub(super) fn memory_of(&self, thread: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let path = format!("{thread}/mem");
        let memory = sys::fs::openat(&self.processes, path, flags, Mode::empty())?;
        Ok(File::from(memory))
    }

    fn link(&self, thread: u32, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let path = format!("{thread}/{name}");
        Ok(sys::fs::openat(
            &self.processes,
            path,
            flags,
            Mode::empty(),
        )?)
    }

    /// What a path of a thread leads to. The kernel's own links in `/proc` are not followed: they
    /// would be those of this process.
    pub(super) fn find(
        &self,
        thread: u32,
        start: Start,
        path: &[u8],
        follow: bool,
    ) -> io::Result<OwnedFd> {
        let root = self.root_of(thread)?;
        let start = match path.first() {
            Some(b'/') => root.try_clone()?,
            _ => self.start(thread, start)?,
        };
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !follow);
        change_root(&root)?;
        let found = sys::fs::openat2(
            &start,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        );
        if change_root(&self.root).is_err() {
            // Nothing that this process does from here on would mean what it should.
            sys::process::exit_now(1);
        }
        Ok(found?)
    }
}

fn change_root(root: &OwnedFd) -> io::Result<()> {
    sys::process::fchdir(root.as_fd())?;
    Ok(sys::process::chroot(c".")?)
}

/// A path in the memory of a thread; `None` where there is none, or it is too long.
pub(super) fn read_path(thread: u32, address: u64) -> Option<Vec<u8>> {
    let mut path = Vec::new();
    let mut buffer = [0; PAGE as usize];
    while path.len() < LONGEST {
        let at = address.checked_add(path.len() as u64)?;
        // Not over the end of a page at once: the next one may not be there.
        let rest = (PAGE - at % PAGE) as usize;
        let count = sys::process::read_memory(thread, at, &mut buffer[..rest]).ok()?;
        let bytes = &buffer[..count];
        match bytes.iter().position(|&byte| byte == 0) {
            Some(end) => {
                path.extend_from_slice(&bytes[..end]);
                return (path.len() < LONGEST).then_some(path);
            }
            None if count == 0 => return None,
            None => path.extend_from_slice(bytes),
        }
    }
    None
}
