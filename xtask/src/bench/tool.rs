//! The programs that are compared, and how each is told to build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::docker::Client;
use crate::machine::succeeds;

/// Runs a program and tells the most memory that it had resident.
const TIME: &str = "/usr/bin/time";

/// A build tool on this machine.
pub(super) enum Tool {
    /// This project's, as it was just built.
    Kiln(PathBuf),
    /// docker, with a daemon that was there or one of the bench's own.
    Docker(Client),
    /// buildah without a container runtime (`--isolation chroot`), its fastest form.
    Buildah,
}

/// Where what was built goes.
pub(super) enum Target {
    /// Nowhere else.
    Store,
    /// An archive.
    Archive(PathBuf),
    /// A registry, under this name.
    Registry(String),
}

impl Tool {
    /// kiln, and whatever else can be used of what is wanted. A daemon of docker's that has to be
    /// started has its data in `folder`.
    pub(super) fn installed(
        kiln: &Path,
        folder: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Tool>> {
        let mut tools = Vec::new();
        if wanted("kiln") {
            tools.push(Tool::Kiln(kiln.to_path_buf()));
        }
        if wanted("docker") {
            tools.extend(Client::find_or_start(folder)?.map(Tool::Docker));
        }
        if wanted("buildah") && succeeds(Command::new("buildah").arg("--version")) {
            tools.push(Tool::Buildah);
        }
        Ok(tools)
    }

    /// How the tool is called in tables.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Tool::Kiln(_) => "kiln",
            Tool::Docker(client) if client.buildkit => "docker (BuildKit)",
            Tool::Docker(..) => "docker (classic)",
            Tool::Buildah => "buildah",
        }
    }

    /// What has to be known to compare its figures with the others'.
    pub(super) fn note(&self) -> Option<&'static str> {
        match self {
            Tool::Docker(..) => Some(
                "docker's archive is `docker save`'s, which is not compressed; kiln's and buildah's are, \
                 and their times include that. What is pushed, all three compress with gzip.",
            ),
            Tool::Kiln(_) | Tool::Buildah => None,
        }
    }

    /// Forgets everything that was built with this store.
    pub(super) fn clear(&self, store: &Path) -> Result<()> {
        match self {
            Tool::Kiln(_) => {}
            Tool::Docker(client) => {
                quiet(client.command().args(["image", "rm", "-f", NAME]));
                quiet(client.command().args(["image", "prune", "-f"]));
                quiet(client.command().args(["builder", "prune", "-af"]));
            }
            Tool::Buildah => {
                quiet(buildah(store).args(["rmi", "-af"]));
                // What it mounted over its storage outlives it.
                quiet(Command::new("umount").arg(store.join("root/overlay")));
            }
        }
        drop(fs::remove_file(store.with_extension("oci.tar")));
        // A settler may still be writing to the store.
        for _ in 0..10 {
            super::remove(store).or_else(|_| super::remove(store))?;
            if !store.exists() {
                break;
            }
        }
        Ok(())
    }

    /// Builds, and ships what was built. Returns how long it took, and the most memory that was
    /// resident, in bytes, if `memory` was asked for and can be told.
    pub(super) fn build(
        &self,
        store: &Path,
        file: &Path,
        context: &Path,
        target: &Target,
        memory: bool,
    ) -> Result<(Duration, Option<u64>)> {
        let commands = self.commands(store, file, context, target);
        let started = Instant::now();
        let mut peak = None;
        for command in commands {
            peak = peak.max(call(command, memory)?);
        }
        let took = started.elapsed();
        if let (Tool::Docker(client), Target::Registry(name)) = (self, target) {
            quiet(client.command().args(["image", "rm", name]));
        }
        Ok((took, peak))
    }

    fn commands(&self, store: &Path, file: &Path, context: &Path, target: &Target) -> Vec<Command> {
        let name = match target {
            Target::Registry(name) => name,
            Target::Store | Target::Archive(_) => NAME,
        };
        let build = |mut command: Command| {
            command
                .args(["-q", "-t", name, "-f"])
                .arg(file)
                .arg(context);
            command
        };
        match self {
            Tool::Kiln(binary) => {
                let mut command = Command::new(binary);
                command.arg("--root").arg(store).arg("build");
                match target {
                    Target::Store => &mut command,
                    Target::Archive(path) => command
                        .arg("-o")
                        .arg(format!("type=oci,dest={}", path.display())),
                    Target::Registry(_) => command.arg("--push"),
                };
                vec![build(command)]
            }
            Tool::Docker(client) => {
                let mut command = client.command();
                command.args(["build", "--network", "host"]);
                let mut ship = client.command();
                match target {
                    Target::Store => return vec![build(command)],
                    Target::Archive(path) => ship.arg("save").arg("-o").arg(path).arg(name),
                    Target::Registry(_) => ship.args(["push", "-q", name]),
                };
                vec![build(command), ship]
            }
            Tool::Buildah => {
                let mut command = buildah(store);
                command.args(["build", "--isolation", "chroot", "--layers", "--jobs", "8"]);
                let mut ship = buildah(store);
                ship.args(["push", "-q", "--tls-verify=false", name]);
                match target {
                    Target::Store => return vec![build(command)],
                    Target::Archive(path) => ship.arg(format!("oci-archive:{}", path.display())),
                    Target::Registry(_) => &mut ship,
                };
                vec![build(command), ship]
            }
        }
    }
}

/// What every image is called.
const NAME: &str = "kiln-bench";

fn buildah(store: &Path) -> Command {
    let mut command = Command::new("buildah");
    command
        .args(["--storage-driver", "overlay", "--root"])
        .arg(store.join("root"));
    command.arg("--runroot").arg(store.join("run"));
    command
}

/// Runs what may fail because there is nothing to do.
fn quiet(command: &mut Command) {
    succeeds(command);
}

fn call(mut command: Command, memory: bool) -> Result<Option<u64>> {
    let measured = memory && Path::new(TIME).exists();
    if measured {
        let mut timed = Command::new(TIME);
        timed.args(["-f", "%M"]).arg(command.get_program());
        timed.args(command.get_args());
        let set = |(name, value): (_, Option<_>)| Some((name, value?));
        timed.envs(command.get_envs().filter_map(set));
        command = timed;
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}: {}", output.status, errors.trim_end());
    }
    let kilobytes = errors
        .lines()
        .last()
        .and_then(|line| line.parse::<u64>().ok());
    Ok(kilobytes.filter(|_| measured).map(|count| count << 10))
}
