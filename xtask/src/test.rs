//! `cargo xtask test`: every check a change has to pass, in the order of how quickly they fail.

use std::process::Command;

use anyhow::Result;

use crate::machine::{self, run as call, run_with};
use crate::tidy;

/// Installs what the tests need and runs them. Further arguments go to the test runner.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    machine::ensure(&[machine::DEMO, machine::TESTS])?;
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
