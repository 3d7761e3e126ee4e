//! Confined access: making and changing inodes beneath a directory, whatever lies there.

use layer::{Kind, Metadata, RelPath, Root, Time};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

#[test]
fn nothing_is_made_or_changed_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("file"), "safe").unwrap();
    let before = std::fs::metadata(outside.path().join("file")).unwrap();
    let inside = tempfile::tempdir().unwrap();
    symlink(outside.path(), inside.path().join("dir")).unwrap();
    symlink(outside.path().join("file"), inside.path().join("link")).unwrap();
    symlink(outside.path().join("new"), inside.path().join("dangling")).unwrap();
    let root = Root::open(inside.path()).unwrap();

    assert!(root.make_directory(&rel("dir/sub")).is_err());
    assert!(root.create_file(&rel("dir/new")).is_err());
    assert!(root.create_file(&rel("dangling")).is_err());
    assert!(root.open_file(&rel("link")).is_err());
    assert!(root.make_special(&rel("dir/pipe"), &Kind::Fifo).is_err());
    assert!(root.link(&rel("dir/file"), &rel("stolen")).is_err());
    assert!(root.set_mtime(&rel("dir/file"), Time::default()).is_err());
    root.set_mtime(&rel("link"), Time::default()).unwrap();
    root.set_owner(&rel("link"), 7, 7).unwrap();
    assert!(root.set_permissions(&rel("link"), 0o777).is_err());
    root.link(&rel("link"), &rel("same")).unwrap();
    assert!(
        std::fs::symlink_metadata(inside.path().join("same"))
            .unwrap()
            .is_symlink()
    );
    root.remove(&rel("dir")).unwrap();

    let after = std::fs::metadata(outside.path().join("file")).unwrap();
    let told = |m: &std::fs::Metadata| (m.mode(), m.uid(), m.mtime_nsec(), m.mtime(), m.nlink());
    assert_eq!(told(&before), told(&after));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn metadata_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(directory.path()).unwrap();
    let mut capability = vec![1, 0, 0, 2];
    capability.extend([0; 16]);
    let metadata = Metadata {
        mode: 0o4751,
        uid: 1000,
        gid: 2000,
        mtime: Time {
            seconds: -5,
            nanos: 123_456_789,
        },
        xattrs: [
            (b"security.capability".to_vec(), capability),
            (b"user.colour".to_vec(), b"blue".to_vec()),
        ]
        .into(),
    };
    let path = rel("file");
    let kind = Kind::File { size: 0 };
    root.create_file(&path).unwrap();
    root.set_metadata(&path, &kind, &metadata).unwrap();
    let stat = root.stat(&path).unwrap().unwrap();
    assert_eq!((stat.mode, stat.uid, stat.gid), (0o4751, 1000, 2000));
    assert_eq!((stat.mtime.seconds, stat.mtime.nanos), (-5, 123_456_789));
    assert_eq!(root.xattrs(&path).unwrap(), metadata.xattrs);
}

#[test]
fn removal_takes_everything_and_forgives_absence() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(directory.path()).unwrap();
    let mut path = RelPath::root();
    for _ in 0..300 {
        path = path.join(b"deep").unwrap();
        root.make_directory(&path).unwrap();
    }
    root.create_file(&path.join(b"file").unwrap()).unwrap();
    root.remove(&rel("deep")).unwrap();
    root.remove(&rel("deep")).unwrap();
    assert_eq!(root.entries(&RelPath::root()).unwrap(), []);
    // A directory that was open when it went is not there under its old name.
    root.make_directory(&rel("deep")).unwrap();
    let error = root.create_file(&rel("deep/deep/file")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("deep/deep/file"), "{error}");
}

#[test]
fn absence_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let root = Root::open(directory.path()).unwrap();
    for path in ["none", "none/below", "file/below"] {
        assert_eq!(root.stat(&rel(path)).unwrap(), None, "{path}");
    }
}
