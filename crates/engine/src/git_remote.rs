//! Commits of git repositories, brought in by the `git` program: it knows credentials, ssh, LFS
//! and partial clones.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use graph::GitSource;
use sys::process::{Pid, Signal};

use crate::cancel::Cancel;
use crate::credentials;

/// Why a repository could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// The program is missing.
    #[error("run git (is it installed?)")]
    Missing {
        /// Why.
        source: std::io::Error,
    },
    /// It failed.
    #[error("git {action} {remote}: {message}")]
    Failed {
        /// `ls-remote`, `fetch`, …
        action: &'static str,
        /// The repository, without credentials.
        remote: String,
        /// The last line it wrote.
        message: String,
    },
    /// The remote has no such branch, tag or commit.
    #[error("{remote} has no branch, tag or commit `{reference}`")]
    NoSuchReference {
        /// The repository, without credentials.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// `--checksum` names another commit.
    #[error("{remote} is at commit {found}, which does not begin with {expected}")]
    Checksum {
        /// The repository, without credentials.
        remote: String,
        /// What was asked for.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// The variable that git finds its header in.
const AUTHORIZATION: &str = "KILN_GIT_AUTHORIZATION";

/// How to authenticate.
#[derive(Clone, Default)]
pub(crate) struct Access {
    /// Value of an `Authorization` header for the host of the repository, and for no other: a
    /// submodule may lie anywhere.
    pub(crate) authorization: Option<String>,
    /// Socket of an ssh agent.
    pub(crate) ssh_agent: Option<std::path::PathBuf>,
}

/// Finds the commit that a source means now.
pub(crate) fn resolve(
    source: &GitSource,
    access: &Access,
    cancel: &Cancel,
) -> Result<String, GitError> {
    let commit = match (&source.commit, &source.reference) {
        (Some(commit), _) if is_commit(commit) => commit.clone(),
        (Some(commit), _) => {
            return Err(GitError::NoSuchReference {
                remote: redacted(&source.remote),
                reference: commit.clone(),
            });
        }
        (None, Some(reference)) if is_commit(reference) => reference.clone(),
        (None, reference) => {
            let wanted = reference.as_deref().unwrap_or("HEAD");
            let listed = run(
                source,
                access,
                cancel,
                None,
                "ls-remote",
                &["ls-remote", "--", &source.remote],
            )?;
            find(&listed, wanted).ok_or_else(|| GitError::NoSuchReference {
                remote: redacted(&source.remote),
                reference: wanted.to_string(),
            })?
        }
    };
    match &source.checksum {
        Some(expected) if !commit.starts_with(expected.as_str()) => Err(GitError::Checksum {
            remote: redacted(&source.remote),
            expected: expected.clone(),
            found: commit,
        }),
        _ => Ok(commit),
    }
}

/// Checks a commit out into an empty directory.
pub(crate) fn checkout(
    source: &GitSource,
    commit: &str,
    access: &Access,
    cancel: &Cancel,
    directory: &Path,
) -> Result<(), GitError> {
    let git = |action, arguments: &[&str]| {
        run(source, access, cancel, Some(directory), action, arguments)
    };
    git("init", &["init", "--quiet", "--initial-branch=main"])?;
    git(
        "remote add",
        &["remote", "add", "--", "origin", &source.remote],
    )?;
    // Most servers give any commit away; those that do not give the branch or tag.
    let by_commit = git(
        "fetch",
        &["fetch", "--quiet", "--depth=1", "--", "origin", commit],
    );
    if by_commit.is_err() {
        let reference = source.reference.as_deref().unwrap_or("HEAD");
        git(
            "fetch",
            &["fetch", "--quiet", "--tags", "--", "origin", reference],
        )?;
    }
    git(
        "checkout",
        &[
            "-c",
            "advice.detachedHead=false",
            "checkout",
            "--quiet",
            "--force",
            commit,
        ],
    )?;
    if source.submodules {
        git(
            "submodule update",
            &[
                "submodule",
                "update",
                "--quiet",
                "--init",
                "--recursive",
                "--depth=1",
            ],
        )?;
    }
    if !source.keep_git_dir {
        let failed = |source_error: std::io::Error| GitError::Failed {
            action: "clean",
            remote: redacted(&source.remote),
            message: source_error.to_string(),
        };
        remove_git_directories(directory).map_err(failed)?;
    }
    Ok(())
}

/// Removes `.git` of the repository and of its submodules.
fn remove_git_directories(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        match (entry.file_name() == ".git", kind.is_dir()) {
            (true, true) => std::fs::remove_dir_all(entry.path())?,
            (true, false) => std::fs::remove_file(entry.path())?,
            (false, true) => remove_git_directories(&entry.path())?,
            (false, false) => {}
        }
    }
    Ok(())
}

fn run(
    source: &GitSource,
    access: &Access,
    cancel: &Cancel,
    directory: Option<&Path>,
    action: &'static str,
    arguments: &[&str],
) -> Result<String, GitError> {
    let mut command = Command::new("git");
    // Files get the modes that git records, whatever the umask is. Who builds may name a repository
    // of this machine; a repository may not name one as its submodule.
    command.args(["-c", "core.fileMode=true", "-c", "protocol.file.allow=user"]);
    // A hook that calls kiln has these point to its own repository.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    if let (Some(value), Some(server)) = (&access.authorization, server(&source.remote)) {
        // In the environment, since others of this machine see command lines.
        command.arg(format!(
            "--config-env=http.{server}.extraHeader={AUTHORIZATION}"
        ));
        command.env(AUTHORIZATION, format!("Authorization: {value}"));
    }
    if let Some(socket) = &access.ssh_agent {
        command.env("SSH_AUTH_SOCK", socket);
    }
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.args(arguments);
    let output = output_unless(cancel, command).map_err(|source| GitError::Missing { source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it failed without a word");
    Err(GitError::Failed {
        action,
        remote: redacted(&source.remote),
        message: message.trim().to_string(),
    })
}

/// Runs a program that is killed with all that it starts when the build is cancelled. Servers may
/// keep it waiting for as long as they like.
fn output_unless(cancel: &Cancel, mut command: Command) -> std::io::Result<Output> {
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let kill = move || {
        if let Some(group) = group {
            // It may have ended by itself.
            sys::process::kill_process_group(group, Signal::KILL).ok();
        }
    };
    let _registered = cancel.on_cancel(kill);
    child.wait_with_output()
}

/// The commit of `wanted` in the output of `ls-remote`: a full name, a branch, a tag. An annotated
/// tag counts as the commit it points to.
fn find(listed: &str, wanted: &str) -> Option<String> {
    let names = [
        wanted.to_string(),
        format!("refs/heads/{wanted}"),
        format!("refs/tags/{wanted}"),
        format!("refs/{wanted}"),
    ];
    let commit_of = |name: &str| {
        listed.lines().find_map(|line| {
            let (commit, reference) = line.split_once('\t')?;
            (reference == name).then(|| commit.to_string())
        })
    };
    names
        .iter()
        .find_map(|name| commit_of(&format!("{name}^{{}}")).or_else(|| commit_of(name)))
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A URL without the user and password in it.
pub(crate) fn redacted(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_string(),
    }
}

/// The URL of the server that has a repository, if it is spoken to over HTTP.
fn server(remote: &str) -> Option<String> {
    let (scheme, _) = remote.split_once("://")?;
    let is_http = matches!(scheme, "http" | "https");
    let authority = credentials::authority(remote).filter(|_| is_http)?;
    Some(format!("{scheme}://{authority}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "1111\tHEAD\n1111\trefs/heads/main\n2222\trefs/tags/v1\n3333\trefs/tags/v1^{}\n4444\trefs/heads/v2\n";

    #[test]
    fn references() {
        #[track_caller]
        fn check(wanted: &str, expected: Option<&str>) {
            assert_eq!(find(LISTED, wanted).as_deref(), expected, "{wanted}");
        }
        check("HEAD", Some("1111"));
        check("main", Some("1111"));
        check("v1", Some("3333"));
        check("refs/heads/v2", Some("4444"));
        check("v3", None);
    }

    #[test]
    fn credentials_stay_out_of_messages() {
        assert_eq!(
            redacted("https://user:secret@host/a.git"),
            "https://host/a.git"
        );
        assert_eq!(redacted("git@host:a/b"), "git@host:a/b");
    }
}
