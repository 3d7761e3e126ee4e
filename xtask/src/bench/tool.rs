//! The programs that are compared, and how each is told to build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{self, succeeds};

/// Runs a program and tells the most memory that it had resident.
const TIME: &str = "/usr/bin/time";

/// A build tool on this machine.
pub(super) enum Tool {
    /// This project's, as it was just built.
    Kiln(PathBuf),
    /// docker with the builder that its client brings; its daemon answers.
    Docker { buildkit: bool },
    /// buildah without a container runtime (`--isolation chroot`), its fastest form.
    Buildah,
}

impl Tool {
    /// kiln, and whatever else can be used.
    pub(super) fn installed(kiln: &Path) -> Vec<Tool> {
        let mut tools = vec![Tool::Kiln(kiln.to_path_buf())];
        if let Some(buildkit) = machine::docker_builder() {
            tools.push(Tool::Docker { buildkit });
        }
        if succeeds(Command::new("buildah").arg("--version")) {
            tools.push(Tool::Buildah);
        }
        tools
    }

    /// How the tool is called in tables.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Tool::Kiln(_) => "kiln",
            Tool::Docker { buildkit: true } => "docker (BuildKit)",
            Tool::Docker { buildkit: false } => "docker (classic)",
            Tool::Buildah => "buildah",
        }
    }

    /// Forgets everything that was built with this store.
    pub(super) fn clear(&self, store: &Path) -> Result<()> {
        match self {
            Tool::Kiln(_) => {}
            Tool::Docker { .. } => {
                quiet(Command::new("docker").args(["image", "rm", "-f", NAME]));
                quiet(Command::new("docker").args(["image", "prune", "-f"]));
                quiet(Command::new("docker").args(["builder", "prune", "-af"]));
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

    /// Builds, and writes an archive if one is wanted. Returns how long it took, and the most
    /// memory that was resident, in bytes, if `memory` was asked for and can be told.
    pub(super) fn build(
        &self,
        store: &Path,
        file: &Path,
        context: &Path,
        output: Option<&Path>,
        memory: bool,
    ) -> Result<(Duration, Option<u64>)> {
        let commands = self.commands(store, file, context, output);
        let started = Instant::now();
        let mut peak = None;
        for command in commands {
            peak = peak.max(call(command, memory)?);
        }
        Ok((started.elapsed(), peak))
    }

    fn commands(
        &self,
        store: &Path,
        file: &Path,
        context: &Path,
        output: Option<&Path>,
    ) -> Vec<Command> {
        let build = |mut command: Command| {
            command
                .args(["-q", "-t", NAME, "-f"])
                .arg(file)
                .arg(context);
            command
        };
        match self {
            Tool::Kiln(binary) => {
                let mut command = Command::new(binary);
                command.arg("--root").arg(store).arg("build");
                if let Some(output) = output {
                    let spec = format!("type=oci,dest={}", output.display());
                    command.args(["-o", &spec]);
                }
                vec![build(command)]
            }
            Tool::Docker { buildkit } => {
                let mut command = Command::new("docker");
                command.env("DOCKER_BUILDKIT", if *buildkit { "1" } else { "0" });
                command.args(["build", "--network", "host"]);
                let mut commands = vec![build(command)];
                if let Some(output) = output {
                    let mut save = Command::new("docker");
                    save.arg("save").arg("-o").arg(output).arg(NAME);
                    commands.push(save);
                }
                commands
            }
            Tool::Buildah => {
                let mut command = buildah(store);
                command.args(["build", "--isolation", "chroot", "--layers", "--jobs", "8"]);
                let mut commands = vec![build(command)];
                if let Some(output) = output {
                    let mut push = buildah(store);
                    let to = format!("oci-archive:{}", output.display());
                    commands.push({
                        push.args(["push", "-q", NAME, &to]);
                        push
                    });
                }
                commands
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
