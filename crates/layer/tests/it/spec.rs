//! What layers mean, as two pure functions over a tree in memory: `apply` puts a layer on a tree,
//! `diff` makes the layer between two trees. Everything that writes or reads layers is tested
//! against these.

use layer::{Change, Content, Data, Kind, Metadata, Node, Packed, RelPath, Times};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What one name of a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    /// Bytes of a regular file.
    pub(crate) content: Vec<u8>,
    /// The first of several names of this inode; `None` when it has one.
    pub(crate) leader: Option<RelPath>,
}

pub(crate) type Tree = BTreeMap<RelPath, Inode>;

/// What a layer does to one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Put { inode: Inode, opaque: bool },
    Link { to: RelPath },
    Whiteout,
}

pub(crate) type Layer = BTreeMap<RelPath, Edit>;

/// Puts a layer on a tree.
pub(crate) fn apply(tree: &Tree, layer: &Layer) -> Tree {
    let mut result = tree.clone();
    for (path, edit) in layer {
        match edit {
            Edit::Whiteout => remove(&mut result, path),
            Edit::Put { inode, opaque } => {
                let was_directory = is_directory(&result, path);
                if inode.kind != Kind::Directory || !was_directory || *opaque {
                    remove(&mut result, path);
                }
                let mut inode = inode.clone();
                inode.leader = None;
                result.insert(path.clone(), inode);
                // Other names of what was here have another leader now.
                result = canonical(result);
            }
            Edit::Link { to } => {
                let inode = result[to].clone();
                remove(&mut result, path);
                result.get_mut(to).unwrap().leader = Some(to.clone());
                let leader = Some(to.clone());
                result.insert(path.clone(), Inode { leader, ..inode });
            }
        }
    }
    canonical(result)
}

/// The layer that makes `upper` of `lower`. Directories of both for which `opaque` says so are
/// written anew with everything in them.
pub(crate) fn diff(lower: &Tree, upper: &Tree, opaque: impl Fn(&RelPath) -> bool) -> Layer {
    let mut layer = Layer::new();
    let renewed = |path: &RelPath| {
        std::iter::successors(Some(path.clone()), RelPath::parent)
            .any(|path| is_directory(lower, &path) && is_directory(upper, &path) && opaque(&path))
    };
    for path in lower.keys() {
        let parent_survives = path
            .parent()
            .is_none_or(|parent| is_directory(upper, &parent) && !renewed(&parent));
        if !upper.contains_key(path) && parent_survives {
            layer.insert(path.clone(), Edit::Whiteout);
        }
    }
    // All names of an inode are written when one of them is.
    let changed = |path: &RelPath| lower.get(path) != upper.get(path) || renewed(path);
    let leaders: Vec<&RelPath> = upper
        .iter()
        .filter(|(path, _)| changed(path))
        .filter_map(|(_, inode)| inode.leader.as_ref())
        .collect();
    for (path, inode) in upper {
        let is_group = |leader| leaders.contains(&leader);
        if !changed(path) && !inode.leader.as_ref().is_some_and(is_group) {
            continue;
        }
        let edit = match &inode.leader {
            Some(leader) if leader != path => Edit::Link { to: leader.clone() },
            _ => Edit::Put {
                inode: Inode {
                    leader: None,
                    ..inode.clone()
                },
                opaque: is_directory(lower, path) && is_directory(upper, path) && opaque(path),
            },
        };
        layer.insert(path.clone(), edit);
    }
    layer
}

pub(crate) fn is_directory(tree: &Tree, path: &RelPath) -> bool {
    let inode = tree.get(path);
    path.is_root() || inode.is_some_and(|inode| inode.kind == Kind::Directory)
}

/// Removes a path with everything below.
pub(crate) fn remove(tree: &mut Tree, path: &RelPath) {
    tree.retain(|other, _| !other.starts_with(path));
}

/// Names the leader of every group anew: names may have gone or come.
pub(crate) fn canonical(mut tree: Tree) -> Tree {
    let mut groups: BTreeMap<RelPath, Vec<RelPath>> = BTreeMap::new();
    for (path, inode) in &tree {
        if let Some(leader) = &inode.leader {
            groups.entry(leader.clone()).or_default().push(path.clone());
        }
    }
    for names in groups.values() {
        let leader = (names.len() > 1).then(|| names[0].clone());
        for name in names {
            tree.get_mut(name).unwrap().leader = leader.clone();
        }
    }
    tree
}

/// A layer of the specification as the crate's changes.
pub(crate) fn changes(layer: &Layer) -> Vec<(RelPath, Change)> {
    let change = |edit: &Edit| match edit {
        Edit::Whiteout => Change::Whiteout,
        Edit::Link { to } => Change::Link { to: to.clone() },
        Edit::Put { inode, opaque } => Change::Put {
            node: Node {
                kind: inode.kind.clone(),
                metadata: inode.metadata.clone(),
                links: None,
            },
            opaque: *opaque,
            data: matches!(inode.kind, Kind::File { .. })
                .then(|| Data::Inline(inode.content.as_slice().into())),
        },
    };
    layer
        .iter()
        .map(|(path, edit)| (path.clone(), change(edit)))
        .collect()
}

/// The crate's changes as a layer of the specification.
pub(crate) fn layer_of(changes: &[(RelPath, Change)]) -> Layer {
    let edit = |path: &RelPath, change: &Change| match change {
        Change::Whiteout => Edit::Whiteout,
        Change::Link { to } => Edit::Link { to: to.clone() },
        Change::Put { node, opaque, data } => Edit::Put {
            inode: Inode {
                kind: node.kind.clone(),
                metadata: node.metadata.clone(),
                content: data.as_ref().map(bytes_of).unwrap_or_default(),
                leader: None,
            },
            opaque: *opaque && *path != RelPath::root(),
        },
    };
    changes
        .iter()
        .map(|(path, change)| (path.clone(), edit(path, change)))
        .collect()
}

/// A layer packed with its index, what the pair says that it is, and the tar.
pub(crate) fn packed_with_index(
    changes: &[(RelPath, Change)],
    times: Times,
    below: &mut layer::Below<'_>,
) -> (Packed, Vec<(RelPath, Change)>, std::fs::File) {
    let place = tempfile::tempdir().unwrap();
    let (tar, index) = (place.path().join("tar"), place.path().join("index"));
    let create = |path| {
        let mut options = std::fs::File::options();
        options.read(true).write(true).create_new(true);
        options.open(path).unwrap()
    };
    let (tar_file, index_file) = (create(&tar), create(&index));
    let packed = layer::pack_indexed(changes, times, below, &tar_file, &index_file).unwrap();
    let found = layer::Tree::Packed { tar, index }.changes().unwrap();
    (packed, found, tar_file)
}

/// The changes that an index stands for.
pub(crate) fn changes_of_index(
    index: &[layer::erofs::IndexEntry],
    tar: &Arc<std::fs::File>,
) -> Vec<(RelPath, Change)> {
    use layer::erofs::IndexChange;
    let change = |change: &IndexChange| match change {
        IndexChange::Whiteout => Change::Whiteout,
        IndexChange::Link { to } => Change::Link { to: to.clone() },
        IndexChange::Put {
            node,
            opaque,
            data_offset,
        } => Change::Put {
            node: node.clone(),
            opaque: *opaque,
            data: match node.kind {
                Kind::File { size } => Some(Data::Open(Content {
                    file: Arc::clone(tar),
                    offset: data_offset.unwrap_or(0),
                    len: size,
                })),
                _ => None,
            },
        },
    };
    index
        .iter()
        .map(|entry| (entry.path.clone(), change(&entry.change)))
        .collect()
}

pub(crate) fn bytes_of(data: &Data) -> Vec<u8> {
    let read = |content: &Content| {
        let mut bytes = vec![0; usize::try_from(content.len).unwrap()];
        content
            .file
            .read_exact_at(&mut bytes, content.offset)
            .unwrap();
        bytes
    };
    match data {
        Data::Inline(bytes) => bytes.to_vec(),
        Data::Open(content) => read(content),
        Data::InView { view, path, .. } => read(&view.open(path).unwrap()),
    }
}

/// Random trees and the operations that lead from one to the next.
pub(crate) mod generate {
    use super::{Inode, Tree, canonical, is_directory, remove};
    use layer::{Kind, Metadata, RelPath, Time};
    use proptest::prelude::*;

    /// What a user may do to a tree.
    #[derive(Clone, Debug)]
    pub(crate) enum Operation {
        Put(RelPath, Inode),
        Remove(RelPath),
        Link(RelPath, RelPath),
        Rename(RelPath, RelPath),
        Chmod(RelPath, u32),
    }

    /// As many as `PROPTEST_CASES` says, for a long run; else so many.
    pub(crate) fn cases(usual: u32) -> ProptestConfig {
        match std::env::var_os("PROPTEST_CASES") {
            Some(_) => ProptestConfig::default(),
            None => ProptestConfig::with_cases(usual),
        }
    }

    /// Names that every form of a layer can say.
    const NAMES: &[&str] = &[
        "a",
        "b",
        "c",
        "d.x",
        "wh.a",
        "\u{fc}",
        "a-name-that-is-so-long-that-two-of-them-do-not-fit-into-the-hundred-bytes-of-a-header",
    ];

    pub(crate) fn path() -> impl Strategy<Value = RelPath> {
        path_among(NAMES)
    }

    fn path_among(names: &'static [&'static str]) -> impl Strategy<Value = RelPath> {
        let name = prop::sample::select(names);
        prop::collection::vec(name, 1..4).prop_map(|names| RelPath::new(names.join("/")).unwrap())
    }

    fn metadata() -> impl Strategy<Value = Metadata> {
        let xattrs = prop::collection::btree_map(
            prop::sample::select(vec![b"user.a".to_vec(), b"user.b".to_vec()]),
            prop::collection::vec(any::<u8>(), 0..8),
            0..2,
        );
        let id = prop::sample::select(vec![0, 1000, 2_097_151, 2_097_152, u32::MAX - 1]);
        let mtime = (
            -5_i64..2_000_000_000,
            prop::sample::select(vec![0_u32, 5, 999_999_999]),
        );
        (0_u32..0o10000, id.clone(), id, mtime, xattrs).prop_map(
            |(mode, uid, gid, (seconds, nanos), xattrs)| Metadata {
                mode,
                uid,
                gid,
                mtime: Time { seconds, nanos },
                xattrs,
            },
        )
    }

    fn inode() -> impl Strategy<Value = Inode> {
        let file = prop::collection::vec(any::<u8>(), 0..1500).prop_map(|content| {
            let size = content.len() as u64;
            (Kind::File { size }, content)
        });
        let symlink = prop::sample::select(vec!["a", "../b", "/c/a"]).prop_map(|target| {
            let target = target.as_bytes().to_vec();
            (Kind::Symlink { target }, Vec::new())
        });
        let kind = prop_oneof![
            4 => file,
            3 => Just((Kind::Directory, Vec::new())),
            1 => symlink,
            1 => Just((Kind::Fifo, Vec::new())),
            1 => Just((Kind::CharDevice { major: 1, minor: 3 }, Vec::new())),
        ];
        (kind, metadata()).prop_map(|((kind, content), mut metadata)| {
            if matches!(kind, Kind::Symlink { .. }) {
                metadata.mode = 0o777;
            }
            if !matches!(kind, Kind::File { .. } | Kind::Directory) {
                // Linux has user.* on files and directories only.
                metadata.xattrs.clear();
            }
            let leader = None;
            Inode {
                kind,
                metadata,
                content,
                leader,
            }
        })
    }

    pub(crate) fn operations(most: usize) -> impl Strategy<Value = Vec<Operation>> {
        operations_among(NAMES, most)
    }

    /// The same with other names.
    pub(crate) fn operations_among(
        names: &'static [&'static str],
        most: usize,
    ) -> impl Strategy<Value = Vec<Operation>> {
        let path = || path_among(names);
        let operation = prop_oneof![
            6 => (path(), inode()).prop_map(|(path, inode)| Operation::Put(path, inode)),
            2 => path().prop_map(Operation::Remove),
            2 => (path(), path()).prop_map(|(from, to)| Operation::Link(from, to)),
            2 => (path(), path()).prop_map(|(from, to)| Operation::Rename(from, to)),
            1 => (path(), 0_u32..0o10000).prop_map(|(path, mode)| Operation::Chmod(path, mode)),
        ];
        prop::collection::vec(operation, 0..most)
    }

    /// Performs the operations that make sense, in order.
    pub(crate) fn perform(mut tree: Tree, operations: &[Operation]) -> Tree {
        for operation in operations {
            match operation {
                Operation::Put(path, inode) => {
                    make_parents(&mut tree, path);
                    if inode.kind != Kind::Directory || !is_directory(&tree, path) {
                        remove(&mut tree, path);
                    }
                    tree.insert(path.clone(), inode.clone());
                }
                Operation::Remove(path) => remove(&mut tree, path),
                Operation::Link(from, to) => link(&mut tree, from, to),
                Operation::Rename(from, to) => rename(&mut tree, from, to),
                Operation::Chmod(path, mode) => chmod(&mut tree, path, *mode),
            }
            tree = canonical(tree);
        }
        tree
    }

    fn make_parents(tree: &mut Tree, path: &RelPath) {
        let ancestors: Vec<_> = std::iter::successors(path.parent(), RelPath::parent).collect();
        for ancestor in ancestors.iter().rev().filter(|path| !path.is_root()) {
            if !is_directory(tree, ancestor) {
                remove(tree, ancestor);
                let mode = 0o755;
                let inode = Inode {
                    kind: Kind::Directory,
                    metadata: Metadata {
                        mode,
                        ..Metadata::default()
                    },
                    content: Vec::new(),
                    leader: None,
                };
                tree.insert(ancestor.clone(), inode);
            }
        }
    }

    fn link(tree: &mut Tree, from: &RelPath, to: &RelPath) {
        let Some(inode) = tree.get(from).cloned() else {
            return;
        };
        if inode.kind == Kind::Directory || from.starts_with(to) || to.starts_with(from) {
            return;
        }
        make_parents(tree, to);
        remove(tree, to);
        // The parents of the new name may have been made where the inode was.
        if !tree.contains_key(from) {
            return;
        }
        let leader = Some(inode.leader.clone().unwrap_or_else(|| from.clone()));
        tree.get_mut(from).unwrap().leader = leader.clone();
        tree.insert(to.clone(), Inode { leader, ..inode });
    }

    fn rename(tree: &mut Tree, from: &RelPath, to: &RelPath) {
        if !tree.contains_key(from) || from.starts_with(to) || to.starts_with(from) {
            return;
        }
        make_parents(tree, to);
        remove(tree, to);
        let moved: Vec<_> = tree
            .iter()
            .filter_map(|(path, inode)| Some((path.strip(from)?, inode.clone())))
            .collect();
        remove(tree, from);
        for (rest, inode) in moved {
            tree.insert(to.join_path(&rest), inode);
        }
    }

    fn chmod(tree: &mut Tree, path: &RelPath, mode: u32) {
        let Some(inode) = tree.get(path) else { return };
        if matches!(inode.kind, Kind::Symlink { .. }) {
            return;
        }
        let leader = inode.leader.clone();
        for (name, inode) in tree.iter_mut() {
            if name == path || (leader.is_some() && inode.leader == leader) {
                inode.metadata.mode = mode;
            }
        }
    }
}
