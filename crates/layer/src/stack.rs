//! Layers on top of each other, as overlayfs would show them, read without any mount.
//!
//! For a directory, the layers that take part are found from the top down: one that lacks it is
//! skipped; a whiteout, or anything that is no directory, ends the search; an opaque directory is
//! the last that takes part. Everything else is what the topmost layer that has the name says.
//! No layer redirects or holds metadata only; kiln mounts overlays without either.
//!
//! Layers that are not here yet are brought in from the top down, and no further than the answer
//! takes: a file asks for no layer below the one that has it, the names in a directory for all
//! layers unless one of them hides those below. A layer whose [`Outline`] says that it has nothing
//! to do with the path is not asked for at all.

use crate::outline::Outline;
use crate::root::PathError;
use crate::tree::{Found, LayerName, OpenTree, Place, Tree};
use crate::{Content, ContentDigest, Kind, Node, RelPath, View};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use sys::Errno;

/// Directories whose layers are remembered; enough for the trees of a distribution.
const REMEMBERED: usize = 1 << 16;

/// Bytes read at a time.
const BUFFER: u64 = 128 * 1024;

/// Brings in layers of a stack by their positions, the topmost of all being 0: their trees, in
/// the order of the positions.
pub type Bring = Box<dyn Fn(&[usize]) -> io::Result<Vec<Tree>> + Send + Sync>;

/// The merged view of a chain of layers.
pub struct Stack {
    /// Topmost first.
    layers: Vec<OnceLock<Arc<Opened>>>,
    /// How many of them are open.
    opened: AtomicUsize,
    /// What is known of each without having it, if the stack is lazy.
    outlines: Vec<Option<Outline>>,
    bring: Option<Bring>,
    bringing: Mutex<()>,
    directories: RwLock<HashMap<RelPath, Known>>,
}

#[derive(Debug)]
struct Opened {
    tree: OpenTree,
    root: Place,
    opaque: bool,
}

/// The layers that take part in one directory, topmost first.
type Merged = [Part];

#[derive(Clone, Copy, Debug)]
struct Part {
    layer: usize,
    place: Place,
}

/// What is known of a directory.
#[derive(Clone, Debug)]
struct Known {
    /// Those of the layers asked that take part in it; `None` when it is no directory.
    parts: Option<Arc<Merged>>,
    /// Layers from this one on cannot change anything.
    end: usize,
    /// How many layers were open when they were asked.
    opened: usize,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// Opens `layers`, the bottom one first. Those below a layer whose root is opaque are left out.
    ///
    /// # Errors
    /// When there is no layer, or one cannot be opened.
    pub fn open(layers: &[Tree]) -> io::Result<Stack> {
        Stack::build(layers, &[])
    }

    /// Opens `layers`, the bottom one first, on top of those of another stack.
    ///
    /// # Errors
    /// When one cannot be opened, or not all of the other stack's are here.
    pub fn over(below: &Stack, layers: &[Tree]) -> io::Result<Stack> {
        if below.opened.load(Ordering::Acquire) < below.layers.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Stack::build(layers, &below.layers)
    }

    /// How many layers can be seen: all of them, or those down to an opaque root that was found
    /// when they were opened.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    fn build(layers: &[Tree], below: &[OnceLock<Arc<Opened>>]) -> io::Result<Stack> {
        let mut opened = Vec::with_capacity(layers.len() + below.len());
        let mut below = below;
        for tree in layers.iter().rev() {
            let layer = Opened::open(tree)?;
            let opaque = layer.opaque;
            opened.push(OnceLock::from(Arc::new(layer)));
            if opaque {
                below = &[];
                break;
            }
        }
        let shared = below.iter().map_while(OnceLock::get);
        opened.extend(shared.map(|layer| OnceLock::from(Arc::clone(layer))));
        if opened.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Stack {
            opened: AtomicUsize::new(opened.len()),
            layers: opened,
            outlines: Vec::new(),
            bring: None,
            bringing: Mutex::default(),
            directories: RwLock::default(),
        })
    }

    /// A stack of layers that are brought in when they are needed: one for each of `outlines`, the
    /// topmost first, which say what is known of them. An outline that is wrong makes the view wrong.
    pub fn lazy(outlines: Vec<Option<Outline>>, bring: Bring) -> Stack {
        Stack {
            layers: outlines.iter().map(|_| OnceLock::new()).collect(),
            opened: AtomicUsize::new(0),
            outlines,
            bring: Some(bring),
            bringing: Mutex::default(),
            directories: RwLock::default(),
        }
    }

    /// Which layer says what is at `path`, the topmost being 0; `None` when nothing is there.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn layer_of(&self, path: &RelPath) -> io::Result<Option<usize>> {
        Ok(self.top(path)?.map(|part| part.layer))
    }

    /// The layers above `end` that are not here and may have something to say of `path`.
    fn missing<'s>(&'s self, path: &'s RelPath, end: usize) -> impl Iterator<Item = usize> + 's {
        let lazy = self.outlines.iter().zip(&self.layers).enumerate().take(end);
        lazy.filter(move |(_, (outline, layer))| {
            let touches = |outline: &Outline| outline.touches(path);
            layer.get().is_none() && outline.as_ref().is_none_or(touches)
        })
        .map(|(position, _)| position)
    }

    /// Brings in layers, all at once.
    fn reach(&self, wanted: &[usize]) -> io::Result<()> {
        let _bringing = self.bringing.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |&&layer: &&usize| self.layers[layer].get().is_none();
        let missing: Vec<usize> = wanted.iter().filter(here).copied().collect();
        let Some(bring) = self.bring.as_ref().filter(|_| !missing.is_empty()) else {
            return Ok(());
        };
        let trees = bring(&missing)?;
        for (&layer, tree) in missing.iter().zip(&trees) {
            let tree = Arc::new(Opened::open(tree)?);
            self.layers[layer].get_or_init(|| tree);
            self.opened.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn tree(&self, part: Part) -> &OpenTree {
        let opened = self.layers[part.layer].get();
        &opened.expect("a part is of a layer that is open").tree
    }

    /// What the layers that are open say of the root.
    fn root(&self, opened: usize) -> Known {
        let mut parts = Vec::with_capacity(opened);
        let mut end = self.layers.len();
        for (layer, slot) in self.layers.iter().enumerate() {
            let Some(open) = slot.get() else { continue };
            let place = open.root;
            parts.push(Part { layer, place });
            if open.opaque {
                end = layer + 1;
                break;
            }
        }
        let parts = (!parts.is_empty()).then(|| Arc::from(parts));
        Known { parts, end, opened }
    }

    /// The layers that take part in the directory at `path`, all of them.
    fn whole_directory(&self, path: &RelPath) -> io::Result<Option<Arc<Merged>>> {
        loop {
            let known = self.directory(path, self.opened.load(Ordering::Acquire))?;
            let missing: Vec<usize> = self.missing(path, known.end).collect();
            if missing.is_empty() {
                return Ok(known.parts);
            }
            self.reach(&missing)?;
        }
    }

    /// What the layers that are open, `opened` of them or more, say of the directory at `path`.
    fn directory(&self, path: &RelPath, opened: usize) -> io::Result<Known> {
        // Up to the nearest directory that is known, then down again. Not recursive: a path may
        // be as deep as it likes.
        let mut unknown = Vec::new();
        let mut at = path.clone();
        let mut merged = loop {
            let directories = self
                .directories
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = directories.get(&at).filter(|known| known.opened >= opened) {
                break found.clone();
            }
            drop(directories);
            match at.parent() {
                Some(parent) => unknown.push(std::mem::replace(&mut at, parent)),
                None => {
                    let root = self.root(opened);
                    self.remember(at, &root);
                    break root;
                }
            }
        };
        while let Some(path) = unknown.pop() {
            if merged.parts.is_some() {
                merged = self.merge(&merged, &path)?;
            }
            self.remember(path, &merged);
        }
        Ok(merged)
    }

    fn remember(&self, path: RelPath, known: &Known) {
        let mut directories = self
            .directories
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if directories.len() >= REMEMBERED {
            directories.retain(|path, _| path.is_root());
        }
        directories.insert(path, known.clone());
    }

    /// The layers that take part in the directory at `path`, given those of its parent.
    fn merge(&self, parent: &Known, path: &RelPath) -> io::Result<Known> {
        let mut parts = Vec::new();
        let mut end = parent.end;
        for &part in parent.parts.iter().flat_map(|parts| parts.iter()) {
            let layer = part.layer;
            match self.tree(part).find(part.place, path)? {
                None => continue,
                Some(Found::Directory { place, opaque }) => {
                    parts.push(Part { layer, place });
                    if !opaque {
                        continue;
                    }
                }
                Some(Found::Whiteout | Found::Other(_)) => {}
            }
            end = layer + 1;
            break;
        }
        let parts = (!parts.is_empty()).then(|| Arc::from(parts));
        let opened = parent.opened;
        Ok(Known { parts, end, opened })
    }

    /// What the topmost layer that has `path` says of it.
    fn top(&self, path: &RelPath) -> io::Result<Option<Part>> {
        loop {
            let (found, end) = self.top_of(path, self.opened.load(Ordering::Acquire))?;
            match self.missing(path, end).next() {
                Some(layer) => self.reach(&[layer])?,
                None => return Ok(found),
            }
        }
    }

    /// The same of the layers that are open, `opened` of them or more, and from which layer on
    /// none can change it.
    fn top_of(&self, path: &RelPath, opened: usize) -> io::Result<(Option<Part>, usize)> {
        let Some(parent) = path.parent() else {
            let Known { parts, end, .. } = self.directory(path, opened)?;
            let top = parts.and_then(|parts| parts.first().copied());
            return Ok((top, top.map_or(end, |part| part.layer)));
        };
        let Known { parts, end, .. } = self.directory(&parent, opened)?;
        for &part in parts.iter().flat_map(|parts| parts.iter()) {
            let layer = part.layer;
            let place = match self.tree(part).find(part.place, path)? {
                None => continue,
                Some(Found::Whiteout) => return Ok((None, layer)),
                Some(Found::Directory { place, .. } | Found::Other(place)) => place,
            };
            return Ok((Some(Part { layer, place }), layer));
        }
        Ok((None, end))
    }
}

impl Opened {
    fn open(tree: &Tree) -> io::Result<Opened> {
        let tree = OpenTree::open(tree)?;
        let (root, opaque) = tree.root()?;
        Ok(Opened { tree, root, opaque })
    }
}

impl View for Stack {
    fn lookup(&self, path: &RelPath) -> io::Result<Option<Node>> {
        let Some(part) = self.top(path)? else {
            return Ok(None);
        };
        let node = self.tree(part).node(part.layer as u64, path, part.place)?;
        Ok(Some(node))
    }

    fn read_dir(&self, path: &RelPath) -> io::Result<Vec<Vec<u8>>> {
        let Some(merged) = self.whole_directory(path)? else {
            let errno = match self.top(path)? {
                Some(_) => Errno::NOTDIR,
                None => Errno::NOENT,
            };
            return Err(PathError::new("read directory", path, errno).into());
        };
        let mut names: Vec<LayerName> = Vec::new();
        for &part in merged.iter() {
            let lower = self.tree(part).names(part.place, path)?;
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
            Some(part) => self.tree(part).content(path, part.place),
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
