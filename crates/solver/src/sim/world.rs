//! Random graphs, what their operations compute, and the naive oracle.

use std::rc::Rc;

use crate::VertexIndex;
use crate::{CacheKey, CacheUse, How, KeyHasher, KeyPart, KeyParts, Plan, PlanInput, PlanVertex};

/// A small generator of reproducible numbers.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..8).for_each(|_| _ = rng.next());
        rng
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 11) % bound.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone)]
pub(super) struct WorldVertex {
    pub(super) inputs: Vec<(usize, Keyed)>,
    pub(super) op: u64,
    pub(super) volatile: bool,
    /// Gives another content at every execution.
    pub(super) moody: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyed {
    Chained,
    Content(u64),
    /// Never influences the content.
    Unkeyed,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) vertices: Vec<WorldVertex>,
}

/// A result, with the derivation it really came from.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) op: CacheKey,
    pub(super) content: u64,
    pub(super) inputs: Vec<Rc<Value>>,
    pub(super) parts: KeyParts,
    pub(super) key: CacheKey,
}

impl World {
    pub(super) fn random(rng: &mut Rng, moody: bool) -> World {
        let mut vertices: Vec<WorldVertex> = Vec::new();
        for id in 0..2 + rng.below(14) {
            let fan_in = if id == 0 { 0 } else { rng.below(4.min(id + 1)) };
            let input = |rng: &mut Rng, vertices: &[WorldVertex]| {
                let of = rng.below(id);
                let keyed = match rng.below(8) {
                    0 => Keyed::Unkeyed,
                    1..4 => Keyed::Chained,
                    _ => Keyed::Content(rng.next() % 30),
                };
                // The key of a volatile source says nothing, so nothing chains on it.
                match keyed {
                    Keyed::Chained if vertices[of].volatile => {
                        (of, Keyed::Content(rng.next() % 30))
                    }
                    keyed => (of, keyed),
                }
            };
            let inputs: Vec<_> = (0..fan_in).map(|_| input(rng, &vertices)).collect();
            let volatile = inputs.is_empty() && rng.one_in(3);
            let moody = moody && !volatile && rng.one_in(3);
            vertices.push(WorldVertex {
                inputs,
                op: rng.next(),
                volatile,
                moody,
            });
        }
        World { vertices }
    }

    pub(super) fn plan(&self, refresh: &[bool]) -> Plan {
        let vertex = |(id, vertex): (usize, &WorldVertex)| PlanVertex {
            inputs: vertex
                .inputs
                .iter()
                .map(|&(of, keyed)| plan_input(of, keyed))
                .collect(),
            cache: match (vertex.volatile, refresh[id]) {
                (true, _) => CacheUse::Volatile,
                (_, true) => CacheUse::Refresh,
                _ => CacheUse::Normal,
            },
            op_key: vertex.op.is_multiple_of(2).then(|| op_key(vertex)),
        };
        Plan {
            vertices: self.vertices.iter().enumerate().map(vertex).collect(),
        }
    }

    /// The content of every vertex, by executing everything in order; `None` where it fails.
    ///
    /// A failure of an unkeyed input stops an execution, and does not matter to a result that is
    /// cached: both contents are right then, so `unkeyed_matter` says which is meant.
    pub(super) fn oracle(&self, unkeyed_matter: bool) -> Vec<Option<u64>> {
        let mut contents: Vec<Option<u64>> = Vec::new();
        for vertex in &self.vertices {
            let input = |&(of, keyed): &(usize, Keyed)| match keyed {
                Keyed::Unkeyed if !unkeyed_matter => Some(0),
                _ => contents[of],
            };
            let inputs: Option<Vec<u64>> = vertex.inputs.iter().map(input).collect();
            contents.push(
                inputs
                    .filter(|_| !fails(vertex))
                    .map(|i| content(vertex, &i, 0)),
            );
        }
        contents
    }

    /// Which vertices `roots` need, themselves included.
    pub(super) fn needed_by(&self, roots: &[usize]) -> Vec<bool> {
        let mut needed = vec![false; self.vertices.len()];
        roots.iter().for_each(|&root| needed[root] = true);
        for id in (0..needed.len())
            .rev()
            .filter(|&id| id < self.vertices.len())
        {
            if needed[id] {
                self.vertices[id]
                    .inputs
                    .iter()
                    .for_each(|&(of, _)| needed[of] = true);
            }
        }
        needed
    }

    /// Which vertices a change of `source` may reach, itself included.
    pub(super) fn reached_from(&self, source: usize) -> Vec<bool> {
        let mut reached = vec![false; self.vertices.len()];
        for id in source..self.vertices.len() {
            let inputs = &self.vertices[id].inputs;
            reached[id] = id == source || inputs.iter().any(|&(of, _)| reached[of]);
        }
        reached
    }
}

fn plan_input(of: usize, keyed: Keyed) -> PlanInput {
    let how = match keyed {
        Keyed::Chained => How::Chained,
        Keyed::Content(selector) => How::Content {
            selector: selector_key(selector),
        },
        Keyed::Unkeyed => How::Unkeyed,
    };
    PlanInput {
        vertex: VertexIndex(of),
        how,
    }
}

pub(super) fn op_key(vertex: &WorldVertex) -> CacheKey {
    KeyHasher::new("sim.op", 1).number(vertex.op).finish()
}

pub(super) fn selector_key(selector: u64) -> CacheKey {
    KeyHasher::new("sim.selector", 1).number(selector).finish()
}

/// A coarse projection, so that contents collide and early cut-off has something to do.
fn project(content: u64, selector: u64) -> u64 {
    (content >> (selector * 2 % 60)) & 3
}

pub(super) fn checksum(content: u64, selector: u64) -> CacheKey {
    KeyHasher::new("sim.sum", 1)
        .number(project(content, selector))
        .finish()
}

pub(super) fn fails(vertex: &WorldVertex) -> bool {
    vertex.op.is_multiple_of(19)
}

fn content(vertex: &WorldVertex, inputs: &[u64], mood: u64) -> u64 {
    let mix = |hash: u64, part: u64| {
        (hash.rotate_left(23) ^ part)
            .wrapping_mul(0x0100_0000_01b3)
            .wrapping_add(0x632b_e59b)
    };
    let start = mix(vertex.op, mood);
    let parts = vertex
        .inputs
        .iter()
        .zip(inputs)
        .map(|(&(_, keyed), &input)| match keyed {
            Keyed::Chained => input,
            Keyed::Content(selector) => project(input, selector),
            Keyed::Unkeyed => 0,
        });
    let hash = parts.fold(start, mix);
    hash ^ (hash >> 29)
}

pub(super) fn execute(vertex: &WorldVertex, inputs: Vec<Rc<Value>>, mood: u64) -> Option<Value> {
    if fails(vertex) {
        return None;
    }
    let contents: Vec<u64> = inputs.iter().map(|input| input.content).collect();
    let content = content(vertex, &contents, if vertex.moody { mood } else { 0 });
    let part = |(&(_, keyed), input): (&(usize, Keyed), &Rc<Value>)| match keyed {
        Keyed::Chained => KeyPart::Chained(input.key),
        Keyed::Content(selector) => KeyPart::Content(checksum(input.content, selector)),
        Keyed::Unkeyed => KeyPart::Unkeyed,
    };
    let op = op_key(vertex);
    let parts = KeyParts {
        op,
        inputs: vertex.inputs.iter().zip(&inputs).map(part).collect(),
    };
    Some(Value {
        op,
        content,
        inputs,
        key: parts.key(),
        parts,
    })
}
