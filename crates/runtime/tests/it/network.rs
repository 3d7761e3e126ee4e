//! What network a container sees (row R7).

use crate::support::{Fixture, check, run};
use runtime::network::connector;
use runtime::{Exit, Network};

#[test]
fn r7_none_is_loopback_only() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    check(
        &fixture.spec("ls /sys/class/net; ip addr show lo | grep -o 'inet 127.0.0.1'"),
        "lo\ninet 127.0.0.1\n",
    );
}

#[test]
fn r7_host_is_the_machine_s() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("ls -l /proc/self/ns/net | grep -o '\\[.*\\]'");
    spec.network = Network::Host;
    let own = std::fs::read_link("/proc/self/ns/net")
        .unwrap()
        .display()
        .to_string();
    check(&spec, &format!("{}\n", own.strip_prefix("net:").unwrap()));
}

#[test]
fn r7_connected_has_a_way_out_but_not_the_machine_s_devices() {
    let path = std::env::var_os("PATH").unwrap();
    let Some(connector) = connector(&path) else {
        // Neither pasta nor slirp4netns: nothing to test on this machine.
        return;
    };
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("ip route | grep -c ^default; ls -l /proc/self/ns/net");
    spec.network = Network::Connected(connector);
    let ran = run(&spec);
    assert_eq!(ran.exit, Exit::Code(0), "{ran:?}");
    assert!(ran.stdout.starts_with("1\n"), "{ran:?}");
    let own = std::fs::read_link("/proc/self/ns/net")
        .unwrap()
        .display()
        .to_string();
    assert!(!ran.stdout.contains(&own), "{ran:?}");
}
