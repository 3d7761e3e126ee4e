//! Docker's credential helpers: programs that are asked over standard input and output.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Credential, CredentialsError, Secret};

/// How long a helper may take; it may ask the user.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any credential needs.
const MAX_OUTPUT: u64 = 64 * 1024;
/// What every helper says when it has nothing, with a failing status.
const NOT_FOUND: &str = "credentials not found";
/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// Asks `docker-credential-NAME` for the credential of `server`.
///
/// # Errors
/// When there is no such program, or it fails otherwise than by not knowing the server.
pub(super) async fn get(
    name: &str,
    server: &str,
    folders: &[PathBuf],
) -> Result<Option<Credential>, CredentialsError> {
    let helper = Helper::find(name, folders)?;
    let server = server.to_string();
    tokio::task::spawn_blocking(move || helper.get(&server))
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// A program that keeps credentials.
pub(super) struct Helper {
    name: String,
    program: PathBuf,
}

impl Helper {
    /// Looks for `docker-credential-NAME`.
    pub(super) fn find(name: &str, folders: &[PathBuf]) -> Result<Helper, CredentialsError> {
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Err(CredentialsError::HelperName {
                helper: name.into(),
            });
        }
        let program = format!("docker-credential-{name}");
        let program = folders
            .iter()
            .map(|folder| folder.join(&program))
            .find(|path| path.is_file())
            .ok_or_else(|| CredentialsError::NoHelper {
                helper: name.into(),
            })?;
        Ok(Helper {
            name: name.into(),
            program,
        })
    }

    fn get(&self, server: &str) -> Result<Option<Credential>, CredentialsError> {
        match self.ask("get", server.as_bytes())? {
            (false, output) if says_not_found(&output) => Ok(None),
            (false, _) => Err(self.failed("failed")),
            (true, output) => serde_json::from_slice(&output)
                .map(credential_of)
                .map_err(|_| self.failed("gave an answer that is no credential")),
        }
    }

    /// Hands over a name and password to keep.
    ///
    /// # Errors
    /// When the program does not run or fails.
    pub(super) fn store(
        &self,
        server: &str,
        username: &str,
        password: &Secret,
    ) -> Result<(), CredentialsError> {
        let entry = serde_json::json!({
            "ServerURL": server,
            "Username": username,
            "Secret": password.reveal(),
        });
        match self.ask("store", entry.to_string().as_bytes())? {
            (true, _) => Ok(()),
            (false, _) => Err(self.failed("does not keep the password")),
        }
    }

    /// Has what is known of a server forgotten, if anything is.
    ///
    /// # Errors
    /// When the program does not run or fails.
    pub(super) fn erase(&self, server: &str) -> Result<(), CredentialsError> {
        match self.ask("erase", server.as_bytes())? {
            (false, output) if !says_not_found(&output) => {
                Err(self.failed("does not forget the password"))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, problem: &str) -> CredentialsError {
        CredentialsError::HelperFailed {
            helper: self.name.clone(),
            problem: problem.into(),
        }
    }

    /// Runs the program; whether it succeeded, and what it printed.
    fn ask(&self, action: &str, input: &[u8]) -> Result<(bool, Vec<u8>), CredentialsError> {
        let broken = |source| CredentialsError::RunHelper {
            helper: self.name.clone(),
            source,
        };
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(broken)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input) {
                // A helper that does not read the question may still answer.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(broken(error));
                }
                _ => {}
            }
        }
        let reader = child
            .stdout
            .take()
            .map(|output| std::thread::spawn(move || read_all(output)));
        let success = wait(&mut child).map_err(broken)?;
        let output = match reader.map(std::thread::JoinHandle::join) {
            Some(Ok(output)) => output.map_err(broken)?,
            _ => Vec::new(),
        };
        let late = || {
            let seconds = PATIENCE.as_secs();
            self.failed(&format!("gave no answer within {seconds} seconds"))
        };
        Ok((success.ok_or_else(late)?, output))
    }
}

fn says_not_found(output: &[u8]) -> bool {
    String::from_utf8_lossy(output).contains(NOT_FOUND)
}

fn credential_of(answer: Answer) -> Option<Credential> {
    let secret = Secret::new(answer.secret);
    match answer.username.as_str() {
        _ if secret.reveal().is_empty() => None,
        TOKEN_USER => Some(Credential::IdentityToken(secret)),
        _ => Some(Credential::Password {
            username: answer.username,
            password: secret,
        }),
    }
}

fn read_all(output: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    output.take(MAX_OUTPUT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the program succeeded; `None` when it had to be killed.
fn wait(child: &mut Child) -> std::io::Result<Option<bool>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Runs a helper with this shell script as its body.
    async fn run(script: &str) -> Result<Option<Credential>, CredentialsError> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("docker-credential-demo");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        get("demo", "registry.example", &[folder.path().to_path_buf()]).await
    }

    #[tokio::test]
    async fn helpers_are_asked_over_standard_input() {
        let script = r#"test "$1" = get && read server
            printf '{"ServerURL":"%s","Username":"%s","Secret":"s"}' "$server" "$server""#;
        let expected = Credential::Password {
            username: "registry.example".into(),
            password: Secret::new("s"),
        };
        assert_eq!(run(script).await.expect("answers"), Some(expected));
        let token = r#"echo '{"Username":"<token>","Secret":"refresh"}'"#;
        let expected = Credential::IdentityToken(Secret::new("refresh"));
        assert_eq!(run(token).await.expect("answers"), Some(expected));
    }

    #[tokio::test]
    async fn helpers_may_know_nothing_or_fail() {
        let nothing = "echo 'credentials not found in native keychain'; exit 1";
        assert_eq!(run(nothing).await.expect("knows nothing"), None);
        let error = run("echo secret; exit 1")
            .await
            .expect_err("fails")
            .to_string();
        assert_eq!(error, "the credential helper docker-credential-demo failed");
        let error = run("echo secret").await.expect_err("nonsense").to_string();
        assert!(
            error.ends_with("gave an answer that is no credential"),
            "{error}"
        );
    }
}
