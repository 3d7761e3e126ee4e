//! Row C17: archives that are extracted where they would have been copied.

use super::*;
use crate::mem::content;

/// The entries of an archive with these contents, in the order of a layer.
fn entries(text: &str) -> Vec<(RelPath, Change)> {
    let tree = MemView::parse(text);
    let mut changes = Vec::new();
    let mut names = std::collections::HashMap::new();
    let mut pending = vec![RelPath::root()];
    while let Some(path) = pending.pop() {
        let node = tree.lookup(&path).unwrap().unwrap();
        let is_file = matches!(node.kind, crate::Kind::File { .. });
        if node.kind == crate::Kind::Directory {
            let children = tree.read_dir(&path).unwrap().into_iter().rev();
            pending.extend(children.map(|name| path.join(&name).unwrap()));
        }
        if let Some(to) = node.links.and_then(|id| names.insert(id, path.clone())) {
            changes.push((path, Change::Link { to }));
            continue;
        }
        let data = is_file.then(|| Data::Open(content(&tree.bytes(&path))));
        changes.push((
            path,
            Change::Put {
                node,
                opaque: false,
                data,
            },
        ));
    }
    changes.remove(0);
    changes
}

#[track_caller]
fn extract(base: &str, text: &str, archive: Vec<(RelPath, Change)>) -> Result<String, CopyError> {
    let source = Arc::new(MemView::parse("a.tar =…"));
    let Action::Copy(mut copy) = action(&source, text).unwrap() else {
        unreachable!()
    };
    copy.archives = vec![(0, archive)];
    Ok(outcome(base, &layer(base, vec![Action::Copy(copy)])?))
}

#[track_caller]
fn check_archive(base: &str, text: &str, archive: &str, expect: &str) {
    let tree = extract(base, text, entries(archive)).unwrap();
    assert_eq!(
        tree,
        without_times(&MemView::parse(expect).dump()),
        "{text}"
    );
}

const ARCHIVE: &str = "d/ 0700 5:6\nd/f =new 0600 5:6\nd/g =>d/f\nl ->d/f";

#[test]
fn the_destination_is_a_directory() {
    let expect = "x/d/ 0700 5:6\nx/d/f =new 0600 5:6\nx/d/g =>x/d/f\nx/l ->d/f";
    check_archive("", "a.tar /x", ARCHIVE, expect);
    check_archive("", "a.tar /x/", ARCHIVE, expect);
    check_archive("real/\nx ->real", "a.tar /x", "f =1", "real/f =1\nx ->real");
    let error = extract("x =f", "a.tar /x", entries(ARCHIVE)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "make directory /x: /x is not a directory"
    );
}

#[test]
fn owners_are_the_archives_unless_changed() {
    let archive = "d/ 0700 5:6\nd/f =1 0600 5:6\nd/g =>d/f\nl ->x 0777 5:6";
    check_archive(
        "",
        "--chown=1:2 --chmod=711 a.tar /x",
        archive,
        "x/ 0755 1:2\nx/d/ 0700 1:2\nx/d/f =1 0600 1:2\nx/d/g =>x/d/f\nx/l ->x 0777 1:2",
    );
}

#[test]
fn the_archive_wins() {
    check_archive(
        "d/ 0755 1:1\nd/f/old =\nd/keep =\nl/old =\n",
        "a.tar /",
        ARCHIVE,
        "d/ 0700 5:6\nd/f =new 0600 5:6\nd/g =>d/f\nd/keep =\nl ->d/f",
    );
    check_archive("d =file", "a.tar /", "d/f =1", "d/f =1");
}

#[test]
fn a_directory_that_was_replaced_comes_back_empty() {
    let base = "d/old =";
    let source = Arc::new(MemView::parse("a.tar =…\ns/d/new ="));
    let Action::Copy(mut first) = action(&source, "a.tar /").unwrap() else {
        unreachable!()
    };
    first.archives = vec![(0, entries("d =file"))];
    let mut second = first.clone();
    second.archives = vec![(0, entries("d/new ="))];
    let changes = layer(base, vec![Action::Copy(first), Action::Copy(second)]).unwrap();
    assert!(
        matches!(changes[0].1, Change::Put { opaque: true, .. }),
        "{changes:?}"
    );
    assert_eq!(
        outcome(base, &changes),
        without_times(&MemView::parse("d/new =").dump())
    );
}

#[test]
fn links_that_exist_are_followed_inside_the_destination() {
    check_archive(
        "x/lib ->/r\nx/r/",
        "a.tar /x",
        "lib/f =1",
        "x/lib ->/r\nx/r/f =1",
    );
    check_archive(
        "x/lib ->../../r\nr/\nx/r/",
        "a.tar /x",
        "lib/f =1",
        "x/lib ->../../r\nx/r/f =1\nr/",
    );
    check_archive("x/lib ->gone", "a.tar /x", "lib/f =1", "x/lib/f =1");
    check_archive("x/f ->y\nx/y =2", "a.tar /x", "f =1", "x/f =1\nx/y =2");
}

#[test]
fn hard_links_to_what_was_there() {
    let to = |path: &str, to: &str| {
        let (path, to) = (RelPath::new(path).unwrap(), RelPath::new(to).unwrap());
        vec![(path, Change::Link { to })]
    };
    let tree = extract("x/old =1 0600 3:4", "a.tar /x", to("new", "old")).unwrap();
    assert_eq!(tree, "x/ 0755 0:0\nx/new =1 0600 3:4\nx/old =1 0600 3:4\n");
    for target in ["missing", "dir"] {
        let error = extract("x/dir/", "a.tar /x", to("new", target))
            .unwrap_err()
            .to_string();
        let expect =
            format!("extract /x/new: its hard link leads to /x/{target}, which is no file");
        assert_eq!(error, expect);
    }
}

#[test]
fn whiteouts_and_opaque_directories_remove() {
    let mut changes = entries("d/new =");
    let Change::Put { opaque, .. } = &mut changes[0].1 else {
        unreachable!()
    };
    *opaque = true;
    changes.push((RelPath::new("gone").unwrap(), Change::Whiteout));
    changes.push((RelPath::new("never").unwrap(), Change::Whiteout));
    let tree = extract("d/old =\ngone/f =\nkeep =", "a.tar /", changes).unwrap();
    assert_eq!(tree, "d/ 0755 0:0\nd/new = 0644 0:0\nkeep = 0644 0:0\n");
}
