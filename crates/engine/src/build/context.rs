//! The trees that the user builds from, read in place: which directory, which ignore rules, which
//! remembered digests. Fetching remote ones is `source`'s business.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use dockerfile::ignore::{Directory, IgnoreFile};
use layer::{Filter, HostView, RelPath, StatIndex};

use super::files;
use crate::diagnose::{Diagnostic, Report};
use crate::error::BuildError;

/// Name of the main context in graphs.
pub(crate) const MAIN: &str = "context";

/// A directory as one context shows it.
pub(crate) struct ContextTree {
    /// The directory.
    pub(crate) root: PathBuf,
    /// What can be seen of it.
    pub(crate) view: Arc<HostView>,
    /// Digests of earlier builds.
    pub(crate) stats: Option<Arc<StatIndex>>,
    /// The ignore file in force.
    pub(crate) ignore: Option<Arc<IgnoreSource>>,
    /// Modes are what git records: kiln checked the files out, under its own umask.
    pub(crate) git_modes: bool,
}

impl std::fmt::Debug for ContextTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContextTree({})", self.root.display())
    }
}

/// An ignore file and where it was found.
#[derive(Debug)]
pub(crate) struct IgnoreSource {
    /// Its name as the user knows it.
    pub(crate) name: String,
    /// Its rules.
    pub(crate) rules: IgnoreFile,
}

/// All contexts of a build.
#[derive(Default)]
pub(crate) struct Contexts {
    /// The main one, unless the Dockerfile came alone.
    pub(crate) main: Option<Arc<ContextTree>>,
    /// Named directories and unpacked archives.
    pub(crate) named: BTreeMap<String, Arc<ContextTree>>,
    /// Named contexts that lowering resolves: images, repositories, downloads.
    pub(crate) remote: BTreeMap<String, frontend::Context>,
    /// Directories of named OCI layouts.
    pub(crate) layouts: BTreeMap<String, (PathBuf, Option<String>)>,
}

impl Contexts {
    /// The tree of a local source.
    pub(crate) fn tree(&self, name: &str) -> Option<&Arc<ContextTree>> {
        if name == MAIN {
            self.main.as_ref()
        } else {
            self.named.get(name)
        }
    }

    /// The main context as lowering knows it.
    pub(crate) fn main_for_frontend(&self) -> frontend::Context {
        match &self.main {
            Some(tree) => tree.for_frontend(),
            None => frontend::Context::None,
        }
    }

    /// The named contexts as lowering knows them.
    pub(crate) fn named_for_frontend(&self) -> BTreeMap<String, frontend::Context> {
        let local = self
            .named
            .iter()
            .map(|(name, tree)| (name.clone(), tree.for_frontend()));
        let remote = self
            .remote
            .iter()
            .map(|(name, context)| (name.clone(), context.clone()));
        let layouts = self
            .layouts
            .keys()
            .map(|name| (name.clone(), frontend::Context::Layout));
        local.chain(remote).chain(layouts).collect()
    }

    /// All local trees.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Arc<ContextTree>> {
        self.main.iter().chain(self.named.values())
    }
}

impl ContextTree {
    /// Opens a directory under the ignore file in force.
    ///
    /// # Errors
    /// When it is no directory that can be read.
    pub(crate) fn open(
        root: &Path,
        ignore: Option<IgnoreSource>,
        stats: Option<Arc<StatIndex>>,
    ) -> Result<ContextTree, BuildError> {
        let ignore = ignore.map(Arc::new);
        let filter = ignore
            .clone()
            .map(|source| Arc::new(IgnoreFilter::new(source)) as Arc<dyn Filter>);
        let view =
            HostView::open(root, filter, stats.clone()).map_err(|source| BuildError::Context {
                context: root.display().to_string(),
                source: source.into(),
            })?;
        Ok(ContextTree {
            root: root.into(),
            view: Arc::new(view),
            stats,
            ignore,
            git_modes: false,
        })
    }

    /// The same tree, with modes as git records them.
    pub(crate) fn with_git_modes(self, git_modes: bool) -> ContextTree {
        ContextTree { git_modes, ..self }
    }

    fn for_frontend(&self) -> frontend::Context {
        let ignore = self
            .ignore
            .as_ref()
            .map(|source| source.rules.patterns())
            .unwrap_or_default();
        frontend::Context::Files { ignore }
    }

    /// The rule that hides `path`, as `file:line: pattern`.
    pub(crate) fn hidden_by(&self, path: &str) -> Option<String> {
        let source = self.ignore.as_ref()?;
        let verdict = source.rules.decide(path);
        let rule = verdict
            .decided_by(&source.rules)
            .filter(|_| verdict.is_ignored())?;
        Some(format!("{}:{}: {rule}", source.name, rule.line))
    }
}

/// Finds the ignore file of a context: the Dockerfile's own, or the context's (row G1).
///
/// # Errors
/// When it cannot be read, or a line is no pattern.
pub(crate) fn find_ignore(
    root: &Path,
    dockerfile: Option<&Path>,
) -> Result<Option<IgnoreSource>, BuildError> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([root.join(".dockerignore")]) {
        let (directory, name) = match (path.strip_prefix(root), path.parent(), path.file_name()) {
            (Ok(below), ..) => (root, below.as_os_str()),
            (_, Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
                (Path::new("."), name)
            }
            (_, Some(parent), Some(name)) => (parent, name),
            _ => continue,
        };
        if let Some(found) = files::read_inside(directory, name.as_encoded_bytes())? {
            return parse_ignore(&path, &found.bytes).map(Some);
        }
    }
    Ok(None)
}

fn parse_ignore(path: &Path, bytes: &[u8]) -> Result<IgnoreSource, BuildError> {
    let name = path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    match IgnoreFile::parse(bytes) {
        Ok(rules) => Ok(IgnoreSource { name, rules }),
        Err(errors) => {
            let diagnostics = errors
                .iter()
                .map(|error| {
                    let message = format!("pattern `{}` is not valid", error.pattern);
                    Diagnostic::error("ignore-pattern", error.span, message)
                        .with_remark(error.problem.to_string())
                })
                .collect();
            let text = String::from_utf8_lossy(bytes).into();
            Err(BuildError::Rejected(Report {
                name: path.display().to_string(),
                text,
                diagnostics,
            }))
        }
    }
}

/// Ignore rules as walks ask for them. Remembers how far the patterns came at each directory, so
/// that an entry costs its name and not its path.
struct IgnoreFilter {
    source: Arc<IgnoreSource>,
    directories: RwLock<HashMap<RelPath, Arc<Directory>>>,
}

impl IgnoreFilter {
    fn new(source: Arc<IgnoreSource>) -> IgnoreFilter {
        let directories = RwLock::new(HashMap::from([(
            RelPath::root(),
            Arc::new(source.rules.root()),
        )]));
        IgnoreFilter {
            source,
            directories,
        }
    }

    fn directory(&self, path: &RelPath) -> Arc<Directory> {
        if let Some(known) = self
            .directories
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
        {
            return known.clone();
        }
        let made = match (path.parent(), path.name()) {
            (Some(parent), Some(name)) => {
                let rules = &self.source.rules;
                rules
                    .entry(&self.directory(&parent), &String::from_utf8_lossy(name))
                    .enter(rules)
            }
            _ => self.source.rules.root(),
        };
        let made = Arc::new(made);
        self.directories
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.clone(), made.clone());
        made
    }
}

impl Filter for IgnoreFilter {
    fn excludes(&self, path: &RelPath, _is_dir: bool) -> bool {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return false;
        };
        let parent = self.directory(&parent);
        self.source
            .rules
            .entry(&parent, &String::from_utf8_lossy(name))
            .is_ignored()
    }

    fn prunes(&self, dir: &RelPath) -> bool {
        !self.source.rules.may_include_below(&self.directory(dir))
    }
}

/// The patterns of `--exclude`, as walks ask for them.
///
/// # Errors
/// When one is no pattern.
pub(crate) fn exclude_filter(
    patterns: &[String],
) -> Result<Option<Arc<dyn Filter>>, dockerfile::ignore::IgnoreError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let rules = IgnoreFile::from_patterns(patterns.iter().map(String::as_str))?;
    let source = IgnoreSource {
        name: "--exclude".into(),
        rules,
    };
    Ok(Some(Arc::new(IgnoreFilter::new(Arc::new(source)))))
}
