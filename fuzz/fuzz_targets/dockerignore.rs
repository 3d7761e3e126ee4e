//! Any ignore file judges any path, and what it prunes holds nothing that it takes back.
#![no_main]

use dockerfile::ignore::IgnoreFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str, &str)| {
    let (bytes, directory, below) = input;
    let Ok(file) = IgnoreFile::parse(bytes) else { return };
    let verdict = file.decide(directory);
    let inner = file.decide(&format!("{directory}/{below}"));
    if verdict.is_ignored() && !file.may_include_below(&verdict.enter(&file)) {
        assert!(inner.is_ignored());
    }
    for rule in inner.hits() {
        assert!(file.rules().get(*rule).is_some());
    }
    assert_eq!(file.patterns().len(), file.rules().len());
});
