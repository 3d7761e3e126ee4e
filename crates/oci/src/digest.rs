//! Digests, and the two identities that are built from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// The digest of some bytes, with its algorithm (image-spec, descriptor.md#digests).
///
/// Written `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// A text that is no [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon.
    #[error("digest {text:?} has no algorithm; `sha256:` and 64 hexadecimal digits are expected")]
    NoAlgorithm {
        /// The whole text.
        text: String,
    },
    /// The algorithm is not known.
    #[error("digest algorithm {algorithm:?} is not supported; sha256 and sha512 are")]
    UnknownAlgorithm {
        /// What stands before the colon.
        algorithm: String,
    },
    /// The digits are too few, too many, or no lower-case hexadecimal ones.
    #[error("{algorithm} digest {hex:?} is not {expected} lower-case hexadecimal digits")]
    BadHex {
        /// What stands before the colon.
        algorithm: &'static str,
        /// What stands behind it.
        hex: String,
        /// How many digits the algorithm has.
        expected: usize,
    },
}

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn sha256(bytes: impl AsRef<[u8]>) -> Digest {
        Digest::Sha256(sha2::Sha256::digest(bytes.as_ref()).into())
    }

    /// Name of the algorithm, as it is written before the colon.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// The digits after the colon.
    pub fn hex(&self) -> String {
        encode_hex(self.as_bytes())
    }

    /// The digest itself: 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        }
    }

    /// Whether `bytes` hash to this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::like(self);
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { text: text.into() });
        };
        match algorithm {
            "sha256" => decode_hex(hex).map(Digest::Sha256).ok_or("sha256"),
            "sha512" => decode_hex(hex).map(Digest::Sha512).ok_or("sha512"),
            _ => {
                return Err(DigestError::UnknownAlgorithm {
                    algorithm: algorithm.into(),
                });
            }
        }
        .map_err(|algorithm| DigestError::BadHex {
            algorithm,
            hex: hex.into(),
            expected: if algorithm == "sha256" { 64 } else { 128 },
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Hashes bytes that come piece by piece, with the algorithm of a digest that is expected.
#[derive(Clone, Debug)]
pub struct Hasher(Algorithm);

#[derive(Clone, Debug)]
enum Algorithm {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A SHA-256 hasher.
    pub fn sha256() -> Hasher {
        Hasher(Algorithm::Sha256(sha2::Sha256::new()))
    }

    /// A hasher whose result can equal `expected`.
    pub fn like(expected: &Digest) -> Hasher {
        match expected {
            Digest::Sha256(_) => Hasher::sha256(),
            Digest::Sha512(_) => Hasher(Algorithm::Sha512(sha2::Sha512::new())),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Sha256(state) => state.update(bytes),
            Algorithm::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything that was taken.
    pub fn finish(self) -> Digest {
        match self.0 {
            Algorithm::Sha256(state) => Digest::Sha256(state.finalize().into()),
            Algorithm::Sha512(state) => Digest::Sha512(state.finalize().into()),
        }
    }
}

/// Digest of a layer's uncompressed tar (image-spec, config.md#layer-diffid).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(Digest);

impl DiffId {
    /// The layer whose uncompressed tar has this digest.
    pub fn new(digest: Digest) -> DiffId {
        DiffId(digest)
    }

    /// The digest of the tar.
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiffId({})", self.0)
    }
}

impl FromStr for DiffId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<DiffId, DigestError> {
        text.parse().map(DiffId)
    }
}

/// Identity of a stack of layers (image-spec, config.md#layer-chainid).
///
/// There is no chain without a layer, and none that was not built from its layers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(Digest);

impl ChainId {
    /// The stack of one layer.
    pub fn base(layer: DiffId) -> ChainId {
        ChainId(layer.0)
    }

    /// This stack with one more layer on top.
    #[must_use]
    pub fn push(self, layer: DiffId) -> ChainId {
        ChainId(Digest::sha256(format!("{} {}", self.0, layer.0)))
    }

    /// The stack of `layers`, lowest first; `None` when there are none.
    pub fn of(layers: impl IntoIterator<Item = DiffId>) -> Option<ChainId> {
        let mut layers = layers.into_iter();
        let base = ChainId::base(layers.next()?);
        Some(layers.fold(base, ChainId::push))
    }

    /// The digest itself.
    pub fn digest(&self) -> Digest {
        self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainId({})", self.0)
    }
}

fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
        hex.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    hex
}

fn decode_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let hex = hex.as_bytes();
    if hex.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_read_as_they_are_written() {
        let digest = Digest::sha256(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(digest));
        let long = Digest::Sha512([0xab; 64]);
        assert_eq!(long.to_string().parse(), Ok(long));
    }

    #[test]
    fn other_texts_are_refused() {
        #[track_caller]
        fn check(text: &str, message: &str) {
            let error = text.parse::<Digest>().expect_err("no digest").to_string();
            assert!(error.contains(message), "{error}");
        }
        check("", "has no algorithm");
        check("abc", "has no algorithm");
        check("md5:abc", "\"md5\" is not supported");
        check("sha256:", "is not 64 lower-case");
        check(&EMPTY.to_uppercase().replace("SHA", "sha"), "is not 64");
        check(&EMPTY[..70], "is not 64 lower-case");
        check(&format!("sha256:{}é", "a".repeat(62)), "is not 64");
        check(&EMPTY.replace("256", "512"), "is not 128 lower-case");
    }

    #[test]
    fn a_hasher_takes_pieces_with_the_expected_algorithm() {
        let mut hasher = Hasher::like(&Digest::Sha512([0; 64]));
        hasher.update(b"ab");
        hasher.update(b"c");
        assert!(hasher.finish().hex().starts_with("ddaf35a193617aba"));
        assert!(Digest::sha256(b"abc").matches(b"abc"));
        assert!(!Digest::sha256(b"abc").matches(b"abd"));
    }

    #[test]
    fn chain_ids_follow_the_recursion_of_the_spec() {
        let a = DiffId::new(Digest::sha256(b"a"));
        let b = DiffId::new(Digest::sha256(b"b"));
        let chain = ChainId::base(a).push(b);
        assert_eq!(ChainId::base(a).digest(), a.digest());
        assert_eq!(chain.digest(), Digest::sha256(format!("{a} {b}")));
        assert_eq!(ChainId::of([a, b]), Some(chain));
        assert_eq!(ChainId::of([]), None);
    }
}
