//! Docker's credential helpers: programs that are asked over standard input and output.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
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
    let (name, server) = (name.to_string(), server.to_string());
    tokio::task::spawn_blocking(move || ask(&name, &server, &program))
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn ask(name: &str, server: &str, program: &Path) -> Result<Option<Credential>, CredentialsError> {
    let broken = |source| CredentialsError::RunHelper {
        helper: name.into(),
        source,
    };
    let failed = |problem: String| CredentialsError::HelperFailed {
        helper: name.into(),
        problem,
    };
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(broken)?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(server.as_bytes()) {
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
    match success {
        None => Err(failed(format!(
            "gave no answer within {} seconds",
            PATIENCE.as_secs()
        ))),
        Some(false) if String::from_utf8_lossy(&output).contains(NOT_FOUND) => Ok(None),
        Some(false) => Err(failed("failed".into())),
        Some(true) => {
            let answer: Answer = serde_json::from_slice(&output)
                .map_err(|_| failed("gave an answer that is no credential".into()))?;
            Ok(credential_of(answer))
        }
    }
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
