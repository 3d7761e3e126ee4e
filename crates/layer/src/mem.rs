//! A tree in memory, written as text: what the tests of this crate use for bases, sources and
//! expectations. Not shipped.
//!
//! One node a line, parents first or implied (0755, 0:0):
//!
//! ```text
//! dir/                    a directory
//! dir/file =hello         a regular file (no blanks in the content)
//! link ->dir/file         a symbolic link
//! other =>dir/file        a hard link to an earlier line
//! pipe %fifo              also %sock, %chr:1:3, %blk:8:0
//! f =x 0600 1:2 @77 !user.a=b     mode, owner, mtime in seconds, an extended attribute
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::{
    Change, Content, ContentDigest, Data, Kind, LinkId, Metadata, Node, RelPath, Scratch, Time,
    View, Xattrs,
};

/// Where the tests' long lists go.
pub(crate) fn scratch() -> Scratch {
    Scratch::new(&std::env::temp_dir())
}

/// A tree in memory. File contents lie one behind the other in one temporary file.
pub(crate) struct MemView {
    nodes: BTreeMap<RelPath, (Node, u64)>,
    contents: Arc<File>,
    end: u64,
    opened: Mutex<Vec<RelPath>>,
}

impl MemView {
    pub(crate) fn new() -> MemView {
        let mut view = MemView {
            nodes: BTreeMap::new(),
            contents: Arc::new(tempfile::tempfile().unwrap()),
            end: 0,
            opened: Mutex::default(),
        };
        view.put(&RelPath::root(), node(Kind::Directory, 0o755), b"");
        view
    }

    /// Reads the notation of the module's documentation.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> MemView {
        let mut view = MemView::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            view.parse_line(line);
        }
        view
    }

    #[track_caller]
    fn parse_line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let path = RelPath::clamp(name.as_bytes()).unwrap();
        let mut node = node(Kind::Directory, 0o755);
        let mut content: &[u8] = b"";
        for word in words {
            if let Some(target) = word.strip_prefix("=>") {
                return self.link(&path, &RelPath::new(target).unwrap());
            } else if let Some(target) = word.strip_prefix("->") {
                node.kind = Kind::Symlink {
                    target: target.into(),
                };
                node.metadata.mode = 0o777;
            } else if let Some(text) = word.strip_prefix('=') {
                content = text.as_bytes();
                node.kind = Kind::File {
                    size: content.len() as u64,
                };
                node.metadata.mode = 0o644;
            } else if let Some(kind) = word.strip_prefix('%') {
                node.kind = parse_special(kind);
                node.metadata.mode = 0o644;
            } else if let Some(seconds) = word.strip_prefix('@') {
                node.metadata.mtime.seconds = seconds.parse().unwrap();
            } else if let Some(pair) = word.strip_prefix('!') {
                let (key, value) = pair.split_once('=').unwrap();
                node.metadata.xattrs.insert(key.into(), value.into());
            } else if let Some((uid, gid)) = word.split_once(':') {
                node.metadata.uid = uid.parse().unwrap();
                node.metadata.gid = gid.parse().unwrap();
            } else {
                node.metadata.mode = u32::from_str_radix(word, 8).unwrap();
            }
        }
        assert_eq!(name.ends_with('/'), node.kind == Kind::Directory, "{line}");
        self.put(&path, node, content);
    }

    /// Puts a node, with its missing parents.
    pub(crate) fn put(&mut self, path: &RelPath, node: Node, content: &[u8]) {
        if let Some(parent) = path.parent()
            && !self.nodes.contains_key(&parent)
        {
            self.put(&parent, self::node(Kind::Directory, 0o755), b"");
        }
        let offset = self.end;
        self.contents.write_all_at(content, offset).unwrap();
        self.end += content.len() as u64;
        self.nodes.insert(path.clone(), (node, offset));
    }

    /// Makes `path` one more name of the inode at `to`.
    #[track_caller]
    pub(crate) fn link(&mut self, path: &RelPath, to: &RelPath) {
        let count = self.nodes.len() as u64;
        let (node, offset) = self.nodes.get_mut(to).unwrap_or_else(|| panic!("no {to}"));
        node.links.get_or_insert(LinkId {
            device: 1,
            inode: count,
        });
        let linked = (node.clone(), *offset);
        self.nodes.insert(path.clone(), linked);
    }

    /// Paths whose bytes were asked for since the last call.
    pub(crate) fn take_opened(&self) -> Vec<RelPath> {
        std::mem::take(&mut self.opened.lock().unwrap())
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, path: &RelPath) -> Vec<u8> {
        read_content(&View::open(self, path).unwrap())
    }

    fn remove_below(&mut self, path: &RelPath) {
        self.nodes.retain(|p, _| p == path || !p.starts_with(path));
    }

    /// What the tree is with a layer on top: the rules of a changeset, in their plainest form.
    #[track_caller]
    pub(crate) fn apply(&mut self, changes: &[(RelPath, Change)]) {
        for (path, change) in changes {
            match change {
                Change::Put { node, opaque, data } => {
                    let both_dirs = node.kind == Kind::Directory
                        && self
                            .nodes
                            .get(path)
                            .is_some_and(|(n, _)| n.kind == Kind::Directory);
                    if *opaque || !both_dirs {
                        self.remove_below(path);
                    }
                    let bytes = data.as_ref().map(read_data).unwrap_or_default();
                    let node = Node {
                        links: None,
                        ..node.clone()
                    };
                    self.put(path, node, &bytes);
                }
                Change::Link { to } => {
                    assert!(to < path, "{path} links to the later path {to}");
                    self.remove_below(path);
                    self.link(path, to);
                }
                Change::Whiteout => {
                    self.remove_below(path);
                    self.nodes.remove(path);
                }
            }
        }
    }

    /// The tree in the notation of the module's documentation, without the root's line. A hard
    /// link shows as `=>` its first name.
    pub(crate) fn dump(&self) -> String {
        let mut leaders: BTreeMap<LinkId, &RelPath> = BTreeMap::new();
        let mut out = String::new();
        for (path, (node, _)) in self.nodes.iter().filter(|(p, _)| !p.is_root()) {
            let name = String::from_utf8_lossy(path.as_bytes());
            if let Some(id) = node.links {
                if let Some(leader) = leaders.get(&id) {
                    let leader = String::from_utf8_lossy(leader.as_bytes());
                    out.push_str(&format!("{name} =>{leader}\n"));
                    continue;
                }
                leaders.insert(id, path);
            }
            let what = match &node.kind {
                Kind::Directory => "/".to_owned(),
                Kind::File { .. } => {
                    format!(" ={}", String::from_utf8_lossy(&self.bytes(path)))
                }
                Kind::Symlink { target } => format!(" ->{}", String::from_utf8_lossy(target)),
                Kind::CharDevice { major, minor } => format!(" %chr:{major}:{minor}"),
                Kind::BlockDevice { major, minor } => format!(" %blk:{major}:{minor}"),
                Kind::Fifo => " %fifo".to_owned(),
                Kind::Socket => " %sock".to_owned(),
            };
            out.push_str(&format!("{name}{what}{}\n", dump_metadata(&node.metadata)));
        }
        out
    }
}

fn dump_metadata(metadata: &Metadata) -> String {
    let mut out = format!(" {:04o} {}:{}", metadata.mode, metadata.uid, metadata.gid);
    if metadata.mtime.seconds != 0 {
        out.push_str(&format!(" @{}", metadata.mtime.seconds));
    }
    for (key, value) in &metadata.xattrs {
        let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        out.push_str(&format!(" !{key}={value}"));
    }
    out
}

fn parse_special(text: &str) -> Kind {
    let mut parts = text.split(':');
    let name = parts.next().unwrap();
    let mut number = || parts.next().map_or(0, |n| n.parse().unwrap());
    match name {
        "fifo" => Kind::Fifo,
        "sock" => Kind::Socket,
        "chr" => Kind::CharDevice {
            major: number(),
            minor: number(),
        },
        "blk" => Kind::BlockDevice {
            major: number(),
            minor: number(),
        },
        other => panic!("no kind %{other}"),
    }
}

/// A node of that kind and mode, everything else empty.
pub(crate) fn node(kind: Kind, mode: u32) -> Node {
    let (mtime, xattrs) = (Time::default(), Xattrs::new());
    let metadata = Metadata {
        mode,
        uid: 0,
        gid: 0,
        mtime,
        xattrs,
    };
    Node {
        kind,
        metadata,
        links: None,
    }
}

/// All bytes of a range.
pub(crate) fn read_content(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.len).unwrap()];
    content
        .file
        .read_exact_at(&mut bytes, content.offset)
        .unwrap();
    bytes
}

/// All bytes of a change's data.
pub(crate) fn read_data(data: &Data) -> Vec<u8> {
    match data {
        Data::Inline(bytes) => bytes.to_vec(),
        Data::Open(content) => read_content(content),
        Data::InView { view, path, .. } => read_content(&view.open(path).unwrap()),
    }
}

/// Bytes as an open file.
pub(crate) fn content(bytes: &[u8]) -> Content {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Content {
        file: Arc::new(file),
        offset: 0,
        len: bytes.len() as u64,
    }
}

impl View for MemView {
    fn lookup(&self, path: &RelPath) -> io::Result<Option<Node>> {
        Ok(self.nodes.get(path).map(|(node, _)| node.clone()))
    }

    fn read_dir(&self, path: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        match self.nodes.get(path) {
            Some((node, _)) if node.kind == Kind::Directory => {}
            Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let below = self.nodes.range(path.clone()..).skip(1);
        let children = below
            .take_while(|(p, _)| p.starts_with(path))
            .filter(|(p, _)| p.parent().as_ref() == Some(path));
        Ok(children.map(|(p, _)| p.name().unwrap().to_vec()).collect())
    }

    fn open(&self, path: &RelPath) -> io::Result<Content> {
        self.opened.lock().unwrap().push(path.clone());
        match self.nodes.get(path) {
            Some((
                Node {
                    kind: Kind::File { size },
                    ..
                },
                offset,
            )) => Ok(Content {
                file: Arc::clone(&self.contents),
                offset: *offset,
                len: *size,
            }),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn digest(&self, path: &RelPath, _node: &Node) -> io::Result<ContentDigest> {
        let bytes = read_content(&self.open(path)?);
        Ok(ContentDigest(Sha256::digest(bytes).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_round_trips() {
        let text = "a/ 0700 1:2 @5\na/f =x 0600 0:0 !user.k=v\na/g =>a/f\nl ->a/f 0777 0:0\n\
                    p %fifo 0644 0:0\nz %chr:1:3 0644 0:0\n";
        assert_eq!(MemView::parse(text).dump(), text);
    }

    #[test]
    fn read_dir_lists_children_in_order() {
        let view = MemView::parse("b/c/d =\na =\nb.x =\n");
        let names = view.read_dir(&RelPath::root()).unwrap();
        assert_eq!(names, [b"a".to_vec(), b"b".to_vec(), b"b.x".to_vec()]);
        assert_eq!(
            view.read_dir(&RelPath::new("b").unwrap()).unwrap(),
            [b"c".to_vec()]
        );
    }
}
