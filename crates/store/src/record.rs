//! The form of every record: a head line with a checksum and a stamp, then JSON.
//!
//! ```text
//! kiln 1 results 5d41402abc4b2a76 17 2f1c…-boot-id\n
//! │    │ │       │                │  └ boot it was written in
//! │    │ │       │                └ generation it was written in
//! │    │ │       └ first 16 hex digits of the SHA-256 of the payload
//! │    │ └ table
//! │    └ version of the table's payload
//! └ mark
//! {"layers":[…]}
//! ```

use oci::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::gate::Generation;

/// A kind of record, with the version of its payload: an older or newer one counts as absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
}

pub(crate) fn encode(kind: Kind, stamp: &Generation, payload: &impl Serialize) -> Vec<u8> {
    let payload = serde_json::to_vec(payload).expect("records are maps with text keys");
    let (name, version, sum) = (kind.name, kind.version, checksum(&payload));
    let Generation { number, boot } = stamp;
    let mut bytes = format!("kiln {version} {name} {sum} {number} {boot}\n").into_bytes();
    bytes.extend_from_slice(&payload);
    bytes
}

/// The payload and its stamp; `None` when it is damaged, or of another kind or version.
pub(crate) fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Option<(T, Generation)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (head, payload) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    let fields: Vec<&str> = head.split(' ').collect();
    let [mark, version, name, sum, number, boot] = fields[..] else {
        return None;
    };
    let fits = mark == "kiln"
        && version.parse() == Ok(kind.version)
        && name == kind.name
        && sum == checksum(payload);
    if !fits {
        return None;
    }
    let stamp = Generation {
        number: number.parse().ok()?,
        boot: boot.to_owned(),
    };
    Some((serde_json::from_slice(payload).ok()?, stamp))
}

fn checksum(payload: &[u8]) -> String {
    let mut hex = Digest::sha256(payload).hex();
    hex.truncate(16);
    hex
}
