//! Random layers, and the two ways to put one on disk.

use layer::erofs::{IndexChange, IndexEntry, write_index};
use layer::xattr::Marks;
use layer::{Kind, Metadata, Node, RelPath, Root, Time, Tree, Xattrs};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// What a layer has at its paths; parents are there and are directories, links lead to earlier
/// files.
pub(crate) type Layer = BTreeMap<RelPath, Item>;

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Put {
        node: Node,
        opaque: bool,
        bytes: Vec<u8>,
    },
    Link {
        to: RelPath,
    },
    Whiteout,
}

/// As many cases as usual, or as `PROPTEST_CASES` says.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES");
    let cases = asked.and_then(|cases| cases.to_str()?.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(usual))
}

/// Layers over few names, so that those of a stack meet each other.
pub(crate) fn layer() -> impl Strategy<Value = Layer> {
    let wild = vec((path(), item()), 0..24);
    wild.prop_map(sound)
}

/// Drops what contradicts the rest, and puts the missing parents.
pub(crate) fn sound(wild: Vec<(RelPath, Item)>) -> Layer {
    let mut layer = Layer::new();
    let sorted: BTreeMap<_, _> = wild.into_iter().collect();
    for (path, item) in sorted {
        let mut ancestors = Vec::new();
        let mut at = path.parent().filter(|parent| !parent.is_root());
        while let Some(parent) = at {
            at = parent.parent().filter(|parent| !parent.is_root());
            ancestors.push(parent);
        }
        let blocked = ancestors
            .iter()
            .any(|a| layer.get(a).is_some_and(|i| !is_directory(i)));
        let dangling = match &item {
            Item::Link { to } => !layer.get(to).is_some_and(is_file),
            _ => false,
        };
        if blocked || dangling {
            continue;
        }
        for ancestor in ancestors {
            layer.entry(ancestor).or_insert_with(made_up_directory);
        }
        layer.insert(path, item);
    }
    layer
}

/// Puts a layer on disk as a tar and its index. The tar has contents only: nobody reads its
/// headers here.
pub(crate) fn write_packed(layer: &Layer, directory: &Path) -> Tree {
    let (tar, index) = (directory.join("layer.tar"), directory.join("layer.index"));
    let mut data = Vec::new();
    let mut entries = Vec::new();
    for (path, item) in layer {
        let change = match item.clone() {
            Item::Whiteout => IndexChange::Whiteout,
            Item::Link { to } => IndexChange::Link { to },
            Item::Put {
                node,
                opaque,
                bytes,
            } => {
                // A header, as in a tar, so that offsets are not those of the first block only.
                data.resize(data.len() + 512, b'#');
                let data_offset = (!bytes.is_empty()).then_some(data.len() as u64);
                data.extend(bytes);
                data.resize(data.len().next_multiple_of(512), 0);
                IndexChange::Put {
                    node,
                    opaque,
                    data_offset,
                }
            }
        };
        let path = path.clone();
        entries.push(IndexEntry { path, change });
    }
    std::fs::write(&tar, &data).unwrap();
    let image = File::create(&index).unwrap();
    write_index(&entries, data.len() as u64, &image).unwrap();
    Tree::Packed { tar, index }
}

/// Puts a layer on disk as overlayfs would leave it in an upper directory.
pub(crate) fn write_directory(layer: &Layer, directory: &Path, marks: Marks) -> Tree {
    let root = Root::open(directory).unwrap();
    let opaque_name = [marks.prefix(), b"opaque"].concat();
    for (path, item) in layer {
        match item {
            Item::Whiteout => {
                let device = Kind::CharDevice { major: 0, minor: 0 };
                root.make_special(path, &device).unwrap();
            }
            Item::Link { to } => root.link(to, path).unwrap(),
            Item::Put { node, bytes, .. } => match &node.kind {
                Kind::Directory => root.make_directory(path).unwrap(),
                Kind::File { .. } => root.create_file(path).unwrap().write_all(bytes).unwrap(),
                kind => root.make_special(path, kind).unwrap(),
            },
        }
    }
    // Backwards, so that nothing is put into a directory that has its time.
    for (path, item) in layer.iter().rev() {
        if let Item::Put { node, opaque, .. } = item {
            if *opaque {
                root.set_xattr(path, &opaque_name, b"y").unwrap();
            }
            root.set_metadata(path, &node.kind, &node.metadata).unwrap();
        }
    }
    let metadata = &made_up_root().metadata;
    root.set_metadata(&RelPath::root(), &Kind::Directory, metadata)
        .unwrap();
    let path = directory.to_owned();
    Tree::Dir { path, marks }
}

/// The root of a layer that says nothing of it.
pub(crate) fn made_up_root() -> Node {
    Node {
        kind: Kind::Directory,
        metadata: Metadata {
            mode: 0o755,
            ..Metadata::default()
        },
        links: None,
    }
}

fn made_up_directory() -> Item {
    Item::Put {
        node: made_up_root(),
        opaque: false,
        bytes: Vec::new(),
    }
}

fn is_directory(item: &Item) -> bool {
    matches!(item, Item::Put { node, .. } if node.kind == Kind::Directory)
}

/// Whether a hard link may lead there.
fn is_file(item: &Item) -> bool {
    matches!(item, Item::Put { node, .. } if node.kind != Kind::Directory)
}

fn path() -> impl Strategy<Value = RelPath> {
    let name = prop_oneof![
        12 => "[abc]".prop_map(String::into_bytes),
        1 => Just(b".!".to_vec()),
        1 => Just(b"!".to_vec()),
        1 => Just(b"..a".to_vec()),
        1 => Just(b".wh.a".to_vec()),
        1 => Just(b"a b\n\\".to_vec()),
        1 => Just(vec![0xff, 0xfe, b'x']),
        1 => Just(vec![b'n'; 255]),
    ];
    vec(name, 1..4).prop_map(|names| RelPath::new(names.join(&b'/')).unwrap())
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        4 => put(Just(Kind::Directory), Just(Vec::new()).boxed()),
        6 => file(),
        2 => symlink(),
        1 => put(special(), Just(Vec::new()).boxed()),
        2 => Just(Item::Whiteout),
        2 => path().prop_map(|to| Item::Link { to }),
    ]
}

fn put(
    kind: impl Strategy<Value = Kind> + 'static,
    bytes: BoxedStrategy<Vec<u8>>,
) -> impl Strategy<Value = Item> {
    (kind, bytes, metadata(), any::<bool>()).prop_map(|(kind, bytes, mut metadata, opaque)| {
        if !matches!(kind, Kind::Directory | Kind::File { .. }) {
            metadata.xattrs.clear();
        }
        if matches!(kind, Kind::Symlink { .. }) {
            metadata.mode = 0o777;
        }
        let opaque = opaque && kind == Kind::Directory;
        let links = None;
        let node = Node {
            kind,
            metadata,
            links,
        };
        Item::Put {
            node,
            opaque,
            bytes,
        }
    })
}

fn file() -> impl Strategy<Value = Item> {
    let len = prop_oneof![
        Just(0),
        Just(1),
        Just(511),
        Just(512),
        Just(513),
        Just(4096),
        0usize..20_000
    ];
    (len, any::<u8>()).prop_flat_map(|(len, seed)| {
        let byte = |at: usize| (at as u8).wrapping_mul(31).wrapping_add(seed);
        let bytes: Vec<u8> = (0..len).map(byte).collect();
        let size = len as u64;
        put(Just(Kind::File { size }), Just(bytes).boxed())
    })
}

fn symlink() -> impl Strategy<Value = Item> {
    let target = prop_oneof![
        4 => vec(1u8..=255, 1..40),
        1 => vec(b'a'..=b'z', 400..600),
        1 => vec(b'a'..=b'z', 4000..4095),
    ];
    let kind = target.prop_map(|target| Kind::Symlink { target });
    put(kind, Just(Vec::new()).boxed())
}

fn special() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Fifo),
        Just(Kind::Socket),
        (1u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let id = || prop_oneof![Just(0u32), 0..70_000u32, Just(u32::MAX - 1)];
    let time = (-3_000_000_000i64..10_000_000_000, 0u32..1_000_000_000)
        .prop_map(|(seconds, nanos)| Time { seconds, nanos });
    (0u32..0o10_000, id(), id(), time, xattrs()).prop_map(|(mode, uid, gid, mtime, xattrs)| {
        Metadata {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        }
    })
}

fn xattrs() -> impl Strategy<Value = Xattrs> {
    let capability = Just({
        let mut value = vec![1, 0, 0, 2];
        value.extend([0x20, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        value
    });
    let user = btree_map("[a-z]{1,9}", vec(any::<u8>(), 0..90), 0..3);
    (
        option::weighted(0.2, capability),
        option::weighted(0.3, user),
    )
        .prop_map(|(capability, user)| {
            let mut xattrs = Xattrs::new();
            for (name, value) in user.unwrap_or_default() {
                xattrs.insert(format!("user.{name}").into_bytes(), value);
            }
            if let Some(value) = capability {
                xattrs.insert(b"security.capability".to_vec(), value);
            }
            xattrs
        })
}
