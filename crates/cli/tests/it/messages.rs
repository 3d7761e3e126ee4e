//! What kiln says about mistakes, word for word: `testdata/messages/*.txt`, each a list of cases.
//! `KILN_UPDATE=1 cargo test` writes what is said now.
//!
//! ```text
//! ==== name of the case: arguments of `kiln build` besides the context
//! FROM scratch
//! ---- exit 1
//! error[…]: what was said
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::Project;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/messages")
        .join(file)
}

/// Runs the cases of one file and compares.
#[track_caller]
fn check(file: &str) {
    let path = path(file);
    let expected = fs::read_to_string(&path).expect("the cases are readable");
    let project = Project::with("");
    project.write("a.txt", "a");
    project.write("b.txt", "b");
    project.write("dir/c.txt", "c");
    project.write("ignored.txt", "nobody sees this");
    project.write(".dockerignore", "# hidden\nignored.txt\n");
    let actual: String = expected
        .split_inclusive('\n')
        .collect::<Vec<&str>>()
        .chunk_by(|_, next| !next.starts_with("==== "))
        .map(|lines| case(&project, lines))
        .collect();
    if std::env::var_os("KILN_UPDATE").is_some() {
        fs::write(&path, &actual).expect("the cases are writable");
        return;
    }
    let differs = expected
        .lines()
        .zip(actual.lines())
        .position(|(expected, actual)| expected != actual);
    assert!(
        expected == actual,
        "{} differs from line {differs:?} on; now it is:\n{actual}",
        path.display()
    );
}

/// Runs one case and returns it with what was said.
fn case(project: &Project, lines: &[&str]) -> String {
    let (head, rest) = lines.split_first().expect("a case has a head");
    let input: String = rest
        .iter()
        .take_while(|line| !line.starts_with("---- "))
        .copied()
        .collect();
    project.write("Dockerfile", &input);
    let arguments = head.split_once(": ").map_or("", |(_, arguments)| arguments);
    let all: Vec<&str> = ["build"]
        .into_iter()
        .chain(arguments.split_whitespace())
        .chain(["."])
        .collect();
    let output = project.command(&all).output().expect("kiln runs");
    let said = [output.stdout, output.stderr].concat();
    let said = without_digests(&String::from_utf8_lossy(&said));
    let code = output.status.code().expect("kiln ends by itself");
    format!("{head}{input}---- exit {code}\n{}\n\n", said.trim_end())
}

/// Digests of images depend on the busybox of the machine.
fn without_digests(text: &str) -> String {
    const MARK: &str = "@sha256:";
    let mut pieces = text.split(MARK);
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        kept.push_str(MARK);
        kept.push('…');
        kept.push_str(piece.trim_start_matches(|ch: char| ch.is_ascii_hexdigit()));
    }
    kept
}

/// What is said about a file that is no text, or too long for a list of cases.
#[track_caller]
fn check_bytes(dockerfile: &[u8], expected: &str) {
    let project = Project::new();
    project.write("Dockerfile", dockerfile);
    let said = project.kiln(&["build", "-q", "."]).code(1).stderr;
    assert_eq!(said.trim_end(), expected);
}

#[test]
fn p1_bytes_that_are_no_text() {
    check_bytes(
        b"FROM scratch\n# \xff\nENV a=\xff\xfe\n",
        "error[invalid-utf8]: this line is not UTF-8\n --> Dockerfile:3:7\n  |\n3 | ENV a=??\n  \
         |       ^ not a character\n  |\n  = help: save the file as UTF-8; only comments may hold \
         other bytes",
    );
}

#[test]
fn p2_a_line_that_is_too_long() {
    let text = format!("FROM scratch\nRUN {}\n", "x".repeat(65_536));
    check_bytes(
        text.as_bytes(),
        &format!(
            "error[line-too-long]: dockerfile line greater than max allowed size of 65535 bytes\n \
             --> Dockerfile:2:1\n  |\n2 | RUN {}...\n  | ^ this line has 65540 bytes\n  |\n  \
             = help: break the line with an escape character, or COPY the data from a file",
            "x".repeat(109)
        ),
    );
}

#[test]
fn c26_no_context() {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\nCOPY a /\n");
    let mut command = project.command(&["build", "-q", "-"]);
    let file = fs::File::open(project.path("Dockerfile")).expect("it was written");
    let said = crate::harness::output(command.stdin(file)).code(1).stderr;
    assert_eq!(
        said.trim_end(),
        "error[no-context]: there is no build context to take files from\n --> Dockerfile:2:6\n  \
         |\n2 | COPY a /\n  |      ^\n  |\n  = help: give a directory instead of `-`; the \
         Dockerfile may still come from standard input with `-f -`"
    );
}

#[test]
fn g2_patterns_that_are_none() {
    let project = Project::new();
    project.write("Dockerfile", "FROM scratch\n");
    project.write(".dockerignore", "fine\n[a\n!\n");
    let said = project.kiln(&["build", "-q", "."]).code(1).stderr;
    assert_eq!(
        said.trim_end(),
        "error[ignore-pattern]: pattern `[a` is not valid\n --> ./.dockerignore:2:1\n  |\n2 | \
         [a\n  | ^^ a character class is not closed or has an empty or reversed range\n\n\
         error[ignore-pattern]: pattern `!` is not valid\n --> ./.dockerignore:3:1\n  |\n3 | \
         !\n  | ^ an exclamation mark needs a pattern"
    );
}

#[test]
fn about_syntax() {
    check("syntax.txt");
}

#[test]
fn about_stages() {
    check("stages.txt");
}

#[test]
fn about_words_and_settings() {
    check("settings.txt");
}

#[test]
fn about_run_copy_and_add() {
    check("steps.txt");
}

#[test]
fn about_what_fails_while_building() {
    check("building.txt");
}

#[test]
fn about_checks() {
    check("checks.txt");
}

#[test]
fn about_questions() {
    check("questions.txt");
}
