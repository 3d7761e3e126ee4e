//! Environment variables as a persistent list: cheap to copy, to change and to hash.
//!
//! Every `RUN` holds the environment that was in force at its line. Copying a plain list into each
//! of them would make a file of alternating `ENV` and `RUN` quadratic, so the variables lie in
//! shared chunks of fixed size, each of which remembers its digest, and a shared trie finds a
//! name. Changing one variable copies one chunk and one path of the trie, and only when somebody
//! else still holds them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::encode::Encoder;

/// Variables per chunk. A digest costs at most one chunk plus 32 bytes for every other chunk.
const CHUNK: usize = 32;
/// Longest name and value, together in bytes, that enter a chunk's digest letter by letter.
const SHORT: usize = 256;
/// Stands before the digest of a long variable, where a short one has the length of its name.
const LONG: u64 = u64::MAX;
/// Bits of the name's hash that one level of the trie consumes.
const BITS: u32 = 4;
/// Levels of the trie; names whose hashes agree in all of them share a bucket.
const DEPTH: u32 = u64::BITS / BITS;

/// Variables in the order in which their names were first set. A name occurs once.
#[derive(Clone, Default)]
pub struct Environment {
    list: Arc<List>,
}

#[derive(Clone, Default)]
struct List {
    chunks: Vec<Arc<Chunk>>,
    index: Arc<Trie>,
    len: usize,
}

#[derive(Default)]
struct Chunk {
    variables: Vec<Arc<Variable>>,
    digest: OnceLock<[u8; 32]>,
}

struct Variable {
    name: Arc<str>,
    value: Box<str>,
    /// Digest of a long variable: its chunk is hashed again and again while others in it change.
    digest: Option<Box<[u8; 32]>>,
}

/// Finds the position of a name.
#[derive(Clone, Default)]
enum Trie {
    #[default]
    Empty,
    Bucket(Vec<(Arc<str>, usize)>),
    Branch(Box<[Option<Arc<Trie>>; 1 << BITS]>),
}

impl Environment {
    /// No variables.
    pub fn new() -> Environment {
        Environment::default()
    }

    /// How many variables there are.
    pub fn len(&self) -> usize {
        self.list.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.len == 0
    }

    /// The value of `name`, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        let position = self.list.index.find(name, hash(name))?;
        let chunk = &self.list.chunks[position / CHUNK];
        Some(&chunk.variables[position % CHUNK].value)
    }

    /// Whether `name` is set, if only to the empty string.
    pub fn contains(&self, name: &str) -> bool {
        self.list.index.find(name, hash(name)).is_some()
    }

    /// Sets `name`. A name that is set already keeps its place in the order.
    pub fn set(&mut self, name: &str, value: &str) {
        let hash = hash(name);
        if let Some(position) = self.list.index.find(name, hash) {
            let variable = &self.list.chunks[position / CHUNK].variables[position % CHUNK];
            if &*variable.value != value {
                let variable = Variable::new(Arc::clone(&variable.name), value);
                let list = Arc::make_mut(&mut self.list);
                let chunk = Arc::make_mut(&mut list.chunks[position / CHUNK]);
                chunk.digest.take();
                chunk.variables[position % CHUNK] = variable;
            }
            return;
        }
        let name: Arc<str> = name.into();
        let list = Arc::make_mut(&mut self.list);
        let position = list.len;
        if position.is_multiple_of(CHUNK) {
            list.chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut list.chunks[position / CHUNK]);
        chunk.digest.take();
        let variable = Variable::new(Arc::clone(&name), value);
        chunk.variables.push(variable);
        Arc::make_mut(&mut list.index).insert(name, position, hash, 0);
        list.len += 1;
    }

    /// Name and value of every variable, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.list.chunks.iter().flat_map(|chunk| &chunk.variables);
        variables.map(|variable| (&*variable.name, &*variable.value))
    }

    /// Digest of names, values and their order; equal environments have equal digests, however
    /// they came about.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut encoder = Encoder::new("kiln.environment.v1");
        encoder.number(self.list.len as u64);
        for chunk in &self.list.chunks {
            encoder.raw(chunk.digest.get_or_init(|| chunk.compute_digest()));
        }
        encoder.finish()
    }
}

impl Variable {
    fn new(name: Arc<str>, value: &str) -> Arc<Variable> {
        let mut variable = Variable {
            name,
            value: value.into(),
            digest: None,
        };
        if variable.len() > SHORT {
            let mut encoder = Encoder::new("kiln.environment.variable.v1");
            variable.encode(&mut encoder);
            variable.digest = Some(Box::new(encoder.finish()));
        }
        Arc::new(variable)
    }

    /// Bytes of name and value.
    fn len(&self) -> usize {
        self.name.len() + self.value.len()
    }

    fn encode(&self, encoder: &mut Encoder) {
        match &self.digest {
            Some(digest) => {
                encoder.number(LONG);
                encoder.raw(digest);
            }
            None => {
                encoder.bytes(self.name.as_bytes());
                encoder.bytes(self.value.as_bytes());
            }
        }
    }
}

impl Chunk {
    fn compute_digest(&self) -> [u8; 32] {
        let mut encoder = Encoder::new("kiln.environment.chunk.v1");
        for variable in &self.variables {
            variable.encode(&mut encoder);
        }
        encoder.finish()
    }
}

/// A chunk is cloned to be changed: there is room for what may come.
impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        let mut variables = Vec::with_capacity(CHUNK);
        variables.extend_from_slice(&self.variables);
        Chunk {
            variables,
            digest: OnceLock::new(),
        }
    }
}

impl Trie {
    fn find(&self, name: &str, hash: u64) -> Option<usize> {
        let mut node = self;
        let mut depth = 0;
        loop {
            match node {
                Trie::Empty => return None,
                Trie::Bucket(entries) => {
                    let entry = entries.iter().find(|(key, _)| &**key == name);
                    return entry.map(|&(_, position)| position);
                }
                Trie::Branch(children) => node = children[slot(hash, depth)].as_deref()?,
            }
            depth += 1;
        }
    }

    /// Adds a name that is not there yet.
    fn insert(&mut self, name: Arc<str>, position: usize, hash: u64, depth: u32) {
        match self {
            Trie::Empty => *self = Trie::Bucket(vec![(name, position)]),
            Trie::Bucket(entries) if depth == DEPTH => entries.push((name, position)),
            Trie::Bucket(entries) => {
                let entries = std::mem::take(entries);
                *self = Trie::Branch(Box::default());
                for (key, at) in entries {
                    let key_hash = self::hash(&key);
                    self.insert(key, at, key_hash, depth);
                }
                self.insert(name, position, hash, depth);
            }
            Trie::Branch(children) => {
                let child = children[slot(hash, depth)].get_or_insert_default();
                Arc::make_mut(child).insert(name, position, hash, depth + 1);
            }
        }
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn slot(hash: u64, depth: u32) -> usize {
    (hash >> (depth * BITS)) as usize & ((1 << BITS) - 1)
}

impl PartialEq for Environment {
    fn eq(&self, other: &Environment) -> bool {
        Arc::ptr_eq(&self.list, &other.list) || self.iter().eq(other.iter())
    }
}

impl Eq for Environment {}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Environment {
        let mut environment = Environment::new();
        for (name, value) in variables {
            environment.set(name.as_ref(), value.as_ref());
        }
        environment
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any sequence of settings and copies reads, orders and hashes like a plain list.
        #[test]
        fn behaves_like_a_list(
            settings in prop::collection::vec(
                ("[a-z]{1,2}", "[a-z]{0,2}|x{255,256}", any::<bool>()),
                0..100,
            ),
        ) {
            let mut list: Vec<(String, String)> = Vec::new();
            let mut environment = Environment::new();
            let mut copies = Vec::new();
            for (name, value, copy) in settings {
                match list.iter_mut().find(|(n, _)| *n == name) {
                    Some(entry) => entry.1 = value.clone(),
                    None => list.push((name.clone(), value.clone())),
                }
                environment.set(&name, &value);
                if copy {
                    copies.push((environment.clone(), environment.digest(), list.clone()));
                }
                prop_assert_eq!(environment.get(&name), Some(value.as_str()));
            }
            for (copy, digest, list) in copies {
                prop_assert_eq!(copy.digest(), digest);
                prop_assert_eq!(copy.len(), list.len());
                prop_assert!(copy.iter().eq(list.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
                let fresh: Environment = list.into_iter().collect();
                prop_assert_eq!(fresh.digest(), digest);
            }
        }
    }

    #[test]
    fn names_and_values_do_not_run_together() {
        let digest =
            |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Environment>().digest();
        assert_ne!(digest(&[("a", "bc")]), digest(&[("ab", "c")]));
        let long = "x".repeat(SHORT);
        assert_ne!(digest(&[("a", &long)]), digest(&[("ax", &long[1..])]));
        assert_ne!(
            digest(&[("a", ""), ("b", "")]),
            digest(&[("b", ""), ("a", "")])
        );
    }
}
