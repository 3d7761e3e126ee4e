//! The performing side: one build against a cache, in random order, with every promise checked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::Bug;
use super::world::{Keyed, Rng, Value, World, checksum, execute, op_key, selector_key};
use crate::key::link_key;
use crate::{Action, CacheKey, CacheUse, Event, How, Solver, Status, VertexIndex};

/// Sorted, since the generator decides entry by entry what is pruned.
#[derive(Clone, Default)]
pub(super) struct Cache {
    pub(super) links: BTreeMap<CacheKey, CacheKey>,
    pub(super) results: BTreeMap<CacheKey, Rc<Value>>,
}

#[derive(Default)]
pub(super) struct Options {
    pub(super) targets: Vec<usize>,
    pub(super) refresh: Vec<bool>,
    /// After how many answers the build is cancelled.
    pub(super) cancel_after: Option<usize>,
    /// One in how many questions fails; 0 is none.
    pub(super) flaky: usize,
    /// One in how many uses of a found result finds it gone; 0 is none.
    pub(super) lossy: usize,
}

pub(super) struct Outcome {
    /// For each target its value, or `None` when it failed or was never finished.
    pub(super) values: Vec<Option<Rc<Value>>>,
    /// Vertices that were executed, volatile sources left out.
    pub(super) executed: HashSet<usize>,
}

struct Build<'a> {
    world: &'a World,
    local: &'a mut Cache,
    remote: &'a Cache,
    bug: Option<Bug>,
    mood: &'a mut u64,
    solver: Solver<Rc<Value>>,
    executed: HashSet<usize>,
    /// What each checksum was taken of.
    summed: HashMap<(usize, usize), Rc<Value>>,
    /// Checksums by the input's key: only [`Bug::SumsByKey`] believes in them.
    remembered: &'a mut HashMap<(CacheKey, u64), CacheKey>,
    drawn: &'a mut Drawn,
}

/// How often what makes builds difficult really happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawn {
    /// A result was found in the remote cache alone.
    pub(super) found_remotely: usize,
    /// So was a link.
    pub(super) linked_remotely: usize,
    /// An operation failed, or a question did.
    pub(super) failed: usize,
    /// A result that had been found was gone when it was needed.
    pub(super) lost: usize,
    /// A build was cancelled while it waited for answers.
    pub(super) cancelled: usize,
    /// What was to be refreshed was executed although it was cached.
    pub(super) refreshed: usize,
    /// A build had several outputs.
    pub(super) several_targets: usize,
    /// An operation gave another content than the last time.
    pub(super) moody: usize,
}

pub(super) struct Machine {
    pub(super) drawn: Drawn,
    pub(super) local: Cache,
    pub(super) remote: Cache,
    pub(super) mood: u64,
    pub(super) bug: Option<Bug>,
    pub(super) remembered: HashMap<(CacheKey, u64), CacheKey>,
}

pub(super) fn build(
    machine: &mut Machine,
    world: &World,
    options: &Options,
    rng: &mut Rng,
) -> Result<Outcome, String> {
    let mut plan = world.plan(&options.refresh);
    for vertex in &mut plan.vertices {
        match (machine.bug, vertex.cache) {
            (Some(Bug::VolatileIsTrusted), CacheUse::Volatile)
            | (Some(Bug::RefreshIsIgnored), CacheUse::Refresh) => vertex.cache = CacheUse::Normal,
            _ => {}
        }
        for input in &mut vertex.inputs {
            match (machine.bug, input.how) {
                (Some(Bug::SelectorsAreForgotten), How::Content { .. }) => {
                    input.how = How::Content {
                        selector: selector_key(0),
                    };
                }
                (Some(Bug::ChainIsForgotten), How::Chained) => input.how = How::Unkeyed,
                _ => {}
            }
        }
    }
    let targets: Vec<VertexIndex> = options.targets.iter().map(|&t| VertexIndex(t)).collect();
    let several = options
        .targets
        .iter()
        .any(|&target| target != options.targets[0]);
    machine.drawn.several_targets += usize::from(several);
    let Machine {
        drawn,
        local,
        remote,
        mood,
        bug,
        remembered,
    } = machine;
    let mut build = Build {
        world,
        local,
        remote,
        bug: *bug,
        mood,
        solver: Solver::new(&plan, &targets).map_err(|e| e.to_string())?,
        executed: HashSet::new(),
        summed: HashMap::new(),
        remembered,
        drawn,
    };
    build.run(options, rng)?;
    build.check_statuses(options)?;
    let value = |&target: &VertexIndex| match build.solver.status(target) {
        Some(Status::Found(value) | Status::Executed(value)) => Some(value.clone()),
        _ => None,
    };
    Ok(Outcome {
        values: targets.iter().map(value).collect(),
        executed: build.executed,
    })
}

impl Build<'_> {
    fn run(&mut self, options: &Options, rng: &mut Rng) -> Result<(), String> {
        let mut pending = Vec::new();
        for answers in 0.. {
            if options.cancel_after == Some(answers) {
                self.solver.cancel();
                self.drawn.cancelled += usize::from(!pending.is_empty());
            }
            let actions = self.solver.poll();
            if !actions.is_sorted_by_key(Action::vertex) {
                return Err("actions out of order".into());
            }
            for action in actions {
                match action {
                    question if question.is_question() => pending.push(question),
                    statement => self.remember(statement)?,
                }
            }
            if pending.len() != self.solver.in_flight() {
                return Err("miscounted questions".into());
            }
            if pending.is_empty() {
                return Ok(());
            }
            let question = pending.swap_remove(rng.below(pending.len()));
            if options.lossy > 0
                && rng.one_in(options.lossy)
                && let Some(event) = self.lose(&question, rng)
            {
                self.solver.on(event).map_err(|e| e.to_string())?;
                continue;
            }
            let event = if options.flaky > 0 && rng.one_in(options.flaky) {
                Event::Failed {
                    vertex: question.vertex(),
                }
            } else {
                self.answer(question, options)?
            };
            self.drawn.failed += usize::from(matches!(event, Event::Failed { .. }));
            self.solver.on(event).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Takes away the result of an input that was found, if the question needs one.
    fn lose(&mut self, question: &Action<Rc<Value>>, rng: &mut Rng) -> Option<Event<Rc<Value>>> {
        let inputs = &self.world.vertices[question.vertex().0].inputs;
        let input = match question {
            &Action::Checksum { input, .. } => input,
            Action::Execute { .. } if !inputs.is_empty() => rng.below(inputs.len()),
            _ => return None,
        };
        let of = VertexIndex(inputs[input].0);
        if !matches!(self.solver.status(of), Some(Status::Found(_))) {
            return None;
        }
        self.local.results.remove(&self.solver.key(of)?);
        let vertex = question.vertex();
        self.drawn.lost += 1;
        Some(Event::InputLost { vertex, input })
    }

    fn remember(&mut self, statement: Action<Rc<Value>>) -> Result<(), String> {
        match statement {
            Action::Link { vertex, link, sum } => {
                if self.bug.is_none() {
                    self.check_link(vertex, link, sum)?;
                }
                self.local.links.insert(link, sum);
            }
            Action::Save {
                key, parts, result, ..
            } => {
                if matches!(self.bug, None | Some(Bug::SumsByKey))
                    && (parts != result.parts || key != result.key)
                {
                    return Err(format!("saved {result:?} under {key:?} made of {parts:?}"));
                }
                self.local.results.insert(key, result);
            }
            question => return Err(format!("{question:?} is no statement")),
        }
        Ok(())
    }

    /// A link has to be true of a value that the checksum was really taken of.
    fn check_link(&self, vertex: VertexIndex, link: CacheKey, sum: CacheKey) -> Result<(), String> {
        let inputs = self.world.vertices[vertex.0].inputs.iter().enumerate();
        let mut seen = inputs.filter_map(|(n, &(_, keyed))| match keyed {
            Keyed::Content(selector) => Some((self.summed.get(&(vertex.0, n))?, selector)),
            _ => None,
        });
        let fine = seen.any(|(value, selector)| {
            link == link_key(value.key, selector_key(selector))
                && sum == checksum(value.content, selector)
        });
        let error = || format!("vertex {} linked what was never seen", vertex.0);
        if fine { Ok(()) } else { Err(error()) }
    }

    fn answer(
        &mut self,
        question: Action<Rc<Value>>,
        options: &Options,
    ) -> Result<Event<Rc<Value>>, String> {
        Ok(match question {
            Action::OpKey { vertex } => Event::OpKey {
                vertex,
                key: op_key(&self.world.vertices[vertex.0]),
            },
            Action::LookupLink {
                vertex,
                input,
                link,
            } => {
                let here = self.local.links.get(&link);
                let there = self.remote.links.get(&link);
                self.drawn.linked_remotely += usize::from(here.is_none() && there.is_some());
                let sum = here.or(there).copied();
                Event::LinkFound { vertex, input, sum }
            }
            Action::Checksum { vertex, input, of } => Event::Checksum {
                vertex,
                input,
                sum: self.sum(vertex, input, of)?,
            },
            Action::LookupResult { vertex, key } => Event::ResultFound {
                vertex,
                result: self.find(key),
            },
            Action::Execute { vertex, inputs, .. } => {
                let of = &self.world.vertices[vertex.0];
                if !of.volatile && !self.executed.insert(vertex.0) {
                    return Err(format!("vertex {} executed twice", vertex.0));
                }
                *self.mood += 1;
                let op = op_key(of);
                let cached = self.local.results.values().any(|value| value.op == op);
                self.drawn.refreshed += usize::from(options.refresh[vertex.0] && cached);
                self.drawn.moody += usize::from(of.moody && cached);
                match execute(of, inputs, *self.mood) {
                    Some(value) => Event::Executed {
                        vertex,
                        result: Rc::new(value),
                    },
                    None => Event::Failed { vertex },
                }
            }
            statement => return Err(format!("{statement:?} is no question")),
        })
    }

    fn sum(
        &mut self,
        vertex: VertexIndex,
        input: usize,
        of: Rc<Value>,
    ) -> Result<CacheKey, String> {
        let Keyed::Content(selector) = self.world.vertices[vertex.0].inputs[input].1 else {
            return Err("checksum of an input that is not keyed by content".into());
        };
        let sum = checksum(of.content, selector);
        let remembered = *self.remembered.entry((of.key, selector)).or_insert(sum);
        self.summed.insert((vertex.0, input), of);
        Ok(if self.bug == Some(Bug::SumsByKey) {
            remembered
        } else {
            sum
        })
    }

    fn find(&mut self, key: CacheKey) -> Option<Rc<Value>> {
        if self.bug == Some(Bug::KeysAreTruncated) {
            let near = |(k, _): &(&CacheKey, _)| k.as_bytes()[0] & 7 == key.as_bytes()[0] & 7;
            return self
                .local
                .results
                .iter()
                .find(near)
                .map(|(_, value)| value.clone());
        }
        let here = self.local.results.get(&key);
        let there = self.remote.results.get(&key);
        self.drawn.found_remotely += usize::from(here.is_none() && there.is_some());
        here.or(there).cloned()
    }

    /// The report names what failed, what that blocked, and what was executed; and everything
    /// that was asked to be refreshed and has a result was executed.
    fn check_statuses(&self, options: &Options) -> Result<(), String> {
        let needed = self.world.needed_by(&options.targets);
        for (id, vertex) in self.world.vertices.iter().enumerate() {
            let status = self
                .solver
                .status(VertexIndex(id))
                .ok_or("a vertex is missing")?;
            let fine = match status {
                Status::Unneeded => true,
                Status::Executed(_) => vertex.volatile || self.executed.contains(&id),
                Status::Found(_) => !vertex.volatile && !options.refresh[id],
                Status::Failed => needed[id],
                Status::Blocked {
                    by: VertexIndex(by),
                } => {
                    self.world.needed_by(&[id])[by]
                        && self.solver.status(VertexIndex(by)) == Some(Status::Failed)
                }
                Status::Keyed => self.solver.key(VertexIndex(id)).is_some(),
                Status::Pending => options.cancel_after.is_some(),
            };
            if !fine || (!needed[id] && !matches!(status, Status::Unneeded)) {
                return Err(format!("vertex {id} ended as {status:?}"));
            }
        }
        Ok(())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.key == other.key && self.content == other.content
    }
}
