//! The programs that build the steps, each twice and without a cache, and push what they built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::CERTIFICATES;
use crate::docker::Client;
use crate::machine::succeeds;

/// A build tool on this machine.
pub(super) enum Builder {
    /// This project's, with a store of its own for each of the two builds.
    Kiln(Kiln),
    /// docker with BuildKit; its daemon answers. These records its cache had before.
    Docker {
        client: Client,
        cached: BTreeSet<String>,
    },
    /// buildah, with a store in this directory.
    Buildah(PathBuf),
}

/// kiln and where it keeps its stores.
#[derive(Clone)]
pub(super) struct Kiln {
    pub(super) binary: PathBuf,
    pub(super) folder: PathBuf,
}

impl Kiln {
    /// The command, with one of its stores.
    pub(super) fn command(&self, store: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(self.folder.join(store));
        command
    }
}

impl Builder {
    /// kiln, and docker or else buildah.
    pub(super) fn installed(kiln: &Kiln) -> Vec<Builder> {
        let mut builders = vec![Builder::Kiln(kiln.clone())];
        if let Some(client) = Client::find().filter(|client| client.buildkit) {
            let cached = build_cache(&client);
            builders.push(Builder::Docker { client, cached });
        } else if succeeds(Command::new("buildah").arg("--version")) {
            builders.push(Builder::Buildah(kiln.folder.join("buildah")));
        } else {
            eprintln!("neither docker with BuildKit nor buildah is here: kiln stands alone");
        }
        builders
    }

    /// The heading of its column.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Builder::Kiln(_) => "kiln",
            Builder::Docker { .. } => "docker (BuildKit)",
            Builder::Buildah(_) => "buildah",
        }
    }

    /// A word for tags.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Builder::Kiln(_) => "kiln",
            Builder::Docker { .. } => "docker",
            Builder::Buildah(_) => "buildah",
        }
    }

    /// Name and version.
    pub(super) fn version(&self) -> Result<String> {
        let said = match self {
            Builder::Kiln(kiln) => output(Command::new(&kiln.binary).arg("--version"))?,
            Builder::Docker { client, .. } => {
                let mut command = client.command();
                command.args(["version", "--format", "docker {{.Server.Version}}"]);
                output(&mut command)?
            }
            Builder::Buildah(_) => output(Command::new("buildah").arg("--version"))?
                .replace(" version", "")
                .replace(['(', ')'], ""),
        };
        // buildah goes on with the specifications that it keeps to.
        let words: Vec<&str> = said.split_whitespace().take(2).collect();
        Ok(words.join(" "))
    }

    /// Builds `context` without a cache, `round` 1 or 2, and pushes it under a name.
    pub(super) fn build(&self, context: &Path, round: usize, name: &str) -> Result<()> {
        let (mut build, push) = match self {
            Builder::Kiln(kiln) => {
                let mut command = kiln.command(&format!("store{round}"));
                command.args(["build", "--push"]);
                (command, None)
            }
            Builder::Docker { client, .. } => {
                let mut command = client.command();
                command.args(["build", "--network", "host"]);
                let mut push = client.command();
                push.args(["push", "-q", name]);
                (command, Some(push))
            }
            Builder::Buildah(store) => {
                let mut command = buildah(store);
                command.args(["build", "--isolation", "chroot", "--layers"]);
                command.arg("--tls-verify=false");
                let mut push = buildah(store);
                push.args(["push", "-q", "--tls-verify=false", name]);
                (command, Some(push))
            }
        };
        build.arg(format!("--secret=id=ca,src={CERTIFICATES}"));
        build.args(["-q", "--no-cache", "-t", name]).arg(context);
        quietly(build)?;
        push.map_or(Ok(()), quietly)
    }

    /// Forgets images that were built, or pulled to build upon.
    pub(super) fn forget(&self, names: &[String]) {
        if let Builder::Docker { client, .. } = self {
            let mut command = client.command();
            succeeds(command.args(["image", "rm", "-f"]).args(names));
        }
    }

    /// Removes what the builds left in the tool's own storage.
    pub(super) fn tidy(&self) {
        match self {
            Builder::Kiln(_) => {}
            Builder::Docker { client, cached } => prune(client, cached),
            Builder::Buildah(store) => {
                succeeds(buildah(store).args(["rmi", "-af"]));
                // What it mounted over its storage outlives it.
                succeeds(Command::new("umount").arg(store.join("root/overlay")));
                drop(fs::remove_dir_all(store));
            }
        }
    }
}

fn buildah(store: &Path) -> Command {
    let mut command = Command::new("buildah");
    command.args(["--storage-driver", "overlay", "--root"]);
    command.arg(store.join("root"));
    command.arg("--runroot").arg(store.join("run"));
    command
}

/// Ids of the records of docker's build cache.
fn build_cache(client: &Client) -> BTreeSet<String> {
    const IDS: &str = "{{range .BuildCache}}{{.ID}} {{end}}";
    let mut command = client.command();
    command.args(["system", "df", "-v", "--format", IDS]);
    let ids = output(&mut command).unwrap_or_default();
    ids.split_whitespace().map(str::to_owned).collect()
}

/// Removes all records of docker's build cache but those that were there before. What somebody else
/// builds meanwhile cannot be told from ours, and is only cache.
fn prune(client: &Client, but: &BTreeSet<String>) {
    let mut left = usize::MAX;
    loop {
        let ours: Vec<String> = build_cache(client).difference(but).cloned().collect();
        // A record goes after those that are made of it, so in as many rounds as they are deep.
        if ours.is_empty() || ours.len() == left {
            break;
        }
        left = ours.len();
        for id in ours {
            let mut command = client.command();
            command.args(["builder", "prune", "-af", "--filter"]);
            succeeds(command.arg(format!("id={id}")));
        }
    }
}

/// What a command prints.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let output = finish(command, &[0])?;
    Ok(String::from_utf8(output)?)
}

/// Runs a command; what it says is shown only when it fails.
pub(super) fn quietly(mut command: Command) -> Result<()> {
    finish(&mut command, &[0]).map(drop)
}

/// Runs a command that may end with one of some codes, and returns what it printed.
pub(super) fn finish(command: &mut Command, codes: &[i32]) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !output.status.code().is_some_and(|c| codes.contains(&c)) {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{}", output.status, said.trim_end());
    }
    Ok(output.stdout)
}
