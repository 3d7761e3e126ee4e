//! Progress on a terminal: a line for every running step, finished ones above.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use engine::event::{Event, EventKind, VertexDigest};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::plain;
use super::state::{State, Status, Step};

/// Rows beyond the height of a terminal confuse cursor movement.
const MOST_BARS: usize = 12;
const TICK: Duration = Duration::from_millis(80);
const LOG_LINES: usize = 6;

/// Draws until the channel closes.
pub(super) fn run(state: &mut State, explain: bool, events: &Receiver<Event>) {
    let mut view = View {
        bars: MultiProgress::new(),
        steps: HashMap::new(),
        explain,
    };
    loop {
        match events.recv_timeout(TICK) {
            Ok(event) => {
                state.apply(&event);
                view.show(state, &event);
            }
            Err(RecvTimeoutError::Timeout) => view.steps.values().for_each(ProgressBar::tick),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for bar in view.steps.values() {
        bar.finish_and_clear();
    }
    let executed = state
        .steps()
        .iter()
        .filter(|step| step.status == Status::Done)
        .count();
    let cached = state
        .steps()
        .iter()
        .filter(|step| step.status == Status::Cached)
        .count();
    view.line(format!(
        "{:.1}s, {executed} steps run, {cached} cached",
        state.elapsed().as_secs_f64()
    ));
}

struct View {
    bars: MultiProgress,
    steps: HashMap<VertexDigest, ProgressBar>,
    explain: bool,
}

impl View {
    fn show(&mut self, state: &State, event: &Event) {
        match &event.kind {
            EventKind::Started { step } => self.add(state, *step),
            EventKind::Log { step, .. } => {
                if let (Some(bar), Some(step)) = (self.steps.get(step), state.step(step))
                    && let Some(line) = step.fresh.last()
                {
                    bar.set_message(line.chars().take(60).collect::<String>());
                }
            }
            EventKind::Transfer { step, .. } => {
                if let (Some(bar), Some(step)) = (self.steps.get(step), state.step(step)) {
                    bar.set_message(transfers(step));
                }
            }
            EventKind::Finished { step }
            | EventKind::Cached { step }
            | EventKind::Cancelled { step } => {
                self.remove(step);
                self.ended(state, step);
            }
            EventKind::Failed { step, .. } => {
                self.remove(step);
                self.ended(state, step);
                let tail = state
                    .step(step)
                    .map(|step| step.fresh.clone())
                    .unwrap_or_default();
                tail.iter()
                    .rev()
                    .take(LOG_LINES)
                    .rev()
                    .for_each(|line| self.line(format!("   {line}")));
            }
            EventKind::Announced { .. } => {}
            EventKind::Missed { .. } | EventKind::Warnings(_) | EventKind::Note(_) => {
                plain::lines(state, event, self.explain)
                    .into_iter()
                    .for_each(|line| self.line(line));
            }
        }
    }

    fn add(&mut self, state: &State, digest: VertexDigest) {
        if self.steps.len() >= MOST_BARS {
            return;
        }
        let Some(step) = state.step(&digest) else {
            return;
        };
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg:.dim}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.bars.add(
            ProgressBar::new_spinner()
                .with_style(style)
                .with_prefix(step.name.clone()),
        );
        bar.tick();
        self.steps.insert(digest, bar);
    }

    fn remove(&mut self, digest: &VertexDigest) {
        if let Some(bar) = self.steps.remove(digest) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn ended(&self, state: &State, digest: &VertexDigest) {
        let Some(step) = state.step(digest) else {
            return;
        };
        let seconds = state.running(step).as_secs_f64();
        self.line(match step.status {
            Status::Cached => format!("✓ {} CACHED", step.name),
            Status::Done => format!("✓ {} {seconds:.1}s", step.name),
            Status::Failed => format!("✗ {} {seconds:.1}s", step.name),
            Status::Waiting | Status::Running | Status::Cancelled => {
                format!("- {} cancelled", step.name)
            }
        });
    }

    fn line(&self, text: String) {
        // A terminal that went away does not stop a build.
        drop(self.bars.println(text));
    }
}

fn transfers(step: &Step) -> String {
    let done: u64 = step.transfers.values().map(|(done, _)| done).sum();
    let total: Option<u64> = step.transfers.values().map(|(_, total)| *total).sum();
    match total {
        Some(total) => format!("{} / {}", report_size(done), report_size(total)),
        None => report_size(done),
    }
}

fn report_size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
