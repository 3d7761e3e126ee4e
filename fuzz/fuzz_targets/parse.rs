//! Any bytes parse, every byte is in exactly one token, and all places fit the file.
#![no_main]

use dockerfile::ast::{InstructionKind, TokenKind};
use dockerfile::{Escape, parse, parse_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse(bytes);
    let file = &parsed.dockerfile;
    let mut end = 0;
    for token in &file.tokens {
        assert_eq!(token.span.start, end);
        assert!(!token.span.is_empty());
        assert!(token.kind != TokenKind::ByteOrderMark || token.span.start == 0);
        end = token.span.end;
    }
    assert_eq!(file.print(), bytes);
    for diagnostic in &parsed.diagnostics {
        assert!(!diagnostic.labels.is_empty());
        for label in &diagnostic.labels {
            assert!(label.span.start <= label.span.end && label.span.end <= bytes.len());
        }
    }
    for node in file.stages.iter().flat_map(|stage| &stage.instructions) {
        assert_eq!(file.source.slice(node.keyword.span), node.keyword.value);
        if let InstructionKind::OnBuild(on_build) = &node.value
            && file.escape == Escape::Backslash
            && on_build.instruction.is_err()
        {
            assert!(parse_trigger(&on_build.trigger).instruction.is_none());
        }
    }
    file.checks.apply(file, parsed.diagnostics.clone());
});
