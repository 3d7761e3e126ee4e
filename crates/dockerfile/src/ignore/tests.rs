//! Tests of the ignore rules: rows G2 to G4.

use super::*;

/// Checks which of the paths are ignored by a file of these lines.
#[track_caller]
fn check(lines: &str, ignored: &[&str], kept: &[&str]) {
    let file = IgnoreFile::parse(lines.as_bytes()).expect("patterns");
    for path in ignored {
        assert!(
            file.decide(path).is_ignored(),
            "{path} is not ignored by {lines:?}"
        );
    }
    for path in kept {
        assert!(
            !file.decide(path).is_ignored(),
            "{path} is ignored by {lines:?}"
        );
    }
}

#[track_caller]
fn check_error(lines: &str, expected: &[(usize, PatternError)]) {
    let errors = IgnoreFile::parse(lines.as_bytes()).expect_err("no pattern");
    let errors: Vec<_> = errors
        .iter()
        .map(|error| (error.line, error.problem))
        .collect();
    assert_eq!(errors, expected, "{lines:?}");
}

#[test]
fn g2_lines() {
    let file = IgnoreFile::parse(
        b"\xef\xbb\xbf# comment\n #not one\n\n  /a//b/./c/../d/  \r\n.\n! /x/ \n/\n./!y\n",
    );
    let file = file.expect("patterns");
    assert_eq!(file.patterns(), ["#not one", "a/b/d", ".", "!x", "/", "!y"]);
    let lines: Vec<usize> = file.rules().iter().map(|rule| rule.line).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7, 8]);
    assert_eq!(file.rules()[1].span, Span::new(26, 41));
    check(".\n/\n..\n../x\n", &[], &["a", "x", ""]);
}

#[test]
fn g3_globs() {
    check("a/b", &["a/b", "a/b/c/d"], &["a", "b", "a/bc", "x/a/b"]);
    check("*.md", &["x.md", ".md", "x.md/y"], &["a/x.md", "xmd"]);
    check("?x", &["ax", "éx"], &["x", "aax"]);
    check("*/t", &["a/t", "a/t/b"], &["t", "a/b/t"]);
    check("a*b?c", &["abxc", "axxbxc"], &["abc", "a/bxc"]);
    check("[a-c]x", &["ax", "cx"], &["dx", "x"]);
    check("[^a-c]x", &["dx"], &["ax"]);
    check("[!a]x", &["!x", "ax"], &["bx"]);
    check(r"[\]\-]x", &["]x", "-x"], &[r"\x"]);
    check(r"\*a\?", &["*a?"], &["xa?", "*ab"]);
    check("a{b,c}.+()|$^", &["a{b,c}.+()|$^"], &["ab"]);
    check("[[]0]", &["[0]"], &["0"]);
    check("a]", &["a]"], &["a"]);
}

#[test]
fn g3_double_stars() {
    check("**", &["a", "a/b", ".x"], &[]);
    check("**/", &["a", "a/b"], &[]);
    check("a/**", &["a/b", "a/b/c"], &["a", "ab"]);
    check("**/a", &["a", "b/a", "b/c/a", "b/a/c"], &["ba", "b/ca"]);
    check("**a", &["a", "ba", "b/ca"], &["ab"]);
    check("**/a*", &["a", "b/ax"], &["ba"]);
    check("**a*", &["a", "b/ax"], &["ba"]);
    check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb", "b"]);
    check("a**b", &["ab", "ax/b"], &["axb"]);
    check("a**", &["a", "ab", "ab/c"], &["b"]);
    check("**/a/**", &["a/b", "x/a/b"], &["a", "x/a"]);
    check("**/*.go", &["x.go", "a/x.go", "a/b/x.go"], &["x.goo"]);
    check("**/**/x", &["x", "a/x", "a/b/x"], &["ax"]);
}

#[test]
fn g4_the_last_match_wins() {
    check("*\n!a", &["b", "c/d"], &["a", "a/b"]);
    check("d\n!d/f", &["d", "d/g"], &["d/f", "d/f/x"]);
    check("*.md\n!R*.md\nR-x.md", &["a.md", "R-x.md"], &["R.md"]);
    check("!a\na", &["a", "a/b"], &[]);
    check("a\n!a\na/b", &["a/b"], &["a", "a/c"]);
    check("**\n!**/*.rs", &["a", "a/b.c"], &["a/b.rs", "b.rs/c"]);
    // As in BuildKit's walk, a rule that could not change a directory's verdict is not
    // remembered below it.
    check("d\n!d/f\nd", &["d", "d/g"], &["d/f"]);
}

#[test]
fn g4_errors() {
    check_error(
        "a\n!\n[\n[]\n[a\n[z-a]\n[a-]\n\\",
        &[
            (2, PatternError::LoneExclamation),
            (3, PatternError::BadClass),
            (4, PatternError::BadClass),
            (5, PatternError::BadClass),
            (6, PatternError::BadClass),
            (7, PatternError::BadClass),
            (8, PatternError::TrailingBackslash),
        ],
    );
    check_error("!/", &[(1, PatternError::LoneExclamation)]);
    let error = IgnoreFile::from_patterns(["a", "[x"]).expect_err("no pattern");
    assert_eq!(error.to_string(), "read pattern `[x` of line 2");
}

#[test]
fn the_deciding_line_is_named() {
    let file = IgnoreFile::parse(b"# head\n*.log\nd\n!d/keep\n").expect("patterns");
    let rule = |path: &str| {
        let verdict = file.decide(path);
        verdict
            .decided_by(&file)
            .map(|rule| (rule.line, rule.to_string()))
    };
    assert_eq!(rule("x.log"), Some((2, "*.log".to_owned())));
    assert_eq!(rule("d/x"), Some((3, "d".to_owned())));
    assert_eq!(rule("d/keep"), Some((4, "!d/keep".to_owned())));
    assert_eq!(rule("x"), None);
    assert_eq!(file.decide("d/x.log").hits(), [0; 0]);
    assert_eq!(file.decide("x.log").hits(), [0]);
}

#[test]
fn a_pattern_of_one_component_can_be_widened() {
    let file = IgnoreFile::from_patterns(["node_modules", "!a", "a/b", "**/c"]).expect("patterns");
    let wider: Vec<_> = file.rules().iter().map(IgnoreRule::at_any_depth).collect();
    assert_eq!(
        wider,
        [
            Some("**/node_modules".to_owned()),
            Some("!**/a".to_owned()),
            None,
            None
        ]
    );
}

/// Checks whether a walk must enter an ignored directory.
#[track_caller]
fn check_prune(lines: &str, directory: &str, enter: bool) {
    let file = IgnoreFile::parse(lines.as_bytes()).expect("patterns");
    let verdict = file.decide(directory);
    assert!(
        verdict.is_ignored(),
        "{directory} is not ignored by {lines:?}"
    );
    let state = verdict.enter(&file);
    assert_eq!(
        file.may_include_below(&state),
        enter,
        "{directory} of {lines:?}"
    );
}

#[test]
fn directories_without_inclusions_are_pruned() {
    check_prune("d", "d", false);
    check_prune("*\n!d/f", "d", true);
    check_prune("*\n!d/f", "e", false);
    check_prune("*\n!d/f/g", "d/f", true);
    check_prune("*\n!d/f/g", "d/x", false);
    check_prune("*\n!*/x", "d", true);
    check_prune("*\n!*/x", "d/y", false);
    check_prune("*\n!**/*.rs", "a/b/c", true);
    check_prune("!d/f\n*", "d", false);
}
