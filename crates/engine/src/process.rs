//! What every process in a container is given, be it a `RUN` or a `kiln run`.

use std::fs;
use std::path::PathBuf;

use layer::View;
use layer::owner::{Accounts, ProcessUser};
use runtime::network::{Resolver, hosts, resolv_conf};
use runtime::{Groups, Mount, MountKind, Network, Resources, Rlimit};

use crate::error::{BuildError, StepError};

/// `PATH` where nobody set one.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The user that a text as in `USER` means in a tree.
pub(crate) fn user(view: &dyn View, text: &str) -> Result<ProcessUser, StepError> {
    let accounts = Accounts::read(view).map_err(StepError::failed("read the image's users"))?;
    accounts
        .process_user(text)
        .map_err(StepError::failed(format!(
            "find user {text:?} in the image"
        )))
}

/// What is said where no container can be started; `missing` is what would have to be granted.
pub(crate) fn no_containers(missing: &str) -> String {
    format!("no container can be started here: {missing}")
}

/// The values of `--ulimit`, in one order however they were given.
pub(crate) fn ulimits(given: &[(String, u64, u64)]) -> Vec<graph::Ulimit> {
    let limit = |(name, soft, hard): &(String, u64, u64)| graph::Ulimit {
        name: name.clone(),
        soft: *soft,
        hard: *hard,
    };
    let mut limits: Vec<_> = given.iter().map(limit).collect();
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    limits
}

/// The limits that `--ulimit` asks for.
pub(crate) fn rlimits(limits: &[graph::Ulimit]) -> Result<Vec<Rlimit>, StepError> {
    let convert = |limit: &graph::Ulimit| {
        let resource = limit
            .name
            .parse()
            .map_err(StepError::failed(format!("set limit `{}`", limit.name)))?;
        Ok(Rlimit {
            resource,
            soft: limit.soft,
            hard: limit.hard,
        })
    };
    limits.iter().map(convert).collect()
}

/// Control groups with these limits; `None` when nothing asks for any, so that no container has to
/// wait for one.
pub(crate) fn groups(
    resources: &Resources,
    parent: Option<&str>,
) -> Result<Option<Groups>, BuildError> {
    if *resources == Resources::default() && parent.is_none() {
        return Ok(None);
    }
    Groups::prepare(resources, parent)
        .map(Some)
        .map_err(|source| BuildError::Limits { source })
}

/// A generated file of root's. What a process writes to a writable one is lost with it.
pub(crate) fn file(target: PathBuf, content: Vec<u8>, mode: u32, readonly: bool) -> Mount {
    Mount {
        target,
        kind: MountKind::File {
            content,
            mode,
            uid: 0,
            gid: 0,
            readonly,
        },
    }
}

/// `/etc/hosts` and `/etc/resolv.conf`, which names no server where there is no network.
pub(crate) fn generated_files(
    hostname: &str,
    extra: &[(String, String)],
    network: &Network,
) -> Vec<Mount> {
    let extra: Vec<(String, String)> = extra
        .iter()
        .map(|(name, address)| (name.clone(), own_address(address)))
        .collect();
    let files = [
        ("/etc/hosts", hosts(hostname, None, &extra)),
        ("/etc/resolv.conf", servers(network)),
    ];
    files
        .map(|(path, text)| file(path.into(), text.into_bytes(), 0o644, false))
        .into()
}

/// The text of a container's `resolv.conf`.
fn servers(network: &Network) -> String {
    if *network == Network::None {
        return String::new();
    }
    let machine = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let upstream = fs::read_to_string("/run/systemd/resolve/resolv.conf").ok();
    let made = resolv_conf(&Resolver {
        machine: &machine,
        upstream: upstream.as_deref(),
        shares_network: *network == Network::Host,
        ..Resolver::default()
    });
    made.text
}

/// The machine itself is where a container that shares its network already is.
fn own_address(address: &str) -> String {
    if address == "host-gateway" {
        "127.0.0.1".into()
    } else {
        address.into()
    }
}

/// A command line for people, as docker shows it: words joined by blanks.
pub(crate) fn command_line(args: &[String]) -> String {
    args.join(" ")
}

/// The name of a signal, as `kill -l` has it.
pub(crate) fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::try_from(number)
        .ok()
        .and_then(|number| NAMES.get(number.checked_sub(1)?))
    {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name() {
        assert_eq!(
            [signal_name(9), signal_name(15), signal_name(40)],
            ["SIGKILL", "SIGTERM", "signal 40"]
        );
    }
}
