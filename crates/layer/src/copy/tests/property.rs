//! The planner against the rules in their plainest form, on random trees and actions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A tree: paths with a mode for directories, a content for files.
type Model = BTreeMap<String, Result<u32, String>>;

#[derive(Clone, Debug)]
struct Step {
    source: Model,
    dest: String,
    archive: bool,
}

fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(i, _)| &path[..i])
}

fn tree() -> impl Strategy<Value = Model> {
    let node = prop_oneof![
        prop_oneof![Just(0o755), Just(0o700)].prop_map(Ok),
        "[xyz]{0,2}".prop_map(Err),
    ];
    proptest::collection::vec(("[ab](/[ab]){0,2}", node), 0..6).prop_map(|nodes| {
        let mut tree = Model::new();
        for (path, node) in nodes {
            if above(&path).all(|dir| tree.get(dir).is_none_or(Result::is_ok)) {
                for dir in above(&path).map(str::to_owned).collect::<Vec<_>>() {
                    tree.entry(dir).or_insert(Ok(0o755));
                }
                tree.entry(path).or_insert(node);
            }
        }
        tree
    })
}

fn step() -> impl Strategy<Value = Step> {
    (tree(), "([ab](/[ab]){0,1})?", any::<bool>()).prop_map(|(source, dest, archive)| Step {
        source,
        dest,
        archive,
    })
}

fn notation(tree: &Model) -> String {
    let line = |(path, node): (&String, &Result<u32, String>)| match node {
        Ok(mode) => format!("{path}/ {mode:04o}\n"),
        Err(content) => format!("{path} ={content}\n"),
    };
    tree.iter().map(line).collect()
}

/// What an action does, name by name.
fn apply(tree: &mut Model, step: &Step) -> Result<(), ()> {
    let dirs = above(&step.dest)
        .chain([step.dest.as_str()])
        .filter(|d| !d.is_empty());
    for dir in dirs {
        match tree.entry(dir.to_owned()).or_insert(Ok(0o755)) {
            Ok(_) => {}
            Err(_) => return Err(()),
        }
    }
    for (path, node) in &step.source {
        let path = format!("{}/{path}", step.dest)
            .trim_start_matches('/')
            .to_owned();
        let before = tree.get(&path).map(Result::is_ok);
        if !step.archive && before.is_some_and(|was_dir| was_dir != node.is_ok()) {
            // A file gives way to a file only, and a directory to none.
            if before == Some(true) || node.is_ok() {
                return Err(());
            }
        }
        if before != Some(true) || node.is_err() {
            tree.retain(|p, _| !p.starts_with(&format!("{path}/")));
        }
        tree.insert(path, node.clone());
    }
    Ok(())
}

fn action_of(step: &Step) -> Action {
    let source = Arc::new(MemView::parse(&format!(
        "s/\n{}",
        prefixed(&notation(&step.source))
    )));
    let text = if step.archive { "tar /" } else { "s /" };
    let text = format!("{text}{}", step.dest);
    if !step.archive {
        return action(&source, &text).unwrap();
    }
    let tar = Arc::new(MemView::parse("tar =…"));
    let Action::Copy(mut copy) = action(&tar, &text).unwrap() else {
        unreachable!()
    };
    let mut changes: Vec<(RelPath, Change)> = step
        .source
        .iter()
        .map(|(path, node)| {
            let path = RelPath::new(path.as_bytes()).unwrap();
            let below_source = RelPath::new("s").unwrap().join_path(&path);
            let inode = source.lookup(&below_source).unwrap().unwrap();
            let data = node
                .as_ref()
                .err()
                .map(|c| Data::Inline(Arc::from(c.as_bytes())));
            (
                path,
                Change::Put {
                    node: inode,
                    opaque: false,
                    data,
                },
            )
        })
        .collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    copy.archives = vec![(0, changes)];
    Action::Copy(copy)
}

fn prefixed(notation: &str) -> String {
    notation.lines().map(|line| format!("s/{line}\n")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn plans_equal_the_rules(base in tree(), steps in proptest::collection::vec(step(), 1..4)) {
        let text = notation(&base);
        let mut model = base;
        let expect = steps.iter().try_for_each(|step| apply(&mut model, step));
        let planned = layer(&text, steps.iter().map(action_of).collect());
        match (expect, planned) {
            (Ok(()), Ok(changes)) => {
                let expect = without_times(&MemView::parse(&notation(&model)).dump());
                prop_assert_eq!(outcome(&text, &changes), expect);
            }
            (Err(()), Err(_)) => {}
            (expect, planned) => prop_assert!(false, "{expect:?} but {planned:?}"),
        }
    }
}
