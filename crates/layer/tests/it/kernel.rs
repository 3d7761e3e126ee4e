//! What the kernel shows of a layer or a stack: the oracle for everything that reads trees.
//!
//! Mounts are detached, so nothing appears in the machine's mount table and everything goes away
//! with its descriptor.

use layer::{HostView, Kind, LinkId, Node, RelPath, View, digest_all};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::mount::{Attributes, FsOption, MountError, mount_new};

/// A detached mount.
pub(crate) struct Mounted(OwnedFd);

impl Mounted {
    pub(crate) fn path(&self) -> PathBuf {
        fd_path(&self.0)
    }

    pub(crate) fn view(&self) -> HostView {
        HostView::open(&self.path(), None, None).unwrap()
    }
}

/// Mounts a packed layer; `None` where that is not possible.
pub(crate) fn mount_packed(tar: &Path, index: &Path) -> Option<Mounted> {
    let source = index.to_str().unwrap().to_owned();
    let device = tar.to_str().unwrap().to_owned();
    probed(mount_new(
        "erofs",
        &[
            FsOption::Value("source", source),
            FsOption::Value("device", device),
        ],
        Attributes::MOUNT_ATTR_RDONLY,
    ))
}

/// Mounts layers on top of each other, the bottom one first; `None` where that is not possible.
pub(crate) fn mount_overlay(layers: &[PathBuf], user_marks: bool) -> Option<Mounted> {
    let mut options: Vec<_> = layers
        .iter()
        .rev()
        .map(|layer| FsOption::Value("lowerdir+", layer.to_str().unwrap().to_owned()))
        .collect();
    if user_marks {
        options.push(FsOption::Flag("userxattr"));
    }
    probed(mount_new(
        "overlay",
        &options,
        Attributes::MOUNT_ATTR_RDONLY,
    ))
}

/// Mounts an overlay as steps have it, its writes going to `upper`; `None` where that is not
/// possible.
pub(crate) fn mount_writable(
    lower: &Path,
    upper: &Path,
    work: &Path,
    user_marks: bool,
) -> Option<Mounted> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut options = match user_marks {
        true => vec![FsOption::Flag("userxattr")],
        false => ["redirect_dir", "metacopy", "index"]
            .map(|key| FsOption::Value(key, "off".to_owned()))
            .to_vec(),
    };
    options.extend([
        FsOption::Value("lowerdir+", text(lower)),
        FsOption::Value("upperdir", text(upper)),
        FsOption::Value("workdir", text(work)),
        FsOption::Flag("volatile"),
    ]);
    probed(mount_new("overlay", &options, Attributes::empty()))
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn probed(result: Result<OwnedFd, MountError>) -> Option<Mounted> {
    const EPERM: i32 = 1;
    match result {
        Ok(mount) => Some(Mounted(mount)),
        Err(error) if error.errno() == EPERM && std::env::var_os("KILN_REQUIRE").is_none() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Asserts that two views show the same: names, kinds, metadata, attributes, bytes, devices, and
/// which names are links to one inode.
#[track_caller]
pub(crate) fn assert_same(ours: &dyn View, kernel: &dyn View) {
    let (ours, kernel) = (describe(ours), describe(kernel));
    for (path, node) in &kernel {
        assert_eq!(ours.get(path), Some(node), "at {path}");
    }
    let extra: Vec<_> = ours
        .keys()
        .filter(|path| !kernel.contains_key(path))
        .collect();
    assert!(extra.is_empty(), "not there for the kernel: {extra:?}");
}

/// An inode with the digest of its bytes and the first of its names, instead of numbers that mean
/// nothing elsewhere.
type Description = (Node, Option<[u8; 32]>, Option<RelPath>);

fn describe(view: &dyn View) -> BTreeMap<RelPath, Description> {
    let root = RelPath::root();
    let mut nodes = view.walk(&root).unwrap();
    nodes.insert(0, (root.clone(), view.lookup(&root).unwrap().unwrap()));
    let digests = digest_all(view, &nodes).unwrap();
    let mut leaders: BTreeMap<LinkId, RelPath> = BTreeMap::new();
    let mut described = BTreeMap::new();
    for ((path, mut node), digest) in nodes.into_iter().zip(digests) {
        assert_eq!(view.lookup(&path).unwrap().as_ref(), Some(&node), "{path}");
        if let Kind::File { size } = node.kind {
            assert_eq!(view.open(&path).unwrap().len, size, "{path}");
        }
        let leader = node
            .links
            .take()
            .map(|links| leaders.entry(links).or_insert_with(|| path.clone()).clone());
        let digest = digest.map(|digest| digest.0);
        described.insert(path, (node, digest, leader));
    }
    // An inode whose other names are hidden by a layer is no link for whoever looks.
    let mut names: BTreeMap<RelPath, usize> = BTreeMap::new();
    for (_, _, leader) in described.values() {
        *names
            .entry(leader.clone().unwrap_or_else(RelPath::root))
            .or_default() += 1;
    }
    for (_, _, leader) in described.values_mut() {
        if leader.as_ref().is_some_and(|leader| names[leader] == 1) {
            *leader = None;
        }
    }
    described
}

fn fd_path(fd: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}
