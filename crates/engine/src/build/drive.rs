//! Drives the solver: performs its actions, quick ones at once, slow ones on threads, and feeds
//! the answers back until nothing is left to do.
//!
//! What an action means is `session`'s business; here is only when it runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, Receiver, Sender};

use solver::{Action, CacheKey, Event, KeyParts, Plan, Solver, Status, VertexIndex};

use super::handle::Handle;
use super::session::Session;
use crate::error::{BuildError, StepError};
use crate::event::EventKind;

type Answer = (Event<Handle>, Option<StepError>);

/// Solves for the targets.
///
/// # Errors
/// When a step failed, or the build was cancelled. Results of the others are kept.
pub(super) fn drive(
    session: &Session<'_>,
    plan: &Plan,
    targets: &[VertexIndex],
) -> Result<Vec<Handle>, BuildError> {
    let solver = Solver::new(plan, targets)
        .map_err(|error| BuildError::internal("plan the build", error))?;
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let driver = Driver {
            session,
            solver,
            reported: vec![false; plan.vertices.len()],
            errors: BTreeMap::new(),
            waiting: VecDeque::new(),
            running: 0,
            most: session.jobs(),
            sender,
            receiver,
        };
        driver.run(scope, targets)
    })
}

/// Work for a thread.
enum Job {
    Checksum {
        vertex: VertexIndex,
        input: usize,
        of: Handle,
    },
    Execute {
        vertex: VertexIndex,
        key: CacheKey,
        parts: Option<KeyParts>,
        inputs: Vec<Handle>,
    },
}

struct Driver<'s, 'e> {
    session: &'s Session<'e>,
    solver: Solver<Handle>,
    /// Whether a vertex was started or shown as cached.
    reported: Vec<bool>,
    errors: BTreeMap<VertexIndex, StepError>,
    waiting: VecDeque<Job>,
    running: usize,
    /// How many may.
    most: usize,
    sender: Sender<Answer>,
    receiver: Receiver<Answer>,
}

impl<'s: 'scope, 'e, 'scope> Driver<'s, 'e> {
    fn run(
        mut self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        targets: &[VertexIndex],
    ) -> Result<Vec<Handle>, BuildError> {
        loop {
            if self.session.cancel.is_cancelled() {
                self.solver.cancel();
                self.drop_waiting()?;
            }
            let actions = self.solver.poll();
            let idle = actions.is_empty();
            for action in actions {
                self.perform(action)?;
            }
            self.start_jobs(scope);
            if !idle {
                continue;
            }
            if self.running == 0 {
                break;
            }
            let answer = self
                .receiver
                .recv()
                .map_err(|error| BuildError::internal("wait for steps", error))?;
            self.running -= 1;
            self.take(answer)?;
        }
        self.outcome(targets)
    }

    fn answer(&mut self, event: Event<Handle>) -> Result<(), BuildError> {
        self.solver
            .on(event)
            .map_err(|error| BuildError::internal("answer the solver", error))
    }

    /// Performs what is quick, queues what is not.
    fn perform(&mut self, action: Action<Handle>) -> Result<(), BuildError> {
        let session = self.session;
        match action {
            Action::OpKey { vertex } => {
                let answer = session
                    .op_key(vertex)
                    .map(|key| Event::OpKey { vertex, key });
                self.quick(vertex, answer)
            }
            Action::LookupLink {
                vertex,
                input,
                link,
            } => {
                let answer =
                    session
                        .lookup_link(link)
                        .map(|sum| Event::LinkFound { vertex, input, sum });
                self.quick(vertex, answer)
            }
            Action::LookupResult { vertex, key } => {
                let answer = session
                    .lookup_result(vertex, key)
                    .map(|result| Event::ResultFound { vertex, result });
                if let Ok(Event::ResultFound {
                    result: Some(_), ..
                }) = &answer
                {
                    self.show_cached(vertex);
                }
                self.quick(vertex, answer)
            }
            Action::Link { link, sum, .. } => {
                session.save_link(link, sum);
                Ok(())
            }
            Action::Save {
                vertex,
                key,
                parts,
                result,
            } => {
                session.save_result(vertex, key, &parts, &result);
                Ok(())
            }
            Action::Checksum { vertex, input, of } => {
                self.waiting.push_back(Job::Checksum { vertex, input, of });
                Ok(())
            }
            Action::Execute {
                vertex,
                key,
                inputs,
            } => {
                let parts = self.solver.parts(vertex);
                self.waiting.push_back(Job::Execute {
                    vertex,
                    key,
                    parts,
                    inputs,
                });
                Ok(())
            }
        }
    }

    fn quick(
        &mut self,
        vertex: VertexIndex,
        answer: Result<Event<Handle>, StepError>,
    ) -> Result<(), BuildError> {
        match answer {
            Ok(event) => self.answer(event),
            Err(error) => self.take((Event::Failed { vertex }, Some(error))),
        }
    }

    fn take(&mut self, (event, error): Answer) -> Result<(), BuildError> {
        let vertex = event.vertex();
        if let Some(error) = error {
            let step = self.session.digest(vertex);
            let cancelled = self.session.cancel.is_cancelled();
            self.session.events.send(if cancelled {
                EventKind::Cancelled { step }
            } else {
                EventKind::Failed {
                    step,
                    message: error.to_string(),
                }
            });
            // The first failure is the build's; those it brought about are not.
            if !cancelled {
                self.errors.insert(vertex, error);
            }
            self.session.cancel.cancel();
        } else if matches!(event, Event::Executed { .. }) {
            self.session.events.send(EventKind::Finished {
                step: self.session.digest(vertex),
            });
        }
        self.answer(event)
    }

    /// Starts as many jobs as may run at once, and lets what is done beside them go on.
    fn start_jobs(&mut self, scope: &'scope std::thread::Scope<'scope, '_>) {
        self.start_waiting(scope);
        if let Some(ahead) = self.session.ahead.filter(|_| self.running > 0) {
            ahead.go_on();
        }
    }

    fn start_waiting(&mut self, scope: &'scope std::thread::Scope<'scope, '_>) {
        while self.running < self.most {
            let Some(job) = self.waiting.pop_front() else {
                return;
            };
            if let Job::Execute {
                vertex, key, parts, ..
            } = &job
            {
                self.show_started(*vertex, *key, parts.as_ref());
            }
            self.running += 1;
            let (session, sender) = (self.session, self.sender.clone());
            scope.spawn(move || {
                let vertex = job.vertex();
                let answer = match job.perform(session) {
                    Ok(event) => (event, None),
                    Err(error) => match job.lost_input(session) {
                        Some(input) => (Event::InputLost { vertex, input }, None),
                        None => (Event::Failed { vertex }, Some(error)),
                    },
                };
                // The receiver outlives every job: it waits for them.
                drop(sender.send(answer));
                session.do_chores();
            });
        }
    }

    fn drop_waiting(&mut self) -> Result<(), BuildError> {
        for job in std::mem::take(&mut self.waiting) {
            self.answer(Event::Failed {
                vertex: job.vertex(),
            })?;
        }
        Ok(())
    }

    fn show_started(&mut self, vertex: VertexIndex, key: CacheKey, parts: Option<&KeyParts>) {
        for input in self.session.inputs(vertex) {
            self.show_cached(input);
        }
        if !std::mem::replace(&mut self.reported[vertex.0], true) {
            self.session.note_reached(vertex);
            let step = self.session.digest(vertex);
            self.session.events.send(EventKind::Started { step });
            if let Some(reason) = self.session.why_missed(vertex, key, parts) {
                self.session.events.send(EventKind::Missed { step, reason });
            }
        }
    }

    /// Tells that a vertex, and whatever only it needed, did not have to run.
    fn show_cached(&mut self, vertex: VertexIndex) {
        let mut stack = vec![(vertex, false)];
        while let Some((vertex, inputs_shown)) = stack.pop() {
            if self.reported[vertex.0] {
                continue;
            }
            if inputs_shown {
                self.reported[vertex.0] = true;
                self.session.note_reached(vertex);
                self.session.events.send(EventKind::Cached {
                    step: self.session.digest(vertex),
                });
            } else {
                stack.push((vertex, true));
                stack.extend(self.session.inputs(vertex).map(|input| (input, false)));
            }
        }
    }

    fn outcome(mut self, targets: &[VertexIndex]) -> Result<Vec<Handle>, BuildError> {
        for vertex in 0..self.reported.len() {
            let vertex = VertexIndex(vertex);
            if let (Some(Status::Keyed), Some(key)) =
                (self.solver.status(vertex), self.solver.key(vertex))
            {
                self.session.note_keyed(vertex, key);
            }
        }
        if let Some((&vertex, _)) = self.errors.first_key_value()
            && let Some(error) = self.errors.remove(&vertex)
        {
            return Err(self.session.step_failed(vertex, error));
        }
        let mut results = Vec::with_capacity(targets.len());
        for &target in targets {
            match self.solver.status(target) {
                Some(Status::Found(result) | Status::Executed(result)) => {
                    results.push(result.clone())
                }
                _ if self.session.cancel.is_cancelled() => return Err(BuildError::Cancelled),
                _ => return Err(BuildError::stalled(self.session.digest(target))),
            }
        }
        Ok(results)
    }
}

impl Job {
    fn vertex(&self) -> VertexIndex {
        match self {
            Job::Checksum { vertex, .. } | Job::Execute { vertex, .. } => *vertex,
        }
    }

    /// The input, if any, that the job failed for want of: a result that was found, and whose
    /// files nobody has any more.
    fn lost_input(&self, session: &Session<'_>) -> Option<usize> {
        match self {
            Job::Checksum { vertex, input, of } => {
                session.is_lost(*vertex, *input, of).then_some(*input)
            }
            Job::Execute { vertex, inputs, .. } => {
                let mut inputs = inputs.iter().enumerate();
                inputs.find_map(|(input, of)| session.is_lost(*vertex, input, of).then_some(input))
            }
        }
    }

    fn perform(&self, session: &Session<'_>) -> Result<Event<Handle>, StepError> {
        match self {
            Job::Checksum { vertex, input, of } => {
                let (vertex, input) = (*vertex, *input);
                let sum = session.checksum(vertex, input, of)?;
                Ok(Event::Checksum { vertex, input, sum })
            }
            Job::Execute {
                vertex,
                key,
                parts,
                inputs,
            } => {
                let vertex = *vertex;
                let result = session.execute(vertex, *key, parts.as_ref(), inputs)?;
                Ok(Event::Executed { vertex, result })
            }
        }
    }
}
