//! What of a tree a `COPY`, an `ADD` or a bind mount takes: its sources, matched and walked once.
//!
//! Both the content key and the layer are made from a [`Selection`], so they cannot disagree.
//! A tree is read once: whoever wants the contents too (see `checksum`) gets every node with its
//! digest as it is found.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::checksum::{self, Outline};
use crate::entries::{Entries, Entry, EntryWriter};
use crate::hard_links::Names;
use crate::nearest::nearest;
use crate::pattern::{InvalidPattern, Pattern, Wildcards, has_wildcards};
use crate::resolve::{Links, ResolveError, resolve};
use crate::scan::{Choice, Name, Scan, Scanned};
use crate::spool::Scratch;
use crate::walk::Descend;
use crate::{ContentDigest, Filter, InvalidPath, Kind, Node, RelPath, View};
use sha2::{Digest, Sha256};

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
    node: Node,
    /// Itself and what is below it; a directory stands before its contents. Never empty.
    pub(crate) entries: Entries,
    /// What `record` said of the entries.
    pub(crate) sum: Option<Sum>,
}

/// The records of a match's entries, in short.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    /// SHA-256 of all records in order.
    pub(crate) digest: [u8; 32],
    pub(crate) outline: Arc<Outline>,
}

/// Makes a record of an entry with a digest, which is at a path below the match. Called on any
/// thread.
pub(crate) type Record<'a> = dyn Fn(&Entry, &[u8]) -> [u8; 32] + Sync + 'a;

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

/// Finds the sources in `view` and walks them. Long lists go to `scratch`.
///
/// # Errors
/// See [`SelectError`]. A pattern without a match is no error.
pub fn select(
    view: &dyn View,
    selector: &Selector,
    scratch: &Scratch,
) -> Result<Selection, SelectError> {
    select_with(view, selector, scratch, None)
}

/// [`select`], and digests of all files if there is somebody to record them.
pub(crate) fn select_with(
    view: &dyn View,
    selector: &Selector,
    scratch: &Scratch,
    record: Option<&Record<'_>>,
) -> Result<Selection, SelectError> {
    let walk = Walk {
        view,
        scratch,
        record,
        exclude: selector.exclude.as_deref(),
        origin: selector.origin,
        names: Mutex::default(),
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
        &self.node
    }
}

struct Walk<'a> {
    view: &'a dyn View,
    scratch: &'a Scratch,
    record: Option<&'a Record<'a>>,
    exclude: Option<&'a dyn Filter>,
    origin: Origin,
    names: Mutex<Names>,
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
        let mut gathering = Gathering {
            top: &path,
            record: self.record,
            names: &self.names,
            entries: EntryWriter::new(self.scratch),
            records: Sha256::new(),
            outline: Outline::default(),
        };
        let read = |source| read_error(&path, source);
        let top = self.top(&path, node).map_err(read)?;
        let recorded = gathering.recorded(&top);
        gathering.take(&top, recorded).map_err(read)?;
        if top.node.kind == Kind::Directory {
            self.below(&path, pattern, &mut gathering)?;
        }
        let (entries, sum) = gathering.finish().map_err(read)?;
        Ok(Match {
            name,
            node: top.node,
            entries,
            sum,
            path,
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

    /// The match itself.
    fn top(&self, path: &RelPath, node: Node) -> io::Result<Entry> {
        let digest = match (self.record, &node.kind) {
            (None, _) => None,
            (Some(_), Kind::File { size }) if *size > 0 => Some(self.view.digest(path, &node)?),
            (Some(_), _) => None,
        };
        Ok(self.entry(Scanned {
            path: path.clone(),
            depth: 0,
            node,
            digest,
            passage: false,
        }))
    }

    /// Gathers what is taken of the directory `top`, without itself.
    fn below(
        &self,
        top: &RelPath,
        pattern: Option<&Pattern>,
        gathering: &mut Gathering<'_>,
    ) -> Result<(), SelectError> {
        let scan = Scan {
            view: self.view,
            top,
            digests: self.record.is_some(),
            choose: |path: &RelPath, name: &Name| self.choose(top, path, name, pattern),
            only: |dir: &RelPath| only_name(top, dir, pattern),
        };
        let recorder = gathering.recorder();
        let map = |scanned| {
            let entry = self.entry(scanned);
            let recorded = recorder(&entry);
            (entry, recorded)
        };
        let each = |(entry, recorded): (Entry, _)| gathering.take(&entry, recorded);
        scan.run(map, each)
            .map_err(|error| read_error(&error.path, error.source))
    }

    /// What is taken of a name at or below `top`.
    fn choose(
        &self,
        top: &RelPath,
        path: &RelPath,
        name: &Name,
        pattern: Option<&Pattern>,
    ) -> Option<Choice> {
        if pattern.is_none() && self.exclude.is_none() {
            return Some(Choice {
                descend: name.descend(),
                passage: false,
            });
        }
        let relative = RelPath::new(relative(top, path)).ok()?;
        let parent = relative.parent().unwrap_or_default();
        let pattern = pattern.filter(|p| !includes(p, &parent));
        let included = pattern.is_none_or(|p| p.matches(relative.as_bytes()));
        if !included && !pattern.is_some_and(|p| p.may_match_below(relative.as_bytes())) {
            return None;
        }
        let excluded = self
            .exclude
            .is_some_and(|e| e.excludes(&relative, name.is_dir));
        let pruned = excluded && self.exclude.is_some_and(|e| e.prunes(&relative));
        let selected = included && !excluded;
        let descend = match (name.is_dir, selected) {
            (true, true) => name.descend(),
            (true, false) if !pruned => Descend::IfFilled,
            (false, true) => Descend::No,
            _ => return None,
        };
        let passage = !selected;
        Some(Choice { descend, passage })
    }

    fn entry(&self, scanned: Scanned) -> Entry {
        let Scanned {
            path,
            depth,
            mut node,
            mut digest,
            passage,
        } = scanned;
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
        if self.record.is_some() && node.kind == (Kind::File { size: 0 }) {
            digest = Some(ContentDigest::EMPTY);
        }
        Entry {
            path,
            depth,
            node,
            passage,
            digest,
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

/// The entries of a match, as they are found.
struct Gathering<'a> {
    top: &'a RelPath,
    record: Option<&'a Record<'a>>,
    names: &'a Mutex<Names>,
    entries: EntryWriter,
    records: Sha256,
    outline: Outline,
}

impl<'a> Gathering<'a> {
    /// Makes records of entries, on any thread.
    fn recorder(&self) -> impl Fn(&Entry) -> Option<[u8; 32]> + Sync + use<'a> {
        let (record, top) = (self.record, self.top);
        move |entry| record.map(|record| record(entry, relative(top, &entry.path)))
    }

    fn recorded(&self, entry: &Entry) -> Option<[u8; 32]> {
        self.recorder()(entry)
    }

    /// Takes the next entry.
    fn take(&mut self, entry: &Entry, record: Option<[u8; 32]>) -> io::Result<()> {
        if let Some(record) = record {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            let record = checksum::joined(record, names.take(&entry.node));
            self.records.update(record);
            self.outline.push(entry, &record);
        }
        self.entries.push(entry)
    }

    fn finish(self) -> io::Result<(Entries, Option<Sum>)> {
        let sum = self.record.map(|_| Sum {
            digest: self.records.finalize().into(),
            outline: Arc::new(self.outline.finish()),
        });
        Ok((self.entries.finish()?, sum))
    }
}

/// The one name of `dir` on the way to a literal path.
fn only_name(top: &RelPath, dir: &RelPath, pattern: Option<&Pattern>) -> Option<Vec<u8>> {
    let at = RelPath::new(relative(top, dir)).ok()?;
    let pattern = pattern.filter(|pattern| !includes(pattern, &at))?;
    pattern
        .literal_prefix()
        .get(at.components().count())
        .cloned()
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

fn read_error(path: &RelPath, source: io::Error) -> SelectError {
    SelectError::Read {
        path: path.clone(),
        source,
    }
}
