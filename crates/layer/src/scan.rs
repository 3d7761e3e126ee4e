//! Reading a tree once, from front to back: names by one thread, inodes and bytes by all of them,
//! and everything handed over in path order. Nothing is gathered, so a tree may be as large as it
//! likes; what is held is the names of the directories that are being read.
//!
//! ```text
//! names       directory by directory, in path order, a few dozen names at a time
//!   │
//! inodes      on all threads: stat, attributes, bytes (see `Directory::read`)
//!   │
//! consumer    in order again; directories that are kept only when filled wait for their content
//! ```

use crate::ordered::{self, Stop};
use crate::root::{PathError, is_absence};
use crate::walk::Descend;
use crate::{ContentDigest, Kind, LinkId, Node, RelPath, View};
use std::collections::HashMap;
use std::io;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};

/// Names that one thread looks at in a row.
const UNIT: usize = 48;

/// A directory of a [`View`] that is being read.
pub trait Directory: Send + Sync {
    /// The names in it, sorted by bytes.
    fn names(&self) -> &[Name];

    /// The inode of the name at a position of [`Directory::names`], which is at `path`; `None` when
    /// it went away. With `digests`, the digest of its bytes too, if it is a regular file: read only
    /// when nothing else tells it.
    ///
    /// # Errors
    /// When it cannot be read, or changes whenever it is read.
    fn read(
        &self,
        position: usize,
        path: &RelPath,
        digests: Option<&Digests>,
    ) -> io::Result<Option<(Node, Option<ContentDigest>)>>;
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: Box<[u8]>,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The directory itself is left out of the view unless something in it is not.
    pub if_filled: bool,
}

impl Name {
    /// How a scan that takes everything treats it.
    pub(crate) fn descend(&self) -> Descend {
        match self.is_dir && self.if_filled {
            true => Descend::IfFilled,
            false => Descend::into_directory(self.is_dir),
        }
    }
}

/// The digests of inodes with several names, so that each is read once.
#[derive(Debug, Default)]
pub struct Digests(Mutex<HashMap<LinkId, ContentDigest>>);

impl Digests {
    /// The digest of the bytes of `node`, if it has none or is known under another name.
    pub fn known(&self, node: &Node) -> Option<ContentDigest> {
        match (&node.kind, node.links) {
            (Kind::File { size: 0 }, _) => Some(ContentDigest::EMPTY),
            (Kind::File { .. }, Some(links)) => {
                let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                known.get(&links).copied()
            }
            _ => None,
        }
    }

    /// Remembers the digest of the bytes of `node`, if it has several names.
    pub fn learn(&self, node: &Node, digest: ContentDigest) {
        if let Some(links) = node.links {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(links, digest);
        }
    }
}

/// What a scan does with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) descend: Descend,
    /// Handed on to whoever looks at the inode.
    pub(crate) passage: bool,
}

/// An inode that was found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) path: RelPath,
    /// How many directories it is below the top, from 1.
    pub(crate) depth: usize,
    pub(crate) node: Node,
    pub(crate) digest: Option<ContentDigest>,
    pub(crate) passage: bool,
}

/// What to scan, and how.
pub(crate) struct Scan<'a, C, O> {
    pub(crate) view: &'a dyn View,
    pub(crate) top: &'a RelPath,
    pub(crate) digests: bool,
    /// Whether a name is taken; asked in path order.
    pub(crate) choose: C,
    /// The one name of a directory that matters, if there is but one.
    pub(crate) only: O,
}

/// Why a scan ended, and where.
#[derive(Debug)]
pub(crate) struct ScanError {
    pub(crate) path: RelPath,
    pub(crate) source: io::Error,
}

impl From<ScanError> for io::Error {
    fn from(error: ScanError) -> io::Error {
        PathError::new("read", &error.path, error.source).into()
    }
}

impl<C, O> Scan<'_, C, O>
where
    C: Fn(&RelPath, &Name) -> Option<Choice> + Sync + Send,
    O: Fn(&RelPath) -> Option<Vec<u8>> + Sync + Send,
{
    /// Calls `map` for every inode below the top, on any thread, and `each` with what it made, in
    /// path order, on this one.
    ///
    /// # Errors
    /// When the tree cannot be read, and those of `each`.
    pub(crate) fn run<T: Send>(
        &self,
        map: impl Fn(Scanned) -> T + Sync,
        mut each: impl FnMut(T) -> io::Result<()>,
    ) -> Result<(), ScanError> {
        let digests = self.digests.then(Digests::default);
        let threads = match self.digests {
            true => ordered::readers(),
            false => ordered::threads(),
        };
        let threads = NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN);
        let names = Names {
            scan: self,
            open: vec![Level {
                directory: self.enter(self.top)?,
                path: self.top.clone(),
                next: 0,
            }],
            failed: false,
        };
        let mut waiting = Waiting::default();
        ordered::run(
            threads,
            names,
            |unit: Vec<Item<'_>>, sink| {
                let mut found = Vec::with_capacity(unit.len());
                for item in unit {
                    let read = item
                        .directory
                        .read(item.position, &item.path, digests.as_ref());
                    let read = read.map_err(|source| {
                        Stop::Error(ScanError {
                            path: item.path.clone(),
                            source,
                        })
                    })?;
                    found.push(item.found(read, &map));
                }
                Ok(sink.put(found)?)
            },
            |found| {
                for found in found {
                    waiting.take(found, &mut each).map_err(|source| ScanError {
                        path: self.top.clone(),
                        source,
                    })?;
                }
                Ok(())
            },
        )
    }

    fn enter(&self, path: &RelPath) -> Result<Arc<dyn Directory + '_>, ScanError> {
        let only = (self.only)(path);
        let entered = self.view.enter(path, only.as_deref());
        let directory = entered.map_err(|source| ScanError {
            path: path.clone(),
            source,
        })?;
        Ok(Arc::from(directory))
    }
}

/// Everything below `top`, in path order, without bytes.
pub(crate) fn gather(view: &dyn View, top: &RelPath) -> io::Result<Vec<(RelPath, Node)>> {
    let scan = Scan {
        view,
        top,
        digests: false,
        choose: |_: &RelPath, name: &Name| {
            let descend = name.descend();
            let passage = false;
            Some(Choice { descend, passage })
        },
        only: |_: &RelPath| None,
    };
    let mut gathered = Vec::new();
    let each = |found| {
        gathered.push(found);
        Ok(())
    };
    scan.run(|found| (found.path, found.node), each)?;
    Ok(gathered)
}

/// A directory on the way to where the names come from.
struct Level<'a> {
    directory: Arc<dyn Directory + 'a>,
    path: RelPath,
    next: usize,
}

/// The names below the top in path order, some at a time.
struct Names<'s, 'a, C, O> {
    scan: &'s Scan<'a, C, O>,
    open: Vec<Level<'s>>,
    failed: bool,
}

/// A name to be looked at.
struct Item<'a> {
    directory: Arc<dyn Directory + 'a>,
    position: usize,
    path: RelPath,
    depth: usize,
    choice: Choice,
}

impl<'s, C, O> Names<'s, '_, C, O>
where
    C: Fn(&RelPath, &Name) -> Option<Choice> + Sync + Send,
    O: Fn(&RelPath) -> Option<Vec<u8>> + Sync + Send,
{
    fn item(&mut self) -> Result<Option<Item<'s>>, ScanError> {
        loop {
            let depth = self.open.len();
            let Some(level) = self.open.last_mut() else {
                return Ok(None);
            };
            let position = level.next;
            let Some(name) = level.directory.names().get(position) else {
                self.open.pop();
                continue;
            };
            level.next += 1;
            let path = level.path.join(&name.name).map_err(|error| ScanError {
                path: level.path.clone(),
                source: io::Error::other(error),
            })?;
            let Some(choice) = (self.scan.choose)(&path, name) else {
                continue;
            };
            let directory = Arc::clone(&level.directory);
            if choice.descend != Descend::No {
                match self.scan.enter(&path) {
                    Ok(directory) => self.open.push(Level {
                        directory,
                        path: path.clone(),
                        next: 0,
                    }),
                    // It went away, or became something else, since it was listed.
                    Err(error) if is_absence(&error.source) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(Some(Item {
                directory,
                position,
                path,
                depth,
                choice,
            }));
        }
    }
}

impl<'s, C, O> Iterator for Names<'s, '_, C, O>
where
    C: Fn(&RelPath, &Name) -> Option<Choice> + Sync + Send,
    O: Fn(&RelPath) -> Option<Vec<u8>> + Sync + Send,
{
    type Item = Result<Vec<Item<'s>>, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut unit = Vec::with_capacity(UNIT);
        while unit.len() < UNIT && !self.failed {
            match self.item() {
                Ok(Some(item)) => unit.push(item),
                Ok(None) => break,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        (!unit.is_empty()).then_some(Ok(unit))
    }
}

/// What became of a name.
struct Found<T> {
    depth: usize,
    /// Whether its names follow.
    entered: bool,
    if_filled: bool,
    /// `None` when it went away; with whether it is a directory.
    made: Option<(T, bool)>,
}

impl Item<'_> {
    fn found<T>(
        self,
        read: Option<(Node, Option<ContentDigest>)>,
        map: impl Fn(Scanned) -> T,
    ) -> Found<T> {
        let made = read.map(|(node, digest)| {
            let is_dir = node.kind == Kind::Directory;
            let made = map(Scanned {
                path: self.path,
                depth: self.depth,
                node,
                digest,
                passage: self.choice.passage,
            });
            (made, is_dir)
        });
        Found {
            depth: self.depth,
            entered: self.choice.descend != Descend::No,
            if_filled: self.choice.descend == Descend::IfFilled,
            made,
        }
    }
}

/// The directories from the top to the one at hand.
struct Waiting<T>(Vec<Above<T>>);

enum Above<T> {
    Passed,
    /// Waits for something in it.
    Held(T),
    /// Nothing below it is taken.
    Gone,
}

impl<T> Default for Waiting<T> {
    fn default() -> Waiting<T> {
        Waiting(Vec::new())
    }
}

impl<T> Waiting<T> {
    fn take(
        &mut self,
        found: Found<T>,
        each: &mut impl FnMut(T) -> io::Result<()>,
    ) -> io::Result<()> {
        self.0.truncate(found.depth - 1);
        if self.0.iter().any(|above| matches!(above, Above::Gone)) {
            return Ok(());
        }
        let above = match found.made {
            Some((made, true)) if found.if_filled => Above::Held(made),
            made => {
                let is_dir = matches!(made, Some((_, true)));
                // What only leads to something, and is no directory any more, was never there.
                if let Some((made, _)) = made.filter(|_| is_dir || !found.if_filled) {
                    self.pass(each)?;
                    each(made)?;
                }
                match is_dir {
                    true => Above::Passed,
                    false => Above::Gone,
                }
            }
        };
        if found.entered {
            self.0.push(above);
        }
        Ok(())
    }

    /// Lets go what was waiting.
    fn pass(&mut self, each: &mut impl FnMut(T) -> io::Result<()>) -> io::Result<()> {
        for above in &mut self.0 {
            if let Above::Held(made) = std::mem::replace(above, Above::Passed) {
                each(made)?;
            }
        }
        Ok(())
    }
}

/// A directory of a view that has no quicker way than to be asked for every name.
pub(crate) struct Asked<'a, V: ?Sized> {
    view: &'a V,
    names: Vec<Name>,
    nodes: Vec<Node>,
}

impl<'a, V: View + ?Sized> Asked<'a, V> {
    pub(crate) fn new(view: &'a V, path: &RelPath, only: Option<&[u8]>) -> io::Result<Self> {
        let names = match only {
            Some(name) => vec![name.to_vec()],
            None => view.read_dir(path)?,
        };
        let mut asked = Asked {
            view,
            names: Vec::with_capacity(names.len()),
            nodes: Vec::with_capacity(names.len()),
        };
        for name in names {
            let path = path.join(&name).map_err(io::Error::other)?;
            if let Some(node) = view.lookup(&path)? {
                asked.names.push(Name {
                    name: name.into(),
                    is_dir: node.kind == Kind::Directory,
                    if_filled: false,
                });
                asked.nodes.push(node);
            }
        }
        Ok(asked)
    }
}

impl<V: View + ?Sized> Directory for Asked<'_, V> {
    fn names(&self) -> &[Name] {
        &self.names
    }

    fn read(
        &self,
        position: usize,
        path: &RelPath,
        digests: Option<&Digests>,
    ) -> io::Result<Option<(Node, Option<ContentDigest>)>> {
        let node = self.nodes[position].clone();
        let digest = match (digests, &node.kind) {
            (Some(digests), Kind::File { .. }) => match digests.known(&node) {
                Some(digest) => Some(digest),
                None => {
                    let digest = self.view.digest(path, &node)?;
                    digests.learn(&node, digest);
                    Some(digest)
                }
            },
            _ => None,
        };
        Ok(Some((node, digest)))
    }
}
