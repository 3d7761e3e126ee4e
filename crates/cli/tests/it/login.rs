//! Logging in to a registry and out.

use std::os::unix::fs::PermissionsExt;

use testkit::Access;

use crate::harness::Project;

/// `me:secret`
const PAIR: &str = "bWU6c2VjcmV0";

#[test]
fn a_password_is_tried_then_kept_then_forgotten() {
    for access in [Access::Basic(PAIR.into()), Access::Token(Some(PAIR.into()))] {
        let registry = testkit::Registry::start_with(access);
        let host = registry.host();
        let name = format!("{host}/app");
        let project = Project::with("FROM busybox\n");
        project.kiln(&["build", "-q", "-t", &name, "."]).success();
        let refused = project.kiln(&["push", &name]).code(1);
        let help = format!("help: there are no credentials for {host}: kiln login {host}\n");
        drop(refused.says(&["credentials required", &help]));
        project.write("Dockerfile", format!("FROM {host}/base\n"));
        let refused = project.kiln(&["build", "."]).code(1);
        drop(refused.says(&["Dockerfile:1", "credentials required", &help]));

        let login = ["login", "-u", "me", "--password-stdin", &host];
        project.write("wrong", "wrong\n");
        project.write("right", "secret\n");
        let wrong = project.kiln_reading(&login, "wrong").code(1);
        drop(wrong.says(&["cannot log in to", "credentials refused"]));
        let file = project.path("../.docker/config.json");
        assert!(!file.exists(), "nothing is kept that does not work");

        let done = project.kiln_reading(&login, "right").success();
        assert_eq!(done.stdout, "Login Succeeded\n");
        assert!(done.stderr.contains("unencrypted"), "{}", done.stderr);
        let mode = file.metadata().expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        project.kiln(&["push", &name]).success();

        let out = project.kiln(&["logout", &host]).success().stdout;
        assert_eq!(out, format!("Removing login credentials for {host}\n"));
        drop(project.kiln(&["push", &name]).code(1));
        let out = project.kiln(&["logout", &host]).success().stdout;
        assert_eq!(out, format!("Not logged in to {host}\n"));
    }
}

#[test]
fn there_is_nobody_to_ask_without_a_terminal() {
    let project = Project::new();
    let asked = project.kiln(&["login", "localhost:1"]).code(1);
    drop(asked.says(&["--username and --password-stdin"]));
    let asked = project.kiln(&["login", "-p", "x", "localhost:1"]).code(1);
    drop(asked.says(&["--username and --password-stdin"]));
}
