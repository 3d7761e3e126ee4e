//! The index of a packed tree: the kernel, our reader and the layer it was made from agree.

use crate::kernel::{assert_same, mount_packed};
use crate::trees::{Item, Layer, cases, layer, made_up_root, sound, write_packed};
use layer::erofs::{IndexChange, IndexEntry, write_index};
use layer::{Change, Data, Kind, Node, RelPath, Stack, Tree, View, digest_all};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use std::ffi::OsString;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn the_kernel_shows_what_was_put(layer in layer()) {
        let directory = tempfile::tempdir().unwrap();
        check(&layer, directory.path());
    }

    #[test]
    fn damage_is_an_error_at_worst(
        layer in layer(),
        damage in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in option::weighted(0.1, any::<Index>()),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let tree = write_packed(&layer, directory.path());
        let index = directory.path().join("layer.index");
        let mut image = std::fs::read(&index).unwrap();
        for (at, byte) in damage {
            // What comes before the superblock is never read.
            let at = 1024 + at.index(image.len() - 1024);
            image[at] = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        std::fs::write(&index, image).unwrap();
        // Whatever it is, it ends, and does not panic.
        let _ = tree.changes();
        if let Ok(stack) = Stack::open(&[tree])
            && let Ok(files) = stack.walk(&RelPath::root())
        {
            let _ = digest_all(&stack, &files);
        }
    }
}

#[track_caller]
fn check(layer: &Layer, directory: &Path) {
    let tree = write_packed(layer, directory);
    assert_changes(layer, &tree);
    let Tree::Packed { tar, index } = &tree else {
        unreachable!()
    };
    if let Some(mounted) = mount_packed(tar, index) {
        assert_raw(layer, &mounted.view());
    }
    assert_consistent(tar, index);
}

/// Asks `fsck.erofs`, or the one that `KILN_FSCK_EROFS` names. Before version 1.6, which Debian 12 and
/// its backports do not have, it knows no blocks of 512 bytes; then the kernel alone is the judge.
#[track_caller]
#[expect(clippy::print_stderr, reason = "a check that is skipped says so")]
fn assert_consistent(tar: &Path, index: &Path) {
    static USELESS: AtomicBool = AtomicBool::new(false);
    if USELESS.load(Ordering::Relaxed) {
        return;
    }
    let named = std::env::var_os("KILN_FSCK_EROFS");
    let program = named.clone().unwrap_or_else(|| "fsck.erofs".into());
    let mut device = OsString::from("--device=");
    device.push(tar);
    let said = Command::new(&program)
        .arg(device)
        .arg("--extract")
        .arg(index)
        .output();
    let (ended_well, said) = match said {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            )
        }
        Err(error) => (false, error.to_string()),
    };
    if ended_well {
        return;
    }
    let useless = said.contains("blksize 512 isn't supported") || said.contains("os error 2");
    assert!(useless && named.is_none(), "{program:?}: {said}");
    eprintln!(
        "skipped: {program:?} is no judge of indexes: {}",
        said.trim()
    );
    USELESS.store(true, Ordering::Relaxed);
}

/// The bare index shows whiteouts as what they are, so it is compared with the layer itself.
#[track_caller]
fn assert_raw(layer: &Layer, kernel: &dyn View) {
    let walked = kernel.walk(&RelPath::root()).unwrap();
    let paths: Vec<_> = walked.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, layer.keys().collect::<Vec<_>>());
    for (path, found) in &walked {
        let item = match &layer[path] {
            Item::Link { to } => {
                let leader = kernel.lookup(to).unwrap().unwrap();
                assert!(
                    found.links.is_some() && found.links == leader.links,
                    "{path}"
                );
                &layer[to]
            }
            item => item,
        };
        match item {
            Item::Whiteout => {
                let device = Kind::CharDevice { major: 0, minor: 0 };
                assert_eq!(found.kind, device, "{path}");
            }
            Item::Link { .. } => panic!("{path} leads to a link"),
            Item::Put { node, bytes, .. } => {
                assert_eq!((&found.kind, &found.metadata), (&node.kind, &node.metadata));
                if let Kind::File { .. } = node.kind {
                    assert_eq!(&read(kernel, path), bytes, "{path}");
                }
            }
        }
    }
}

#[track_caller]
fn assert_changes(layer: &Layer, tree: &Tree) {
    let changes = tree.changes().unwrap();
    let paths: Vec<_> = changes.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, layer.keys().collect::<Vec<_>>());
    for (path, change) in &changes {
        match (&layer[path], change) {
            (Item::Whiteout, Change::Whiteout) => {}
            (Item::Link { to }, Change::Link { to: found }) => assert_eq!(found, to),
            (
                Item::Put {
                    node,
                    opaque,
                    bytes,
                },
                Change::Put {
                    node: found,
                    opaque: found_opaque,
                    data,
                },
            ) => {
                assert_eq!((found, found_opaque), (node, opaque), "{path}");
                if let Some(Data::Open(content)) = data {
                    let mut found = vec![0; content.len as usize];
                    content
                        .file
                        .read_exact_at(&mut found, content.offset)
                        .unwrap();
                    assert_eq!(&found, bytes, "{path}");
                } else {
                    assert!(
                        !matches!(node.kind, Kind::File { .. }),
                        "{path} has no bytes"
                    );
                }
            }
            (item, change) => panic!("{path}: {change:?} for {item:?}"),
        }
    }
}

fn read(view: &dyn View, path: &RelPath) -> Vec<u8> {
    let content = view.open(path).unwrap();
    let mut bytes = vec![0; content.len as usize];
    content
        .file
        .read_exact_at(&mut bytes, content.offset)
        .unwrap();
    bytes
}

#[test]
fn wide_directories_and_deep_ones() {
    let mut wild = Vec::new();
    for number in 0..3000 {
        wild.push((format!("wide/file-{number}"), file(number % 700)));
        wild.push((format!("long/{number:0200}"), file(0)));
    }
    wild.push((vec!["deep"; 600].join("/"), file(3)));
    let wild = wild
        .into_iter()
        .map(|(path, item)| (RelPath::new(path).unwrap(), item));
    let directory = tempfile::tempdir().unwrap();
    check(&sound(wild.collect()), directory.path());
}

/// The last name of a directory ends where the kernel thinks that it does, whatever follows.
#[test]
fn last_names_of_all_lengths_are_found() {
    let names = (1..=255).flat_map(|len| {
        let name = "n".repeat(len);
        [
            (format!("{len:03}/{name}"), file(0)),
            (format!("{len:03}/a{name}"), file(1)),
        ]
    });
    let names = names.filter(|(path, _)| path.len() <= 4 + 255);
    let wild = names.map(|(path, item)| (RelPath::new(path).unwrap(), item));
    let directory = tempfile::tempdir().unwrap();
    check(&sound(wild.collect()), directory.path());
}

#[test]
fn files_of_terabytes_lie_where_they_were_put() {
    // Sparse: the tar takes no room.
    const MIB: u64 = 1 << 20;
    let sizes = [5 * 1024 * MIB + 1, 1024 * 1024 * MIB + 513, 7];
    let directory = tempfile::tempdir().unwrap();
    let (tar, index) = (directory.path().join("tar"), directory.path().join("index"));
    let tar_file = std::fs::File::create(&tar).unwrap();
    let mut entries = Vec::new();
    let mut offset = 512;
    for (number, size) in sizes.into_iter().enumerate() {
        tar_file.write_all_at(b"first", offset).unwrap();
        tar_file.write_all_at(b"last", offset + size - 4).unwrap();
        let node = Node {
            kind: Kind::File { size },
            ..made_up_root()
        };
        entries.push(IndexEntry {
            path: RelPath::new(format!("file{number}")).unwrap(),
            change: IndexChange::Put {
                node,
                opaque: false,
                data_offset: Some(offset),
            },
        });
        offset += size.next_multiple_of(512) + 512;
    }
    tar_file.set_len(offset).unwrap();
    let image = std::fs::File::create(&index).unwrap();
    write_index(&entries, offset, &image).unwrap();
    assert_eq!(image.metadata().unwrap().len(), 4096, "for three files");

    let stack = Stack::open(&[Tree::Packed {
        tar: tar.clone(),
        index: index.clone(),
    }])
    .unwrap();
    let check_ends = |view: &dyn View| {
        for (number, size) in sizes.into_iter().enumerate() {
            let path = RelPath::new(format!("file{number}")).unwrap();
            let content = view.open(&path).unwrap();
            assert_eq!(content.len, size);
            let mut ends = [0; 7];
            content
                .file
                .read_exact_at(&mut ends[..3], content.offset)
                .unwrap();
            let end = content.offset + size - 4;
            content.file.read_exact_at(&mut ends[3..], end).unwrap();
            assert_eq!(&ends, b"firlast", "{path}");
        }
    };
    check_ends(&stack);
    if let Some(mounted) = mount_packed(&tar, &index) {
        check_ends(&mounted.view());
    }
}

#[test]
fn same_entries_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let layer = sound(vec![
        (RelPath::new("b/c").unwrap(), file(5000)),
        (RelPath::new("a").unwrap(), file(1)),
    ]);
    let images = ["one", "two"].map(|name| {
        let place = directory.path().join(name);
        std::fs::create_dir(&place).unwrap();
        write_packed(&layer, &place);
        std::fs::read(place.join("layer.index")).unwrap()
    });
    assert_eq!(images[0], images[1]);
}

#[test]
fn missing_parents_are_made_up() {
    let file = IndexEntry {
        path: RelPath::new("a/b/c").unwrap(),
        change: IndexChange::Put {
            node: Node {
                kind: Kind::Fifo,
                ..made_up_root()
            },
            opaque: false,
            data_offset: None,
        },
    };
    let directory = tempfile::tempdir().unwrap();
    let (tar, index) = (directory.path().join("tar"), directory.path().join("index"));
    std::fs::write(&tar, []).unwrap();
    write_index(&[file], 0, &std::fs::File::create(&index).unwrap()).unwrap();
    let mounted = mount_packed(&tar, &index);
    let stack = Stack::open(&[Tree::Packed { tar, index }]).unwrap();
    let parent = stack.lookup(&RelPath::new("a/b").unwrap()).unwrap();
    assert_eq!(parent, Some(made_up_root()));
    if let Some(mounted) = mounted {
        assert_same(&stack, &mounted.view());
    }
}

fn file(len: usize) -> Item {
    let node = Node {
        kind: Kind::File { size: len as u64 },
        ..made_up_root()
    };
    Item::Put {
        node,
        opaque: false,
        bytes: vec![b'x'; len],
    }
}
