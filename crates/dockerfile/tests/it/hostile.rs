//! Files that nobody writes: huge, deep, not text. They end in diagnostics, and soon.

use std::time::{Duration, Instant};

use dockerfile::{Escape, Parse, Span, Word, parse};

/// Parses within the time that a quadratic pass over the text would exceed by far, even in a
/// debug build on a busy machine.
#[track_caller]
fn check(text: &[u8]) -> Parse {
    let begun = Instant::now();
    let parsed = parse(text);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "took {:?}",
        begun.elapsed()
    );
    parsed
}

fn codes(parsed: &Parse) -> Vec<&'static str> {
    parsed
        .diagnostics
        .iter()
        .filter(|one| one.is_error())
        .map(|one| one.code.as_str())
        .collect()
}

#[test]
fn p2_long_lines() {
    let at_limit = format!("FROM a\nRUN {}\n", "x".repeat(65_535 - 4));
    assert_eq!(codes(&check(at_limit.as_bytes())), [""; 0]);
    let above = format!("FROM a\nRUN {}\n", "x".repeat(65_536 - 4));
    assert_eq!(codes(&check(above.as_bytes())), ["line-too-long"]);
    let comment = format!("FROM a\n#{}\nRUM x\n", "x".repeat(70_000));
    assert_eq!(
        codes(&check(comment.as_bytes())),
        ["line-too-long", "unknown-instruction"]
    );
}

#[test]
fn ten_thousand_stages() {
    let text: String = (0..10_000)
        .map(|n| format!("FROM s{n} AS s{}\nRUN x\n", n + 1))
        .collect();
    let parsed = check(text.as_bytes());
    assert_eq!(parsed.dockerfile.stages.len(), 10_000);
    assert_eq!(parsed.diagnostics, []);
}

#[test]
fn long_continuations_and_many_words() {
    let lines = "  word \\\n# comment\n\n".repeat(20_000);
    check(format!("FROM a\nENV k={lines}").as_bytes());
    check(format!("FROM a\nCOPY {lines} /x").as_bytes());
    check(
        format!(
            "FROM a\nRUN {} x",
            "--mount=type=cache,target=/a ".repeat(10_000)
        )
        .as_bytes(),
    );
    check(format!("FROM a\nRUN cat {}", "<<A ".repeat(10_000)).as_bytes());
    check(format!("FROM a\nRUN {}", "[".repeat(60_000)).as_bytes());
    check(format!("FROM a\n{} RUN x", "ONBUILD ".repeat(8_000)).as_bytes());
    check("FROM a\nONBUILD RUN <<E\n".repeat(5_000).as_bytes());
}

#[test]
fn bytes_that_are_not_utf8() {
    assert_eq!(
        codes(&check(b"# \xff\nFROM a\nRUN x \\\n # \xe9t\xe9\n  y\n")),
        [""; 0]
    );
    let parsed = check(b"FROM a\nRUN echo \xe9\nCOPY <<E /x\n\xff\nE\n");
    assert_eq!(codes(&parsed), ["invalid-utf8", "invalid-utf8"]);
    assert_eq!(parsed.diagnostics[0].span(), Some(Span::new(16, 17)));
}

#[test]
fn expansions_are_bounded() {
    let scope = vec![
        ("a".to_owned(), "a".repeat(60_000)),
        ("p".to_owned(), "a*".repeat(2_000) + "b"),
    ];
    let begun = Instant::now();
    let expand = |text: String| {
        let word = Word::decoded(text, Span::default());
        word.expand(&scope, Escape::Backslash)
            .map(|expanded| expanded.text.len())
    };
    assert_eq!(expand("${a##$p}".to_owned()), Ok(60_000));
    assert_eq!(expand("${a//$p/x}".to_owned()), Ok(60_000));
    assert_eq!(expand("${a//a?a/x}".to_owned()), Ok(20_000));
    let too_long = expand("${a//a/$a}".to_owned()).expect_err("3.6 GB");
    assert_eq!(
        too_long.to_string(),
        "the expanded text is longer than 4194304 bytes"
    );
    let too_deep = expand("${a:-".repeat(50_000)).expect_err("too deep");
    assert_eq!(
        too_deep.to_string(),
        "substitutions are nested deeper than 128 levels"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "took {:?}",
        begun.elapsed()
    );
}
