//! What of a tree a `COPY`, an `ADD` or a bind mount takes: its sources, matched and walked once.
//!
//! Both the content key and the layer are made from a [`Selection`], so they cannot disagree.
//! Nothing is read but names and metadata; see `checksum` for contents.

use std::io;
use std::sync::Arc;

use rayon::prelude::*;

use crate::nearest::nearest;
use crate::pattern::{InvalidPattern, Pattern, Wildcards, has_wildcards};
use crate::resolve::{Links, ResolveError, resolve};
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
    /// Path below the match; the root for itself.
    pub(crate) path: RelPath,
    /// Components of `path`.
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
}

struct Walk<'a> {
    view: &'a dyn View,
    exclude: Option<&'a dyn Filter>,
    origin: Origin,
}

/// Which part of a directory a walk takes.
#[derive(Clone, Copy)]
enum Take<'a> {
    All,
    Matching(&'a Pattern),
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

    fn entries(
        &self,
        name: Vec<u8>,
        path: RelPath,
        node: Node,
        pattern: Option<&Pattern>,
    ) -> Result<Match, SelectError> {
        let take = pattern.map_or(Take::All, Take::Matching);
        let is_dir = node.kind == Kind::Directory;
        let mut entries = vec![self.entry(RelPath::root(), 0, node)];
        if is_dir {
            entries.extend(self.directory(&path, &RelPath::root(), 1, take)?);
        }
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

    /// What is taken of the directory `dir`, which is at `below` in its match.
    fn directory(
        &self,
        dir: &RelPath,
        below: &RelPath,
        depth: usize,
        take: Take<'_>,
    ) -> Result<Vec<Entry>, SelectError> {
        let names = match take {
            // On the way to a literal path there is one name to look at.
            Take::Matching(pattern) if depth <= pattern.literal_prefix().len() => {
                vec![pattern.literal_prefix()[depth - 1].clone()]
            }
            _ => self.read_dir(dir)?,
        };
        let parts: Vec<Vec<Entry>> = names
            .into_par_iter()
            .with_min_len(16)
            .map(|name| self.child(dir.join(&name)?, below.join(&name)?, depth, take))
            .collect::<Result<_, SelectError>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    fn child(
        &self,
        path: RelPath,
        relative: RelPath,
        depth: usize,
        take: Take<'_>,
    ) -> Result<Vec<Entry>, SelectError> {
        let (included, take) = match take {
            Take::All => (true, Take::All),
            Take::Matching(pattern) if pattern.matches(relative.as_bytes()) => (true, Take::All),
            Take::Matching(pattern) if pattern.may_match_below(relative.as_bytes()) => {
                (false, take)
            }
            Take::Matching(_) => return Ok(Vec::new()),
        };
        // Something that went away since its directory was listed was never there.
        let Some(node) = self.lookup(&path)? else {
            return Ok(Vec::new());
        };
        let is_dir = node.kind == Kind::Directory;
        let excluded = self.exclude.is_some_and(|e| e.excludes(&relative, is_dir));
        let selected = included && !excluded;
        if !is_dir {
            let entry = selected.then(|| self.entry(relative, depth, node));
            return Ok(entry.into_iter().collect());
        }
        if excluded && self.exclude.is_some_and(|e| e.prunes(&relative)) {
            return Ok(Vec::new());
        }
        let contents = self.directory(&path, &relative, depth + 1, take)?;
        if !selected && contents.is_empty() {
            return Ok(Vec::new());
        }
        let mut entry = self.entry(relative, depth, node);
        entry.passage = !selected;
        let mut entries = Vec::with_capacity(1 + contents.len());
        entries.push(entry);
        entries.extend(contents);
        Ok(entries)
    }

    fn entry(&self, path: RelPath, depth: usize, mut node: Node) -> Entry {
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
            passage: false,
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
        let read = self.view.lookup(path);
        read.map_err(|source| SelectError::Read {
            path: path.clone(),
            source,
        })
    }

    fn read_dir(&self, path: &RelPath) -> Result<Vec<Vec<u8>>, SelectError> {
        let read = self.view.read_dir(path);
        read.map_err(|source| SelectError::Read {
            path: path.clone(),
            source,
        })
    }
}
