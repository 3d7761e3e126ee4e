//! Stacks read in user space show what the kernel's overlay shows.

use crate::kernel::{assert_same, mount_overlay, mount_packed};
use crate::trees::{Layer, cases, layer, write_directory, write_packed};
use layer::xattr::Marks;
use layer::{Change, Kind, Outline, RelPath, Stack, Times, Tree, View};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

proptest! {
    #![proptest_config(cases(64))]

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
        assert_same(&lazy(&trees, |_| None), &overlay.view());
        let outlined = lazy(&trees, |tree| Some(Outline::of(tree).unwrap()));
        assert_same(&outlined, &overlay.view());
    }
    check_in_pieces(&trees, &stack);
    check_in_parts(&trees, &stack);
    check_flattened(&trees, &stack, directory.path());
}

/// A stack of which nothing is here at first.
fn lazy(trees: &[Tree], outline: impl Fn(&Tree) -> Option<Outline>) -> Stack {
    let from_the_top: Vec<Tree> = trees.iter().rev().cloned().collect();
    let outlines = from_the_top.iter().map(outline).collect();
    let bring = move |wanted: &[usize]| {
        let tree = |&layer: &usize| from_the_top[layer].clone();
        Ok(wanted.iter().map(tree).collect())
    };
    Stack::lazy(outlines, Box::new(bring))
}

/// Whatever is looked at first, and whatever layers that brings in, it is what all of them show;
/// so is what is looked at next.
#[track_caller]
fn check_in_pieces(trees: &[Tree], whole: &Stack) {
    let everything = whole.walk(&RelPath::root()).unwrap();
    let nowhere = RelPath::new("nowhere/at/all").unwrap();
    // A few of them: it is done for every random stack.
    for (first, _) in everything.iter().step_by(1 + everything.len() / 3) {
        let stack = lazy(trees, |tree| Some(Outline::of(tree).unwrap()));
        for path in [first, &nowhere]
            .into_iter()
            .chain(everything.iter().map(|(path, _)| path))
        {
            let node = whole.lookup(path).unwrap();
            assert_eq!(stack.lookup(path).unwrap(), node, "{path} after {first}");
            if node.is_some_and(|node| node.kind == Kind::Directory) {
                let names = whole.read_dir(path).unwrap();
                assert_eq!(stack.read_dir(path).unwrap(), names, "{path} after {first}");
            }
        }
    }
}

/// Layers that are opened on top of open ones show what all of them show, whatever was looked up
/// in between.
#[track_caller]
fn check_in_parts(trees: &[Tree], whole: &Stack) {
    let mut stack = Arc::new(Stack::open(&trees[..1]).unwrap());
    for tree in &trees[1..] {
        drop(stack.walk(&RelPath::root()).unwrap());
        stack = Arc::new(Stack::over(&stack, std::slice::from_ref(tree)).unwrap());
    }
    assert_eq!(stack.depth(), whole.depth());
    assert_same(&*stack, whole);
}

/// Some layers made into one show, on top of those below, what they showed themselves.
#[track_caller]
fn check_flattened(trees: &[Tree], whole: &Stack, directory: &Path) {
    for start in 0..trees.len() {
        let changes = trees[start..].iter().map(|tree| tree.changes().unwrap());
        let changes = layer::flatten(changes);
        // A tar has no words for these.
        let unsayable = |(path, change): &(RelPath, Change)| {
            let socket = matches!(change, Change::Put { node, .. } if node.kind == Kind::Socket);
            socket || path.components().any(|name| name.starts_with(b".wh."))
        };
        if changes.iter().any(unsayable) {
            continue;
        }
        let place = directory.join(format!("flat{start}"));
        std::fs::create_dir(&place).unwrap();
        let (tar, index) = (place.join("tar"), place.join("index"));
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let file = options.open(&tar).unwrap();
        let image = File::create(&index).unwrap();
        layer::pack_indexed(
            &changes,
            Times::Preserve,
            &mut layer::nothing_below,
            &file,
            &image,
        )
        .unwrap();
        let mut layers = trees[..start].to_vec();
        layers.push(Tree::Packed { tar, index });
        assert_same(&Stack::open(&layers).unwrap(), whole);
    }
}

/// How many layers of three it takes to answer.
#[test]
fn no_more_layers_are_brought_than_the_answer_takes() {
    let directory = tempfile::tempdir().unwrap();
    let files = [
        ("bottom", ["a/x", "a/y", "low"]),
        ("middle", ["b/z", "b/w", "mid"]),
        ("top", ["a/x", "c/v", "a/top"]),
    ];
    for (layer, paths) in files {
        for path in paths {
            let path = directory.path().join(layer).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, layer).unwrap();
        }
    }
    let one = |path: &str, is_there: bool, names: bool, outlined: bool, expected: usize| {
        let brought = Arc::new(AtomicUsize::new(0));
        let (count, root) = (brought.clone(), directory.path().to_owned());
        let tree = move |layer: usize| Tree::Dir {
            path: root.join(["top", "middle", "bottom"][layer]),
            marks: Marks::Trusted,
        };
        let outline = |layer| outlined.then(|| Outline::of(&tree(layer)).unwrap());
        let outlines = (0..3).map(outline).collect();
        let bring = move |wanted: &[usize]| {
            count.fetch_add(wanted.len(), Ordering::Relaxed);
            Ok(wanted.iter().map(|&layer| tree(layer)).collect())
        };
        let stack = Stack::lazy(outlines, Box::new(bring));
        let path = RelPath::new(path.as_bytes()).unwrap();
        assert_eq!(stack.lookup(&path).unwrap().is_some(), is_there);
        if names {
            stack.read_dir(&path).unwrap();
        }
        assert_eq!(brought.load(Ordering::Relaxed), expected, "{path:?}");
    };
    // Without outlines, and with them.
    let check = |path: &str, is_there: bool, names: bool, expected: [usize; 2]| {
        one(path, is_there, names, false, expected[0]);
        one(path, is_there, names, true, expected[1]);
    };
    check("a/x", true, false, [1, 1]);
    check("a", true, false, [1, 1]);
    check("b/z", true, false, [2, 1]);
    check("a/y", true, false, [3, 1]);
    check("nowhere", false, false, [3, 0]);
    check("a/x/below", false, false, [1, 1]);
    check("c", true, true, [3, 1]);
    check("a", true, true, [3, 2]);
    check("", true, true, [3, 3]);
}
