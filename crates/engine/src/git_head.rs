//! The commit that a directory is checked out at, read from `.git` without running git.
//!
//! Only what every build needs is here: the commit's name and its branch. Commit times and the
//! state of the work tree take `git` itself.

use std::fs;
use std::path::{Path, PathBuf};

/// Where HEAD of a repository points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitHead {
    /// The work tree's root.
    pub(crate) root: PathBuf,
    /// Full name of the commit, in hexadecimal.
    pub(crate) commit: String,
    /// The branch, unless HEAD is detached.
    pub(crate) branch: Option<String>,
}

/// Finds the repository that `directory` lies in, and its HEAD. `None` outside a repository, and
/// in one without a commit.
pub(crate) fn read(directory: &Path) -> Option<GitHead> {
    let directory = fs::canonicalize(directory).ok()?;
    let root = directory
        .ancestors()
        .find(|ancestor| ancestor.join(".git").exists())?;
    let git = git_directory(root)?;
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let common = match fs::read_to_string(git.join("commondir")) {
        Ok(path) => git.join(path.trim_end()),
        Err(_) => git.clone(),
    };
    let (commit, branch) = match head.trim_end().strip_prefix("ref: ") {
        Some(name) => (
            resolve(&git, &common, name)?,
            name.strip_prefix("refs/heads/").map(String::from),
        ),
        None => (head.trim_end().to_string(), None),
    };
    is_commit(&commit).then(|| GitHead {
        root: root.to_path_buf(),
        commit,
        branch,
    })
}

/// `.git`, or where the file of that name of a linked work tree leads.
fn git_directory(root: &Path) -> Option<PathBuf> {
    let path = root.join(".git");
    if path.is_dir() {
        return Some(path);
    }
    let text = fs::read_to_string(&path).ok()?;
    Some(root.join(text.trim_end().strip_prefix("gitdir: ")?))
}

fn resolve(git: &Path, common: &Path, name: &str) -> Option<String> {
    for place in [git, common] {
        if let Ok(text) = fs::read_to_string(place.join(name)) {
            return Some(text.trim_end().to_string());
        }
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| {
        let (commit, reference) = line.split_once(' ')?;
        (reference == name).then(|| commit.to_string())
    })
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[track_caller]
    fn check(files: &[(&str, &str)], from: &str, expected: Option<(&str, Option<&str>)>) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        let found = read(&folder.path().join(from));
        let found = found
            .as_ref()
            .map(|head| (head.commit.as_str(), head.branch.as_deref()));
        assert_eq!(found, expected);
    }

    #[test]
    fn loose_packed_and_detached() {
        let head = (".git/HEAD", "ref: refs/heads/main\n");
        let packed = format!("# pack-refs\n{COMMIT} refs/heads/main\n");
        check(
            &[head, (".git/refs/heads/main", &format!("{COMMIT}\n"))],
            "",
            Some((COMMIT, Some("main"))),
        );
        check(
            &[head, (".git/packed-refs", &packed), ("a/b/c", "")],
            "a/b",
            Some((COMMIT, Some("main"))),
        );
        check(&[(".git/HEAD", COMMIT)], "", Some((COMMIT, None)));
        check(&[head], "", None);
    }

    #[test]
    fn a_linked_work_tree() {
        check(
            &[
                (".git", "gitdir: store/worktrees/w\n"),
                ("store/worktrees/w/HEAD", "ref: refs/heads/topic\n"),
                ("store/worktrees/w/commondir", "../..\n"),
                ("store/refs/heads/topic", COMMIT),
            ],
            "",
            Some((COMMIT, Some("topic"))),
        );
    }
}
