//! Words and here-document bodies, expanded: rows X1 to X16 and P25.

use std::collections::BTreeMap;

use dockerfile::ast::{Heredoc, InstructionKind, Spanned};
use dockerfile::{Escape, Scope, Span, Word, parse};

fn scope() -> BTreeMap<String, String> {
    let pairs = [
        ("a", "one"),
        ("empty", ""),
        ("path", "/usr/local/bin"),
        ("file", "archive.tar.gz"),
        ("stars", "a*b?c"),
        ("ports", "3000 4000/udp"),
        ("näme", "ü"),
        ("lines", "ab\nab"),
    ];
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn word(text: &str) -> Word {
    Word::decoded(text.to_owned(), Span::new(0, text.len()))
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let expanded = word(text).expand(&scope(), Escape::Backslash);
    assert_eq!(
        expanded.map(|expanded| expanded.text).as_deref(),
        Ok(expected),
        "{text}"
    );
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = word(text)
        .expand(&scope(), Escape::Backslash)
        .expect_err(text);
    assert_eq!(error.to_string(), expected, "{text}");
}

#[test]
fn x1_names() {
    check("$a-${a}.$none|", "one-one.|");
    check("$näme ${näme}", "ü ü");
    check("x$.y $", "x$.y $");
    check("$1$@$*$#$?$!$$$0$12", "");
    check("$a1 $a_b $-", "  ");
}

#[test]
fn x2_to_x4_alternatives() {
    check(
        "${none-w} ${none:-w} ${empty-w} ${empty:-w} ${a-w} ${a:-w}",
        "w w  w one one",
    );
    check(
        "${none+w} ${none:+w} ${empty+w} ${empty:+w} ${a+w} ${a:+w}",
        "  w  w w",
    );
    check("${a?m}${a:?m}${empty?m}", "oneone");
    check_error("${none?}", "none: is not allowed to be unset");
    check_error("${none:?give one}", "none: give one");
    check_error("${empty:?}", "empty: is not allowed to be empty");
}

#[test]
fn x5_to_x7_patterns() {
    check(
        "${path#*/} ${path##*/} ${path#/usr} ${path#x}",
        "usr/local/bin bin /local/bin /usr/local/bin",
    );
    check(
        "${file%.*} ${file%%.*} ${file%gz}",
        "archive.tar archive archive.tar.",
    );
    check(
        "${file/a/A} ${file//a/A} ${file//?ar/}",
        "Archive.tar.gz Archive.tAr.gz archive..gz",
    );
    check(r"${stars#a\*} ${stars%\?c} ${stars//\*/x}", "b?c a*b axb?c");
    check(
        r"${path//\//-} ${path/\/usr/~}",
        "-usr-local-bin ~/local/bin",
    );
    check("${a///-}", "-o-n-e-");
    check("${lines#*b} ${lines%%b*}", "\nab ab\na");
    check("${none#x}${none/x/y}", "");
    check_error(
        r"${a#\x}",
        r"invalid pattern (\x) in substitution: invalid escape '\x'",
    );
    check_error("${a/x}", "syntax error: missing '/' in ${}");
}

#[test]
fn x8_nesting() {
    check("${none:-${a:-x}y}", "oney");
    check(r#"${none:-"a }"'b }'}"#, "a }b }");
    check("${path#${none:-/usr}}", "/local/bin");
    check("${a+${a+${a+deep}}}", "deep");
}

#[test]
fn x9_errors() {
    for text in ["${}", "${:}", "${{a}", "${:-x}"] {
        check_error(text, "bad substitution");
    }
    check_error("${a:=w}", "unsupported modifier (:=) in substitution");
    check_error("${a:x}", "unsupported modifier (:x) in substitution");
    check_error("${a:#o}", "unsupported modifier (:#) in substitution");
    check_error("${a:%%e}", "unsupported modifier (:%) in substitution");
    check_error("${a!}", "unsupported modifier (!) in substitution");
    for text in ["${", "${a", "${a:", "${a:-", "${a:-x", "${a/x/y"] {
        check_error(text, "syntax error: missing '}'");
    }
    check_error(
        "'x",
        "unexpected end of statement while looking for matching '",
    );
    check_error(
        "\"x",
        "unexpected end of statement while looking for matching \"",
    );
}

#[test]
fn x10_quoting() {
    check(r#"'$a\' "$a" \$a"#, r"$a\ one $a");
    check(r#""\"\$a\\ \n" \n"#, r#""$a\ \n n"#);
    check(r#"a"b"'c'\"d"#, r#"abc"d"#);
    check(r"end\", "end");
    let backtick = word(r"`$a \x $a").expand(&scope(), Escape::Backtick);
    assert_eq!(
        backtick.map(|expanded| expanded.text).as_deref(),
        Ok(r"$a \x one")
    );
}

#[test]
fn x13_words_split_after_expansion() {
    let split = |text: &str| {
        word(text)
            .expand_words(&scope(), Escape::Backslash)
            .map(|all| all.words)
    };
    assert_eq!(
        split("$ports 80"),
        Ok(["3000", "4000/udp", "80"].map(String::from).into())
    );
    assert_eq!(
        split(r#""$ports" a\ b '' "#),
        Ok(["3000 4000/udp", "a b"].map(String::from).into())
    );
    assert_eq!(split("$none"), Ok(Vec::new()));
}

#[test]
fn uses_are_reported_with_their_places() {
    let parsed = parse(b"FROM a\nENV x=$a\\\n${none}y z=\"${empty:-$gone}\"\n");
    let InstructionKind::Env(pairs) = &parsed.dockerfile.stages[0].instructions[0].value else {
        panic!("{parsed:?}");
    };
    let mut seen = Vec::new();
    for pair in &pairs.pairs {
        for one in pair
            .value
            .expand(&scope(), Escape::Backslash)
            .expect("well formed")
            .uses
        {
            let place = parsed.dockerfile.source.slice(one.span).to_owned();
            seen.push((one.name, place, one.set, one.guarded));
        }
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|(name, place, set, guarded)| (&**name, &**place, *set, *guarded))
        .collect();
    assert_eq!(
        seen,
        [
            ("a", "$a", true, false),
            ("none", "${none}", false, false),
            ("gone", "$gone", false, false),
            ("empty", "${empty:-$gone}", true, true),
        ]
    );
}

#[test]
fn p25_here_document_bodies() {
    let heredoc = |body: &str, expand, strip_tabs| Heredoc {
        marker: word("<<E"),
        name: "E".to_owned(),
        file_descriptor: 0,
        expand,
        strip_tabs,
        body: Spanned {
            value: body.to_owned(),
            span: Span::new(0, body.len()),
        },
    };
    let expanded = |body, expand, strip| {
        heredoc(body, expand, strip)
            .expand(&scope())
            .map(|expanded| expanded.text)
    };
    assert_eq!(
        expanded("\"$a\" '$a' \\$a \\\\\n", true, false).as_deref(),
        Ok("\"one\" 'one' $a \\\n")
    );
    assert_eq!(expanded("\\\n", true, false).as_deref(), Ok("\n"));
    assert_eq!(expanded("\t$a\n", false, true).as_deref(), Ok("$a\n"));
    assert_eq!(
        expanded("\t\t$a\n \tx\n", true, true).as_deref(),
        Ok("one\n \tx\n")
    );
    let error = heredoc("abc ${a:x} d", true, false)
        .expand(&scope())
        .expect_err("a modifier");
    assert_eq!(error.span, Span::new(4, 9));
}

#[test]
fn later_pairs_win_in_a_list() {
    let list = [("k", "1"), ("k", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let list = Vec::from(list);
    assert_eq!(Scope::get(&list, "k"), Some("2"));
}
