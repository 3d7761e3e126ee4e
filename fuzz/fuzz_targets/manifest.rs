//! Image documents: no bytes panic, and what is written from a value reads as that value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{Document, ImageConfig, ImageDocument, Index, Manifest, Platform};

fn check<T: ImageDocument + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let read = Document::<T>::parse(bytes).ok()?;
    assert_eq!(&read.bytes()[..], bytes);
    let value = read.into_value();
    let written = Document::new(value);
    let again = Document::<T>::parse(written.bytes().clone()).expect("what we write, we read");
    assert_eq!(again.value(), written.value());
    Some(again.into_value())
}

fuzz_target!(|bytes: &[u8]| {
    check::<Manifest>(bytes);
    if let Some(config) = check::<ImageConfig>(bytes) {
        config.platform();
    }
    if let Some(index) = check::<Index>(bytes) {
        index.select(&Platform::new("linux", "amd64", None));
    }
});
