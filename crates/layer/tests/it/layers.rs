//! Random trees: what is packed and applied again means what the specification says.

use crate::spec::{self, Edit, Layer, Tree, generate};
use crate::unpack::is_privileged;
use layer::apply::{Expected, Limits, apply};
use layer::erofs::write_index;
use layer::tar::ReadError;
use layer::unpack::{Deletions, Refused, UnpackOptions, unpack};
use layer::xattr::Marks;
use layer::{Change, Packed, RelPath, Root, Times, nothing_below, pack, pack_indexed};
use proptest::prelude::*;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

fn packed(changes: &[(RelPath, Change)], times: Times) -> (Packed, Arc<std::fs::File>) {
    let tar = tempfile::tempfile().unwrap();
    let packed = pack(changes, times, &tar).unwrap();
    (packed, Arc::new(tar))
}

/// Applies a tar to a new file.
fn applied(tar: &std::fs::File) -> (layer::apply::Applied, Arc<std::fs::File>) {
    let mut blob = tar.try_clone().unwrap();
    blob.seek(SeekFrom::Start(0)).unwrap();
    let stored = tempfile::tempfile().unwrap();
    let applied = apply(blob, &stored, Expected::default(), &Limits::default()).unwrap();
    (applied, Arc::new(stored))
}

fn trees() -> impl Strategy<Value = (Tree, Tree, Vec<RelPath>)> {
    let opaque = prop::collection::vec(generate::path(), 0..3);
    (generate::operations(12), generate::operations(12), opaque).prop_map(
        |(first, second, opaque)| {
            let lower = generate::perform(Tree::new(), &first);
            let upper = generate::perform(lower.clone(), &second);
            (lower, upper, opaque)
        },
    )
}

/// A layer with the directories that lead to its entries, as copying up makes them.
fn with_parents(mut layer: Layer, upper: &Tree) -> Layer {
    let paths: Vec<RelPath> = layer.keys().cloned().collect();
    for parent in paths.iter().filter_map(RelPath::parent) {
        for path in std::iter::successors(Some(parent), RelPath::parent) {
            if let Some(inode) = upper.get(&path) {
                let inode = inode.clone();
                let opaque = false;
                layer.entry(path).or_insert(Edit::Put { inode, opaque });
            }
        }
    }
    layer
}

proptest! {
    #![proptest_config(generate::cases(30))]

    /// A layer as tar and index, and the same layer as an upper directory of overlayfs.
    #[test]
    fn both_forms_of_a_layer_say_the_same((lower, upper, opaque) in trees()) {
        if !is_privileged() {
            return Ok(());
        }
        let layer = spec::diff(&lower, &upper, |path| opaque.contains(path));
        let layer = with_parents(layer, &upper);
        let changes = spec::changes(&layer);
        let place = tempfile::tempdir().unwrap();

        let tar = place.path().join("layer.tar");
        let index = place.path().join("layer.index");
        let file = File::options().read(true).write(true).create_new(true).open(&tar).unwrap();
        let image = File::create_new(&index).unwrap();
        let packed = pack_indexed(&changes, Times::Layer, &mut nothing_below, &file, &image).unwrap();

        let path = place.path().join("upper");
        std::fs::create_dir(&path).unwrap();
        let marks = Marks::Trusted;
        let options = UnpackOptions {
            deletions: Deletions::Overlay(marks),
            refused: Refused::Fail,
        };
        unpack(&changes, &Root::open(&path).unwrap(), options).unwrap();

        for form in [layer::Tree::Packed { tar, index }, layer::Tree::Dir { path, marks }] {
            let mut found = form.changes().unwrap();
            found.retain(|(path, _)| !path.is_root());
            prop_assert_eq!(&spec::layer_of(&found), &layer);
            let again = tempfile::tempfile().unwrap();
            let repacked = pack(&found, Times::Layer, &again).unwrap();
            prop_assert_eq!(repacked.diff_id, packed.diff_id);
        }
        prop_assert_eq!(spec::apply(&lower, &layer), upper);
    }
}

proptest! {
    #![proptest_config(generate::cases(200))]

    #[test]
    fn diff_and_apply_are_inverse((lower, upper, opaque) in trees()) {
        let layer = spec::diff(&lower, &upper, |path| opaque.contains(path));
        prop_assert_eq!(spec::apply(&lower, &layer), upper);
    }

    #[test]
    fn a_tar_means_what_was_packed((lower, upper, opaque) in trees()) {
        let layer = spec::diff(&lower, &upper, |path| opaque.contains(path));
        let changes = spec::changes(&layer);
        let (packed, tar) = packed(&changes, Times::Preserve);
        let (applied, stored) = applied(&tar);
        prop_assert_eq!(applied.diff_id, packed.diff_id);
        prop_assert_eq!(applied.tar_len, packed.tar_len);
        let again = spec::layer_of(&spec::changes_of_index(&applied.index, &stored));
        prop_assert_eq!(spec::apply(&lower, &again), upper);
        prop_assert_eq!(again, layer);
    }

    #[test]
    fn an_index_means_what_was_packed((lower, upper, opaque) in trees()) {
        let layer = spec::diff(&lower, &upper, |path| opaque.contains(path));
        let layer = with_parents(layer, &upper);
        let changes = spec::changes(&layer);
        let (_, mut found, _) = spec::packed_with_index(&changes, Times::Layer, &mut nothing_below);
        found.retain(|(path, _)| !path.is_root());
        prop_assert_eq!(spec::layer_of(&found), layer);
    }

    #[test]
    fn the_order_of_work_does_not_show((_, upper, _) in trees()) {
        let layer = spec::diff(&Tree::new(), &upper, |_| false);
        let changes = spec::changes(&layer);
        let (first, _) = packed(&changes, Times::Layer);
        let (second, tar) = packed(&changes, Times::Layer);
        prop_assert_eq!(first.diff_id, second.diff_id);
        let (applied, _) = applied(&tar);
        for entry in &applied.index {
            if let layer::erofs::IndexChange::Put { node, .. } = &entry.change {
                prop_assert_eq!(Some(node.metadata.mtime), first.time);
            }
        }
    }

    /// Bytes of a good archive, some of them changed: a result or an error, never a panic.
    #[test]
    fn damaged_archives_are_no_trouble(
        (_, upper, _) in trees(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        use std::os::unix::fs::FileExt;
        let layer = spec::diff(&Tree::new(), &upper, |_| false);
        let (packed, tar) = packed(&spec::changes(&layer), Times::Layer);
        let mut bytes = vec![0; usize::try_from(packed.tar_len).unwrap()];
        tar.read_exact_at(&mut bytes, 0).unwrap();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let stored = tempfile::tempfile().unwrap();
        let limits = Limits::default();
        let result = apply(bytes.as_slice(), &stored, Expected::default(), &limits);
        let is_io = matches!(
            &result,
            Err(layer::apply::ApplyError::Archive { source: ReadError::Io { .. } })
        );
        prop_assert!(!is_io);
        if let Ok(applied) = result {
            let image = tempfile::tempfile().unwrap();
            write_index(&applied.index, applied.stored_len, &image).unwrap();
        }
    }
}
