//! Random trees: what is packed and applied again means what the specification says.

use crate::spec::{self, Tree, generate};
use layer::apply::{Expected, Limits, apply};
use layer::tar::ReadError;
use layer::{Change, Packed, RelPath, Times, pack};
use proptest::prelude::*;
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

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
        let index = spec::changes_of_index(&packed.index, &tar);
        prop_assert_eq!(&spec::layer_of(&index), &layer);
        let (applied, stored) = applied(&tar);
        prop_assert_eq!(applied.diff_id, packed.diff_id);
        prop_assert_eq!(applied.tar_len, packed.tar_len);
        let again = spec::layer_of(&spec::changes_of_index(&applied.index, &stored));
        prop_assert_eq!(spec::apply(&lower, &again), upper);
        prop_assert_eq!(again, layer);
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
            let mut image = Vec::new();
            layer::erofs::write_index(&applied.index, applied.stored_len, &mut image).unwrap();
        }
    }
}
