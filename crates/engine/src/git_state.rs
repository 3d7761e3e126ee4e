//! What git knows of a directory: commit, branch, tag, and whether the work tree differs.
//!
//! Asked only for names and labels that were requested; every build's own needs are in
//! [`crate::git_head`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::BuildError;
use crate::git_head;
use crate::git_remote;

/// Hexadecimal digits of a shortened name.
const SHORT: usize = 12;

/// Mode of a submodule in a tree.
const SUBMODULE: &str = "160000";

/// The state of a repository's work tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitState {
    /// Full name of the commit, in hexadecimal.
    pub commit: String,
    /// Its time in seconds since 1970.
    pub time: i64,
    /// The branch, unless HEAD is detached.
    pub branch: Option<String>,
    /// The tag of this commit; of several, the one that `git tag` sorts last as a version.
    pub tag: Option<String>,
    /// When the work tree differs from the commit: the first 12 digits of the tree that
    /// committing everything that is not ignored would make.
    pub dirty: Option<String>,
    /// URL of the remote `origin`, without credentials.
    pub source: Option<String>,
}

impl GitState {
    /// The commit's name, and the tree's if that differs.
    pub fn revision(&self) -> String {
        self.marked(&self.commit)
    }

    /// The commit's short name, and the tree's if that differs.
    pub fn short(&self) -> String {
        let end = self.commit.len().min(SHORT);
        self.marked(&self.commit[..end])
    }

    /// `name`, with `-dirty-TREE` if the work tree differs from the commit.
    pub fn marked(&self, name: &str) -> String {
        match &self.dirty {
            Some(tree) => format!("{name}-dirty-{tree}"),
            None => name.to_string(),
        }
    }
}

/// Asks git about the repository that `directory` lies in.
///
/// # Errors
/// When it lies in none, the repository has no commit, or git cannot be run.
pub fn git_state(directory: &Path) -> Result<GitState, BuildError> {
    let head = git_head::read(directory).ok_or_else(|| {
        BuildError::request(format!(
            "{} is in no git repository with a commit",
            directory.display()
        ))
    })?;
    let git = Git { root: &head.root };
    let time = git.line(&["show", "--no-patch", "--format=%ct", &head.commit])?;
    let time = time
        .parse()
        .map_err(|error| git.failed(&["show"], std::io::Error::other(error)))?;
    let tags = git.text(&["tag", "--points-at", &head.commit, "--sort=version:refname"])?;
    let dirty = match git.is_dirty()? {
        true => Some(git.tree()?.chars().take(SHORT).collect()),
        false => None,
    };
    // A repository without remotes is as good as any.
    let source = git.line(&["config", "--get", "remote.origin.url"]).ok();
    Ok(GitState {
        time,
        branch: head.branch.clone(),
        tag: tags.lines().last().map(String::from),
        dirty,
        source: source.map(|url| git_remote::redacted(&url)),
        commit: head.commit,
    })
}

/// git, asked in the root of a work tree.
struct Git<'r> {
    root: &'r Path,
}

impl Git<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.root)
            // Somebody else's repository may be read, and runs no programs of its own.
            .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
            .args(arguments)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    fn failed(
        &self,
        arguments: &[&str],
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BuildError {
        BuildError::Context {
            context: format!("{}: git {}", self.root.display(), arguments.join(" ")),
            source: cause.into(),
        }
    }

    fn run(&self, command: &mut Command, arguments: &[&str]) -> Result<String, BuildError> {
        let output = command
            .output()
            .map_err(|error| self.failed(arguments, error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(self.failed(arguments, said));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn text(&self, arguments: &[&str]) -> Result<String, BuildError> {
        self.run(&mut self.command(arguments), arguments)
    }

    fn line(&self, arguments: &[&str]) -> Result<String, BuildError> {
        Ok(self.text(arguments)?.trim().to_string())
    }

    /// Whether anything that is not ignored is other than in the commit, in submodules too.
    fn is_dirty(&self) -> Result<bool, BuildError> {
        let changes = self.text(&[
            "status",
            "--porcelain",
            "--untracked-files=normal",
            "--ignore-submodules=none",
        ])?;
        Ok(!changes.is_empty())
    }

    /// The tree of all that is not ignored; a submodule that is dirty counts with its own tree, in
    /// the place of its commit. The repository is left as it is: the index and the
    /// new objects are somewhere else, and go away again.
    fn tree(&self) -> Result<String, BuildError> {
        let scratch = tempfile::tempdir().map_err(|error| self.failed(&["add"], error))?;
        let place = |name| {
            Ok::<_, BuildError>(PathBuf::from(self.line(&[
                "rev-parse",
                "--path-format=absolute",
                "--git-path",
                name,
            ])?))
        };
        let index = scratch.path().join("index");
        // With the stamps of the real index, files that did not change are not read again.
        drop(std::fs::copy(place("index")?, &index));
        let objects = scratch.path().join("objects");
        std::fs::create_dir(&objects).map_err(|error| self.failed(&["add"], error))?;
        let real = place("objects")?;
        let apart = |arguments: &[&str]| {
            let mut command = self.command(arguments);
            command
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", &objects)
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &real);
            self.run(&mut command, arguments)
        };
        apart(&["add", "--all"])?;
        for path in submodules(&apart(&["ls-files", "--stage", "-z"])?) {
            let root = self.root.join(path);
            // Without this, git would ask the repository around one that is not checked out.
            if !root.join(".git").exists() {
                continue;
            }
            let submodule = Git { root: &root };
            if submodule.is_dirty()? {
                let entry = format!("{SUBMODULE},{},{path}", submodule.tree()?);
                apart(&["update-index", "--cacheinfo", &entry])?;
            }
        }
        Ok(apart(&["write-tree"])?.trim().to_string())
    }
}

/// Paths of submodules among the entries of an index: `MODE OBJECT STAGE<tab>PATH`, each with NUL.
fn submodules(index: &str) -> impl Iterator<Item = &str> {
    index
        .split('\0')
        .filter_map(|entry| Some(entry.strip_prefix(SUBMODULE)?.split_once('\t')?.1))
}
