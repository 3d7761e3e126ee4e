//! Builds small graphs against a cache in memory, and writes down what was asked.

use std::collections::{BTreeMap, BTreeSet};

use solver::{
    Action, CacheKey, CacheUse, Event, How, KeyHasher, Plan, PlanInput, PlanVertex, Solver, Status,
    VertexIndex,
};

/// Inputs of a vertex: `(vertex, how)`.
pub(crate) type Inputs<'a> = &'a [(usize, How)];

pub(crate) const CHAINED: How = How::Chained;
pub(crate) const UNKEYED: How = How::Unkeyed;

pub(crate) fn content() -> How {
    let selector = KeyHasher::new("test.selector", 1).finish();
    How::Content { selector }
}

pub(crate) fn plan(vertices: &[Inputs<'_>]) -> Plan {
    let vertex = |(id, inputs): (usize, &Inputs<'_>)| PlanVertex {
        inputs: inputs
            .iter()
            .map(|&(vertex, how)| PlanInput {
                vertex: VertexIndex(vertex),
                how,
            })
            .collect(),
        cache: CacheUse::Normal,
        op_key: Some(KeyHasher::new("test.op", 1).number(id as u64).finish()),
    };
    Plan {
        vertices: vertices.iter().enumerate().map(vertex).collect(),
    }
}

/// The cache, and what executing a vertex gives: a number, which is its content too.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) links: BTreeMap<CacheKey, CacheKey>,
    pub(crate) results: BTreeMap<CacheKey, u64>,
    /// What a vertex gives when it is executed, if not its own number.
    pub(crate) gives: BTreeMap<usize, u64>,
    pub(crate) fails: BTreeSet<usize>,
    /// Vertices whose results are found, and then cannot be used once.
    pub(crate) lost: BTreeSet<usize>,
    /// The build is cancelled when this vertex begins to execute.
    pub(crate) cancel_at: Option<usize>,
}

/// What was asked, one word for each action, in order.
pub(crate) struct Log {
    pub(crate) words: Vec<String>,
    pub(crate) solver: Solver<u64>,
}

impl World {
    /// Builds the targets, answering in order.
    pub(crate) fn build(&mut self, plan: &Plan, targets: &[usize]) -> Log {
        let targets: Vec<VertexIndex> = targets.iter().map(|&id| VertexIndex(id)).collect();
        let mut solver = Solver::new(plan, &targets).unwrap();
        let mut words = Vec::new();
        loop {
            let actions = solver.poll();
            if actions.is_empty() {
                assert_eq!(
                    solver.in_flight(),
                    0,
                    "nothing to do, and something is open"
                );
                return Log { words, solver };
            }
            for action in actions {
                if matches!(&action, Action::Execute { vertex, .. } if Some(vertex.0) == self.cancel_at)
                {
                    solver.cancel();
                }
                let event = match self.lose(plan, &action, &solver) {
                    Some(event) => {
                        words.push(format!("lost for {}", event.vertex().0));
                        Some(event)
                    }
                    None => self.perform(action, &mut words),
                };
                if let Some(event) = event {
                    solver.on(event).unwrap();
                }
            }
        }
    }

    fn lose(
        &mut self,
        plan: &Plan,
        action: &Action<u64>,
        solver: &Solver<u64>,
    ) -> Option<Event<u64>> {
        let (vertex, only) = match *action {
            Action::Checksum { vertex, input, .. } => (vertex, Some(input)),
            Action::Execute { vertex, .. } => (vertex, None),
            _ => return None,
        };
        let inputs = &plan.vertices[vertex.0].inputs;
        let lost = |&n: &usize| {
            let of = inputs[n].vertex;
            self.lost.contains(&of.0) && matches!(solver.status(of), Some(Status::Found(_)))
        };
        let mut asked = only.map_or(0..inputs.len(), |only| only..only + 1);
        let input = asked.find(lost)?;
        Some(Event::InputLost { vertex, input })
    }

    fn perform(&mut self, action: Action<u64>, words: &mut Vec<String>) -> Option<Event<u64>> {
        let id = action.vertex().0;
        let mut say = |word: String| words.push(word);
        Some(match action {
            Action::OpKey { vertex } => {
                say(format!("op {id}"));
                let key = KeyHasher::new("test.op", 1).number(id as u64).finish();
                Event::OpKey { vertex, key }
            }
            Action::LookupLink {
                vertex,
                input,
                link,
            } => {
                let sum = self.links.get(&link).copied();
                say(format!("link {id} {}", found(sum.is_some())));
                Event::LinkFound { vertex, input, sum }
            }
            Action::Checksum { vertex, input, of } => {
                say(format!("sum {id}"));
                let sum = KeyHasher::new("test.sum", 1).number(of).finish();
                Event::Checksum { vertex, input, sum }
            }
            Action::LookupResult { vertex, key } => {
                let result = self.results.get(&key).copied();
                say(format!("look up {id} {}", found(result.is_some())));
                Event::ResultFound { vertex, result }
            }
            Action::Execute { vertex, .. } => {
                say(format!("execute {id}"));
                if self.fails.contains(&id) {
                    return Some(Event::Failed { vertex });
                }
                let result = self.gives.get(&id).copied().unwrap_or(id as u64);
                Event::Executed { vertex, result }
            }
            Action::Link { link, sum, .. } => {
                self.links.insert(link, sum);
                return None;
            }
            Action::Save {
                key, parts, result, ..
            } => {
                assert_eq!(parts.key(), key);
                self.results.insert(key, result);
                return None;
            }
        })
    }

    /// Forgets the results of a vertex that the last build had the key of.
    pub(crate) fn prune(&mut self, log: &Log, id: usize) {
        let key = log.solver.key(VertexIndex(id)).unwrap();
        self.results.remove(&key).unwrap();
    }
}

fn found(found: bool) -> &'static str {
    if found { "hit" } else { "miss" }
}

impl Log {
    #[track_caller]
    pub(crate) fn check(&self, expected: &[&str]) {
        assert_eq!(self.words, expected);
    }

    pub(crate) fn status(&self, id: usize) -> Status<'_, u64> {
        self.solver.status(VertexIndex(id)).unwrap()
    }
}
