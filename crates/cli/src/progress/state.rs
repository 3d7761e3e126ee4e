//! What the events of a build have told so far.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use engine::event::{Event, EventKind, VertexDigest};

/// Everything that was said, step by step.
pub(crate) struct State {
    started: SystemTime,
    now: SystemTime,
    steps: Vec<Step>,
    by_digest: HashMap<VertexDigest, usize>,
}

/// One step.
pub(crate) struct Step {
    /// Position among the announced ones, from 1.
    pub(crate) number: usize,
    /// `[build 3/7] RUN npm ci`.
    pub(crate) name: String,
    /// How it stands.
    pub(crate) status: Status,
    /// What its process wrote and has not ended with a line feed yet.
    pub(crate) partial: Vec<u8>,
    /// Whole lines that came with the last log event.
    pub(crate) fresh: Vec<String>,
    /// Bytes on their way, by item.
    pub(crate) transfers: HashMap<String, (u64, Option<u64>)>,
    began: Option<SystemTime>,
    ended: Option<SystemTime>,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Announced.
    Waiting,
    /// At work.
    Running,
    /// Not needed: its result was there.
    Cached,
    /// Ended well.
    Done,
    /// Failed.
    Failed,
    /// Stopped.
    Cancelled,
}

impl State {
    /// Nothing was said yet.
    pub(crate) fn new(started: SystemTime) -> State {
        State {
            started,
            now: started,
            steps: Vec::new(),
            by_digest: HashMap::new(),
        }
    }

    /// The step of a digest that was announced.
    pub(crate) fn step(&self, digest: &VertexDigest) -> Option<&Step> {
        self.by_digest.get(digest).map(|&index| &self.steps[index])
    }

    /// All steps in the order they were announced.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Since the build began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now.duration_since(self.started).unwrap_or_default()
    }

    /// Since a step began, or for how long it ran.
    pub(crate) fn running(&self, step: &Step) -> Duration {
        let end = step.ended.unwrap_or(self.now);
        step.began
            .and_then(|began| end.duration_since(began).ok())
            .unwrap_or_default()
    }

    /// Takes one event in.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.now = event.at;
        match &event.kind {
            EventKind::Announced { step, name } => self.announce(*step, name),
            EventKind::Started { step } => self.update(step, |step, now| {
                step.status = Status::Running;
                step.began = Some(now);
            }),
            EventKind::Cached { step } => self.end(step, Status::Cached),
            EventKind::Finished { step } => self.end(step, Status::Done),
            EventKind::Failed { step, .. } => self.end(step, Status::Failed),
            EventKind::Cancelled { step } => self.end(step, Status::Cancelled),
            EventKind::Log { step, bytes, .. } => self.update(step, |step, _| step.take_log(bytes)),
            EventKind::Transfer {
                step,
                item,
                done,
                total,
            } => self.update(step, |step, _| {
                step.transfers.insert(item.clone(), (*done, *total));
            }),
            EventKind::Missed { .. } | EventKind::Warnings(_) | EventKind::Note(_) => {}
        }
    }

    fn announce(&mut self, digest: VertexDigest, name: &str) {
        let number = self.steps.len() + 1;
        self.by_digest.insert(digest, self.steps.len());
        self.steps.push(Step {
            number,
            name: name.to_string(),
            status: Status::Waiting,
            partial: Vec::new(),
            fresh: Vec::new(),
            transfers: HashMap::new(),
            began: None,
            ended: None,
        });
    }

    fn end(&mut self, digest: &VertexDigest, status: Status) {
        self.update(digest, |step, now| {
            step.fresh.clear();
            if !step.partial.is_empty() {
                step.fresh.push(clean(&std::mem::take(&mut step.partial)));
            }
            step.status = status;
            step.ended = Some(now);
        });
    }

    fn update(&mut self, digest: &VertexDigest, change: impl FnOnce(&mut Step, SystemTime)) {
        if let Some(&index) = self.by_digest.get(digest) {
            change(&mut self.steps[index], self.now);
        }
    }
}

impl Step {
    fn take_log(&mut self, bytes: &[u8]) {
        self.fresh.clear();
        self.partial.extend_from_slice(bytes);
        let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') else {
            return;
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        self.fresh
            .extend(whole[..end].split(|&byte| byte == b'\n').map(clean));
    }
}

/// One line as a terminal would leave it: what a carriage return overwrote is gone, control
/// characters are.
fn clean(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|&byte| byte == b'\r').next().unwrap_or(line);
    String::from_utf8_lossy(last)
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\t' | '\u{1b}'))
        .collect()
}
