//! docker on this machine: a client that can have its daemon build, and a daemon of the chore's own
//! where none answers. What is built with them is the chores' business.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::succeeds;

/// A client whose daemon answers.
#[derive(Clone)]
pub(crate) struct Client {
    program: PathBuf,
    /// Whether it builds with BuildKit, rather than with the classic builder.
    pub(crate) buildkit: bool,
    /// The daemon, if it is not the one that the environment says.
    daemon: Option<Rc<Daemon>>,
}

impl Client {
    /// A client for the daemon of this machine; `None` if it does not answer.
    pub(crate) fn find() -> Option<Client> {
        Client::of(None)
    }

    /// The same, or else one for a daemon that is started for it with its data in `folder`; `None`
    /// if that cannot be done here.
    ///
    /// # Errors
    /// When the daemon does not start.
    pub(crate) fn find_or_start(folder: &Path) -> Result<Option<Client>> {
        if let Some(client) = Client::find() {
            return Ok(Some(client));
        }
        if !Daemon::is_possible() {
            return Ok(None);
        }
        let daemon = Rc::new(Daemon::start(folder)?);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(client) = Client::of(Some(&daemon)) {
                return Ok(Some(client));
            }
            if Instant::now() > deadline {
                let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
                let last = said.lines().next_back().unwrap_or("nothing");
                bail!("dockerd does not answer; it said: {last}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The first client on the path that can build with BuildKit, or else the first: an older one
    /// may be able to where a newer one lacks its plugin.
    fn of(daemon: Option<&Rc<Daemon>>) -> Option<Client> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = std::env::split_paths(&path).map(|folder| folder.join("docker"));
        let mut clients: Vec<Client> = programs
            .filter(|program| program.exists())
            .map(|program| Client {
                buildkit: has_buildkit(&program),
                program,
                daemon: daemon.cloned(),
            })
            .collect();
        // Stable: the order of the path among equals.
        clients.sort_by_key(|client| !client.buildkit);
        let answered = |client: &Client| succeeds(client.command().arg("info"));
        clients.into_iter().find(answered)
    }

    /// The client's command, to be given its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(daemon) = &self.daemon {
            let address = format!("unix://{}", daemon.socket.display());
            command.args(["-H", &address]);
        }
        command.env("DOCKER_BUILDKIT", if self.buildkit { "1" } else { "0" });
        command
    }
}

/// Whether a client can use BuildKit: its own went into a plugin with version 23.
fn has_buildkit(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").output();
    let own = version.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("version 20."));
    own || succeeds(Command::new(program).args(["buildx", "version"]))
}

/// A daemon that lives as long as this value, and no longer than this process. It has no bridge, so
/// steps have the machine's network or none.
struct Daemon {
    socket: PathBuf,
    keeper: Child,
}

/// Runs the daemon until standard input ends, which it does when the chore ends, however that comes
/// to pass; then removes its data. What it mounts is in a mount namespace and gone with it.
const KEEPER: &str = r#"
unshare --mount sh -c '
    dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=overlay2 \
        --data-root "$0/data" --exec-root "$0/run" --pidfile "$0/pid" -H "unix://$0/socket" \
        </dev/null >"$0/log" 2>&1 &
    daemon=$!
    read -r _
    kill $daemon
    wait $daemon
' "$0"
rm -rf "$0"
"#;

/// The kernel takes no longer name for a socket.
const LONGEST_SOCKET: usize = 107;

impl Daemon {
    /// Whether one can be started: `dockerd` is here, and this is root.
    fn is_possible() -> bool {
        let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        root && succeeds(Command::new("dockerd").arg("--version"))
    }

    /// Starts one with its data in a folder that is made for it and removed afterwards.
    fn start(folder: &Path) -> Result<Daemon> {
        let socket = folder.join("socket");
        if socket.as_os_str().len() > LONGEST_SOCKET {
            bail!("{} is too long for a socket", socket.display());
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the chore: the keeper ends after it, and tidies up.
            .process_group(0)
            .spawn()
            .context("cannot start dockerd")?;
        Ok(Daemon { socket, keeper })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends by itself now.
        drop(self.keeper.wait());
    }
}
