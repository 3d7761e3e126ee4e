//! Layers on top of each other, as overlayfs would show them, read without any mount.
//!
//! For a directory, the layers that take part are found from the top down: one that lacks it is
//! skipped; a whiteout, or anything that is no directory, ends the search; an opaque directory is
//! the last that takes part. Everything else is what the topmost layer that has the name says.
//! No layer redirects or holds metadata only; kiln mounts overlays without either.

use crate::root::PathError;
use crate::tree::{Found, LayerName, OpenTree, Place, Tree};
use crate::{Content, ContentDigest, Kind, Node, RelPath, View};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};
use sys::Errno;

/// Directories whose layers are remembered; enough for the trees of a distribution.
const REMEMBERED: usize = 1 << 16;

/// Bytes read at a time.
const BUFFER: u64 = 128 * 1024;

/// The merged view of a chain of layers.
#[derive(Debug)]
pub struct Stack {
    /// Topmost first.
    layers: Vec<OpenTree>,
    directories: RwLock<HashMap<RelPath, Option<Arc<Merged>>>>,
}

/// The layers that take part in one directory, topmost first.
type Merged = [Part];

#[derive(Clone, Copy, Debug)]
struct Part {
    layer: usize,
    place: Place,
}

impl Stack {
    /// Opens `layers`, the bottom one first. Those below a layer whose root is opaque are left out.
    ///
    /// # Errors
    /// When there is no layer, or one cannot be opened.
    pub fn open(layers: &[Tree]) -> io::Result<Stack> {
        let mut opened = Vec::with_capacity(layers.len());
        let mut root = Vec::with_capacity(layers.len());
        for tree in layers.iter().rev() {
            let tree = OpenTree::open(tree)?;
            let (place, opaque) = tree.root()?;
            root.push(Part {
                layer: opened.len(),
                place,
            });
            opened.push(tree);
            if opaque {
                break;
            }
        }
        if opened.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let root = Some(Arc::from(root));
        Ok(Stack {
            layers: opened,
            directories: RwLock::new(HashMap::from([(RelPath::root(), root)])),
        })
    }

    /// The layers that take part in the directory at `path`; `None` when it is no directory.
    fn directory(&self, path: &RelPath) -> io::Result<Option<Arc<Merged>>> {
        // Up to the nearest directory that is known, then down again. Not recursive: a path may
        // be as deep as it likes.
        let mut unknown = Vec::new();
        let mut at = path.clone();
        let mut merged = loop {
            let known = self
                .directories
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = known.get(&at) {
                break found.clone();
            }
            drop(known);
            let parent = at.parent();
            unknown.push(at);
            match parent {
                Some(parent) => at = parent,
                None => break None,
            }
        };
        while let Some(path) = unknown.pop() {
            merged = match merged {
                Some(parent) => self.merge(&parent, &path)?,
                None => None,
            };
            let mut known = self
                .directories
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED {
                known.retain(|path, _| path.is_root());
            }
            known.insert(path, merged.clone());
        }
        Ok(merged)
    }

    /// The layers that take part in the directory at `path`, given those of its parent.
    fn merge(&self, parent: &Merged, path: &RelPath) -> io::Result<Option<Arc<Merged>>> {
        let mut parts = Vec::new();
        for part in parent {
            match self.layers[part.layer].find(part.place, path)? {
                None => {}
                Some(Found::Whiteout | Found::Other(_)) => break,
                Some(Found::Directory { place, opaque }) => {
                    parts.push(Part {
                        layer: part.layer,
                        place,
                    });
                    if opaque {
                        break;
                    }
                }
            }
        }
        Ok((!parts.is_empty()).then(|| Arc::from(parts)))
    }

    /// What the topmost layer that has `path` says of it.
    fn top(&self, path: &RelPath) -> io::Result<Option<Part>> {
        let Some(parent) = path.parent() else {
            let root = self.directory(path)?;
            return Ok(root.and_then(|root| root.first().copied()));
        };
        let Some(parent) = self.directory(&parent)? else {
            return Ok(None);
        };
        for part in parent.iter() {
            let place = match self.layers[part.layer].find(part.place, path)? {
                None => continue,
                Some(Found::Whiteout) => return Ok(None),
                Some(Found::Directory { place, .. } | Found::Other(place)) => place,
            };
            return Ok(Some(Part {
                layer: part.layer,
                place,
            }));
        }
        Ok(None)
    }
}

impl View for Stack {
    fn lookup(&self, path: &RelPath) -> io::Result<Option<Node>> {
        let Some(part) = self.top(path)? else {
            return Ok(None);
        };
        let layer = part.layer;
        let node = self.layers[layer].node(layer as u64, path, part.place)?;
        Ok(Some(node))
    }

    fn read_dir(&self, path: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        let Some(merged) = self.directory(path)? else {
            let errno = match self.top(path)? {
                Some(_) => Errno::NOTDIR,
                None => Errno::NOENT,
            };
            return Err(PathError::new("read directory", path, errno).into());
        };
        let mut names: Vec<LayerName> = Vec::new();
        for part in merged.iter() {
            let lower = self.layers[part.layer].names(part.place, path)?;
            names = match names.is_empty() {
                true => lower,
                false => over(names, lower),
            };
        }
        let visible = names.into_iter().filter(|name| !name.whiteout);
        Ok(visible.map(|name| name.name).collect())
    }

    fn open(&self, path: &RelPath) -> io::Result<Content> {
        match self.top(path)? {
            Some(part) => self.layers[part.layer].content(path, part.place),
            None => Err(PathError::new("open", path, Errno::NOENT).into()),
        }
    }

    fn digest(&self, path: &RelPath, node: &Node) -> io::Result<ContentDigest> {
        if !matches!(node.kind, Kind::File { .. }) {
            return Err(PathError::new("digest", path, Errno::INVAL).into());
        }
        let content = self.open(path)?;
        hash(&content).map_err(|error| PathError::new("digest", path, error).into())
    }
}

/// Merges two sorted lists of names; where both have one, the upper counts.
fn over(upper: Vec<LayerName>, lower: Vec<LayerName>) -> Vec<LayerName> {
    let mut merged = Vec::with_capacity(upper.len() + lower.len());
    let mut upper = upper.into_iter().peekable();
    for name in lower {
        while let Some(above) = upper.next_if(|above| above.name < name.name) {
            merged.push(above);
        }
        match upper.next_if(|above| above.name == name.name) {
            Some(above) => merged.push(above),
            None => merged.push(name),
        }
    }
    merged.extend(upper);
    merged
}

fn hash(content: &Content) -> io::Result<ContentDigest> {
    let mut buffer = vec![0; content.len.min(BUFFER) as usize];
    let mut hasher = Sha256::new();
    let mut read = 0;
    while read < content.len {
        let step = (content.len - read).min(BUFFER) as usize;
        content
            .file
            .read_exact_at(&mut buffer[..step], content.offset + read)?;
        hasher.update(&buffer[..step]);
        read += step as u64;
    }
    Ok(ContentDigest(hasher.finalize().into()))
}
