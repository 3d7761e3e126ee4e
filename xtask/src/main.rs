//! Chores of the project, run as `cargo xtask <command>`. Nothing here is shipped.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]

mod bench;
mod demo;
mod docker;
mod machine;
mod registry;
mod reproducible;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  bench         time builds by kiln, docker and buildah, whichever are installed:
                [--only WORKLOAD]… [--tool NAME]… [--skip WORKLOAD[:TOOL]]…
                [--runs N] [--quick] [--json FILE]
  demo          set up what the example needs, then build, run and push it
  docs          write the pages of docs that are made from the code: docs/cli, docs/checks.md
  reproducible  find out which usual RUN steps give the same layer twice, and write the table of
                docs/reproducibility.md: [--only STEP]… [--kiln BINARY]
  test          set up what the tests need, then run every check
  tidy          check layering, docs and leftovers
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["bench", rest @ ..] => bench::run(rest),
        ["demo"] => demo::run(),
        ["docs"] => test::pages(true),
        ["reproducible", rest @ ..] => reproducible::run(rest),
        ["test", rest @ ..] => test::run(rest),
        // `test` runs the tests that these are by itself.
        ["tidy"] => tidy::run().and_then(|()| test::pages(false)),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        [other, ..] => bail!("no command `{other}`\n\n{USAGE}"),
    }
}
