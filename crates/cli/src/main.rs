//! The binary `kiln`: arguments in, an engine call, text and an exit code out.
//!
//! Nothing below this crate prints, reads the environment or decides on exit codes.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this crate is the one that prints"
)]

mod args;
mod commands;
mod config;
mod exit;
mod failure;
mod format;
mod progress;
#[cfg(test)]
mod reference;
mod report;
mod table;
mod template;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    // Containers start from this same binary: nothing may come before this line.
    engine::init_if_child();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli.plain(),
        Err(error) => {
            // Help and version are no errors, and a closed output is nobody's loss.
            drop(error.print());
            return if error.use_stderr() {
                exit::ENGINE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let failed = match cli.command {
        Command::Run(_) => exit::ENGINE,
        Command::Diff(_) => exit::TROUBLE,
        _ => exit::FAILURE,
    };
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", failure::render(&error, commands::color()));
            failure::code(&error, failed).into()
        }
    }
}
