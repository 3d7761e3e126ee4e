//! Which entries a layer has, in which order and with which times; several actions in one layer.

use super::*;
use crate::mem::read_data;

/// One line per entry: path, what it does, mode, owner, time.
fn lines(changes: &[(RelPath, Change)]) -> Vec<String> {
    let line = |(path, change): &(RelPath, Change)| match change {
        Change::Put { node, opaque, data } => {
            let m = &node.metadata;
            let mut line = format!(
                "{path} {:04o} {}:{} @{}",
                m.mode, m.uid, m.gid, m.mtime.seconds
            );
            if *opaque {
                line.push_str(" opaque");
            }
            if let Some(data) = data {
                line.push_str(&format!(" ={}", String::from_utf8_lossy(&read_data(data))));
            }
            line
        }
        Change::Link { to } => format!("{path} =>{to}"),
        Change::Whiteout => format!("{path} gone"),
    };
    changes.iter().map(line).collect()
}

#[track_caller]
fn check_layer(base: &str, actions: Vec<Action>, expect: &[&str]) {
    assert_eq!(lines(&layer(base, actions).unwrap()), expect);
}

fn copies(source: &str, texts: &[&str]) -> Vec<Action> {
    let source = Arc::new(MemView::parse(source));
    texts
        .iter()
        .map(|text| action(&source, text).unwrap())
        .collect()
}

fn workdir(path: &str) -> Action {
    Action::Mkdir(Mkdir {
        path: path.into(),
        mode: 0o755,
        owner: Ids { uid: 7, gid: 8 },
    })
}

fn heredoc(name: &str, data: &str, text: &str) -> Action {
    let Instruction { target, chown, .. } = instruction(text);
    let (name, data) = (name.into(), Arc::from(data.as_bytes()));
    Action::Mkfile(Mkfile {
        name,
        data,
        target,
        owner: chown.unwrap_or_default(),
    })
}

#[test]
fn parents_are_in_the_layer_with_what_they_have() {
    check_layer(
        "usr/ 0755 1:1 @5\nusr/local/ 0750 2:2 @6 !user.k=v\nusr/lib/ @7\nusr/local/f =old @8",
        copies("f =new @3", &["f /usr/local/"]),
        &[
            "/usr 0755 1:1 @5",
            "/usr/local 0750 2:2 @99",
            "/usr/local/f 0644 0:0 @3 =new",
        ],
    );
}

#[test]
fn times_are_the_sources_or_now() {
    check_layer(
        "old/ @1\nold/in/ @2",
        copies(
            "s/ @10\ns/in/ @11\ns/in/f =x @12",
            &["s /old", "s /new/deep"],
        ),
        &[
            "/new 0755 0:0 @99",
            "/new/deep 0755 0:0 @10",
            "/new/deep/in 0755 0:0 @11",
            "/new/deep/in/f 0644 0:0 @12 =x",
            "/old 0755 0:0 @10",
            "/old/in 0755 0:0 @11",
            "/old/in/f 0644 0:0 @12 =x",
        ],
    );
}

#[test]
fn i6_workdir() {
    check_layer("a/b/", vec![workdir("/a/b")], &[]);
    check_layer("", vec![workdir("/")], &[]);
    check_layer(
        "a/ 0700 1:1 @4",
        vec![workdir("/a/b/c")],
        &[
            "/a 0700 1:1 @99",
            "/a/b 0755 7:8 @99",
            "/a/b/c 0755 7:8 @99",
        ],
    );
    check_layer(
        "l ->r\nr/ @1",
        vec![workdir("/l/x")],
        &["/r 0755 0:0 @99", "/r/x 0755 7:8 @99"],
    );
    let error = layer("a =f", vec![workdir("/a/b")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "make directory /a/b: /a is not a directory"
    );
}

#[test]
fn c24_here_documents() {
    check_layer(
        "",
        vec![heredoc("EOF", "hi", "/x")],
        &["/x 0644 0:0 @99 =hi"],
    );
    check_layer(
        "",
        vec![heredoc("n", "hi", "--chown=3 --chmod=755 /d/")],
        &["/d 0755 3:3 @99", "/d/n 0755 3:3 @99 =hi"],
    );
    check_layer(
        "d/ @1",
        vec![heredoc("../../n", "", "/d")],
        &["/d 0755 0:0 @99", "/d/n 0644 0:0 @99 ="],
    );
}

#[test]
fn later_actions_see_earlier_ones() {
    let source = "f =1\ng =2\nl ->real\nreal/x =3\nd/l ->real";
    check_layer(
        "",
        copies(source, &["f /d/", "g /d", "f /d/g"]),
        &[
            "/d 0755 0:0 @99",
            "/d/f 0644 0:0 @0 =1",
            "/d/g 0644 0:0 @0 =1",
        ],
    );
    check_layer(
        "",
        copies(source, &["d /", "f /l/"]),
        &[
            "/l 0777 0:0 @0",
            "/real 0755 0:0 @99",
            "/real/f 0644 0:0 @0 =1",
        ],
    );
    let mut actions = copies(source, &["f /w"]);
    actions.push(workdir("/w/x"));
    assert!(layer("", actions).is_err());
}

#[test]
fn c14_an_empty_base() {
    let changes = plan(None, copies("f =1", &["--link f /a/"]), NOW, &scratch())
        .unwrap()
        .to_vec()
        .unwrap();
    assert_eq!(lines(&changes), ["/a 0755 0:0 @99", "/a/f 0644 0:0 @0 =1"]);
}

#[test]
fn the_leader_of_a_link_group_is_the_first_path_left() {
    check_layer(
        "",
        copies("s/a =1\ns/b =>s/a\ns/c =>s/a\nn =2", &["s /d", "n /d/a"]),
        &[
            "/d 0755 0:0 @0",
            "/d/a 0644 0:0 @0 =2",
            "/d/b 0644 0:0 @0 =1",
            "/d/c =>/d/b",
        ],
    );
    check_layer(
        "",
        copies("s/a =1\ns/b =>s/a", &["s/a /x", "s/b /y"]),
        &["/x 0644 0:0 @0 =1", "/y 0644 0:0 @0 =1"],
    );
}

#[test]
fn nothing_is_read_while_planning_and_digests_are_carried() {
    let source = Arc::new(MemView::parse("d/f =x\nd/empty ="));
    let Instruction {
        selector, target, ..
    } = instruction("d /e");
    let effect = crate::checksum::Effect {
        ignore_owner: true,
        mode: None,
    };
    let checksum = crate::checksum::checksum(&*source, &selector, &effect, &scratch()).unwrap();
    source.take_opened();
    let copy = Copy {
        view: Arc::clone(&source) as _,
        selection: checksum.selection,
        target,
        chown: None,
        reset_owner: true,
        archives: Vec::new(),
    };
    let changes = layer("", vec![Action::Copy(copy)]).unwrap();
    assert!(source.take_opened().is_empty());
    let expects: Vec<bool> = changes
        .iter()
        .filter_map(|(_, change)| match change {
            Change::Put {
                data: Some(Data::InView { expect, .. }),
                ..
            } => Some(expect.is_some()),
            _ => None,
        })
        .collect();
    assert_eq!(expects, [true], "an empty file needs no reading");
}

#[test]
fn names_that_are_no_text() {
    let mut source = MemView::new();
    let path = RelPath::new(b"s/\xff\xfe [x]\n".to_vec()).unwrap();
    source.put(
        &path,
        crate::mem::node(crate::Kind::File { size: 1 }, 0o644),
        b"1",
    );
    let changes = layer("", vec![action(&Arc::new(source), "s /").unwrap()]).unwrap();
    assert_eq!(changes[0].0.as_bytes(), b"\xff\xfe [x]\n");
}
