//! The state machine.
//!
//! Progress is pushed, never searched for: a vertex that waits for its inputs counts what is
//! missing, and an input that gets its key or its result counts down at its consumers. So the
//! work is proportional to the edges, and nothing recurses.

mod loss;
mod transitions;

use std::collections::BTreeSet;

use crate::{
    Action, CacheKey, CacheUse, Event, How, KeyPart, KeyParts, Plan, PlanError, PlanInput, Status,
    UnexpectedEvent, VertexIndex,
};

/// What has to be done to bring about the targets of a [`Plan`], step by step.
#[derive(Debug)]
pub struct Solver<R> {
    nodes: Vec<Node<R>>,
    /// Vertices that may be able to advance.
    dirty: BTreeSet<usize>,
    out: Vec<Action<R>>,
    in_flight: usize,
    cancelled: bool,
}

#[derive(Debug)]
struct Node<R> {
    inputs: Vec<PlanInput>,
    /// For each input, the checksum of what is selected of its content.
    sums: Vec<Sum>,
    /// Who takes this vertex as an input, and as which of its inputs.
    consumers: Vec<(usize, usize)>,
    cache: CacheUse,
    want: Want,
    op: Option<CacheKey>,
    key: Option<CacheKey>,
    /// Questions about this vertex that were not answered yet.
    open: usize,
    /// Its result was found, and could not be used.
    lost: bool,
    /// How often an input of it was lost.
    losses: usize,
    phase: Phase<R>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    Nothing,
    Key,
    Result,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    /// Not needed so far, or needs the input's key to look for a link.
    Unknown,
    AskedLink,
    /// There is no link to trust: has to be taken of the input's result.
    Unlinked,
    Asked,
    /// As `Asked`, of a result that was lost since.
    AskedOfLost,
    /// Somebody linked it, at some time.
    Believed(CacheKey),
    /// Taken of the result that this build has.
    Seen(CacheKey),
}

#[derive(Debug)]
enum Phase<R> {
    Idle,
    AskedOpKey,
    /// Waits for the keys of chained inputs and the checksums of content inputs.
    NeedsParts {
        missing: usize,
    },
    /// Has a key, which is all that was wanted so far.
    Keyed,
    AskedResult {
        inputs_done: bool,
    },
    NeedsResults {
        missing: usize,
    },
    /// Has its inputs' results, and waits for the checksums that it only believed so far.
    Verifies {
        missing: usize,
    },
    Executing {
        /// What its key is made of, whatever becomes of its inputs meanwhile.
        parts: KeyParts,
    },
    Done {
        result: R,
        executed: bool,
    },
    Failed,
    Blocked {
        by: usize,
    },
}

impl<R: Clone> Solver<R> {
    /// Starts a build that wants the results of `targets`.
    ///
    /// # Errors
    /// When the plan is not in topological order, or a target is not in it.
    pub fn new(plan: &Plan, targets: &[VertexIndex]) -> Result<Solver<R>, PlanError> {
        let vertices = plan.vertices.len();
        let mut nodes: Vec<Node<R>> = Vec::with_capacity(vertices);
        for (id, vertex) in plan.vertices.iter().enumerate() {
            let mut cache = vertex.cache;
            for (input, &PlanInput { vertex: of, how }) in vertex.inputs.iter().enumerate() {
                let Some(source) = nodes.get_mut(of.0) else {
                    let vertex = VertexIndex(id);
                    return Err(PlanError::Order { vertex, input, of });
                };
                source.consumers.push((id, input));
                let refreshed = (how, source.cache) == (How::Chained, CacheUse::Refresh);
                if refreshed && cache == CacheUse::Normal {
                    cache = CacheUse::Refresh;
                }
            }
            nodes.push(Node {
                inputs: vertex.inputs.clone(),
                sums: vec![Sum::Unknown; vertex.inputs.len()],
                consumers: Vec::new(),
                cache,
                want: Want::Nothing,
                op: vertex.op_key,
                key: None,
                open: 0,
                lost: false,
                losses: 0,
                phase: Phase::Idle,
            });
        }
        let mut solver = Solver {
            nodes,
            dirty: BTreeSet::new(),
            out: Vec::new(),
            in_flight: 0,
            cancelled: false,
        };
        for &target in targets {
            if target.0 >= vertices {
                return Err(PlanError::Target { target, vertices });
            }
            solver.demand(target.0, Want::Result);
        }
        Ok(solver)
    }

    /// What became possible since the last call, in ascending order of vertices. After a
    /// cancellation only what has no answer.
    pub fn poll(&mut self) -> Vec<Action<R>> {
        while !self.cancelled
            && let Some(id) = self.dirty.pop_first()
        {
            self.advance(id);
        }
        let mut actions = std::mem::take(&mut self.out);
        actions.sort_by_key(Action::vertex);
        actions
    }

    /// Takes the answer to a question of [`Solver::poll`].
    ///
    /// # Errors
    /// When no such question is open. Nothing changes then.
    pub fn on(&mut self, event: Event<R>) -> Result<(), UnexpectedEvent> {
        let vertex = event.vertex();
        let id = vertex.0;
        let node = self.nodes.get_mut(id).filter(|node| node.open > 0);
        let node = node.ok_or(UnexpectedEvent { vertex })?;
        match (&node.phase, event) {
            // Something else about it failed meanwhile: nobody is interested any more.
            (Phase::Failed | Phase::Blocked { .. }, _) => {}
            (_, Event::Failed { .. }) => self.fail(id, Phase::Failed, id),
            (Phase::AskedOpKey, Event::OpKey { key, .. }) => {
                node.op = Some(key);
                node.phase = Phase::Idle;
            }
            (Phase::NeedsParts { .. }, Event::LinkFound { input, sum, .. })
                if node.sums.get(input) == Some(&Sum::AskedLink) =>
            {
                match sum {
                    Some(sum) => self.summed(id, input, Sum::Believed(sum)),
                    None => self.unlinked(id, input),
                }
            }
            (
                Phase::NeedsParts { .. } | Phase::Verifies { .. },
                Event::Checksum { input, sum, .. },
            ) if node.sums.get(input) == Some(&Sum::Asked) => {
                self.learn_link(id, input, sum);
                self.summed(id, input, Sum::Seen(sum));
            }
            (
                Phase::NeedsParts { .. } | Phase::Verifies { .. },
                Event::Checksum { input, sum, .. },
            ) if node.sums.get(input) == Some(&Sum::AskedOfLost) => {
                self.summed(id, input, Sum::Believed(sum));
            }
            (Phase::NeedsParts { .. } | Phase::Verifies { .. }, Event::InputLost { input, .. })
                if matches!(node.sums.get(input), Some(Sum::Asked | Sum::AskedOfLost)) =>
            {
                self.input_lost(id, input);
            }
            (Phase::Executing { .. }, Event::InputLost { input, .. })
                if input < node.inputs.len() =>
            {
                self.input_lost(id, input);
            }
            (&Phase::AskedResult { inputs_done }, Event::ResultFound { result, .. }) => {
                match result {
                    Some(result) => self.done(id, result, false),
                    // What its inputs are may have changed while it was looked up.
                    None if inputs_done => self.verified(id),
                    None => self.need_results(id),
                }
            }
            (Phase::Executing { .. }, Event::Executed { result, .. }) => self.executed(id, result),
            _ => return Err(UnexpectedEvent { vertex }),
        }
        self.nodes[id].open -= 1;
        self.in_flight -= 1;
        self.dirty.insert(id);
        Ok(())
    }

    /// Stops asking. Questions that are open may still be answered: what was executed is saved.
    pub fn cancel(&mut self) {
        self.cancelled = true;
        for action in std::mem::take(&mut self.out) {
            if action.is_question() {
                self.nodes[action.vertex().0].open -= 1;
                self.in_flight -= 1;
            } else {
                self.out.push(action);
            }
        }
    }

    /// How many questions were returned by [`Solver::poll`], or will be, and are not answered.
    /// At 0 after a poll that returned nothing, the build is over.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How a vertex stands; `None` when the plan has no such vertex.
    pub fn status(&self, vertex: VertexIndex) -> Option<Status<'_, R>> {
        let node = self.nodes.get(vertex.0)?;
        Some(match &node.phase {
            Phase::Idle if node.want == Want::Nothing => Status::Unneeded,
            Phase::Keyed if node.want == Want::Key => Status::Keyed,
            Phase::Done { result, executed } if *executed => Status::Executed(result),
            Phase::Done { result, .. } => Status::Found(result),
            Phase::Failed => Status::Failed,
            &Phase::Blocked { by } => Status::Blocked {
                by: VertexIndex(by),
            },
            _ => Status::Pending,
        })
    }

    /// The key of a vertex, as soon as it is known. One that a link is part of may still change
    /// until the vertex has its result.
    pub fn key(&self, vertex: VertexIndex) -> Option<CacheKey> {
        self.nodes.get(vertex.0)?.key
    }

    /// What the key of a vertex is made of; `None` as long as a part is unknown.
    pub fn parts(&self, vertex: VertexIndex) -> Option<KeyParts> {
        let node = self.nodes.get(vertex.0)?;
        let part = |(input, sum): (&PlanInput, &Sum)| match (input.how, *sum) {
            (How::Chained, _) => self.nodes[input.vertex.0].key.map(KeyPart::Chained),
            (How::Content { .. }, Sum::Believed(sum) | Sum::Seen(sum)) => {
                Some(KeyPart::Content(sum))
            }
            (How::Content { .. }, _) => None,
            (How::Unkeyed, _) => Some(KeyPart::Unkeyed),
        };
        let inputs = node.inputs.iter().zip(&node.sums).map(part);
        let inputs = inputs.collect::<Option<_>>()?;
        Some(KeyParts {
            op: node.op?,
            inputs,
        })
    }

    /// Takes one vertex as far as it gets without an answer or another vertex.
    fn advance(&mut self, id: usize) {
        let vertex = VertexIndex(id);
        let node = &mut self.nodes[id];
        match node.phase {
            Phase::Idle if node.want == Want::Nothing => {}
            Phase::Idle if node.op.is_none() => {
                node.phase = Phase::AskedOpKey;
                self.ask(Action::OpKey { vertex });
            }
            Phase::Idle => self.need_parts(id),
            Phase::NeedsParts { missing: 0 } => {
                let parts = self.parts(vertex).expect("nothing is missing");
                self.keyed(id, parts.key());
                self.dirty.insert(id);
            }
            Phase::Keyed if node.want == Want::Result => self.look_up(id, false),
            Phase::NeedsResults { missing: 0 } => {
                self.verify(id);
                self.dirty.insert(id);
            }
            Phase::Verifies { missing: 0 } => self.verified(id),
            _ => {}
        }
    }

    fn demand(&mut self, id: usize, want: Want) {
        if self.nodes[id].want < want {
            self.nodes[id].want = want;
            self.dirty.insert(id);
        }
    }

    fn ask(&mut self, question: Action<R>) {
        // A cancelled build may still hear answers, which must not lead to new questions.
        if !self.cancelled {
            self.nodes[question.vertex().0].open += 1;
            self.in_flight += 1;
            self.out.push(question);
        }
    }
}
