//! What of a tree a `COPY`, an `ADD` or a bind mount takes: its sources, matched and walked once.
//!
//! Both the content key and the layer are made from a [`Selection`], so they cannot disagree.
//! Nothing is read but names and metadata; see `checksum` for contents.

use std::io;
use std::sync::Arc;

use crate::nearest::nearest;
use crate::pattern::{InvalidPattern, Pattern, Wildcards, has_wildcards};
use crate::resolve::{Links, ResolveError, resolve};
use crate::walk::{Descend, Listed, preorder};
use crate::{ContentDigest, Filter, InvalidPath, Kind, Node, RelPath, View};

/// Sources of a consumer, as it names them.
#[derive(Clone)]
pub struct Selector {
    /// Paths and patterns in order; cleaned and clamped at the root (rows C3, C5).
    pub paths: Vec<Vec<u8>>,
    /// `--exclude`: asked with paths below each source. What a *pattern* matched is asked for by
    /// its name too, so that `--exclude=*.txt hom*` leaves out `home.txt`.
    pub exclude: Option<Arc<dyn Filter>>,
    /// How names count.
    pub naming: Naming,
    /// Where the tree is from.
    pub origin: Origin,
}

/// Which names and directories of the selected part have an effect on the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Bind mount: the one path itself, never a pattern.
    Mount,
    /// `COPY` and `ADD`: a directory's contents, anything else under its own name.
    Contents,
    /// `COPY --parents`: every match under its path behind the pivot `/./`.
    Parents,
}

/// Where a tree is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Files of the machine: their sockets become empty regular files.
    Context {
        /// Regular files are 0755 when their owner may execute them and else 0644, directories
        /// 0755, whatever the umask of the checkout was.
        git_modes: bool,
    },
    /// An image or a stage.
    Tree,
}

/// The nodes that a [`Selector`] takes.
#[derive(Clone, Debug)]
pub struct Selection {
    pub(crate) naming: Naming,
    pub(crate) matches: Vec<Match>,
}

/// One source, or one match of a source that is a pattern.
#[derive(Clone, Debug)]
pub struct Match {
    /// Last component of the path as it was selected: a link's own name, not its target's.
    pub name: Vec<u8>,
    /// Where it is in the view, links followed.
    pub path: RelPath,
    /// Itself and what is below it; a directory stands before its contents. Never empty.
    pub(crate) entries: Vec<Entry>,
}

/// One node of a [`Match`].
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Path in the view.
    pub(crate) path: RelPath,
    /// How many directories it is below the match; 0 for the match itself.
    pub(crate) depth: usize,
    pub(crate) node: Node,
    /// A directory that is not selected but has something selected below it.
    pub(crate) passage: bool,
    /// Known once the content key was computed.
    pub(crate) digest: Option<ContentDigest>,
}

/// Why sources could not be selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// A source that is no pattern does not exist, or is a link to something that does not.
    #[error("\"{path}\": not found{}", hint(path, leads_to, near))]
    NotFound {
        /// The source, cleaned. Ask the ignore file's filter about this one.
        path: RelPath,
        /// Where following symbolic links ended.
        leads_to: RelPath,
        /// Names in the directory where the search ended that the missing one may be meant as.
        near: Vec<String>,
    },
    /// A source is a malformed pattern.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    /// A source holds a NUL byte.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A source leads through a loop of links.
    #[error("find a source")]
    Resolve(#[from] ResolveError),
    /// The tree cannot be read.
    #[error("read source {path}")]
    Read {
        /// The node.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
}

fn hint(path: &RelPath, leads_to: &RelPath, near: &[String]) -> String {
    let mut text = String::new();
    if path != leads_to {
        text.push_str(&format!(
            " (a symbolic link on the way leads to {leads_to})"
        ));
    }
    if !near.is_empty() {
        text.push_str(&format!(" (there is {})", near.join(", ")));
    }
    text
}

/// Finds the sources in `view` and walks them.
///
/// # Errors
/// See [`SelectError`]. A pattern without a match is no error.
pub fn select(view: &dyn View, selector: &Selector) -> Result<Selection, SelectError> {
    let walk = Walk {
        view,
        exclude: selector.exclude.as_deref(),
        origin: selector.origin,
    };
    let mut matches = Vec::new();
    for path in &selector.paths {
        match selector.naming {
            Naming::Parents => walk.parents(path, &mut matches)?,
            Naming::Contents if has_wildcards(path) => walk.glob(path, &mut matches)?,
            Naming::Contents | Naming::Mount => {
                matches.push(walk.whole(RelPath::clamp(path)?, None)?);
            }
        }
    }
    Ok(Selection {
        naming: selector.naming,
        matches,
    })
}

impl Selection {
    /// The matches in the order in which they are placed.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// How many nodes are selected.
    pub fn len(&self) -> usize {
        self.matches.iter().map(|m| m.entries.len()).sum()
    }

    /// Whether nothing is selected: only patterns without a match.
    pub fn is_empty(&self) -> bool {
        self.matches.is_empty()
    }
}

impl Match {
    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.entries[0].node
    }

    /// The path of an entry below the match, without a leading slash.
    pub(crate) fn below<'a>(&self, entry: &'a Entry) -> &'a [u8] {
        relative(&self.path, &entry.path)
    }
}

struct Walk<'a> {
    view: &'a dyn View,
    exclude: Option<&'a dyn Filter>,
    origin: Origin,
}

impl Walk<'_> {
    /// One path, links followed, and what is below it that `pattern` includes.
    fn whole(&self, path: RelPath, pattern: Option<&Pattern>) -> Result<Match, SelectError> {
        let found = resolve(self.view, path.as_bytes(), Links::All)?;
        let Some(node) = found.node else {
            return Err(self.not_found(path, found.path));
        };
        let name = path.name().unwrap_or_default().to_vec();
        self.entries(name, found.path, node, pattern)
    }

    /// A node and what is below it that `pattern` includes.
    fn entries(
        &self,
        name: Vec<u8>,
        path: RelPath,
        node: Node,
        pattern: Option<&Pattern>,
    ) -> Result<Match, SelectError> {
        let below = match node.kind {
            Kind::Directory => self.below(&path, pattern)?,
            _ => Vec::new(),
        };
        let mut entries = Vec::with_capacity(1 + below.len());
        entries.push(self.entry(path.clone(), 0, node, false));
        entries.extend(below);
        Ok(Match {
            name,
            path,
            entries,
        })
    }

    /// A source with wildcards: its literal components are followed, the rest is matched against
    /// names as they are. Links that match are followed in turn.
    fn glob(&self, source: &[u8], matches: &mut Vec<Match>) -> Result<(), SelectError> {
        let clean = RelPath::clamp(source)?;
        let (literal, rest): (Vec<&[u8]>, Vec<&[u8]>) = {
            let parts: Vec<&[u8]> = clean.components().collect();
            let split = parts
                .iter()
                .position(|c| has_wildcards(c))
                .unwrap_or(parts.len());
            (parts[..split].to_vec(), parts[split..].to_vec())
        };
        let pattern = Pattern::parse(&rest.join(&b'/'), Wildcards::Plain)?;
        let base = resolve(self.view, &literal.join(&b'/'), Links::All)?;
        if base.node.is_none_or(|n| n.kind != Kind::Directory) {
            return Ok(());
        }
        let mut found = Vec::new();
        self.find(&base.path, &RelPath::root(), &pattern, &mut found)?;
        for path in found {
            if !self.drops(&path)? {
                matches.push(self.whole(path, None)?);
            }
        }
        Ok(())
    }

    /// Whether a match of a pattern is excluded by its name.
    fn drops(&self, path: &RelPath) -> Result<bool, SelectError> {
        let (Some(exclude), Some(name)) = (self.exclude, path.name()) else {
            return Ok(false);
        };
        let node = resolve(self.view, path.as_bytes(), Links::All)?.node;
        let is_dir = node.is_some_and(|n| n.kind == Kind::Directory);
        Ok(exclude.excludes(&RelPath::new(name)?, is_dir))
    }

    /// Paths below `base` that match, in order. What is below a match is not looked at.
    fn find(
        &self,
        base: &RelPath,
        below: &RelPath,
        pattern: &Pattern,
        found: &mut Vec<RelPath>,
    ) -> Result<(), SelectError> {
        let dir = base.join_path(below);
        for name in self.read_dir(&dir)? {
            let relative = below.join(&name)?;
            let path = dir.join(&name)?;
            if pattern.matches(relative.as_bytes()) {
                found.push(path);
            } else if pattern.may_match_below(relative.as_bytes())
                && self
                    .lookup(&path)?
                    .is_some_and(|n| n.kind == Kind::Directory)
            {
                self.find(base, &relative, pattern, found)?;
            }
        }
        Ok(())
    }

    /// `--parents`: the directory before the pivot, and of it what the rest includes.
    fn parents(&self, source: &[u8], matches: &mut Vec<Match>) -> Result<(), SelectError> {
        let pivot = source.windows(3).position(|w| w == b"/./");
        let (base, rest) = match pivot {
            Some(at) => (&source[..at], &source[at + 3..]),
            None => (&source[..0], source),
        };
        let rest = RelPath::clamp(rest)?;
        let literal = !has_wildcards(base) && !has_wildcards(rest.as_bytes());
        let pattern = Pattern::parse(rest.as_bytes(), Wildcards::Deep)?;
        // The pivot alone (`dir/./`) is everything below it.
        let pattern = (!rest.is_root()).then_some(&pattern);
        if has_wildcards(base) {
            let from = matches.len();
            self.glob(base, matches)?;
            for one in matches.split_off(from) {
                let node = self.lookup(&one.path)?;
                if let Some(node) = node.filter(|n| n.kind == Kind::Directory) {
                    matches.push(self.entries(one.name, one.path, node, pattern)?);
                }
            }
            return Ok(());
        }
        let base = RelPath::clamp(base)?;
        let one = self.whole(base.clone(), pattern)?;
        if literal && !rest.is_root() {
            let wanted = one.path.join_path(&rest);
            if self.lookup(&wanted)?.is_none() {
                return Err(self.not_found(base.join_path(&rest), wanted));
            }
        }
        if one.node().kind == Kind::Directory {
            matches.push(one);
        }
        Ok(())
    }

    /// What is taken of the directory `top`, without itself.
    fn below(&self, top: &RelPath, pattern: Option<&Pattern>) -> Result<Vec<Entry>, SelectError> {
        let depth = |path: &RelPath| 1 + relative(top, path).iter().filter(|&&b| b == b'/').count();
        if pattern.is_none() && self.exclude.is_none() {
            let walked = self.view.walk(top);
            let walked = walked.map_err(|source| read_error(top, source))?;
            let entries = walked.into_iter().map(|(path, node)| {
                let depth = depth(&path);
                self.entry(path, depth, node, false)
            });
            return Ok(entries.collect());
        }
        let walked = preorder(top, |dir| self.list(top, dir, pattern));
        let walked = walked.map_err(|source| read_error(top, source))?;
        let entries = walked.into_iter().map(|(path, (node, passage))| {
            let depth = depth(&path);
            self.entry(path, depth, node, passage)
        });
        Ok(entries.collect())
    }

    /// What is taken of the names in one directory at or below `top`; with each, whether it only
    /// leads to something selected.
    fn list(
        &self,
        top: &RelPath,
        dir: &RelPath,
        pattern: Option<&Pattern>,
    ) -> io::Result<Vec<Listed<(Node, bool)>>> {
        let at = RelPath::new(relative(top, dir)).map_err(io::Error::other)?;
        let pattern = pattern.filter(|p| !includes(p, &at));
        let literal = pattern.and_then(|p| p.literal_prefix().get(at.components().count()));
        let names = match literal {
            // On the way to a literal path there is one name to look at.
            Some(name) => vec![name.clone()],
            None => self.view.read_dir(dir).map_err(|e| at_path(dir, e))?,
        };
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let relative = at.join(&name).map_err(io::Error::other)?;
            let included = pattern.is_none_or(|p| p.matches(relative.as_bytes()));
            if !included && !pattern.is_some_and(|p| p.may_match_below(relative.as_bytes())) {
                continue;
            }
            let path = dir.join(&name).map_err(io::Error::other)?;
            // Something that went away since its directory was listed was never there.
            let Some(node) = self.view.lookup(&path).map_err(|e| at_path(&path, e))? else {
                continue;
            };
            let is_dir = node.kind == Kind::Directory;
            let excluded = self.exclude.is_some_and(|e| e.excludes(&relative, is_dir));
            let pruned = excluded && self.exclude.is_some_and(|e| e.prunes(&relative));
            let selected = included && !excluded;
            let descend = match (is_dir, selected) {
                (true, true) => Descend::Yes,
                (true, false) if !pruned => Descend::IfFilled,
                (false, true) => Descend::No,
                _ => continue,
            };
            listed.push(Listed {
                path,
                item: (node, !selected),
                descend,
            });
        }
        Ok(listed)
    }

    fn entry(&self, path: RelPath, depth: usize, mut node: Node, passage: bool) -> Entry {
        if let Origin::Context { git_modes } = self.origin {
            if node.kind == Kind::Socket {
                node.kind = Kind::File { size: 0 };
                node.links = None;
            }
            if git_modes {
                let mode = &mut node.metadata.mode;
                match node.kind {
                    Kind::Directory => *mode = 0o755,
                    Kind::File { .. } => *mode = if *mode & 0o100 != 0 { 0o755 } else { 0o644 },
                    _ => {}
                }
            }
        }
        Entry {
            path,
            depth,
            node,
            passage,
            digest: None,
        }
    }

    fn not_found(&self, path: RelPath, leads_to: RelPath) -> SelectError {
        let near = || {
            let mut missing = leads_to.clone();
            while let Some(parent) = missing.parent() {
                let node = self.view.lookup(&parent).ok()?;
                if node.is_some_and(|n| n.kind == Kind::Directory) {
                    let names = self.view.read_dir(&parent).ok()?;
                    return Some(nearest(missing.name()?, names));
                }
                missing = parent;
            }
            None
        };
        let near = near().unwrap_or_default();
        SelectError::NotFound {
            path,
            leads_to,
            near,
        }
    }

    fn lookup(&self, path: &RelPath) -> Result<Option<Node>, SelectError> {
        self.view
            .lookup(path)
            .map_err(|source| read_error(path, source))
    }

    fn read_dir(&self, path: &RelPath) -> Result<Vec<Vec<u8>>, SelectError> {
        self.view
            .read_dir(path)
            .map_err(|source| read_error(path, source))
    }
}

/// The bytes of `path` below `top`, without a leading slash.
pub(crate) fn relative<'a>(top: &RelPath, path: &'a RelPath) -> &'a [u8] {
    let skip = if top.is_root() {
        0
    } else {
        top.as_bytes().len() + 1
    };
    path.as_bytes().get(skip..).unwrap_or_default()
}

/// Whether a pattern includes a directory or one above it, and so all that is in it.
fn includes(pattern: &Pattern, dir: &RelPath) -> bool {
    let bytes = dir.as_bytes();
    let ends = (0..bytes.len())
        .filter(|&i| bytes[i] == b'/')
        .chain([bytes.len()]);
    !dir.is_root() && ends.into_iter().any(|end| pattern.matches(&bytes[..end]))
}

/// An error of a walk, with the path that a plain IO error does not carry.
#[derive(Debug, thiserror::Error)]
#[error("read {path}")]
struct AtPath {
    path: RelPath,
    source: io::Error,
}

fn at_path(path: &RelPath, source: io::Error) -> io::Error {
    io::Error::other(AtPath {
        path: path.clone(),
        source,
    })
}

fn read_error(top: &RelPath, error: io::Error) -> SelectError {
    match error.downcast::<AtPath>() {
        Ok(AtPath { path, source }) => SelectError::Read { path, source },
        Err(source) => SelectError::Read {
            path: top.clone(),
            source,
        },
    }
}
