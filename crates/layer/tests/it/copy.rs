//! Copying from directories of the machine that try to lead out of themselves or to block.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use layer::checksum::{Effect, checksum};
use layer::copy::{Action, Copy, Target, plan};
use layer::select::{Naming, Origin, SelectError, Selector};
use layer::{Change, Content, Data, HostView, Kind, RelPath, Scratch, Time, View};

const SECRET: &str = "secret of the machine";

fn scratch() -> Scratch {
    Scratch::new(&std::env::temp_dir())
}

/// A context below `dir`, with a secret beside it that links of all kinds aim at.
fn hostile_context(dir: &Path) -> std::path::PathBuf {
    let (context, secret) = (dir.join("context"), dir.join("secret"));
    std::fs::create_dir_all(context.join("d")).unwrap();
    std::fs::create_dir(dir.join("private")).unwrap();
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::write(dir.join("private/key"), SECRET).unwrap();
    std::fs::write(context.join("d/file"), "inside").unwrap();
    std::fs::hard_link(context.join("d/file"), context.join("d/twin")).unwrap();
    symlink(&secret, context.join("absolute")).unwrap();
    symlink("../secret", context.join("relative")).unwrap();
    symlink("../../../../../../../etc/passwd", context.join("far")).unwrap();
    symlink(dir.join("private"), context.join("directory")).unwrap();
    symlink("../private", context.join("d/up")).unwrap();
    symlink("/d/file", context.join("inside")).unwrap();
    context
}

/// Paths and contents of a layer that copies `source` to `/`.
fn copied(context: &Path, source: &str) -> Result<Vec<(String, Vec<u8>)>, SelectError> {
    let view: Arc<dyn View> = Arc::new(HostView::open(context, None, None).unwrap());
    let selector = Selector {
        paths: vec![source.as_bytes().to_vec()],
        exclude: None,
        naming: Naming::Contents,
        origin: Origin::Context { git_modes: false },
    };
    let effect = Effect {
        ignore_owner: true,
        mode: None,
    };
    let selection = checksum(&*view, &selector, &effect, &scratch())?.selection;
    let target = Target {
        dest: b"/".to_vec(),
        dest_is_dir: true,
        mode: None,
        follow_links: true,
    };
    let (chown, archives) = (None, Vec::new());
    let copy = Copy {
        view,
        selection,
        target,
        chown,
        reset_owner: true,
        archives,
    };
    let changes = plan(None, vec![Action::Copy(copy)], Time::default(), &scratch()).unwrap();
    Ok(changes
        .to_vec()
        .unwrap()
        .iter()
        .map(|(path, change)| (path.to_string(), bytes_of(change)))
        .collect())
}

fn bytes_of(change: &Change) -> Vec<u8> {
    match change {
        Change::Put {
            data: Some(Data::InView { view, path, .. }),
            ..
        } => read(&view.open(path).unwrap()),
        Change::Put {
            data: Some(Data::Inline(bytes)),
            ..
        } => bytes.to_vec(),
        Change::Put { node, .. } => match &node.kind {
            Kind::Symlink { target } => [b"->", target.as_slice()].concat(),
            kind => format!("{kind:?}").into_bytes(),
        },
        Change::Link { to } => format!("=>{to}").into_bytes(),
        change => panic!("{change:?}"),
    }
}

fn read(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.len).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&*content.file, &mut bytes, content.offset).unwrap();
    bytes
}

#[test]
fn links_that_lead_out_end_at_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let context = hostile_context(dir.path());
    for source in [
        "absolute",
        "relative",
        "far",
        "directory/key",
        "d/up/key",
        "../secret",
        "../private/key",
    ] {
        match copied(&context, source) {
            Err(SelectError::NotFound { .. }) => {}
            other => panic!("{source}: {other:?}"),
        }
    }
    let inside = copied(&context, "inside").unwrap();
    assert_eq!(inside, [("/inside".to_owned(), b"inside".to_vec())]);
}

#[test]
fn trees_are_copied_without_following_anything() {
    let dir = tempfile::tempdir().unwrap();
    let context = hostile_context(dir.path());
    let all = copied(&context, ".").unwrap();
    assert!(
        all.iter().all(|(_, bytes)| bytes != SECRET.as_bytes()),
        "{all:?}"
    );
    let contents = |path: &str| {
        let found = all.iter().find(|(p, _)| p == path);
        String::from_utf8(
            found
                .unwrap_or_else(|| panic!("{path} in {all:?}"))
                .1
                .clone(),
        )
        .unwrap()
    };
    assert_eq!(contents("/relative"), "->../secret");
    assert_eq!(contents("/d/up"), "->../private");
    assert_eq!(contents("/d/twin"), "=>/d/file");
}

#[test]
fn pipes_and_sockets_are_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let context = hostile_context(dir.path());
    let made = std::process::Command::new("mkfifo")
        .arg(context.join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(context.join("socket")).unwrap();
    let pipe = copied(&context, "pipe").unwrap();
    assert_eq!(pipe, [("/pipe".to_owned(), b"Fifo".to_vec())]);
    let socket = copied(&context, "socket").unwrap();
    assert_eq!(socket, [("/socket".to_owned(), Vec::new())]);
}

#[test]
fn a_file_that_becomes_a_link_after_it_was_keyed_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let context = hostile_context(dir.path());
    let view = HostView::open(&context, None, None).unwrap();
    std::fs::remove_file(context.join("d/file")).unwrap();
    symlink(dir.path().join("secret"), context.join("d/file")).unwrap();
    assert!(view.open(&RelPath::new("d/file").unwrap()).is_err());
}

#[test]
fn scratch_is_an_empty_directory() {
    let selector = Selector {
        paths: vec![b"/".to_vec()],
        exclude: None,
        naming: Naming::Contents,
        origin: Origin::Tree,
    };
    let effect = Effect {
        ignore_owner: false,
        mode: None,
    };
    assert_eq!(
        checksum(&layer::EmptyTree, &selector, &effect, &scratch())
            .unwrap()
            .selection
            .len(),
        1
    );
}
