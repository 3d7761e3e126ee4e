//! Random work in a real overlay: what the kernel leaves in the upper directory is a layer that,
//! by the specification, makes of the lower tree what a process saw.

use crate::kernel::{Mounted, assert_same, mount_overlay, mount_writable};
use crate::spec::generate::{self, Operation};
use crate::spec::{self, Inode, Tree};
use crate::unpack::is_privileged;
use layer::apply::{Expected, Limits, apply};
use layer::unpack::{Deletions, Refused, UnpackOptions, unpack};
use layer::xattr::Marks;
use layer::{
    Change, Kind, LinkId, RelPath, Root, Stack, Time, Times, View, nothing_below, pack_indexed,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names that mean something in archives of layers, or to overlayfs itself.
const SPECIAL: &[&str] = &["a", "b", ".wh.a", ".wh..wh..opq", ".wh.", "wh.a", "#1"];

proptest! {
    #![proptest_config(generate::cases(24))]

    #[test]
    fn an_upper_directory_is_what_was_done(
        first in generate::operations(12),
        second in generate::operations(12),
        user_marks in any::<bool>(),
    ) {
        check(&first, &second, user_marks);
    }

    #[test]
    fn names_of_whiteouts_are_names_to_the_kernel(
        first in generate::operations_among(SPECIAL, 10),
        second in generate::operations_among(SPECIAL, 10),
        user_marks in any::<bool>(),
    ) {
        check(&first, &second, user_marks);
    }
}

/// `first` makes the lower tree, `second` is done to it through the mounted overlay.
#[track_caller]
fn check(first: &[Operation], second: &[Operation], user_marks: bool) {
    if !is_privileged() {
        return;
    }
    let marks = if user_marks {
        Marks::User
    } else {
        Marks::Trusted
    };
    let place = tempfile::tempdir().unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.path().join(name));
    for directory in [&lower, &upper, &work] {
        std::fs::create_dir(directory).unwrap();
    }
    let below = generate::perform(Tree::new(), first);
    write(&below, &lower);
    let below = seen(&lower);
    let Some(overlay) = mount_writable(&lower, &upper, &work, user_marks) else {
        return;
    };
    for operation in second {
        act(&overlay.path(), operation);
    }
    // The kernel numbers an inode anew when it forgot it, so links show in a new mount only.
    drop(overlay);
    let both = [lower.clone(), upper.clone()];
    let overlay = mount_overlay(&both, user_marks).expect("as before");
    let shown = seen(&overlay.path());

    // The kernel breaks links when it copies one of the names up, so only without them is what it
    // shows what was done.
    if below.values().all(|inode| inode.leader.is_none()) {
        let done = generate::perform(below.clone(), second);
        assert_eq!(
            without_directory_times(&shown),
            without_directory_times(&done)
        );
    }

    let lower = layer::Tree::Dir { path: lower, marks };
    let top = layer::Tree::Dir { path: upper, marks };
    let mut changes = top.changes().unwrap();
    let stack = Stack::open(&[lower.clone(), top]).unwrap();
    assert_same(&stack, &overlay.view());
    changes.retain(|(path, _)| !path.is_root());
    let layer = spec::layer_of(&changes);
    assert_eq!(spec::apply(&below, &layer), shown);
    check_archive(&changes, &layer, place.path(), &lower, &overlay);
}

/// The layer as a tar says the same, read anew as a stranger's and as a packed tree, unless it has
/// a name that no archive of a layer can say.
#[track_caller]
fn check_archive(
    changes: &[(RelPath, Change)],
    layer: &spec::Layer,
    place: &Path,
    lower: &layer::Tree,
    overlay: &Mounted,
) {
    let unsayable = |path: &RelPath| path.components().any(|name| name.starts_with(b".wh."));
    let [tar, index] = ["layer.tar", "layer.index"].map(|name| place.join(name));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&tar)
        .unwrap();
    let image = File::create_new(&index).unwrap();
    if let Err(error) = pack_indexed(changes, Times::Preserve, &mut nothing_below, &file, &image) {
        assert!(layer.keys().any(unsayable), "{error}");
        return;
    }
    assert!(!layer.keys().any(unsayable));
    file.seek(SeekFrom::Start(0)).unwrap();
    let stored = tempfile::tempfile().unwrap();
    let applied = apply(&file, &stored, Expected::default(), &Limits::default()).unwrap();
    let read = spec::changes_of_index(&applied.index, &Arc::new(stored));
    assert_eq!(&spec::layer_of(&read), layer);

    let stack = Stack::open(&[lower.clone(), layer::Tree::Packed { tar, index }]).unwrap();
    // The root has an inode in the upper directory, and none in an archive.
    assert_eq!(tree_of(&stack), tree_of(&overlay.view()));
}

/// Puts a tree into an empty directory.
fn write(tree: &Tree, directory: &Path) {
    let layer = spec::diff(&Tree::new(), tree, |_| false);
    let options = UnpackOptions {
        deletions: Deletions::None,
        refused: Refused::Fail,
    };
    unpack(
        &spec::changes(&layer),
        &Root::open(directory).unwrap(),
        options,
    )
    .unwrap();
}

/// What a process sees in a directory.
fn seen(directory: &Path) -> Tree {
    tree_of(&layer::HostView::open(directory, None, None).unwrap())
}

/// A view as a tree of the specification.
fn tree_of(view: &dyn View) -> Tree {
    let mut leaders: BTreeMap<LinkId, RelPath> = BTreeMap::new();
    let mut tree = Tree::new();
    for (path, node) in view.walk(&RelPath::root()).unwrap() {
        let leader = node
            .links
            .map(|id| leaders.entry(id).or_insert_with(|| path.clone()).clone());
        let content = match node.kind {
            Kind::File { .. } => spec::bytes_of(&layer::Data::Open(view.open(&path).unwrap())),
            _ => Vec::new(),
        };
        let inode = Inode {
            kind: node.kind,
            metadata: node.metadata,
            content,
            leader,
        };
        tree.insert(path, inode);
    }
    // An inode may have more names than this view shows.
    spec::canonical(tree)
}

/// Work in a directory moves its time, which no operation speaks of.
fn without_directory_times(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for inode in tree
        .values_mut()
        .filter(|inode| inode.kind == Kind::Directory)
    {
        inode.metadata.mtime = Time::default();
    }
    tree
}

/// Does to the files below `directory` what [`generate::perform`] does to a tree.
fn act(directory: &Path, operation: &Operation) {
    // Remembers directories that it opened, so it is a new one after each renaming.
    let root = Root::open(directory).unwrap();
    let exists = |path: &RelPath| root.stat(path).unwrap().is_some();
    match operation {
        Operation::Put(path, inode) => {
            make_parents(&root, path);
            put(&root, directory, path, inode);
        }
        Operation::Remove(path) => root.remove(path).unwrap(),
        Operation::Link(from, to) => {
            if !exists(from)
                || is_directory(&root, from)
                || from.starts_with(to)
                || to.starts_with(from)
            {
                return;
            }
            make_parents(&root, to);
            root.remove(to).unwrap();
            if exists(from) {
                root.link(from, to).unwrap();
            }
        }
        Operation::Rename(from, to) => {
            if !exists(from) || from.starts_with(to) || to.starts_with(from) {
                return;
            }
            make_parents(&root, to);
            root.remove(to).unwrap();
            relocate(&root, directory, from, to);
        }
        Operation::Chmod(path, mode) => {
            let found = root.stat(path).unwrap();
            if found.is_some_and(|found| found.kind != sys::fs::FileType::Symlink) {
                root.set_permissions(path, *mode).unwrap();
            }
        }
    }
}

fn put(root: &Root, directory: &Path, path: &RelPath, inode: &Inode) {
    if is_directory(root, path) && inode.kind == Kind::Directory {
        for name in root.xattrs(path).unwrap().keys() {
            rustix::fs::lremovexattr(host(directory, path), name.as_slice()).unwrap();
        }
    } else {
        root.remove(path).unwrap();
        match &inode.kind {
            Kind::Directory => root.make_directory(path).unwrap(),
            Kind::File { .. } => root
                .create_file(path)
                .unwrap()
                .write_all(&inode.content)
                .unwrap(),
            kind => root.make_special(path, kind).unwrap(),
        }
    }
    root.set_metadata(path, &inode.kind, &inode.metadata)
        .unwrap();
}

/// As `mv` does: overlayfs refuses to rename directories that a lower layer has.
fn relocate(root: &Root, directory: &Path, from: &RelPath, to: &RelPath) {
    match std::fs::rename(host(directory, from), host(directory, to)) {
        Ok(()) => return,
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices, "{error}"),
    }
    let view = layer::HostView::open(directory, None, None).unwrap();
    let node = view.lookup(from).unwrap().unwrap();
    root.make_directory(to).unwrap();
    for name in view.read_dir(from).unwrap() {
        relocate(
            root,
            directory,
            &from.join(&name).unwrap(),
            &to.join(&name).unwrap(),
        );
    }
    root.remove(from).unwrap();
    root.set_metadata(to, &node.kind, &node.metadata).unwrap();
}

fn make_parents(root: &Root, path: &RelPath) {
    let ancestors: Vec<_> = std::iter::successors(path.parent(), RelPath::parent).collect();
    for ancestor in ancestors.iter().rev().filter(|path| !path.is_root()) {
        if !is_directory(root, ancestor) {
            root.remove(ancestor).unwrap();
            root.make_directory(ancestor).unwrap();
            // The group is that of the directory above when this has the bit for it.
            root.set_owner(ancestor, 0, 0).unwrap();
            root.set_permissions(ancestor, 0o755).unwrap();
        }
    }
}

fn is_directory(root: &Root, path: &RelPath) -> bool {
    root.open_directory(path).is_ok()
}

fn host(directory: &Path, path: &RelPath) -> PathBuf {
    directory.join(OsStr::from_bytes(path.as_bytes()))
}
