//! Where a registry is: from the name in a reference to the hosts to ask, in order.

use std::net::IpAddr;

use reqwest::Url;

use crate::config::{Registries, RegistryConfig};

/// The name in references of the registry whose API is elsewhere.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// One host to ask for a registry's repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The name that credentials and configuration are looked up under.
    pub(crate) registry: String,
    /// Root of the API, with a trailing slash: `https://registry-1.docker.io/v2/`.
    pub(crate) base: Url,
    /// A copy, asked only when pulling.
    pub(crate) mirror: bool,
}

/// A registry or mirror whose name makes no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("registry {registry:?} is no host name or address")]
pub struct BadAddress {
    /// The name.
    pub registry: String,
}

impl Address {
    /// The hosts to ask for `registry`: its mirrors, then itself.
    pub(crate) fn of(registry: &str, known: &Registries) -> Result<Vec<Address>, BadAddress> {
        let mut addresses = Vec::new();
        for mirror in known
            .get(registry)
            .map(|config| &config.mirrors[..])
            .unwrap_or_default()
        {
            addresses.extend(addresses_of_host(mirror, known, true)?);
        }
        addresses.extend(addresses_of_host(registry, known, false)?);
        Ok(addresses)
    }

    /// Host and port, for people.
    pub(crate) fn host(&self) -> String {
        host_of(&self.base)
    }

    /// Whether it is this machine, where proxies have no place.
    pub(crate) fn is_loopback(&self) -> bool {
        self.base.host_str().is_some_and(is_loopback)
    }
}

/// Host and port of a URL, and nothing else of it.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    }
}

fn addresses_of_host(
    written: &str,
    known: &Registries,
    mirror: bool,
) -> Result<Vec<Address>, BadAddress> {
    let bad = || BadAddress {
        registry: written.into(),
    };
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        Some(_) => return Err(bad()),
        None => (None, written),
    };
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(bad());
    }
    let path = path.trim_matches('/');
    let config = known.get(name).cloned().unwrap_or_default();
    let host = if name == HUB { HUB_HOST } else { name };
    let path = if path.is_empty() {
        String::new()
    } else {
        format!("{path}/")
    };
    let schemes = scheme.map_or_else(|| schemes_of(name, &config), |scheme| vec![scheme]);
    let make = |scheme: &str| {
        let base = Url::parse(&format!("{scheme}://{host}/v2/{path}")).map_err(|_| bad())?;
        let plain = base.username().is_empty() && base.password().is_none();
        if !plain || base.query().is_some() || base.fragment().is_some() {
            return Err(bad());
        }
        Ok(Address {
            registry: name.into(),
            base,
            mirror,
        })
    };
    schemes.into_iter().map(make).collect()
}

/// How a host is spoken to, likeliest first.
fn schemes_of(name: &str, config: &RegistryConfig) -> Vec<&'static str> {
    let unverified = config.insecure || !config.ca.is_empty();
    match config.http {
        Some(true) => vec!["http"],
        Some(false) => vec!["https"],
        None if config.insecure => vec!["https", "http"],
        None if is_loopback(host_part(name)) && !unverified => vec!["http"],
        None => vec!["https"],
    }
}

fn host_part(name: &str) -> &str {
    match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => name.split(':').next().unwrap_or(name),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Registries {
        let config = |change: fn(&mut RegistryConfig)| {
            let mut config = RegistryConfig::default();
            change(&mut config);
            config
        };
        Registries::from([
            (
                "docker.io".into(),
                config(|c| c.mirrors = vec!["127.0.0.1:5000".into(), "m.example/hub/x".into()]),
            ),
            ("m.example".into(), config(|c| c.http = Some(true))),
            ("self-signed.example".into(), config(|c| c.insecure = true)),
            (
                "127.0.0.1:5001".into(),
                config(|c| c.ca = vec!["ca.pem".into()]),
            ),
            ("127.0.0.1:5002".into(), config(|c| c.http = Some(false))),
        ])
    }

    #[track_caller]
    fn check(registry: &str, expected: &[&str]) {
        let addresses = Address::of(registry, &known()).expect("an address");
        let bases: Vec<_> = addresses
            .iter()
            .map(|address| address.base.as_str())
            .collect();
        assert_eq!(bases, expected);
        assert!(addresses.iter().any(|address| !address.mirror));
    }

    #[test]
    fn hosts_of_registries() {
        check(
            "docker.io",
            &[
                "http://127.0.0.1:5000/v2/",
                "http://m.example/v2/hub/x/",
                "https://registry-1.docker.io/v2/",
            ],
        );
        check("ghcr.io", &["https://ghcr.io/v2/"]);
        check("host.example:5000", &["https://host.example:5000/v2/"]);
        check("localhost", &["http://localhost/v2/"]);
        check("localhost:5000", &["http://localhost:5000/v2/"]);
        check("127.9.9.9:5000", &["http://127.9.9.9:5000/v2/"]);
        check("[::1]:5000", &["http://[::1]:5000/v2/"]);
        check("[2001:db8::1]:5000", &["https://[2001:db8::1]:5000/v2/"]);
        check(
            "self-signed.example",
            &[
                "https://self-signed.example/v2/",
                "http://self-signed.example/v2/",
            ],
        );
        check("127.0.0.1:5001", &["https://127.0.0.1:5001/v2/"]);
        check("127.0.0.1:5002", &["https://127.0.0.1:5002/v2/"]);
    }

    #[test]
    fn names_that_make_no_url_are_errors() {
        for registry in [
            "",
            "a b",
            "user:secret@host",
            "ftp://host",
            "host?x",
            "host#x",
        ] {
            assert!(
                Address::of(registry, &Registries::new()).is_err(),
                "{registry}"
            );
        }
    }
}
