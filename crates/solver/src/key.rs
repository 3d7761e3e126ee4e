//! Cache keys: SHA-256 over typed, length-prefixed, versioned bytes.
//!
//! Changing any byte that is written here orphans every record of every store and remote cache;
//! the golden test at the end exists to make that a decision. The encoding is described in
//! `docs/formats/cache.md`.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Version of the encoding of result and link keys.
const VERSION: u32 = 1;

/// The digest under which a result is reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// Takes the bytes of a key that was computed elsewhere: a checksum, a vertex digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> CacheKey {
        CacheKey(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    /// 64 lowercase hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no [`CacheKey`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cache key {text:?} is not 64 lowercase hexadecimal digits")]
pub struct ParseKeyError {
    /// The text.
    pub text: String,
}

impl FromStr for CacheKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<CacheKey, ParseKeyError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let parse = || {
            let (pairs, rest) = text.as_bytes().as_chunks::<2>();
            let mut bytes = [0; 32];
            if pairs.len() != bytes.len() || !rest.is_empty() {
                return None;
            }
            for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
                *byte = digit(high)? << 4 | digit(low)?;
            }
            Some(CacheKey(bytes))
        };
        parse().ok_or_else(|| ParseKeyError {
            text: text.to_owned(),
        })
    }
}

/// Writes the bytes of a key: every value with a tag of its type, every text with its length.
///
/// Two sequences of calls give the same key only if they are the same sequence.
#[derive(Clone, Debug)]
pub struct KeyHasher(Sha256);

impl KeyHasher {
    /// Starts a key of the given kind. Keys of different domains or versions never meet.
    pub fn new(domain: &str, version: u32) -> KeyHasher {
        KeyHasher(Sha256::new()).text(domain).number(version.into())
    }

    /// Appends bytes.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> KeyHasher {
        self.framed(b'b', bytes)
    }

    /// Appends a text.
    #[must_use]
    pub fn text(self, text: &str) -> KeyHasher {
        self.framed(b't', text.as_bytes())
    }

    /// Appends a number; also the length that precedes a list.
    #[must_use]
    pub fn number(mut self, number: u64) -> KeyHasher {
        self.0.update([b'n']);
        self.0.update(number.to_le_bytes());
        self
    }

    /// Appends another key.
    #[must_use]
    pub fn key(mut self, key: &CacheKey) -> KeyHasher {
        self.0.update([b'k']);
        self.0.update(key.0);
        self
    }

    /// The key of everything that was written.
    pub fn finish(self) -> CacheKey {
        CacheKey(self.0.finalize().into())
    }

    fn framed(mut self, tag: u8, bytes: &[u8]) -> KeyHasher {
        self.0.update([tag]);
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }
}

/// What a key is made of; stored beside a result so that a miss can be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyParts {
    /// The operation alone.
    pub op: CacheKey,
    /// One part for each input.
    pub inputs: Vec<KeyPart>,
}

/// What one input contributes to its consumer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The input's own key.
    Chained(CacheKey),
    /// The checksum of what is selected of the input's content.
    Content(CacheKey),
    /// Nothing.
    Unkeyed,
}

impl KeyParts {
    /// The key.
    pub fn key(&self) -> CacheKey {
        let start = KeyHasher::new("kiln.result", VERSION)
            .key(&self.op)
            .number(self.inputs.len() as u64);
        let add = |hasher: KeyHasher, part: &KeyPart| match part {
            KeyPart::Chained(key) => hasher.number(1).key(key),
            KeyPart::Content(sum) => hasher.number(2).key(sum),
            KeyPart::Unkeyed => hasher.number(3),
        };
        self.inputs.iter().fold(start, add).finish()
    }
}

/// The key under which the checksum of a selection is remembered, so that it need not be taken
/// again: which result, by its key, and what of it.
pub(crate) fn link_key(input: CacheKey, selector: CacheKey) -> CacheKey {
    KeyHasher::new("kiln.link", VERSION)
        .key(&input)
        .key(&selector)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CacheKey = CacheKey([1; 32]);
    const TWO: CacheKey = CacheKey([2; 32]);

    #[track_caller]
    fn check(key: CacheKey, golden: &str) {
        assert_eq!(key.to_string(), golden);
        assert_eq!(golden.parse(), Ok(key));
    }

    #[test]
    fn golden_keys() {
        check(
            KeyHasher::new("kiln.test", 1).finish(),
            "4fd0bdd753e841f417fd1f60f3421595fc86241d29528db03e9a02bf12ea4983",
        );
        check(
            KeyHasher::new("kiln.test", 1)
                .text("a")
                .bytes(b"b")
                .number(3)
                .key(&ONE)
                .finish(),
            "2e39ee2f11a9951aee0ae31e515f151af16fc20952c8467122b6049f6fa28ef6",
        );
        check(
            KeyParts {
                op: ONE,
                inputs: vec![],
            }
            .key(),
            "7825eb0554636ea6ffd92632326fd62c48e19034956b0d7694f0d63d8754cd25",
        );
        let inputs = vec![
            KeyPart::Chained(ONE),
            KeyPart::Content(TWO),
            KeyPart::Unkeyed,
        ];
        check(
            KeyParts { op: ONE, inputs }.key(),
            "80eca0642697e84ee754c2bd7b0d005a6b466ff3067a1c440a81d3280ad8ee03",
        );
        check(
            link_key(ONE, TWO),
            "b751ffc1cab0befa732d88f4d80590943dabc7425c87827f0a688d46ac3c6b23",
        );
    }

    #[test]
    fn framing_keeps_neighbours_apart() {
        let key = |parts: &[&str]| {
            parts
                .iter()
                .fold(KeyHasher::new("d", 1), |hasher, part| hasher.text(part))
                .finish()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab"]), key(&["ab", ""]));
        assert_ne!(KeyHasher::new("d", 1).bytes(b"x").finish(), key(&["x"]));
        assert_ne!(
            KeyHasher::new("d", 2).finish(),
            KeyHasher::new("d", 1).finish()
        );
    }

    #[test]
    fn how_an_input_is_keyed_is_part_of_the_key() {
        let key = |part| {
            KeyParts {
                op: ONE,
                inputs: vec![part],
            }
            .key()
        };
        let keys = [
            key(KeyPart::Chained(TWO)),
            key(KeyPart::Content(TWO)),
            key(KeyPart::Unkeyed),
        ];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in [
            "",
            "ab",
            &"g".repeat(64),
            &"A".repeat(64),
            &"a".repeat(63),
            &"a".repeat(65),
        ] {
            assert!(text.parse::<CacheKey>().is_err(), "{text}");
        }
    }
}
