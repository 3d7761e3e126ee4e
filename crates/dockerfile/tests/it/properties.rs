//! What holds for every input: no panic, every byte accounted for, places that fit the file.

use dockerfile::ast::{InstructionKind, Node};
use dockerfile::ignore::IgnoreFile;
use dockerfile::{Diagnostic, Escape, Span, Word, parse};
use proptest::prelude::*;

/// Text made of what the language is made of, so that runs of it mean something.
fn dockerfile_text() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "FROM ",
        "from ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "ONBUILD ",
        "CMD ",
        "LABEL ",
        "HEALTHCHECK ",
        "EXPOSE ",
        "VOLUME ",
        "SHELL ",
        "AS ",
        "a",
        "b=c",
        "--mount=type=cache",
        "--from=x",
        "--",
        "\\",
        "\\\n",
        "\n",
        "\n\n",
        "\r\n",
        "#",
        "# c\n",
        "# escape=`\n",
        "`\n",
        "# check=skip=all\n",
        "[\"x\", \"y\"]",
        "[",
        "\"",
        "'",
        "$a",
        "${a:-b}",
        "<<E",
        "<<-'E'",
        "E\n",
        "\tE\n",
        " ",
        "\t",
        "=",
        ",",
        "é",
        "\u{feff}",
        "\u{a0}",
        "\u{85}",
    ]);
    let text = prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat().into_bytes());
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![4 => text, 1 => bytes]
}

fn check_spans(bytes: &[u8], span: Span) {
    assert!(
        span.start <= span.end && span.end <= bytes.len(),
        "{span:?} of {}",
        bytes.len()
    );
}

fn check_node<T>(bytes: &[u8], node: &Node<T>) {
    check_spans(bytes, node.span);
    check_spans(bytes, node.keyword.span);
    assert!(node.span.start <= node.keyword.span.start && node.keyword.span.end <= node.span.end);
    assert_eq!(
        &bytes[node.keyword.span.range()],
        node.keyword.value.as_bytes()
    );
}

fn check_diagnostics(bytes: &[u8], diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        assert!(!diagnostic.labels.is_empty(), "{diagnostic:?}");
        diagnostic
            .labels
            .iter()
            .for_each(|label| check_spans(bytes, label.span));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_byte_is_in_exactly_one_token(bytes in dockerfile_text()) {
        let parsed = parse(&bytes);
        let mut end = 0;
        for token in &parsed.dockerfile.tokens {
            prop_assert_eq!(token.span.start, end);
            prop_assert!(!token.span.is_empty());
            end = token.span.end;
        }
        prop_assert_eq!(parsed.dockerfile.print(), bytes);
    }

    #[test]
    fn places_fit_the_file(bytes in dockerfile_text()) {
        let parsed = parse(&bytes);
        let file = &parsed.dockerfile;
        check_diagnostics(&bytes, &parsed.diagnostics);
        file.global_args.iter().for_each(|node| check_node(&bytes, node));
        for stage in &file.stages {
            check_node(&bytes, &stage.from);
            for node in &stage.instructions {
                check_node(&bytes, node);
                if let InstructionKind::Run(run) = &node.value {
                    run.script();
                    for heredoc in &run.heredocs {
                        check_spans(&bytes, heredoc.marker.span());
                        check_spans(&bytes, heredoc.body.span);
                        let span = heredoc.body.span;
                        prop_assert_eq!(file.source.slice(span), &heredoc.body.value);
                    }
                }
            }
        }
        file.checks.apply(file, parsed.diagnostics.clone());
    }

    #[test]
    fn expansion_never_panics_and_plain_text_stays(text in "[$a{}:+?#%/\\\\*'\"` \\-é<=1]{0,24}") {
        let scope = vec![("a".to_owned(), "x/y é*".to_owned())];
        for escape in [Escape::Backslash, Escape::Backtick] {
            let word = Word::decoded(text.clone(), Span::new(0, text.len()));
            let expanded = word.expand(&scope, escape);
            let words = word.expand_words(&scope, escape);
            prop_assert_eq!(expanded.is_ok(), words.is_ok());
            if !text.contains(['$', '\'', '"', '\\', '`']) {
                prop_assert_eq!(expanded.map(|expanded| expanded.text), Ok(text.clone()));
                let split: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                prop_assert_eq!(words.map(|words| words.words), Ok(split));
            }
        }
    }

    #[test]
    fn quoted_values_come_through_unchanged(value in "[^']{0,20}") {
        let quoted = Word::decoded(format!("'{value}'"), Span::default());
        let none: Vec<(String, String)> = Vec::new();
        let expanded = quoted.expand(&none, Escape::Backslash);
        prop_assert_eq!(expanded.map(|expanded| expanded.text), Ok(value));
    }

    #[test]
    fn ignore_rules_never_panic_and_reparse(text in "[a-c/*!?#.\\[\\]^\\\\\n-]{0,40}", path in "[a-c/.]{0,12}") {
        let Ok(file) = IgnoreFile::parse(text.as_bytes()) else { return Ok(()) };
        let verdict = file.decide(&path);
        let patterns = file.patterns();
        let again = IgnoreFile::from_patterns(patterns.iter().map(String::as_str));
        let again = again.expect("a cleaned pattern is a pattern");
        prop_assert_eq!(again.patterns(), patterns);
        prop_assert_eq!(again.decide(&path).is_ignored(), verdict.is_ignored());
        // What is pruned really holds nothing.
        let below = file.decide(&format!("{path}/a/b"));
        if verdict.is_ignored() && !file.may_include_below(&verdict.enter(&file)) {
            prop_assert!(below.is_ignored());
        }
    }
}
