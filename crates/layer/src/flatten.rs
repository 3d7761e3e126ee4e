//! Several layers become one that does the same to whatever is below them.
//!
//! Pure: changes in, changes out. Unlike a merged view, the result still says what it removes and
//! hides of the layers below.

use crate::{Change, Data, Kind, Node, RelPath};
use std::collections::{BTreeMap, HashMap};

/// What the layers so far do to one path.
enum Item {
    /// It is the inode of this number.
    Inode(usize),
    Whiteout,
}

struct Inode {
    node: Node,
    opaque: bool,
    data: Option<Data>,
}

/// Makes one list of changes of those of several layers, the bottom one first, each sorted by
/// path.
pub fn flatten(layers: impl IntoIterator<Item = Vec<(RelPath, Change)>>) -> Vec<(RelPath, Change)> {
    let mut merged = Merged::default();
    for changes in layers {
        for (path, change) in changes {
            merged.apply(path, change);
        }
    }
    merged.changes()
}

#[derive(Default)]
struct Merged {
    items: BTreeMap<RelPath, Item>,
    inodes: Vec<Option<Inode>>,
}

impl Merged {
    fn apply(&mut self, path: RelPath, change: Change) {
        match change {
            Change::Whiteout => {
                self.clear(&path);
                self.items.insert(path, Item::Whiteout);
            }
            Change::Link { to } => {
                // Put by the same layer a moment ago.
                let Some(&Item::Inode(inode)) = self.items.get(&to) else {
                    return;
                };
                self.clear(&path);
                self.items.insert(path, Item::Inode(inode));
            }
            Change::Put { node, opaque, data } => {
                let opaque = match node.kind == Kind::Directory && !opaque {
                    true => self.hides_below(&path),
                    false => {
                        self.clear(&path);
                        opaque
                    }
                };
                let inode = self.inodes.len();
                self.inodes.push(Some(Inode { node, opaque, data }));
                self.items.insert(path, Item::Inode(inode));
            }
        }
    }

    /// Whether a directory that is put at `path` must hide what the layers below all of these
    /// have there: because one of these does.
    fn hides_below(&self, path: &RelPath) -> bool {
        match self.items.get(path) {
            None => false,
            Some(Item::Whiteout) => true,
            Some(Item::Inode(inode)) => self.inodes[*inode]
                .as_ref()
                .is_none_or(|inode| inode.opaque || inode.node.kind != Kind::Directory),
        }
    }

    /// Forgets a path and everything below it.
    fn clear(&mut self, path: &RelPath) {
        let below = self.items.range(path.clone()..);
        let gone: Vec<RelPath> = below
            .map(|(path, _)| path)
            .take_while(|below| below.starts_with(path))
            .cloned()
            .collect();
        for path in gone {
            self.items.remove(&path);
        }
    }

    fn changes(mut self) -> Vec<(RelPath, Change)> {
        let mut first: HashMap<usize, RelPath> = HashMap::new();
        let mut changes = Vec::with_capacity(self.items.len());
        for (path, item) in self.items {
            let change = match item {
                Item::Whiteout => Change::Whiteout,
                Item::Inode(number) => match self.inodes[number].take() {
                    Some(Inode { node, opaque, data }) => {
                        first.insert(number, path.clone());
                        Change::Put { node, opaque, data }
                    }
                    None => match first.get(&number) {
                        Some(to) => Change::Link { to: to.clone() },
                        None => continue,
                    },
                },
            };
            changes.push((path, change));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metadata;

    /// `d/` is a directory, `d/!` an opaque one, `-f` a whiteout, `f=g` a link to `g`, and any
    /// other word a file.
    fn change(word: &str) -> (RelPath, Change) {
        let path = |text: &str| RelPath::new(text).unwrap();
        let put = |kind, opaque| Change::Put {
            node: Node {
                kind,
                metadata: Metadata::default(),
                links: None,
            },
            opaque,
            data: None,
        };
        if let Some(name) = word.strip_prefix('-') {
            (path(name), Change::Whiteout)
        } else if let Some((name, to)) = word.split_once('=') {
            (path(name), Change::Link { to: path(to) })
        } else if let Some(name) = word.strip_suffix("/!") {
            (path(name), put(Kind::Directory, true))
        } else if let Some(name) = word.strip_suffix('/') {
            (path(name), put(Kind::Directory, false))
        } else {
            (path(word), put(Kind::File { size: 0 }, false))
        }
    }

    fn word((path, change): &(RelPath, Change)) -> String {
        let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
        match change {
            Change::Whiteout => format!("-{path}"),
            Change::Link { to } => {
                format!("{path}={}", String::from_utf8_lossy(to.as_bytes()))
            }
            Change::Put { node, opaque, .. } => match (&node.kind, opaque) {
                (Kind::Directory, true) => format!("{path}/!"),
                (Kind::Directory, false) => format!("{path}/"),
                _ => path,
            },
        }
    }

    /// Each layer as words separated by blanks, the bottom one first.
    #[track_caller]
    fn check(layers: &[&str], expected: &str) {
        let layers = layers
            .iter()
            .map(|layer| layer.split_whitespace().map(change).collect());
        let words: Vec<String> = flatten(layers).iter().map(word).collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn directories_merge_and_the_upper_file_counts() {
        check(&["d/ d/a d/b", "d/ d/b d/c"], "d/ d/a d/b d/c");
        check(&["d/ d/a", "d"], "d");
        check(&["d/! d/a", "d/ d/b"], "d/! d/a d/b");
        check(&["d/ d/a", "d/! d/b"], "d/! d/b");
    }

    #[test]
    fn what_is_gone_stays_gone_for_the_layers_below() {
        check(&["a", "-a"], "-a");
        check(&["d/ d/a d/e/ d/e/f", "-d"], "-d");
        check(&["-d", "d/ d/a"], "d/! d/a");
        check(&["d/ d/a", "-d", "d/ d/b"], "d/! d/b");
        check(&["d", "d/ d/b"], "d/! d/b");
        check(&["-a", "a"], "a");
    }

    #[test]
    fn links_follow_their_inode() {
        check(&["a b=a c=a", "d"], "a b=a c=a d");
        check(&["a b=a c=a", "-a"], "-a b c=b");
        check(&["a b=a", "a"], "a b");
        check(&["b c=b", "a", "b"], "a b c");
    }
}
