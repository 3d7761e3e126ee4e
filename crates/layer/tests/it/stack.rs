//! Stacks read in user space show what the kernel's overlay shows.

use crate::kernel::{assert_same, mount_overlay, mount_packed};
use crate::trees::{Layer, layer, write_directory, write_packed};
use layer::xattr::Marks;
use layer::{Stack, Tree};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stacks_equal_the_kernels_overlay(
        layers in vec((layer(), any::<bool>()), 1..5),
        user_marks in any::<bool>(),
    ) {
        // Marks in an index are those that the kernel obeys without `userxattr`.
        let marks = if user_marks { Marks::User } else { Marks::Trusted };
        let layers: Vec<_> = layers
            .iter()
            .map(|(layer, packed)| (layer, *packed && !user_marks))
            .collect();
        check(&layers, marks);
    }
}

/// `layers`: the bottom one first, each with whether it is packed.
#[track_caller]
fn check(layers: &[(&Layer, bool)], marks: Marks) {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    // An overlay wants two layers at least.
    let mut lowers = vec![empty];
    let mut mounts = Vec::new();
    let mut trees = Vec::new();
    for (number, &(layer, packed)) in layers.iter().enumerate() {
        let place = directory.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        let tree = match packed {
            true => write_packed(layer, &place),
            false => write_directory(layer, &place, marks),
        };
        match &tree {
            Tree::Dir { path, .. } => lowers.push(path.clone()),
            Tree::Packed { tar, index } => {
                let Some(mounted) = mount_packed(tar, index) else {
                    return;
                };
                lowers.push(mounted.path());
                mounts.push(mounted);
            }
        }
        trees.push(tree);
    }
    let stack = Stack::open(&trees).unwrap();
    if let Some(overlay) = mount_overlay(&lowers, marks == Marks::User) {
        assert_same(&stack, &overlay.view());
    }
}
