//! Progress: folds over the engine's events. `state` keeps what was said, the renderers turn it
//! into lines, a live view, or JSON. Nothing here decides anything about a build.

mod json;
mod live;
mod plain;
mod state;

use std::io::{IsTerminal, Write};
use std::sync::mpsc::Receiver;
use std::time::SystemTime;

use engine::event::Event;

use crate::args::ProgressMode;

pub(crate) use json::record;
pub(crate) use state::State;

/// Renders events to standard error until the channel closes, and returns what they told.
pub(crate) fn render(
    mode: ProgressMode,
    explain: bool,
    events: &Receiver<Event>,
    started: SystemTime,
) -> State {
    let mut state = State::new(started);
    let terminal = std::io::stderr().is_terminal();
    match mode {
        ProgressMode::Tty => live::run(&mut state, explain, events),
        ProgressMode::Auto if terminal => live::run(&mut state, explain, events),
        ProgressMode::Auto | ProgressMode::Plain => each(&mut state, events, |state, event| {
            plain::lines(state, event, explain)
        }),
        ProgressMode::Json => each(&mut state, events, |_, event| vec![json::line(event)]),
        ProgressMode::Quiet => each(&mut state, events, |_, _| Vec::new()),
    }
    state
}

fn each(
    state: &mut State,
    events: &Receiver<Event>,
    mut render: impl FnMut(&State, &Event) -> Vec<String>,
) {
    let mut stderr = std::io::stderr();
    for event in events {
        state.apply(&event);
        let mut text = render(state, &event).join("\n");
        if !text.is_empty() {
            text.push('\n');
            // A reader that went away does not stop a build.
            drop(stderr.write_all(text.as_bytes()));
        }
    }
}
