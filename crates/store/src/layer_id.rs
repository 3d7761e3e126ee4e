//! The name of a layer in the store.

use std::fmt;
use std::str::FromStr;

use oci::{DiffId, Digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a layer in the store: of no meaning for a step's output, which may never have had
/// layer bytes; derived from the bytes for a layer that came as such, so that images share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(Name);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Fresh([u8; 16]),
    Shared(DiffId),
}

impl LayerId {
    pub(crate) fn fresh(bytes: [u8; 16]) -> LayerId {
        LayerId(Name::Fresh(bytes))
    }

    /// The layer with these bytes, whichever image or cache it comes from.
    pub fn shared(diff_id: DiffId) -> LayerId {
        LayerId(Name::Shared(diff_id))
    }

    /// What the layer's bytes hash to, if the name says so.
    pub fn diff_id(&self) -> Option<DiffId> {
        match self.0 {
            Name::Fresh(_) => None,
            Name::Shared(diff_id) => Some(diff_id),
        }
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Name::Fresh(bytes) => {
                f.write_str("step-")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Name::Shared(diff_id) => {
                let digest = diff_id.digest();
                write!(f, "{}-{}", digest.algorithm(), digest.hex())
            }
        }
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`LayerId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no layer id")]
pub struct ParseLayerIdError {
    /// The text.
    pub text: String,
}

impl FromStr for LayerId {
    type Err = ParseLayerIdError;

    fn from_str(text: &str) -> Result<LayerId, ParseLayerIdError> {
        let parse = || {
            let (kind, hex) = text.split_once('-')?;
            if kind != "step" {
                let digest: Digest = format!("{kind}:{hex}").parse().ok()?;
                return Some(LayerId::shared(DiffId::new(digest)));
            }
            let mut bytes = [0; 16];
            if hex.len() != 32 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return None;
            }
            for (n, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()?;
            }
            Some(LayerId::fresh(bytes))
        };
        parse().ok_or_else(|| ParseLayerIdError { text: text.into() })
    }
}

impl Serialize for LayerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LayerId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(id: LayerId, text: &str) {
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn texts_and_back() {
        check(
            LayerId::fresh([0xab; 16]),
            &format!("step-{}", "ab".repeat(16)),
        );
        let digest = Digest::Sha256([1; 32]);
        check(
            LayerId::shared(DiffId::new(digest)),
            &format!("sha256-{}", "01".repeat(32)),
        );
    }

    #[test]
    fn other_texts_are_no_layer_ids() {
        let long = format!("step-{}", "a".repeat(34));
        for text in ["", "step-", "step-ab", "sha256-ab", "md5-00", "../x", &long] {
            assert!(text.parse::<LayerId>().is_err(), "{text}");
        }
    }
}
