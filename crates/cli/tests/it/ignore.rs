//! Ignore files end to end (rows G1 to G6).

use crate::harness::Project;

#[test]
fn the_dockerfiles_own_ignore_file_comes_first() {
    let project = Project::with("FROM busybox\nCOPY . /d\n");
    for name in ["a", "b", "keep/x", "keep/y"] {
        project.write(name, name);
    }
    project.write(".dockerignore", "*\n!a\n");
    project.build();
    assert_eq!(project.shell("ls /d"), "a\n");
    project.write("other.Dockerfile", "FROM busybox\nCOPY . /d\n");
    project.write("other.Dockerfile.dockerignore", "*\n!keep\nkeep/y\n");
    project
        .kiln(&["build", "-f", "other.Dockerfile", "-t", "image", "."])
        .success();
    assert_eq!(project.shell("cd /d; find . -type f"), "./keep/x\n");
}

#[test]
fn ignored_directories_are_not_entered() {
    let project = Project::with("FROM busybox\nCOPY . /d\n");
    project.write("f", "f");
    project.write("deep/a/b", "b");
    project.write(".dockerignore", "deep\n");
    project.build();
    let log = project.path("../strace").to_string_lossy().into_owned();
    project.write("f", "g");
    let mut command = std::process::Command::new("strace");
    let kiln = project.command(&["build", "-q", "."]);
    command
        .args(["-f", "-e", "trace=open,openat,openat2", "-o", &log])
        .arg(kiln.get_program())
        .args(kiln.get_args());
    command.env_clear().current_dir(project.path("."));
    for (name, value) in kiln.get_envs() {
        command.env(name, value.expect("set"));
    }
    crate::harness::output(&mut command).success();
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(
        log.contains("Dockerfile") && !log.contains("\"deep"),
        "{log}"
    );
}

#[test]
fn g4_what_is_taken_back_and_g5_what_is_there_by_default() {
    let project = Project::with("FROM busybox\nCOPY . /d\n");
    for name in [
        "top",
        "deep/a/kept",
        "deep/a/gone",
        "deep/b/gone",
        "logs/x.log",
    ] {
        project.write(name, name);
    }
    project.write(
        ".dockerignore",
        "\u{feff}deep/**\n  !deep/a/kept  \n#logs\n/logs/\n",
    );
    project.build();
    let found = "./.dockerignore\n./Dockerfile\n./deep/a/kept\n./top\n";
    assert_eq!(project.shell("cd /d; find . -type f | sort"), found);
}

#[test]
fn g6_archives_have_no_ignore_file() {
    let project = Project::with("");
    project.write("tree/Dockerfile", "FROM busybox\nCOPY . /d\n");
    project.write("tree/seen", "x");
    project.write("tree/.dockerignore", "seen\n");
    project.host("tar -C tree -cf context.tar .");
    let mut command = project.command(&["build", "-q", "-t", "image", "-"]);
    let archive = std::fs::File::open(project.path("context.tar")).expect("tar wrote it");
    crate::harness::output(command.stdin(archive)).success();
    assert_eq!(project.shell("cat /d/seen"), "x");
}

#[test]
fn mounts_of_the_context_obey_it_and_errors_name_the_rule() {
    let project = Project::with("FROM busybox\nRUN --mount=type=bind,target=/m ls /m > /list\n");
    project.write("a", "a");
    project.write("secret", "s");
    project.write(".dockerignore", "secret\nDockerfile\n.dockerignore\n");
    project.build();
    assert_eq!(project.shell("cat /list"), "a\n");
    project.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=bind,source=secret,target=/m true\n",
    );
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["Dockerfile:2", "secret", ".dockerignore:1"]);
}

#[test]
fn patterns_without_a_match_are_reported_by_the_check() {
    let project = Project::with("FROM busybox\nCOPY . /d\n");
    project.write("src/node_modules/x", "x");
    project.write("build/o", "x");
    project.write(".dockerignore", "build\nnode_modules\n**/x\n");
    let output = project.kiln(&["build", "--check", "."]).code(1);
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(
        text.contains(".dockerignore:2") && text.contains("**/node_modules"),
        "{text}"
    );
    assert!(
        !text.contains(".dockerignore:1") && !text.contains(".dockerignore:3"),
        "{text}"
    );
    let json = ["build", "--call", "check,format=json", "."];
    let json = project.kiln(&json).code(1).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let finding = &json["diagnostics"][0];
    assert_eq!(finding["code"], "IgnorePatternMatchesNothing");
    assert_eq!(finding["severity"], "warning");
    project.write(
        "Dockerfile",
        "# check=error=true\nFROM busybox\nCOPY . /d\n",
    );
    let said = project.kiln(&["build", "--check", "."]).code(1);
    let said = said.stdout + &said.stderr;
    assert!(
        said.contains("error[IgnorePatternMatchesNothing]"),
        "{said}"
    );
    project.write(
        "Dockerfile",
        "# check=skip=IgnorePatternMatchesNothing\nFROM busybox\nCOPY . /d\n",
    );
    project.kiln(&["build", "--check", "."]).success();
}
