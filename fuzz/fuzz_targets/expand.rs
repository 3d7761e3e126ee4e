//! Any text expands or fails within its bounds; splitting fails exactly when expanding does.
#![no_main]

use dockerfile::{Escape, Span, Word};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let scope: Vec<(String, String)> = [("a", "x/y z*é"), ("b", ""), ("c", "$a ${b} 'q'")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let word = Word::decoded(text.to_owned(), Span::new(0, text.len()));
    for escape in [Escape::Backslash, Escape::Backtick] {
        let expanded = word.expand(&scope, escape);
        let words = word.expand_words(&scope, escape);
        assert_eq!(expanded.is_ok(), words.is_ok());
        if let (Ok(expanded), Ok(words)) = (expanded, words) {
            assert_eq!(expanded.uses, words.uses);
            assert!(words.words.iter().all(|word| !word.is_empty()));
        }
    }
});
