//! Directories written from changes, compared with what the file system then says.

use crate::spec::{self, Tree, generate};
use layer::unpack::{Deletions, Refused, UnpackError, UnpackOptions, unpack};
use layer::xattr::Marks;
use layer::{Change, Kind, RelPath, Root};
use proptest::prelude::*;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const EXPORT: UnpackOptions = UnpackOptions {
    deletions: Deletions::None,
    refused: Refused::Fail,
};

fn host(root: &Path, path: &RelPath) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

/// Whether this process may give files away and make devices. Where `KILN_REQUIRE` is set it must.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn is_privileged() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    match std::os::unix::fs::chown(file.path(), Some(1), Some(1)) {
        Ok(()) => true,
        Err(error) if std::env::var_os("KILN_REQUIRE").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            false
        }
    }
}

#[track_caller]
fn check(root: &Path, tree: &Tree) {
    for (path, inode) in tree {
        let host = host(root, path);
        let found = std::fs::symlink_metadata(&host).unwrap();
        let metadata = &inode.metadata;
        assert_eq!(
            (found.uid(), found.gid()),
            (metadata.uid, metadata.gid),
            "{path}"
        );
        assert_eq!(found.mode() & 0o7777, metadata.mode, "{path}");
        let time = (found.mtime(), u32::try_from(found.mtime_nsec()).unwrap());
        assert_eq!(
            time,
            (metadata.mtime.seconds, metadata.mtime.nanos),
            "{path}"
        );
        let kind = found.file_type();
        match &inode.kind {
            Kind::Directory => assert!(kind.is_dir()),
            Kind::File { .. } => assert_eq!(std::fs::read(&host).unwrap(), inode.content),
            Kind::Symlink { target } => {
                let link = std::fs::read_link(&host).unwrap();
                assert_eq!(link.as_os_str().as_bytes(), target);
            }
            Kind::CharDevice { .. } => assert!(kind.is_char_device()),
            Kind::Fifo => assert!(kind.is_fifo()),
            other => panic!("{other:?}"),
        }
        if let Some(leader) = &inode.leader {
            let leader = std::fs::symlink_metadata(self::host(root, leader)).unwrap();
            assert_eq!(leader.ino(), found.ino(), "{path}");
        }
    }
    let count = walkdir::WalkDir::new(root).min_depth(1).into_iter().count();
    assert_eq!(count, tree.len());
}

proptest! {
    #![proptest_config(generate::cases(40))]

    #[test]
    fn a_directory_is_the_tree(operations in generate::operations(15)) {
        if !is_privileged() {
            return Ok(());
        }
        let tree = generate::perform(Tree::new(), &operations);
        let layer = spec::diff(&Tree::new(), &tree, |_| false);
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let report = unpack(&spec::changes(&layer), &root, EXPORT).unwrap();
        prop_assert_eq!(report, layer::unpack::Unpacked::default());
        check(directory.path(), &tree);
    }
}

#[test]
fn deletions_are_those_of_overlayfs() {
    let path = |text: &str| RelPath::new(text).unwrap();
    let directory = |opaque| Change::Put {
        node: layer::Node {
            kind: Kind::Directory,
            metadata: layer::Metadata {
                mode: 0o700,
                ..layer::Metadata::default()
            },
            links: None,
        },
        opaque,
        data: None,
    };
    let changes = [
        (path("d"), directory(true)),
        (path("e/gone"), Change::Whiteout),
    ];
    let allowed = match is_privileged() {
        true => &[Marks::Trusted, Marks::User][..],
        false => &[],
    };
    for &marks in allowed {
        let target = tempfile::tempdir().unwrap();
        let root = Root::open(target.path()).unwrap();
        let options = UnpackOptions {
            deletions: Deletions::Overlay(marks),
            ..EXPORT
        };
        unpack(&changes, &root, options).unwrap();
        let gone = std::fs::symlink_metadata(target.path().join("e/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        let implied = std::fs::symlink_metadata(target.path().join("e")).unwrap();
        assert_eq!(implied.mode() & 0o7777, 0o755);
    }
    let target = tempfile::tempdir().unwrap();
    let root = Root::open(target.path()).unwrap();
    let result = unpack(&changes, &root, EXPORT);
    assert!(matches!(result, Err(UnpackError::Whiteout { .. })));
}
