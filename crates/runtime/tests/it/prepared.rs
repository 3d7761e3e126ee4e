//! Containers whose namespaces and file systems were made before anybody knew what they run.

use crate::support::Fixture;
use runtime::{Exit, Helper, Network, ProcessSpec, spawn};

/// Runs two specs with the second one's container prepared while the first one runs, and compares
/// what the second prints.
#[track_caller]
fn check(change: impl Fn(&mut ProcessSpec), script: &str, prepared: bool, expect: &str) {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let helper = Helper::program(env!("CARGO_BIN_EXE_runtime-probe"));
    let run = |spec: &ProcessSpec, prepare: bool, prepared: bool| {
        let process = spawn(&helper, spec).unwrap();
        assert_eq!(process.shortcuts().prepared, prepared);
        if prepare {
            helper.prepare_next();
            // Once is enough, and more do no harm.
            helper.prepare_next();
        }
        let mut printed = Vec::new();
        let outcome = process
            .wait(|_, bytes| printed.extend_from_slice(bytes))
            .unwrap();
        (outcome.exit, String::from_utf8(printed).unwrap())
    };
    let mut first = fixture.spec("echo first > /first");
    first.network = Network::Host;
    assert_eq!(run(&first, true, false), (Exit::Code(0), String::new()));
    let mut second = fixture.spec(script);
    second.network = Network::Host;
    change(&mut second);
    let ran = run(&second, false, prepared);
    assert_eq!(ran, (Exit::Code(0), expect.to_owned()));
    assert!(fixture.path("upper/first").exists());
    assert!(!fixture.path("upper/proc").exists());
}

#[test]
fn a_prepared_container_is_like_any_other() {
    let script = "hostname; id -u; echo $A; cat /first; ls /proc/acpi /sys/firmware; \
                  ls /dev/pts/ptmx; echo $$; touch /proc/sys/kernel/panic 2>/dev/null || echo ro";
    let expect = "box\n1000\nb\nfirst\n/proc/acpi:\n\n/sys/firmware:\n/dev/pts/ptmx\n1\nro\n";
    let change = |spec: &mut ProcessSpec| {
        spec.hostname = "box".into();
        spec.env.push(("A".into(), "b".into()));
        spec.user.uid = 1000;
    };
    check(change, script, true, expect);
}

#[test]
fn a_prepared_container_can_have_an_init() {
    let change = |spec: &mut ProcessSpec| spec.init = true;
    check(change, "[ $$ != 1 ] && echo not first", true, "not first\n");
}

#[test]
fn what_a_prepared_container_lacks_is_made_anew() {
    let change = |spec: &mut ProcessSpec| {
        spec.network = Network::None;
        spec.shm_size = 1 << 20;
    };
    let script = "grep -c : /proc/net/dev; grep -o 'size=1024k' /proc/mounts";
    check(change, script, false, "1\nsize=1024k\n");
}

#[test]
fn a_prepared_container_says_why_it_does_not_start() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let helper = Helper::program(env!("CARGO_BIN_EXE_runtime-probe"));
    let mut spec = fixture.spec("true");
    spec.network = Network::Host;
    let process = spawn(&helper, &spec).unwrap();
    helper.prepare_next();
    process.wait(|_, _| {}).unwrap();
    spec.args = vec!["/no/such/program".into()];
    assert_eq!(spawn(&helper, &spec).unwrap_err().exit_code(), 127);
}
