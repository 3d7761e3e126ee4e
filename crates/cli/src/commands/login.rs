//! Logging in to registries and out.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::Session;
use crate::args::{LoginArgs, LogoutArgs};

/// Tries a name and password and keeps them.
pub(crate) fn login(session: &Session, args: LoginArgs) -> Result<ExitCode> {
    let registries = session.registries()?;
    let username = match args.username {
        Some(username) => username,
        None => ask("Username: ", false)?,
    };
    let password = match args.password {
        Some(password) => password,
        None if args.password_stdin => line()?,
        None => ask("Password: ", true)?,
    };
    if username.is_empty() || password.is_empty() {
        bail!("a user name and a password are needed");
    }
    let login = engine::login(registries, args.server.as_deref(), &username, &password)?;
    if login.helper.is_none() {
        eprintln!(
            "warning: the password is kept unencrypted in {}; a credential helper avoids that: \
             https://docs.docker.com/go/credential-store/",
            login.file.display()
        );
    }
    println!("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

/// Forgets a name and password.
pub(crate) fn logout(session: &Session, args: &LogoutArgs) -> Result<ExitCode> {
    let (registry, known) = engine::logout(session.registries()?, args.server.as_deref())?;
    if known {
        println!("Removing login credentials for {registry}");
    } else {
        println!("Not logged in to {registry}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal.
fn ask(question: &str, hidden: bool) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask on: use --username and --password-stdin");
    }
    eprint!("{question}");
    std::io::stderr().flush()?;
    if !hidden {
        return line();
    }
    let silenced = engine::Silenced::new()?;
    let answer = line();
    drop(silenced);
    eprintln!();
    answer
}

/// A line of standard input without its end.
fn line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}
