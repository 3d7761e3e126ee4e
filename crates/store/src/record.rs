//! The form of every record: a head line with a checksum and a stamp, then JSON.
//!
//! ```text
//! kiln 1 results 5d41402abc4b2a76 17 2f1c…-boot-id\n
//! │    │ │       │                │  └ boot it was written in
//! │    │ │       │                └ generation it was written in
//! │    │ │       └ first 16 hex digits of the SHA-256 of the line without them, and the payload
//! │    │ └ table
//! │    └ version of the table's payload
//! └ mark
//! {"layers":[…]}
//! ```

use oci::Hasher;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::settled::Stamp;

/// A kind of record, with the version of its payload: an older or newer one counts as absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
}

pub(crate) fn encode(kind: Kind, stamp: &Stamp, payload: &impl Serialize) -> Vec<u8> {
    let payload = serde_json::to_vec(payload).expect("records are maps with text keys");
    let head = Head {
        version: &kind.version.to_string(),
        name: kind.name,
        generation: &stamp.generation.to_string(),
        boot: &stamp.boot,
    };
    let sum = head.checksum(&payload);
    let Head {
        version,
        name,
        generation,
        boot,
    } = head;
    let mut bytes = format!("kiln {version} {name} {sum} {generation} {boot}\n").into_bytes();
    bytes.extend_from_slice(&payload);
    bytes
}

/// The payload and its stamp; `None` when it is damaged, or of another kind or version.
pub(crate) fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Option<(T, Stamp)> {
    let (head, payload) = split(bytes)?;
    if head.version.parse() != Ok(kind.version) || head.name != kind.name {
        return None;
    }
    let stamp = Stamp {
        generation: head.generation.parse().ok()?,
        boot: head.boot.to_owned(),
    };
    Some((serde_json::from_slice(payload).ok()?, stamp))
}

/// Whether this is a record of any kind, and not damaged.
pub(crate) fn is_sound(bytes: &[u8]) -> bool {
    split(bytes).is_some()
}

struct Head<'a> {
    version: &'a str,
    name: &'a str,
    generation: &'a str,
    boot: &'a str,
}

fn split(bytes: &[u8]) -> Option<(Head<'_>, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (line, payload) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let (mark, version, name, sum) = (next()?, next()?, next()?, next()?);
    let (generation, boot) = (next()?, next()?);
    let head = Head {
        version,
        name,
        generation,
        boot,
    };
    let sound = mark == "kiln" && sum == head.checksum(payload) && next().is_none();
    sound.then_some((head, payload))
}

impl Head<'_> {
    /// Covers the stamp too: a record must not look as if it was settled.
    fn checksum(&self, payload: &[u8]) -> String {
        let Head {
            version,
            name,
            generation,
            boot,
        } = self;
        let mut hasher = Hasher::sha256();
        hasher.update(format!("{version} {name} {generation} {boot}\n").as_bytes());
        hasher.update(payload);
        let mut hex = hasher.finish().hex();
        hex.truncate(16);
        hex
    }
}
