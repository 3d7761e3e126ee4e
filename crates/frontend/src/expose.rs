//! `EXPOSE` (row I3): words, ranges, protocols, and host parts that are dropped.

use std::net::IpAddr;

use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Word};

use crate::gofmt;
use crate::image::ConfigChange;
use crate::scope::Variables;
use crate::stage::StageLowering;

/// Most ports that one file may expose, all instructions together: four times all there are. The
/// history repeats each of them in words, so without a bound a small file makes a huge image.
const MAX_PORTS: usize = 4 << 16;

impl StageLowering<'_, '_> {
    pub(crate) fn expose(&mut self, words: &[Word]) -> Result<(), Diagnostic> {
        let mut ports = Vec::new();
        for word in words {
            let escape = self.lowerer.file.escape;
            let expanded = word.expand_words(&Variables(&self.state.env), escape);
            let expanded = expanded.map_err(|error| self.lowerer.budget.failed(&error))?;
            self.lowerer.budget.spend(expanded.steps, word.span())?;
            self.check_uses(&expanded.uses);
            let mut odd = Vec::new();
            for spec in &expanded.words {
                let list = parse(spec).map_err(|message| {
                    Diagnostic::error("port", word.span(), message)
                        .with_help("write `80`, `8000-8010` or `53/udp`, with numbers up to 65535")
                })?;
                // A variable may hold any number of ports; one of each kind is enough.
                for finding in check(spec, word) {
                    if !odd.contains(&finding.code) {
                        odd.push(finding.code);
                        self.report(finding);
                    }
                }
                self.lowerer.ports += list.len();
                if self.lowerer.ports > MAX_PORTS {
                    let message = format!("more than {MAX_PORTS} ports are exposed");
                    return Err(Diagnostic::error("port", word.span(), message));
                }
                ports.extend(list);
            }
        }
        self.commit_settings(format!("EXPOSE {}", gofmt::plain_list(&ports)));
        self.changes
            .extend(ports.into_iter().map(ConfigChange::Port));
        Ok(())
    }
}

/// What is odd about a port that can be read.
fn check(spec: &str, word: &Word) -> impl Iterator<Item = Diagnostic> {
    let (ports, protocol) = spec.split_once('/').unwrap_or((spec, ""));
    let lower = protocol.to_ascii_lowercase();
    let casing = (lower != protocol).then(|| {
        let message =
            format!("defined protocol '{spec}' in EXPOSE instruction should be lowercase");
        Diagnostic::check(Rule::ExposeProtoCasing, word.span(), message)
            .with_help(format!("write `{ports}/{lower}`"))
    });
    let format = ports.rsplit_once(':').map(|(_, container)| {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{spec}'"
        );
        let slash = if lower.is_empty() { "" } else { "/" };
        Diagnostic::check(Rule::ExposeInvalidFormat, word.span(), message)
            .with_note("EXPOSE publishes nothing; only the container's port is kept")
            .with_help(format!("write `{container}{slash}{lower}`"))
    });
    casing.into_iter().chain(format)
}

/// The ports of `[[ip:][host]:]port[-port][/protocol]`, each with its protocol.
fn parse(spec: &str) -> Result<Vec<String>, String> {
    let (host, container) = match spec.rsplit_once(':') {
        Some((host, container)) => (host, container),
        None => ("", spec),
    };
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(format!("no port specified: {spec}"));
    }
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        other => {
            return Err(format!(
                "invalid proto: {other} (there are tcp, udp and sctp)"
            ));
        }
    };
    let range = port_range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    check_host(host, &range)?;
    Ok(range.map(|port| format!("{port}/{protocol}")).collect())
}

fn port_range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let range = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

/// Checks address and port of the host, which then mean nothing.
fn check_host(host: &str, container: &std::ops::RangeInclusive<u16>) -> Result<(), String> {
    let (address, port) = host.rsplit_once(':').unwrap_or(("", host));
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    if port.is_empty() {
        return Ok(());
    }
    let range = port_range(port).ok_or_else(|| format!("invalid hostPort: {port}"))?;
    if container.len() != 1 && container.len() != range.len() {
        let (first, last) = (container.start(), container.end());
        return Err(format!(
            "invalid ranges specified for container and host Ports: {first}-{last} and {port}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[track_caller]
    fn check(spec: &str, expected: Result<&[&str], &str>) {
        let ports = parse(spec);
        match expected {
            Ok(expected) => assert_eq!(ports.as_deref(), Ok(&*owned(expected))),
            Err(message) => assert_eq!(ports, Err(message.to_owned())),
        }
    }

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn i3_ports() {
        check("80", Ok(&["80/tcp"]));
        check("80/UDP", Ok(&["80/udp"]));
        check(
            "8000-8002/sctp",
            Ok(&["8000/sctp", "8001/sctp", "8002/sctp"]),
        );
        check("127.0.0.1:8080:80", Ok(&["80/tcp"]));
        check("[::1]:8080:80/udp", Ok(&["80/udp"]));
        check("8080-8090:80", Ok(&["80/tcp"]));
        check("65535", Ok(&["65535/tcp"]));
    }

    #[test]
    fn i3_errors() {
        check(
            "80/foo",
            Err("invalid proto: foo (there are tcp, udp and sctp)"),
        );
        check("65536", Err("invalid containerPort: 65536"));
        check("90-80", Err("invalid containerPort: 90-80"));
        check("+80", Err("invalid containerPort: +80"));
        check("/tcp", Err("no port specified: /tcp"));
        check("nowhere:1:80", Err("invalid IP address: nowhere"));
        check(
            "1-2:80-82",
            Err("invalid ranges specified for container and host Ports: 80-82 and 1-2"),
        );
    }
}
