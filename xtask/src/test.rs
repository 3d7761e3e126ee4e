//! `cargo xtask test`: every check a change has to pass, in the order of how quickly they fail.

use std::process::Command;

use anyhow::Result;

use crate::machine::{self, run as call, run_with};
use crate::tidy;

/// Installs what the tests need and runs them. Further arguments go to the test runner.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    machine::ensure(&[machine::DEMO, machine::TESTS])?;
    say_who_judges_indexes();
    call("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    call(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    run_tests(arguments)
}

/// Debian 12's `fsck.erofs` refuses every image with blocks of 512 bytes, so that its silence is no
/// verdict.
fn say_who_judges_indexes() {
    let program = std::env::var_os("KILN_FSCK_EROFS").unwrap_or_else(|| "fsck.erofs".into());
    let said = Command::new(&program).arg("-V").output();
    let version = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let version = version.unwrap_or_else(|error| error.to_string());
    let first = version.lines().next().unwrap_or_default();
    match is_judge(first) {
        true => eprintln!("indexes: judged by the kernel and by {first}"),
        false => eprintln!(
            "indexes: judged by the kernel alone; {first} knows no blocks of 512 bytes, \
             KILN_FSCK_EROFS may name one of version 1.6 or later"
        ),
    }
}

/// Whether this is version 1.6 or later, by its first line.
fn is_judge(version: &str) -> bool {
    let number = version.split_whitespace().next_back().unwrap_or_default();
    let mut parts = number
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let parts = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    parts >= (1, 6)
}

fn run_tests(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("cargo");
    if machine::has("cargo-nextest") {
        command.args(["nextest", "run"]);
    } else {
        command.arg("test");
    }
    command.args(["--workspace", "--locked"]).args(arguments);
    // A probe for root, namespaces or overlayfs that fails is a failed test, not a skipped one.
    run_with(command.env("KILN_REQUIRE", "1"))
}

/// Compares the pages of docs that are made from the code with it, or writes them anew.
///
/// # Errors
/// When one is old and `anew` is not asked for.
pub(crate) fn pages(anew: bool) -> Result<()> {
    for tests in [
        &["--package", "cli", "--bin", "kiln", "reference::"],
        &["--package", "dockerfile", "--test", "it", "docs::"],
    ] {
        let mut command = Command::new("cargo");
        command.args(["test", "--quiet", "--locked"]).args(tests);
        if anew {
            command.env("KILN_UPDATE", "1");
        }
        run_with(&mut command)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_fsck() {
        for (line, expected) in [
            ("fsck.erofs (erofs-utils) 1.8.6", true),
            ("fsck.erofs 1.10", true),
            ("fsck.erofs 1.5", false),
            ("No such file or directory", false),
        ] {
            assert_eq!(is_judge(line), expected, "{line}");
        }
    }
}
