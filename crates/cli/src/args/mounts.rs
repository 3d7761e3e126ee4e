//! What `RUN` is given beside files: secrets, agents, hosts, limits, proxies.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use engine::request::{SecretSource, SshSource};

use super::build::Environment;
use super::outputs::split_csv;

const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// `--secret id=ID[,src=FILE|,env=VARIABLE]`: without either, the variable named like the id, or
/// else the file named like it.
pub(super) fn secrets(
    specs: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, SecretSource>> {
    let mut secrets = BTreeMap::new();
    for spec in specs {
        let (id, source) = secret(spec, environment).with_context(|| format!("--secret {spec}"))?;
        secrets.insert(id, source);
    }
    Ok(secrets)
}

fn secret(spec: &str, environment: &Environment) -> Result<(String, SecretSource)> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in split_csv(spec)? {
        let (key, value) = field
            .split_once('=')
            .with_context(|| format!("`{field}` is not KEY=VALUE"))?;
        match key {
            "id" => id = Some(value.to_string()),
            "src" | "source" => file = Some(value.to_string()),
            "env" => variable = Some(value.to_string()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_string()),
            _ => bail!("there is no option `{key}={value}` (id, src, env, type=file, type=env)"),
        }
    }
    if kind.as_deref() == Some("env") {
        variable = variable.or_else(|| file.take());
    }
    let id = id
        .or_else(|| file.clone())
        .or_else(|| variable.clone())
        .context("the id is missing")?;
    let value = |name: &str| {
        (environment.variable)(name).map(|value| SecretSource::Value(value.into_bytes()))
    };
    let source = match (file, variable) {
        (Some(path), None) => SecretSource::File(path.into()),
        (None, Some(name)) => {
            value(&name).with_context(|| format!("the environment has no variable {name}"))?
        }
        (None, None) => match value(&id) {
            Some(source) if kind.as_deref() != Some("file") => source,
            _ => SecretSource::File(PathBuf::from(&id)),
        },
        (Some(_), Some(_)) => bail!("src and env exclude each other"),
    };
    Ok((id, source))
}

/// `--ssh default|ID[=SOCKET|=KEY[,KEY]]`.
pub(super) fn agents(
    specs: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, SshSource>> {
    let mut agents = BTreeMap::new();
    for spec in specs {
        let (id, source) = match spec.split_once('=') {
            Some((id, paths)) => (id, keys(paths).with_context(|| format!("--ssh {spec}"))?),
            None => {
                let socket = (environment.variable)("SSH_AUTH_SOCK").with_context(|| {
                    format!("--ssh {spec}: no agent runs (SSH_AUTH_SOCK is not set)")
                })?;
                (spec.as_str(), SshSource::Agent(socket.into()))
            }
        };
        agents.insert(id.to_string(), source);
    }
    Ok(agents)
}

/// The socket of an agent, or files of keys.
fn keys(paths: &str) -> Result<SshSource> {
    let mut keys = Vec::new();
    for path in paths.split(',') {
        let found = std::fs::metadata(path).with_context(|| format!("cannot read {path:?}"))?;
        if !found.file_type().is_socket() {
            keys.push(PathBuf::from(path));
        } else if path == paths {
            return Ok(SshSource::Agent(path.into()));
        } else {
            bail!("{path:?} is the socket of an agent: it can only stand alone");
        }
    }
    Ok(SshSource::Keys(keys))
}

/// `--add-host HOST:IP` or `HOST=IP`; IPv6 may stand in brackets.
pub(super) fn host(text: &str) -> Result<(String, String)> {
    let (name, address) = text.split_once(['=', ':']).context("must be HOST:IP")?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
        bail!("`{address}` is no IP address");
    }
    Ok((name.to_string(), address.to_string()))
}

/// `--ulimit NAME=SOFT[:HARD]`, -1 being unlimited.
pub(crate) fn ulimit(text: &str) -> Result<(String, u64, u64)> {
    let (name, limits) = text.split_once('=').context("must be NAME=SOFT[:HARD]")?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let parse = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text
            .parse::<u64>()
            .with_context(|| format!("`{text}` is no limit")),
    };
    let (soft, hard) = (parse(soft)?, parse(hard)?);
    if soft > hard {
        bail!("the soft limit {soft} is above the hard limit {hard}");
    }
    Ok((name.to_string(), soft, hard))
}

/// The proxy variables of the environment.
pub(super) fn proxies(environment: &Environment) -> Vec<(String, String)> {
    let both = PROXIES
        .iter()
        .flat_map(|name| [name.to_string(), name.to_ascii_lowercase()]);
    both.filter_map(|name| (environment.variable)(&name).map(|value| (name, value)))
        .collect()
}
