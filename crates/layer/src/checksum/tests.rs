//! Edits that must hit and edits that must miss.

use super::*;
use crate::RelPath;
use crate::mem::{MemView, scratch};
use crate::select::Origin;

const TREE: &str = "
    app/ 0700 5:6 @1
    app/main.c =main 0644 5:6 @1
    app/other.c =other 0644 5:6 @1
    app/run =run 0755 5:6 @1 !user.k=v
    app/sub/ 0750 5:6 @1
    app/sub/x =x @1
    app/l ->main.c
    app/dev %chr:1:3
    app/pipe %fifo
    one.txt =1 0644 5:6 @1
    two.txt =2 0644 5:6 @1
    link.txt ->one.txt
    unrelated/f =u
";

/// What is selected and what becomes of its metadata.
#[derive(Clone, Copy)]
struct Use {
    paths: &'static [&'static str],
    naming: Naming,
    origin: Origin,
    ignore_owner: bool,
    mode: Option<&'static str>,
}

const CONTEXT: Origin = Origin::Context { git_modes: false };

const DIR: Use = Use {
    paths: &["app"],
    naming: Naming::Contents,
    origin: CONTEXT,
    ignore_owner: true,
    mode: None,
};
const FROM: Use = Use {
    origin: Origin::Tree,
    ignore_owner: false,
    ..DIR
};
const FILE: Use = Use {
    paths: &["one.txt"],
    ..DIR
};
const GLOB: Use = Use {
    paths: &["*.txt"],
    ..DIR
};
const SINGLE_GLOB: Use = Use {
    paths: &["o*.txt"],
    ..DIR
};
const LINK: Use = Use {
    paths: &["link.txt"],
    ..DIR
};
const MOUNT: Use = Use {
    naming: Naming::Mount,
    ..FROM
};
const PARENTS: Use = Use {
    paths: &["app/sub/x"],
    naming: Naming::Parents,
    ..FROM
};
const OCTAL: Use = Use {
    mode: Some("755"),
    ..DIR
};
const SYMBOLIC: Use = Use {
    mode: Some("u=rwX,go=rX"),
    ..DIR
};
const GIT: Use = Use {
    origin: Origin::Context { git_modes: true },
    ..DIR
};

fn sum(tree: &str, of: Use) -> Result<Checksum, SelectError> {
    let selector = Selector {
        paths: of.paths.iter().map(|p| p.as_bytes().to_vec()).collect(),
        exclude: None,
        naming: of.naming,
        origin: of.origin,
    };
    let mode = of.mode.map(|m| ModeChange::parse(m).unwrap());
    let effect = Effect {
        ignore_owner: of.ignore_owner,
        mode,
    };
    checksum(&MemView::parse(tree), &selector, &effect, &scratch())
}

/// Replaces the line that begins with `path` (a new one is added, an empty one taken away).
fn edited(tree: &str, path: &str, line: &str) -> String {
    let keeps = |l: &&str| l.split_whitespace().next() != Some(path);
    let mut lines: Vec<&str> = tree.lines().filter(keeps).collect();
    lines.push(line);
    lines.join("\n")
}

#[track_caller]
fn check(of: Use, path: &str, line: &str, hits: bool) {
    let tree = edited(TREE, path, line);
    let (before, after) = (sum(TREE, of).unwrap(), sum(&tree, of).unwrap());
    assert_ne!(
        MemView::parse(&tree).dump(),
        MemView::parse(TREE).dump(),
        "no edit: {line}"
    );
    assert_eq!(before.key == after.key, hits, "{path}: {line}");
    let changes = explain(&before.inputs().unwrap(), &after.inputs().unwrap());
    assert_eq!(changes.is_empty(), hits, "{path}: {line}: {changes:?}");
}

#[test]
fn edits_that_must_hit() {
    for (of, path, line) in [
        (DIR, "app/main.c", "app/main.c =main 0644 5:6 @77"),
        (DIR, "app/main.c", "app/main.c =main 0644 9:9 @1"),
        (DIR, "app/", "app/ 0755 5:6 @1"),
        (DIR, "app/", "app/ 0700 8:8 @1 !user.top=1"),
        (DIR, "app/", "app/ 0700 5:6 @99"),
        (DIR, "app/sub/", "app/sub/ 0750 1:1 @1"),
        (DIR, "app/sub/", "app/sub/ 0750 5:6 @5"),
        (DIR, "app/l", "app/l ->main.c 0755 3:3 @8"),
        (DIR, "unrelated/f", "unrelated/f =changed"),
        (DIR, "one.txt", "one.txt =changed"),
        (DIR, "new", "new =file"),
        (DIR, "unrelated/f", ""),
        (FROM, "app/main.c", "app/main.c =main 0644 5:6 @77"),
        (FROM, "app/", "app/ 0755 9:9 @1"),
        (FILE, "two.txt", "two.txt =other"),
        (FILE, "one.txt", "one.txt =1 0644 7:7 @9"),
        (FILE, "link.txt", ""),
        (GLOB, "app/z.txt", "app/z.txt =deep"),
        (GLOB, "one.md", "one.md =1"),
        (SINGLE_GLOB, "two.txt", "two.txt =other"),
        (LINK, "two.txt", "two.txt =other"),
        (MOUNT, "app/", "app/ 0700 5:6 @99"),
        (MOUNT, "one.txt", ""),
        (PARENTS, "app/sub/y", "app/sub/y =sibling"),
        (PARENTS, "app/main.c", "app/main.c =changed"),
        (OCTAL, "app/main.c", "app/main.c =main 0600 5:6 @1"),
        (OCTAL, "app/sub/", "app/sub/ 0700 5:6 @1"),
        (SYMBOLIC, "app/main.c", "app/main.c =main 0664 5:6 @1"),
        (SYMBOLIC, "app/run", "app/run =run 0700 5:6 @1 !user.k=v"),
        (GIT, "app/main.c", "app/main.c =main 0600 5:6 @1"),
        (GIT, "app/run", "app/run =run 0775 5:6 @1 !user.k=v"),
        (GIT, "app/sub/", "app/sub/ 0777 5:6 @1"),
    ] {
        check(of, path, line, true);
    }
}

#[test]
fn edits_that_must_miss() {
    for (of, path, line) in [
        (DIR, "app/main.c", "app/main.c =Main 0644 5:6 @1"),
        (DIR, "app/main.c", "app/main.c =longer 0644 5:6 @1"),
        (DIR, "app/main.c", "app/main.c =main 0664 5:6 @1"),
        (DIR, "app/main.c", "app/main.c =main 04644 5:6 @1"),
        (DIR, "app/main.c", ""),
        (DIR, "app/new", "app/new ="),
        (DIR, "app/empty/", "app/empty/"),
        (DIR, "app/sub/", "app/sub/ 0700 5:6 @1"),
        (DIR, "app/sub/", "app/sub/ 0750 5:6 @1 !user.a=1"),
        (DIR, "app/run", "app/run =run 0755 5:6 @1"),
        (DIR, "app/run", "app/run =run 0755 5:6 @1 !user.k=w"),
        (
            DIR,
            "app/run",
            "app/run =run 0755 5:6 @1 !security.capability=v",
        ),
        (DIR, "app/l", "app/l ->other.c"),
        (DIR, "app/l", "app/l =main 0777"),
        (DIR, "app/dev", "app/dev %chr:1:5"),
        (DIR, "app/dev", "app/dev %blk:1:3"),
        (DIR, "app/pipe", "app/pipe = 0644"),
        (DIR, "app/sub/x", "app/sub/y =x @1"),
        (FROM, "app/main.c", "app/main.c =main 0644 9:6 @1"),
        (FROM, "app/main.c", "app/main.c =main 0644 5:9 @1"),
        (FROM, "app/sub/", "app/sub/ 0750 9:9 @1"),
        (FILE, "one.txt", "one.txt =2 0644 5:6 @1"),
        (GLOB, "three.txt", "three.txt =3"),
        (GLOB, "two.txt", ""),
        (LINK, "one.txt", "one.txt =changed"),
        (LINK, "link.txt", "link.txt ->two.txt"),
        (MOUNT, "app/", "app/ 0755 5:6 @1"),
        (MOUNT, "app/", "app/ 0700 9:6 @1"),
        (PARENTS, "app/sub/", "app/sub/ 0700 5:6 @1"),
        (PARENTS, "app/", "app/ 0755 5:6 @1"),
        (OCTAL, "app/main.c", "app/main.c =Main 0644 5:6 @1"),
        (SYMBOLIC, "app/main.c", "app/main.c =main 0755 5:6 @1"),
        (GIT, "app/main.c", "app/main.c =main 0744 5:6 @1"),
    ] {
        check(of, path, line, false);
    }
}

#[test]
fn k25_a_renamed_match_misses() {
    let (before, after) = ("one.txt =1", "other.txt =1");
    let key = |tree, of| sum(tree, of).unwrap().key;
    assert_ne!(key(before, SINGLE_GLOB), key(after, SINGLE_GLOB));
    assert_ne!(
        key("one.txt =1\ntwo.txt =2", GLOB),
        key("one.txt =2\ntwo.txt =1", GLOB)
    );
    let none = sum("x =", GLOB).unwrap();
    assert_eq!(none.key, key("y =", GLOB));
}

#[test]
fn where_things_lie_does_not_count() {
    let key = |tree, of| sum(tree, of).unwrap().key;
    const DEEP: Use = Use {
        paths: &["a/b/app"],
        ..DIR
    };
    assert_eq!(
        key("app/x =1\napp/y/z =2", DIR),
        key("a/b/app/x =1\na/b/app/y/z =2", DEEP)
    );
    assert_eq!(key("app/x =1", DIR), key("other/x =1\napp ->other", DIR));
    assert_eq!(key("app/s %sock 0600", DIR), key("app/s = 0600", DIR));
    assert_ne!(key("app/s %sock 0600", FROM), key("app/s = 0600", FROM));
}

#[test]
fn fields_are_framed() {
    let key = |tree, of| sum(tree, of).unwrap().key;
    assert_ne!(key("app/a =bc", DIR), key("app/ab =c", DIR));
    assert_ne!(key("app/a/\napp/b =", DIR), key("app/a/b =", DIR));
    assert_ne!(key("app/l ->xy", DIR), key("app/lx ->y", DIR));
    assert_ne!(key("app/f = !user.a=b", DIR), key("app/f = !user.ab=", DIR));
    let two = Use {
        paths: &["app", "b"],
        ..DIR
    };
    assert_ne!(
        key("app/x =1\nb/y =2", two),
        key("app/x =1\napp/y =2\nb/", two)
    );
}

/// Digests as they were when the format was fixed. A change here makes every cache miss: it needs
/// another version in the format.
#[test]
fn keys_are_stable() {
    let hex = |of| {
        let key = sum(TREE, of).unwrap().key.0;
        key[..8]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    let keys = [DIR, FROM, FILE, GLOB, MOUNT, PARENTS, OCTAL, GIT].map(hex);
    assert_eq!(
        keys,
        [
            "3cd8dd5a159de242",
            "4b8fe5b3c7a8c3fe",
            "0f2fc907dbedbf0d",
            "7bbf7f199b82dc49",
            "b630373e1eeb4636",
            "1baf2187d62c6a90",
            "fd50798b4833badc",
            "48bbd61a57367b0a",
        ]
    );
}

#[test]
fn hard_links_are_read_once_and_only_selected_files_are() {
    let view = MemView::parse("app/a =1\napp/b =>app/a\nother =2");
    let paths = vec![b"app".to_vec()];
    let (naming, origin) = (Naming::Contents, CONTEXT);
    let selector = Selector {
        paths,
        exclude: None,
        naming,
        origin,
    };
    let effect = Effect {
        ignore_owner: true,
        mode: None,
    };
    let sum = checksum(&view, &selector, &effect, &scratch()).unwrap();
    assert_eq!(view.take_opened(), [RelPath::new("app/a").unwrap()]);
    let digests: Vec<bool> = sum.selection.matches[0]
        .entries
        .iter()
        .map(|e| e.unwrap().digest.is_some())
        .collect();
    assert_eq!(digests, [false, true, true]);
}

#[test]
fn hard_links_count_where_all_their_names_are_selected() {
    let key =
        |tree: &str, paths: &'static [&'static str]| sum(tree, Use { paths, ..DIR }).unwrap().key;
    let copies = "app/a =1\napp/b =1\napp/c =1\nx =1";
    for (linked, paths, same) in [
        (
            "app/a =1\napp/b =>app/a\napp/c =1\nx =1",
            &["app"][..],
            false,
        ),
        (
            "app/a =1\napp/b =>app/a\napp/c =1\nx =1",
            &["app/a", "app/b"],
            false,
        ),
        (
            "app/a =1\napp/b =>app/a\napp/c =1\nx =1",
            &["app/a", "app/c"],
            true,
        ),
        ("app/a =1\napp/b =1\napp/c =1\nx =>app/a", &["app"], true),
        (
            "app/a =1\napp/b =1\napp/c =1\nx =>app/a",
            &["app", "x"],
            false,
        ),
    ] {
        assert_eq!(
            key(copies, paths) == key(linked, paths),
            same,
            "{linked:?} {paths:?}"
        );
    }
    let one = "app/a =1\napp/b =>app/a\napp/c =1";
    let other = "app/a =1\napp/b =1\napp/c =>app/a";
    assert_ne!(key(one, &["app"]), key(other, &["app"]));
}

#[test]
fn nothing_outside_the_root_is_read() {
    for source in ["out", "../../etc/passwd", "abs", "d/up", "loop"] {
        let view = MemView::parse(
            "out ->../../../../etc/passwd\nabs ->/etc/passwd\nd/up ->../../../etc/passwd\n\
             loop ->loop\netc/passwd =inside\ndevice %chr:1:5\npipe %fifo",
        );
        let paths = vec![source.as_bytes().to_vec()];
        let (naming, origin) = (Naming::Contents, CONTEXT);
        let selector = Selector {
            paths,
            exclude: None,
            naming,
            origin,
        };
        let effect = Effect {
            ignore_owner: true,
            mode: None,
        };
        let result = checksum(&view, &selector, &effect, &scratch());
        assert_eq!(result.is_err(), source == "loop", "{source}");
        let inside = RelPath::new("etc/passwd").unwrap();
        assert!(
            view.take_opened().iter().all(|path| *path == inside),
            "{source}"
        );
    }
    let device = Use {
        paths: &["app/dev", "app/pipe"],
        ..DIR
    };
    sum(TREE, device).unwrap();
}

#[track_caller]
fn check_explained(before: &str, after: &str, expect: &[(&str, Nature)]) {
    let (before, after) = (sum(before, DIR).unwrap(), sum(after, DIR).unwrap());
    let found = explain(&before.inputs().unwrap(), &after.inputs().unwrap());
    let found: Vec<_> = found
        .iter()
        .map(|d| (d.path.to_string(), d.nature))
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(path, nature)| (path.as_str(), *nature))
        .collect();
    assert_eq!(found, expect);
}

#[test]
fn a_miss_is_explained() {
    check_explained(
        "app/package-lock.json =1\napp/src/a =\napp/src/gone =",
        "app/package-lock.json =2\napp/src/a =\napp/src/new =",
        &[
            ("/app/package-lock.json", Nature::Changed),
            ("/app/src/gone", Nature::Removed),
            ("/app/src/new", Nature::Added),
        ],
    );
}

#[test]
fn a_name_that_became_a_link_is_an_explanation() {
    let changed = [("/app/b", Nature::Changed)];
    check_explained("app/a =1\napp/b =1", "app/a =1\napp/b =>app/a", &changed);
}

#[test]
fn accounts_are_short_and_name_the_directory_when_a_file_is_too_much() {
    let many = |dir: &str, count: usize| {
        (0..count)
            .map(|i| format!("app/{dir}/{i:04} ={i}\n"))
            .collect::<String>()
    };
    let tree = |last: &str| many("src", 200) + &many("big", 1000) + last;
    let account = sum(&tree(""), DIR).unwrap().inputs().unwrap();
    assert!(account.0.len() <= MAX_INPUTS, "{}", account.0.len());
    assert!(account.0.is_sorted_by(|a, b| a.path < b.path));
    let changed = [("/app/src/0000", Nature::Changed)];
    check_explained(&tree(""), &tree("app/src/0000 =new"), &changed);
    let changed = [("/app/big", Nature::Changed)];
    check_explained(&tree(""), &tree("app/big/0000 =new"), &changed);
    check_explained(&many("big", 3), &many("big", 1000), &changed);
}
