//! Opening below a root, metadata, attributes, directories, content.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use sys::fs::{
    CWD, Copied, FileType, Mode, OFlags, Segment, Target, Time, copy_range, get_xattr, list_xattrs,
    open_beneath, open_in_root, read_dir, remove_xattr, segments, set_xattr, stat, stat_at,
};

fn open(path: &Path, flags: OFlags) -> OwnedFd {
    sys::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// A root with a file, links of all kinds, and a file outside that must stay out of reach.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root/etc")).unwrap();
    fs::write(dir.path().join("root/etc/file"), "inside").unwrap();
    fs::write(dir.path().join("file"), "outside").unwrap();
    for (link, target) in [
        ("relative", "etc/file"),
        ("absolute", "/etc/file"),
        ("up", "../file"),
        ("magic", "/proc/self/root/etc"),
    ] {
        symlink(target, dir.path().join("root").join(link)).unwrap();
    }
    dir
}

#[track_caller]
fn check(path: &str, in_root: &str, beneath: &str) {
    let dir = tree();
    let root = open(&dir.path().join("root"), OFlags::PATH);
    let content = |opened: std::io::Result<OwnedFd>| match opened {
        Ok(fd) => std::io::read_to_string(File::from(fd)).unwrap(),
        Err(error) => error.raw_os_error().unwrap().to_string(),
    };
    let flags = OFlags::RDONLY;
    assert_eq!(
        content(open_in_root(&root, path, flags, Mode::empty())),
        in_root,
        "{path}"
    );
    assert_eq!(
        content(open_beneath(&root, path, flags, Mode::empty())),
        beneath,
        "{path}"
    );
}

#[test]
fn nothing_outside_is_opened() {
    check("etc/file", "inside", "inside");
    check("relative", "inside", "inside");
    check("absolute", "inside", "18");
    check("/etc/file", "inside", "18");
    check("up", "2", "18");
    check("../file", "2", "18");
    check("etc/../../file", "2", "18");
    check("magic/passwd", "2", "18");
}

#[test]
fn metadata_is_of_the_link_itself() {
    if !crate::privileged() {
        return;
    }
    let dir = tree();
    let root = open(&dir.path().join("root"), OFlags::PATH);
    assert_eq!(stat_at(&root, "relative").unwrap().kind, FileType::Symlink);
    let time = Time {
        seconds: -5,
        nanos: 7,
    };
    sys::fs::set_times(&root, c"relative", time).unwrap();
    sys::fs::set_owner(&root, c"relative", 12, 34).unwrap();
    let link = stat_at(&root, "relative").unwrap();
    assert_eq!((link.mtime, link.uid, link.gid), (time, 12, 34));
    let file = open(&dir.path().join("root/etc/file"), OFlags::PATH);
    assert_ne!(stat(&file).unwrap().mtime, time);
    sys::fs::set_permissions(&file, 0o4711).unwrap();
    assert_eq!(stat(&file).unwrap().mode, 0o4711);
}

#[test]
fn nodes_are_made() {
    if !crate::privileged() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let fd = open(dir.path(), OFlags::PATH);
    sys::fs::make_device(&fd, c"d", FileType::CharacterDevice, 0o600, (1, 300)).unwrap();
    sys::fs::make_fifo(&fd, c"f", 0o600).unwrap();
    sys::fs::make_socket(&fd, c"s", 0o600).unwrap();
    let device = stat_at(&fd, c"d").unwrap();
    assert_eq!(
        (device.kind, device.rdev),
        (FileType::CharacterDevice, (1, 300))
    );
    assert_eq!(stat_at(&fd, c"f").unwrap().kind, FileType::Fifo);
    assert_eq!(stat_at(&fd, c"s").unwrap().kind, FileType::Socket);
}

#[test]
fn attributes_by_every_kind_of_target() {
    if !crate::privileged() {
        return;
    }
    let dir = tree();
    let root = open(&dir.path().join("root"), OFlags::PATH);
    let link = open(
        &dir.path().join("root/relative"),
        OFlags::PATH | OFlags::NOFOLLOW,
    );
    let long = vec![7; 3000];
    // `user.*` is refused on links; `trusted.*` shows that the link itself is meant.
    for (target, name) in [
        (Target::Name(root.as_fd(), b"etc"), b"user.a".as_slice()),
        (Target::Name(root.as_fd(), b"relative"), b"trusted.b"),
        (Target::Fd(root.as_fd()), b"user.c"),
    ] {
        assert_eq!(get_xattr(target, name).unwrap(), None);
        set_xattr(target, name, &long).unwrap();
        assert_eq!(get_xattr(target, name).unwrap(), Some(long.clone()));
        assert!(
            list_xattrs(target).unwrap().contains(&name.to_vec()),
            "{target:?}"
        );
    }
    assert!(
        get_xattr(Target::Fd(link.as_fd()), b"trusted.b")
            .unwrap()
            .is_some()
    );
    remove_xattr(Target::Fd(link.as_fd()), b"trusted.b").unwrap();
    assert_eq!(
        list_xattrs(Target::Name(root.as_fd(), b"relative")).unwrap(),
        [] as [Vec<u8>; 0]
    );
    let file = Target::Name(root.as_fd(), b"etc/file");
    assert_eq!(
        get_xattr(file, b"user.a").unwrap_err().raw_os_error(),
        Some(22)
    );
}

#[test]
fn a_large_directory_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..2000 {
        File::create(
            dir.path()
                .join(format!("a-rather-long-name-of-a-file-{number}")),
        )
        .unwrap();
    }
    let entries = read_dir(open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY)).unwrap();
    assert_eq!(entries.len(), 2000);
    assert!(
        entries
            .iter()
            .all(|entry| entry.kind == FileType::RegularFile)
    );
}

/// A file of 1 MiB with data at the start of its second half only.
fn sparse(dir: &Path) -> File {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join("sparse"))
        .unwrap();
    file.set_len(1 << 20).unwrap();
    file.seek(SeekFrom::Start(1 << 19)).unwrap();
    file.write_all(&[1; 4096]).unwrap();
    file
}

#[test]
fn holes_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = sparse(dir.path());
    let data = Segment {
        offset: 1 << 19,
        len: 4096,
    };
    assert_eq!(segments(&file, 1 << 20).unwrap(), [data]);
    let empty = File::create(dir.path().join("empty")).unwrap();
    assert_eq!(segments(&empty, 0).unwrap(), []);
    // Never beyond the size that was asked for.
    let cut = Segment {
        offset: 1 << 19,
        len: 100,
    };
    assert_eq!(segments(&file, (1 << 19) + 100).unwrap(), [cut]);
}

#[test]
fn ranges_are_copied_inside_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let from = sparse(dir.path());
    let to = File::create(dir.path().join("to")).unwrap();
    let copy = |len| copy_range(from.as_fd(), (1 << 19) - 2, to.as_fd(), 0, len).unwrap();
    assert_eq!(copy(4), Copied::All);
    assert_eq!(fs::read(dir.path().join("to")).unwrap(), [0, 0, 1, 1]);
    assert_eq!(copy(1 << 20), Copied::Short((1 << 19) + 2));
}

#[test]
fn the_boot_has_an_identity() {
    let id = sys::fs::boot_id().unwrap();
    assert_eq!(
        (id.len(), id.as_str()),
        (36, sys::fs::boot_id().unwrap().as_str())
    );
}

#[test]
fn a_byte_is_locked_by_one_opening() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options.open(dir.path().join("locks")).unwrap()
    };
    let (one, two) = (open(), open());
    assert!(sys::fs::try_lock_byte(&one, 1 << 60).unwrap());
    assert!(sys::fs::try_lock_byte(&one, 1 << 60).unwrap(), "mine");
    assert!(!sys::fs::try_lock_byte(&two, 1 << 60).unwrap());
    assert!(sys::fs::try_lock_byte(&two, 7).unwrap(), "another byte");
    drop(one);
    assert!(sys::fs::try_lock_byte(&two, 1 << 60).unwrap());
    assert!(sys::fs::try_lock_byte(&two, u64::MAX).is_err());
}
