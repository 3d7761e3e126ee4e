//! `--ssh ID=KEY`: agents of the build's own, which have the keys and end with the build.
//!
//! They are OpenSSH's programs: what knows the forms of keys is theirs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use store::Store;

use crate::error::BuildError;
use crate::request::SshSource;

/// Runs inside of the agent. It answers once, since the agent listens by then, and ends the agent
/// when its input does: with this process, however that ends. The signal is one that no process
/// can have inherited a block of.
const GUARD: &str = "read start && echo \"$start\" && cat && kill -9 \"$SSH_AGENT_PID\"";

/// An agent. Dropping ends it.
#[derive(Debug)]
pub(super) struct KeyAgent {
    guard: Child,
}

/// Starts an agent for each of the sources that is files, which becomes that agent's socket.
pub(super) fn start(
    store: &Store,
    sources: &mut BTreeMap<String, SshSource>,
) -> Result<Vec<KeyAgent>, BuildError> {
    let mut agents = Vec::new();
    for (id, source) in sources {
        if let SshSource::Keys(keys) = source {
            let (agent, socket) = start_with(store, keys).map_err(|error| {
                BuildError::store(format!("give the keys of --ssh {id} to an agent"), error)
            })?;
            agents.push(agent);
            *source = SshSource::Agent(socket);
        }
    }
    Ok(agents)
}

/// An agent that has these keys, and its socket.
fn start_with(store: &Store, keys: &[PathBuf]) -> Result<(KeyAgent, PathBuf), KeyError> {
    let socket = store.scratch()?.join("agent");
    let agent = KeyAgent::start(&socket)?;
    for key in keys {
        add(key, &socket)?;
    }
    Ok((agent, socket))
}

impl KeyAgent {
    fn start(socket: &Path) -> io::Result<KeyAgent> {
        let guard = Command::new("ssh-agent")
            .arg("-a")
            .arg(socket)
            .args(["/bin/sh", "-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| missing("ssh-agent", error))?;
        let mut agent = KeyAgent { guard };
        if let Some(input) = &mut agent.guard.stdin {
            // It may have ended; then there is no answer either.
            drop(input.write_all(b"start\n"));
        }
        let mut answer = [0; 6];
        let output = agent.guard.stdout.as_mut();
        match output.map(|output| output.read_exact(&mut answer)) {
            Some(Ok(())) => Ok(agent),
            _ => Err(io::Error::other(agent.complaint())),
        }
    }

    /// What an agent says that did not start.
    fn complaint(&mut self) -> String {
        let mut said = String::from("ssh-agent does not start: ");
        if let Some(errors) = &mut self.guard.stderr {
            drop(errors.read_to_string(&mut said));
        }
        said.trim_end().to_owned()
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// Why an agent does not have a key.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("{} is not taken: {said}", key.display())]
    Refused { key: PathBuf, said: String },
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn add(key: &Path, socket: &Path) -> Result<(), KeyError> {
    let done = Command::new("ssh-add")
        .arg("-q")
        .arg("--")
        .arg(key)
        .env("SSH_AUTH_SOCK", socket)
        // Nobody is asked for a passphrase, not even at a terminal.
        .envs([("SSH_ASKPASS", "false"), ("SSH_ASKPASS_REQUIRE", "force")])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing("ssh-add", error))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said = match said.trim() {
        "" => "it has a passphrase; add it to an agent of your own, and give --ssh that".into(),
        said => said.to_owned(),
    };
    let key = key.to_owned();
    Err(KeyError::Refused { key, said })
}

fn missing(program: &str, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            format!("there is no {program}; install openssh-client"),
        ),
        _ => error,
    }
}
