//! Programs that do not start, and set-ups that fail: each says why (row R6).

use crate::support::{Fixture, chain, try_run};
use runtime::{Exit, ProcessSpec};
use std::os::unix::fs::PermissionsExt;

#[track_caller]
fn check(spec: &ProcessSpec, expect: &str, code: i32) {
    match try_run(spec) {
        Ok(ran) => panic!("it ran: {ran:?}"),
        Err(error) => assert_eq!((chain(&error).as_str(), error.exit_code()), (expect, code)),
    }
}

fn with_args(fixture: &Fixture, args: &[&str]) -> ProcessSpec {
    let mut spec = fixture.spec("");
    spec.args = args.iter().map(Into::into).collect();
    spec
}

#[test]
fn programs_that_cannot_be_executed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for (name, mode, content) in [
        ("nobash", 0o755, "#!/bin/bash\n"),
        ("crlf", 0o755, "#!/bin/sh\r\necho\r\n"),
        ("text", 0o644, "text"),
        ("noise", 0o755, "noise\n"),
        (
            "foreign",
            0o755,
            "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x15\0\x01\0\0\0",
        ),
    ] {
        let path = fixture.image_file(name, content);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let machine = std::env::consts::ARCH;
    for (program, expect, code) in [
        (
            "nope",
            "executable \"nope\" not found in PATH=/bin".to_owned(),
            127,
        ),
        ("/nope", "executable \"/nope\" not found".to_owned(), 127),
        ("", "executable \"\" not found in PATH=/bin".to_owned(), 127),
        (
            "/nobash",
            "\"/nobash\" needs \"/bin/bash\", which is not there".to_owned(),
            127,
        ),
        (
            "/crlf",
            "the #! line of \"/crlf\" ends with a carriage return (Windows line ends)".to_owned(),
            127,
        ),
        (
            "/text",
            "permission denied to execute \"/text\"".to_owned(),
            126,
        ),
        (
            "/bin",
            "\"/bin\" is a directory, not a program".to_owned(),
            126,
        ),
        (
            "/noise",
            "exec format error: \"/noise\" is neither a binary nor a script with a #! line"
                .to_owned(),
            126,
        ),
        (
            "/foreign",
            format!("\"/foreign\" is a binary for powerpc64, not for {machine}"),
            126,
        ),
    ] {
        check(&with_args(&fixture, &[program]), &expect, code);
    }
    assert_eq!(fixture.written(), "");
}

#[test]
fn set_ups_that_fail_name_the_path() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut spec = fixture.spec("true");
    spec.mounts.push(runtime::Mount {
        target: "/etc/x".into(),
        kind: runtime::MountKind::Bind {
            source: "/no/such/file".into(),
            readonly: true,
            nosuid: false,
            noexec: false,
        },
    });
    check(
        &spec,
        "set up the container: open /no/such/file to mount it: No such file or directory (os error 2)",
        125,
    );
    assert_eq!(fixture.written(), "");

    let mut spec = fixture.spec("true");
    spec.root = fixture.root_of(vec![sys::mount::Lower::Dir("/no/such/layer".into())]);
    check(
        &spec,
        "set up the container: open layer /no/such/layer: No such file or directory (os error 2)",
        125,
    );

    fixture.image_file("file", "");
    let mut spec = fixture.spec("true");
    spec.cwd = "/file".into();
    check(
        &spec,
        "set up the container: enter the working directory /file: Not a directory (os error 20)",
        125,
    );
}

#[test]
fn a_program_that_is_no_helper_is_noticed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let helper = runtime::Helper::program("/bin/true");
    let error = runtime::spawn(&helper, &fixture.spec("true")).unwrap_err();
    assert!(chain(&error).contains("the container helper"), "{error}");
    let helper = runtime::Helper::program("/no/such/helper");
    let error = runtime::spawn(&helper, &fixture.spec("true")).unwrap_err();
    assert!(
        chain(&error).starts_with("start the container helper /no/such/helper"),
        "{error}"
    );
}

#[test]
fn r6_exits_are_told() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 42", Exit::Code(42)),
        ("/bin/sh -c 'kill -9 $$'; exit $?", Exit::Code(137)),
        ("exec false", Exit::Code(1)),
    ] {
        assert_eq!(
            try_run(&fixture.spec(script)).unwrap().exit,
            exit,
            "{script}"
        );
    }
}
