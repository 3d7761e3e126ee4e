//! The canonical bytes of ops and selectors, and the digests over them.
//!
//! Everything is typed, length-prefixed and versioned; numbers are 64-bit little endian:
//!
//! ```text
//!   digest      = SHA-256( text(domain) … )             the domain names purpose and version
//!   text, bytes = length, bytes
//!   value       = 0                                      absent
//!               | 1 flag (1 byte)
//!               | 2 number
//!               | 3 text
//!               | 4 bytes
//!               | 5 count, value …                       list
//!               | 6 count, (text name, value) …          record
//!               | 7 digest of the environment (32 bytes; see the module `environment`)
//!               | 8 number                               permission bits
//! ```
//!
//! Another encoding is another version in the domain. A golden file pins the digests.

use sha2::{Digest as _, Sha256};

use crate::definition::{Edge, Input, InputKey};
use crate::fields::{Field, Value, op_fields, op_name, selector_fields};
use crate::op::Op;
use crate::selector::Selector;

/// Identity of a vertex: its whole op and, recursively, its inputs. Equal digests are one vertex.
///
/// It is no cache key: it covers what a key leaves out ([`op_key`]), and it does not know what a
/// reference, a branch or a local directory holds at the moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexDigest([u8; 32]);

impl VertexDigest {
    /// The 32 bytes of the SHA-256.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for VertexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for VertexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The part of a vertex's cache key that is the operation itself: two ops with equal keys, run over
/// inputs with equal keys, may use each other's results.
///
/// A source that [`Op::is_pinned`] says is not pinned needs more than this: whoever resolves it
/// adds what it resolved to.
pub fn op_key(op: &Op) -> [u8; 32] {
    let mut encoder = Encoder::new("kiln.op.v1");
    encoder.bytes(op_name(op).as_bytes());
    encoder.fields(&op_fields(op), Keep::Keyed);
    encoder.finish()
}

/// Digest of a selector itself, for the key under which a consumer is looked up before the content
/// that the selector finds is known.
pub fn selector_key(selector: &Selector) -> [u8; 32] {
    let mut encoder = Encoder::new("kiln.selector.v1");
    encoder.fields(&selector_fields(selector), Keep::All);
    encoder.finish()
}

/// What went into [`op_key`], as names and values for people: `args[2]` = `npm ci`,
/// `env.NODE_ENV` = `production`. Two ops with the same key have the same list.
pub fn op_inputs_for_explain(op: &Op) -> Vec<(String, String)> {
    let mut list = vec![("op".to_owned(), op_name(op).to_owned())];
    for field in op_fields(op).iter().filter(|field| field.keyed) {
        explain(field.name.to_owned(), &field.value, &mut list);
    }
    list
}

fn explain(name: String, value: &Value<'_>, list: &mut Vec<(String, String)>) {
    match value {
        Value::Absent => {}
        Value::Flag(flag) => list.push((name, flag.to_string())),
        Value::Number(number) => list.push((name, number.to_string())),
        Value::Mode(mode) => list.push((name, format!("{mode:04o}"))),
        Value::Text(text) => list.push((name, text.clone().into_owned())),
        Value::Bytes(bytes) => list.push((name, bytes.escape_ascii().to_string())),
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                explain(format!("{name}[{index}]"), item, list);
            }
        }
        Value::Record(fields) => {
            for field in fields.iter().filter(|field| field.keyed) {
                explain(format!("{name}.{}", field.name), &field.value, list);
            }
        }
        Value::Environment(environment) => {
            for (variable, value) in environment.iter() {
                list.push((format!("{name}.{variable}"), value.to_owned()));
            }
        }
    }
}

/// Digest of a vertex whose inputs' digests `input_digest` knows.
pub(crate) fn vertex_digest(
    op: &Op,
    inputs: &[Input],
    input_digest: impl Fn(Edge) -> VertexDigest,
) -> VertexDigest {
    let mut encoder = Encoder::new("kiln.vertex.v1");
    encoder.bytes(op_name(op).as_bytes());
    encoder.fields(&op_fields(op), Keep::All);
    encoder.number(inputs.len() as u64);
    for input in inputs {
        encoder.raw(&input_digest(input.edge).0);
        match &input.key {
            InputKey::Chained => encoder.number(0),
            InputKey::Content(selector) => {
                encoder.number(1);
                encoder.fields(&selector_fields(selector), Keep::All);
            }
        }
    }
    VertexDigest(encoder.finish())
}

/// Which fields an encoding has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    Keyed,
}

/// Bytes that an [`Encoder`] collects before it hashes them.
const BUFFER: usize = 512;

/// Hashes canonical bytes as they come. There is one for each vertex and each changed environment,
/// so it asks for no memory.
pub(crate) struct Encoder {
    hasher: Sha256,
    buffer: [u8; BUFFER],
    used: usize,
}

impl Encoder {
    pub(crate) fn new(domain: &str) -> Encoder {
        let mut encoder = Encoder {
            hasher: Sha256::new(),
            buffer: [0; BUFFER],
            used: 0,
        };
        encoder.bytes(domain.as_bytes());
        encoder
    }

    fn push(&mut self, bytes: &[u8]) {
        if bytes.len() > BUFFER - self.used {
            self.hasher.update(&self.buffer[..self.used]);
            self.used = 0;
        }
        match self.buffer[self.used..].get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.used += bytes.len();
            }
            None => self.hasher.update(bytes),
        }
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.push(&number.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.push(bytes);
    }

    /// Bytes of a length that the format fixes.
    pub(crate) fn raw(&mut self, bytes: &[u8; 32]) {
        self.push(bytes);
    }

    pub(crate) fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.buffer[..self.used]);
        self.hasher.finalize().into()
    }

    fn fields(&mut self, fields: &[Field<'_>], keep: Keep) {
        let kept = || fields.iter().filter(|f| f.keyed || keep == Keep::All);
        self.number(kept().count() as u64);
        for field in kept() {
            self.bytes(field.name.as_bytes());
            self.value(&field.value, keep);
        }
    }

    fn value(&mut self, value: &Value<'_>, keep: Keep) {
        match value {
            Value::Absent => self.push(&[0]),
            Value::Flag(flag) => self.push(&[1, u8::from(*flag)]),
            Value::Number(number) => {
                self.push(&[2]);
                self.number(*number);
            }
            Value::Mode(mode) => {
                self.push(&[8]);
                self.number(u64::from(*mode));
            }
            Value::Text(text) => {
                self.push(&[3]);
                self.bytes(text.as_bytes());
            }
            Value::Bytes(bytes) => {
                self.push(&[4]);
                self.bytes(bytes);
            }
            Value::List(items) => {
                self.push(&[5]);
                self.number(items.len() as u64);
                items.iter().for_each(|item| self.value(item, keep));
            }
            Value::Record(fields) => {
                self.push(&[6]);
                self.fields(fields, keep);
            }
            Value::Environment(environment) => {
                self.push(&[7]);
                self.raw(&environment.digest());
            }
        }
    }
}
