//! When a commit was made. `git` is asked once for each commit; the store remembers.

use std::process::{Command, Stdio};

use store::Store;

use crate::git_head::GitHead;

const NOTE: &str = "commit time";

/// Time of a commit in seconds since 1970; `None` when git cannot tell.
pub(crate) fn of(store: &Store, head: &GitHead) -> Option<i64> {
    if let Ok(Some(known)) = store.note(NOTE, &head.commit) {
        return Some(known);
    }
    let output = Command::new("git")
        .arg("-C")
        .arg(&head.root)
        .args([
            "-c",
            "safe.directory=*",
            "show",
            "--no-patch",
            "--format=%ct",
            &head.commit,
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let time = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    // Asked again the next time, if it cannot be kept.
    drop(store.save_note(NOTE, &head.commit, &time));
    Some(time)
}
