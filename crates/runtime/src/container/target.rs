//! Mount targets: finding them inside the container's root, making those that are missing, and
//! taking them away again afterwards.
//!
//! Paths are walked one component at a time with descriptors, so that no link leads out of the
//! root. What is made lies in the root's upper directory, where it must not stay: neither the stub,
//! nor the copies of its parent directories that overlayfs made for it, nor their new mtimes.

use crate::message::{Stub, Touched};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sys::Errno;
use sys::fs::{AtFlags, FileType, Mode, OFlags, Stat, Time};

/// How many symbolic links one path may lead through (the kernel's own limit).
const LINKS: usize = 40;

/// Whether `openat2` is missing: before Linux 5.6, or filtered away.
fn is_missing_call(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOSYS.raw_os_error())
}

/// Flags for opening something only to refer to it.
pub(crate) const REFER: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// What a missing target becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Directory,
    File,
}

/// Where a path leads.
enum Place {
    Found(OwnedFd),
    /// The innermost directory that is there, with its path, and the names that are not.
    Missing {
        directory: OwnedFd,
        path: PathBuf,
        rest: Vec<OsString>,
    },
}

/// The targets of a container's mounts, and the traces of making them.
pub(crate) struct Targets<'a> {
    root: BorrowedFd<'a>,
    /// Where writes to the root end up.
    upper: Option<BorrowedFd<'a>>,
    stubs: Vec<Stub>,
    touched: Vec<(Touched, OwnedFd)>,
}

impl<'a> Targets<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, upper: Option<BorrowedFd<'a>>) -> Targets<'a> {
        Targets {
            root,
            upper,
            stubs: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Opens `path` to mount over it, and makes it when it is missing.
    pub(crate) fn open(&mut self, path: &Path, shape: Shape) -> io::Result<OwnedFd> {
        match self.find(path)? {
            Place::Found(fd) => Ok(fd),
            Place::Missing {
                directory,
                path,
                rest,
            } => self.make(directory, path, &rest, shape),
        }
    }

    /// Opens `path` if it is there.
    pub(crate) fn existing(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let name = path.as_os_str().as_bytes();
        match sys::fs::open_in_root(self.root, name, REFER, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_missing_call(&error) => match walk(self.root, path)? {
                Place::Found(fd) => Ok(Some(fd)),
                Place::Missing { .. } => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Place> {
        match sys::fs::open_in_root(self.root, path.as_os_str().as_bytes(), REFER, Mode::empty()) {
            Ok(fd) => Ok(Place::Found(fd)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => walk(self.root, path),
            Err(error) if is_missing_call(&error) => walk(self.root, path),
            Err(error) => Err(error),
        }
    }

    fn make(
        &mut self,
        directory: OwnedFd,
        mut path: PathBuf,
        rest: &[OsString],
        shape: Shape,
    ) -> io::Result<OwnedFd> {
        let in_root = self.note_parents(&directory, &path)?;
        let mut parent = directory;
        for (position, name) in rest.iter().enumerate() {
            let is_dir = shape == Shape::Directory || position + 1 < rest.len();
            let name_bytes = name.as_bytes();
            if is_dir {
                sys::fs::mkdirat(&parent, name_bytes, Mode::from_raw_mode(0o755))?;
            } else {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                sys::fs::openat(&parent, name_bytes, flags, Mode::from_raw_mode(0o644))?;
            }
            path.push(name);
            if in_root {
                self.stubs.push(Stub {
                    path: path.clone(),
                    is_dir,
                });
            }
            parent = sys::fs::openat(&parent, name_bytes, REFER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(parent)
    }

    /// Remembers what the directory and those above it look like before something is made in it.
    /// `false` when it does not lie on the root file system, so that nothing needs to be undone.
    fn note_parents(&mut self, directory: &OwnedFd, path: &Path) -> io::Result<bool> {
        let (here, root) = (sys::fs::stat(directory)?, sys::fs::stat(self.root)?);
        if (here.mount, here.device) != (root.mount, root.device) {
            return Ok(false);
        }
        let Some(upper) = self.upper else {
            return Ok(true);
        };
        for ancestor in path.ancestors() {
            let made_here = self.stubs.iter().any(|stub| stub.path == ancestor);
            let known = self
                .touched
                .iter()
                .any(|(touched, _)| touched.path == ancestor);
            if made_here || known {
                continue;
            }
            let fd = open_exactly(self.root, ancestor)?;
            let before = sys::fs::stat(&fd)?;
            self.touched.push((
                Touched {
                    path: ancestor.to_owned(),
                    in_upper: open_exactly(upper, ancestor).is_ok(),
                    mtime_before: pair(before.mtime),
                    mtime_after: (0, 0),
                    ctime_after: (0, 0),
                },
                fd,
            ));
        }
        Ok(true)
    }

    /// What was made, for [`clean_up`] after the run. Nothing may be made after this.
    pub(crate) fn made(self) -> io::Result<(Vec<Stub>, Vec<Touched>)> {
        let mut touched = Vec::new();
        for (mut directory, fd) in self.touched {
            let after = sys::fs::stat(&fd)?;
            directory.mtime_after = pair(after.mtime);
            directory.ctime_after = pair(after.ctime);
            touched.push(directory);
        }
        Ok((self.stubs, touched))
    }
}

fn pair(time: Time) -> (i64, u32) {
    (time.seconds, time.nanos)
}

fn time((seconds, nanos): (i64, u32)) -> Time {
    Time { seconds, nanos }
}

/// Opens a relative path that leads through no link.
fn open_exactly(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut fd = root.try_clone_to_owned()?;
    for name in path {
        let flags = REFER | OFlags::NOFOLLOW | OFlags::DIRECTORY;
        fd = sys::fs::openat(&fd, name.as_bytes(), flags, Mode::empty())?;
    }
    Ok(fd)
}

/// Follows `path` inside `root`, links and all, as far as it leads.
fn walk(root: BorrowedFd<'_>, path: &Path) -> io::Result<Place> {
    let mut pending: VecDeque<OsString> = components(path.as_os_str().as_bytes()).collect();
    let mut trail: Vec<(OsString, OwnedFd)> = Vec::new();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            trail.pop();
            continue;
        }
        let directory = trail.last().map_or(root, |(_, fd)| fd.as_fd());
        let found = match sys::fs::stat_at(directory, name.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = directory.try_clone_to_owned()?;
                let path = trail.iter().map(|(name, _)| name).collect();
                let rest = std::iter::once(name).chain(pending);
                return Ok(Place::Missing {
                    directory,
                    path,
                    // A `..` below what is missing cannot be walked; it goes with its parent.
                    rest: clean(rest),
                });
            }
            other => other?,
        };
        if found.kind == FileType::Symlink {
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP.into());
            }
            let link = sys::fs::readlinkat(directory, name.as_bytes(), Vec::new())?.into_bytes();
            if link.starts_with(b"/") {
                trail.clear();
            }
            for name in components(&link).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(name);
            }
            continue;
        }
        let fd = sys::fs::openat(
            directory,
            name.as_bytes(),
            REFER | OFlags::NOFOLLOW,
            Mode::empty(),
        )?;
        trail.push((name, fd));
    }
    match trail.pop() {
        Some((_, fd)) => Ok(Place::Found(fd)),
        None => Ok(Place::Found(root.try_clone_to_owned()?)),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = OsString> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsString::from_vec(name.to_vec()))
}

fn clean(names: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut clean = Vec::new();
    for name in names {
        if name == ".." {
            clean.pop();
        } else {
            clean.push(name);
        }
    }
    clean
}

/// Takes the stubs out of the upper directory and puts the directories around them back to what
/// they were, except for what the program itself changed. Runs when nothing uses the tree any more.
/// What cannot be undone stays.
pub(crate) fn clean_up(upper: BorrowedFd<'_>, stubs: &[Stub], touched: &[Touched]) {
    let seen: Vec<Option<Stat>> = touched
        .iter()
        .map(|directory| {
            let fd = open_exactly(upper, &directory.path).ok()?;
            sys::fs::stat(fd).ok()
        })
        .collect();
    for stub in stubs.iter().rev() {
        remove_stub(upper, stub);
    }
    // Deepest first: a parent is empty only after its children are gone.
    let mut order: Vec<usize> = (0..touched.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(touched[index].path.components().count()));
    for index in order {
        if let Some(seen) = seen[index] {
            restore(upper, &touched[index], seen);
        }
    }
}

fn remove_stub(upper: BorrowedFd<'_>, stub: &Stub) -> Option<()> {
    let name = stub.path.file_name()?.as_bytes();
    let parent = open_exactly(upper, stub.path.parent()?).ok()?;
    let found = sys::fs::stat_at(&parent, name).ok()?;
    match stub.is_dir {
        // Fails when the program put something into it; then it belongs to the layer.
        true => sys::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).ok(),
        false if found.kind == FileType::RegularFile && found.size == 0 => {
            sys::fs::unlinkat(&parent, name, AtFlags::empty()).ok()
        }
        false => None,
    }
}

fn restore(upper: BorrowedFd<'_>, directory: &Touched, seen: Stat) -> Option<()> {
    let untouched = pair(seen.ctime) == directory.ctime_after;
    let parent = match directory.path.parent() {
        Some(parent) => open_exactly(upper, parent).ok(),
        None => None,
    };
    if let (true, false, Some(parent)) = (untouched, directory.in_upper, parent) {
        let parent_mtime = sys::fs::stat(&parent).ok()?.mtime;
        let name = directory.path.file_name()?.as_bytes();
        if sys::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_ok() {
            return sys::fs::set_times(&parent, c"", parent_mtime).ok();
        }
    }
    let mtime = match pair(seen.mtime) == directory.mtime_after {
        true => time(directory.mtime_before),
        // The program changed the directory itself: that time is true.
        false => seen.mtime,
    };
    let fd = open_exactly(upper, &directory.path).ok()?;
    sys::fs::set_times(fd, c"", mtime).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &Path) -> OwnedFd {
        sys::fs::openat(sys::fs::CWD, path, REFER, Mode::empty()).unwrap()
    }

    #[track_caller]
    fn check(path: &str, shape: Shape, expect: &str) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc/deep")).unwrap();
        fs::write(dir.path().join("outside"), "").unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        };
        link("/etc", "abs");
        link("../../../outside", "up");
        link("loop", "loop");
        link("../run/stub", "etc/dangling");
        let root_fd = open(&root);
        let mut targets = Targets::new(root_fd.as_fd(), Some(root_fd.as_fd()));
        let outcome = match targets.open(Path::new(path), shape) {
            Ok(_) => {
                let (stubs, _) = targets.made().unwrap();
                let names: Vec<_> = stubs.iter().map(|s| s.path.display().to_string()).collect();
                names.join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(outcome, expect, "{path}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn targets_are_found_and_made_inside_the_root() {
        check("/etc", Shape::Directory, "");
        check("/etc/hosts", Shape::File, "etc/hosts");
        check("/abs/hosts", Shape::File, "etc/hosts");
        check(
            "/run/secrets/a",
            Shape::File,
            "run run/secrets run/secrets/a",
        );
        check("/../../a", Shape::File, "a");
        check("/up", Shape::File, "outside");
        check("/etc/dangling", Shape::File, "run run/stub");
        check("/etc/deep/../hosts", Shape::File, "etc/hosts");
        check(
            "/loop",
            Shape::File,
            "Too many levels of symbolic links (os error 40)",
        );
        check("/", Shape::Directory, "");
    }

    #[test]
    fn r3_stubs_vanish_and_times_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let fd = open(dir.path());
        let past = Time {
            seconds: 1_000_000,
            nanos: 5,
        };
        sys::fs::set_times(&fd, c"etc", past).unwrap();
        sys::fs::set_times(&fd, c"", past).unwrap();
        let mut targets = Targets::new(fd.as_fd(), Some(fd.as_fd()));
        targets.open(Path::new("/etc/hosts"), Shape::File).unwrap();
        targets
            .open(Path::new("/run/secrets/a"), Shape::File)
            .unwrap();
        targets
            .open(Path::new("/run/secrets/b"), Shape::File)
            .unwrap();
        let (stubs, touched) = targets.made().unwrap();
        clean_up(fd.as_fd(), &stubs, &touched);
        assert!(!etc.join("hosts").exists() && !dir.path().join("run").exists());
        assert_eq!(sys::fs::stat_at(&fd, c"etc").unwrap().mtime, past);
        assert_eq!(sys::fs::stat(&fd).unwrap().mtime, past);
    }

    #[test]
    fn r3_what_the_program_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open(dir.path());
        let mut targets = Targets::new(fd.as_fd(), Some(fd.as_fd()));
        targets
            .open(Path::new("/run/secrets/a"), Shape::File)
            .unwrap();
        let (stubs, touched) = targets.made().unwrap();
        fs::write(dir.path().join("run/kept"), "x").unwrap();
        clean_up(fd.as_fd(), &stubs, &touched);
        assert!(dir.path().join("run/kept").exists());
        assert!(!dir.path().join("run/secrets").exists());
    }
}
