//! `kiln run`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use engine::request::RunNetwork;
use engine::{DeviceRequest, RunRequest, Signals};
use oci::Reference;

use super::{ENVIRONMENT, Session, images};
use crate::args::{PullPolicy, RunArgs, RunNetworkArg, parse_platform, ulimit};
use crate::failure;

/// Runs a container in the foreground and ends as its command did.
pub(crate) fn run(session: &Session, args: RunArgs) -> Result<ExitCode> {
    let engine = session.engine()?;
    // Before the first thread, so that all of them leave signals alone.
    let signals = Signals::watch().context("cannot handle signals")?;
    let platform = args.platform.as_deref().map(parse_platform).transpose()?;
    let (image, command) = args.image_and_command.split_first().context("no image")?;
    let missing = args.pull == PullPolicy::Missing && !engine.has_image(image)?;
    if missing || args.pull == PullPolicy::Always {
        let reference: Reference = image
            .parse()
            .with_context(|| format!("{image} is no image reference"))?;
        images::with_progress(true, |events| {
            engine.pull(&reference, platform.as_ref(), events)
        })?;
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let request = RunRequest {
        resources: args.own_limits.resources(&args.limits, processors)?,
        cgroup_parent: args.limits.cgroup_parent.clone(),
        ulimits: args
            .ulimit
            .iter()
            .map(|text| ulimit(text).with_context(|| format!("--ulimit {text}")))
            .collect::<Result<_>>()?,
        shm_size: args.shm_size,
        env: environment(&args)?,
        volumes: args
            .volume
            .iter()
            .map(|text| volume(text).with_context(|| format!("--volume {text}")))
            .collect::<Result<_>>()?,
        devices: args
            .device
            .iter()
            .map(|text| device(text).with_context(|| format!("--device {text}")))
            .collect::<Result<_>>()?,
        image: image.clone(),
        command: command.to_vec(),
        entrypoint: args.entrypoint,
        workdir: args.workdir,
        user: args.user,
        hostname: args.hostname,
        interactive: args.interactive,
        tty: args.tty,
        read_only: args.read_only,
        network: match args.network {
            RunNetworkArg::Host => RunNetwork::Host,
            RunNetworkArg::None => RunNetwork::None,
        },
    };
    let ended = engine.run(&request, &signals)?;
    if let Some(shortage) = &ended.out_of_memory {
        eprintln!("warning: out of memory: {}", failure::shortage(shortage));
    }
    Ok(ExitCode::from(ended.code))
}

fn environment(args: &RunArgs) -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for file in &args.env_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--env-file {}", file.display()))?;
        let lines = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        lines.for_each(|line| add_variable(&mut variables, line));
    }
    for text in &args.env {
        if text.starts_with('=') || text.is_empty() {
            bail!("--env {text}: the name is empty");
        }
        add_variable(&mut variables, text);
    }
    Ok(variables)
}

/// `K=V`, or `K` for the caller's value; a name that the caller does not have is left out.
fn add_variable(variables: &mut Vec<(String, String)>, text: &str) {
    match text.split_once('=') {
        Some((name, value)) => variables.push((name.to_string(), value.to_string())),
        None => {
            variables.extend((ENVIRONMENT.variable)(text).map(|value| (text.to_string(), value)))
        }
    }
}

/// `SOURCE[:TARGET[:rwm]]`, or a name as in `vendor.com/class=name`.
fn device(text: &str) -> Result<DeviceRequest> {
    if !text.starts_with('/') {
        return Ok(DeviceRequest::Named(text.to_string()));
    }
    let is_right = |text: &str| !text.is_empty() && text.chars().all(|right| "rwm".contains(right));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, rights) = match parts.as_slice() {
        [source] => (source, source, "rwm"),
        [source, rights] if is_right(rights) => (source, source, *rights),
        [source, target] => (source, target, "rwm"),
        [source, target, rights] if is_right(rights) => (source, target, *rights),
        _ => bail!("must be SOURCE[:TARGET[:rwm]]"),
    };
    if !rights.contains('r') || !rights.contains('w') {
        bail!("a device is for reading and writing: its own permissions say who may");
    }
    if !target.starts_with('/') {
        bail!("the target must be an absolute path");
    }
    Ok(DeviceRequest::Machine {
        source: PathBuf::from(source),
        target: PathBuf::from(target),
    })
}

fn volume(text: &str) -> Result<engine::Volume> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, *options),
        _ => bail!("must be SOURCE:TARGET[:ro]"),
    };
    if !source.starts_with(['/', '.']) {
        bail!("kiln has no named volumes: name a directory (./{source})");
    }
    let readonly = match options {
        "ro" => true,
        "" | "rw" => false,
        other => bail!("there is no option `{other}` (ro, rw)"),
    };
    if !target.starts_with('/') {
        bail!("the target must be an absolute path");
    }
    Ok(engine::Volume {
        source: std::path::absolute(source)?,
        target: PathBuf::from(target),
        readonly,
    })
}
