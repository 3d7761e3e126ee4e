//! What a container knows of networks: its `hosts` and `resolv.conf`, and the user-space stacks
//! that can connect it.
//!
//! The texts are pure functions of what the caller has read; nothing here reads the machine's
//! files, and no public name server is ever put in the place of one that is missing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that connects a network namespace to the machine's network without privileges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connector {
    /// `pasta` of passt.
    Pasta(PathBuf),
    /// `slirp4netns`.
    Slirp4netns(PathBuf),
}

/// Finds a connector in a `PATH`, pasta first: it is the faster one. `None` also where this user
/// cannot open `/dev/net/tun`, which both need. Without a connector the choice is
/// [`crate::Network::Host`] or [`crate::Network::None`].
pub fn connector(path: &OsStr) -> Option<Connector> {
    let mut tunnel = File::options();
    tunnel.read(true).write(true).open("/dev/net/tun").ok()?;
    let find = |name: &str| {
        std::env::split_paths(path)
            .map(|directory| directory.join(name))
            .find(|program| program.is_absolute() && program.is_file())
    };
    find("pasta")
        .map(Connector::Pasta)
        .or_else(|| find("slirp4netns").map(Connector::Slirp4netns))
}

/// What `resolv.conf` is made from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resolver<'a> {
    /// The machine's `/etc/resolv.conf`; empty when there is none.
    pub machine: &'a str,
    /// `/run/systemd/resolve/resolv.conf`, the servers behind systemd's stub, when it is there.
    pub upstream: Option<&'a str>,
    /// Whether the container shares the machine's network, and so reaches its loopback addresses.
    pub shares_network: bool,
    /// Servers that were asked for instead of the machine's.
    pub servers: &'a [IpAddr],
    /// Search domains that were asked for instead of the machine's.
    pub search: &'a [String],
    /// Options that were asked for instead of the machine's.
    pub options: &'a [String],
}

/// A `resolv.conf`, and whether it leads anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The text.
    pub text: String,
    /// It names no server although the machine's does: those listen on the machine's loopback
    /// device only, which the container does not reach. Worth a warning.
    pub unreachable: bool,
}

/// Writes the container's `resolv.conf`.
///
/// Servers on a loopback address are of no use in another network namespace. If the machine has
/// no others, those behind systemd's stub are taken, and else none.
pub fn resolv_conf(resolver: &Resolver<'_>) -> ResolvConf {
    let machine = Parsed::of(resolver.machine);
    let reachable = |servers: &[String]| -> Vec<String> {
        let servers = servers.iter();
        let loopback = |server: &String| is_loopback(server);
        servers
            .filter(|server| !loopback(server))
            .cloned()
            .collect()
    };
    let (source, servers) = if !resolver.servers.is_empty() {
        let servers = resolver.servers.iter().map(IpAddr::to_string).collect();
        (machine.clone(), servers)
    } else if resolver.shares_network {
        (machine.clone(), machine.servers.clone())
    } else {
        match (reachable(&machine.servers), resolver.upstream) {
            (servers, Some(upstream)) if servers.is_empty() => {
                let upstream = Parsed::of(upstream);
                let servers = reachable(&upstream.servers);
                (upstream, servers)
            }
            (servers, _) => (machine.clone(), servers),
        }
    };
    let unreachable = servers.is_empty() && !machine.servers.is_empty();
    let choose = |asked: &[String], own: Vec<String>| match asked.is_empty() {
        true => own,
        false => asked.to_vec(),
    };
    let search = choose(resolver.search, source.search);
    let options = choose(resolver.options, source.options);
    let mut text = String::new();
    if !search.is_empty() {
        text += &format!("search {}\n", search.join(" "));
    }
    for server in &servers {
        text += &format!("nameserver {server}\n");
    }
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    ResolvConf { text, unreachable }
}

/// The lines of a `resolv.conf` that count (`resolv.conf(5)`).
#[derive(Clone, Debug, Default)]
struct Parsed {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Parsed {
    fn of(text: &str) -> Parsed {
        let mut parsed = Parsed::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => parsed.servers.extend(words.next()),
                // The last of these lines wins.
                Some("search" | "domain") => parsed.search = words.collect(),
                Some("options") => parsed.options.extend(words),
                _ => {}
            }
        }
        parsed
    }
}

/// Whether a server's address, with or without a zone, is the machine itself.
fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or_default();
    address.parse().is_ok_and(|address: IpAddr| match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback()
                || address
                    .to_ipv4_mapped()
                    .is_some_and(|address| address.is_loopback())
        }
    })
}

/// Writes the container's `/etc/hosts`: localhost, its own name, then the extra entries (name,
/// address) in order.
pub fn hosts(hostname: &str, own: Option<IpAddr>, extra: &[(String, String)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    if !hostname.is_empty() {
        let own = own.map_or_else(|| "127.0.0.1".to_owned(), |own| own.to_string());
        text += &format!("{own}\t{hostname}\n");
    }
    for (name, address) in extra {
        text += &format!("{address}\t{name}\n");
    }
    text
}

impl Connector {
    /// The connector's path.
    pub fn program(&self) -> &Path {
        match self {
            Connector::Pasta(program) | Connector::Slirp4netns(program) => program,
        }
    }

    /// Arguments that connect the namespace of process `pid`, which is also standard input, in the
    /// foreground.
    fn arguments(&self, pid: i32) -> Vec<String> {
        let pid = pid.to_string();
        let words: &[&str] = match self {
            Connector::Pasta(_) => &[
                "--config-net",
                "--quiet",
                "--foreground",
                // No port of either side appears on the other.
                "--tcp-ports=none",
                "--udp-ports=none",
                "--tcp-ns=none",
                "--udp-ns=none",
                "--no-map-gw",
                // It would become `nobody`, who may not enter the namespace.
                "--runas=0",
                "--netns-only",
                "--netns",
                // Opened for it: it gives up the right to look into other processes first.
                "/proc/self/fd/0",
            ],
            Connector::Slirp4netns(_) => &[
                "--configure",
                "--mtu=65520",
                "--disable-host-loopback",
                &pid,
                "tap0",
            ],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// How long a connector may take to make its device and routes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often its progress is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// A running connector; it ends with this value.
#[derive(Debug)]
pub(crate) struct Connection(Child);

impl Connection {
    /// Connects the network namespace of process `pid` and waits until it has a default route.
    pub(crate) fn open(connector: &Connector, pid: i32) -> io::Result<Connection> {
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        let child = Command::new(connector.program())
            .args(connector.arguments(pid))
            .env_clear()
            .stdin(Stdio::from(namespace))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut connection = Connection(child);
        let start = Instant::now();
        while !has_default_route(pid) {
            if connection.0.try_wait()?.is_some() {
                return Err(io::Error::other(connection.complaint()));
            }
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(GLANCE);
        }
        Ok(connection)
    }

    /// What it said when it gave up.
    fn complaint(&mut self) -> String {
        let mut said = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            // Half a message is still worth showing.
            stderr.take(4096).read_to_string(&mut said).ok();
        }
        match said.trim() {
            "" => "it ended at once".to_owned(),
            said => said.to_owned(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It may have ended with the namespace.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn has_default_route(pid: i32) -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}"));
    let column = |line: &str, index| line.split_whitespace().nth(index).map(str::to_owned);
    let version4 = read("route").is_ok_and(|text| {
        text.lines()
            .any(|line| column(line, 1).as_deref() == Some("00000000"))
    });
    version4
        || read("ipv6_route").is_ok_and(|text| {
            text.lines().any(|line| {
                column(line, 1).as_deref() == Some("00") && column(line, 9).as_deref() != Some("lo")
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resolver: Resolver<'_>, expect: &str, unreachable: bool) {
        let expect = ResolvConf {
            text: expect.to_owned(),
            unreachable,
        };
        assert_eq!(resolv_conf(&resolver), expect);
    }

    const STUB: &str =
        "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n";
    const UPSTREAM: &str = "nameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch corp.example\n";

    #[test]
    fn real_servers_are_kept() {
        check(
            Resolver {
                machine: "nameserver 10.1.1.1 # office\ndomain a.b\n",
                ..Resolver::default()
            },
            "search a.b\nnameserver 10.1.1.1\n",
            false,
        );
    }

    #[test]
    fn a_stub_is_resolved_to_its_upstreams() {
        check(
            Resolver {
                machine: STUB,
                upstream: Some(UPSTREAM),
                ..Resolver::default()
            },
            "search corp.example\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n",
            false,
        );
    }

    #[test]
    fn a_stub_works_where_the_network_is_shared() {
        check(
            Resolver {
                machine: STUB,
                shares_network: true,
                ..Resolver::default()
            },
            "search corp.example\nnameserver 127.0.0.53\noptions edns0 trust-ad\n",
            false,
        );
    }

    #[test]
    fn no_public_server_is_invented() {
        let loopback = "nameserver 127.0.0.1\nnameserver ::1\n";
        check(
            Resolver {
                machine: loopback,
                ..Resolver::default()
            },
            "",
            true,
        );
        check(
            Resolver {
                machine: loopback,
                upstream: Some(loopback),
                ..Resolver::default()
            },
            "",
            true,
        );
        check(Resolver::default(), "", false);
    }

    #[test]
    fn what_was_asked_for_wins() {
        check(
            Resolver {
                machine: STUB,
                servers: &["9.9.9.9".parse().unwrap()],
                search: &["x.example".to_owned()],
                options: &["ndots:1".to_owned()],
                ..Resolver::default()
            },
            "search x.example\nnameserver 9.9.9.9\noptions ndots:1\n",
            false,
        );
    }

    #[test]
    fn hosts_end_with_the_extra_ones() {
        let text = hosts("box", None, &[("db".to_owned(), "10.0.0.9".to_owned())]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("127.0.0.1\tbox\n10.0.0.9\tdb\n"), "{text}");
    }
}
