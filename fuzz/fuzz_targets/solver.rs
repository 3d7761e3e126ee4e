//! Any graph, any order of answers, true ones and nonsense: the solver never panics, never asks
//! anything twice, and always comes to an end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use solver::{
    Action, CacheKey, CacheUse, Event, How, KeyHasher, Plan, PlanInput, PlanVertex, Solver, Status,
    VertexIndex,
};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.iter().copied();
    let plan = plan(&mut bytes);
    let target = VertexIndex(plan.vertices.len() - 1);
    let mut solver: Solver<u8> = Solver::new(&plan, &[target]).expect("inputs come first");
    let mut open: Vec<Action<u8>> = Vec::new();
    let mut cancelled = false;
    loop {
        open.extend(solver.poll().into_iter().filter(Action::is_question));
        assert_eq!(open.len(), solver.in_flight());
        let Some(choice) = bytes.next() else { break };
        match choice {
            255 => {
                solver.cancel();
                cancelled = true;
            }
            // Nobody asked, or only by chance: an error, or one question less.
            200.. => drop(nonsense(&mut solver, &mut open, choice)),
            _ if open.is_empty() => break,
            _ => {
                let question = open.swap_remove(usize::from(choice) % open.len());
                solver
                    .on(answer(question, bytes.next().unwrap_or(0)))
                    .expect("it was asked");
            }
        }
    }
    while let Some(question) = open.pop() {
        solver.on(answer(question, 3)).expect("it was asked");
        open.extend(solver.poll().into_iter().filter(Action::is_question));
    }
    assert_eq!(solver.in_flight(), 0);
    let pending = solver.status(target) == Some(Status::Pending);
    assert!(cancelled || !pending);
});

fn plan(bytes: &mut impl Iterator<Item = u8>) -> Plan {
    let mut vertices: Vec<PlanVertex> = Vec::new();
    let count = 1 + bytes.next().unwrap_or(0) % 24;
    for id in 0..usize::from(count) {
        let shape = bytes.next().unwrap_or(0);
        let fan_in = if id == 0 { 0 } else { shape % 4 };
        let input = |byte: u8| PlanInput {
            vertex: VertexIndex(usize::from(byte) % id.max(1)),
            how: match byte >> 6 {
                0 | 1 => How::Chained,
                2 => How::Content {
                    selector: key(byte),
                },
                _ => How::Unkeyed,
            },
        };
        vertices.push(PlanVertex {
            inputs: (0..fan_in)
                .map(|_| input(bytes.next().unwrap_or(0)))
                .collect(),
            cache: match shape >> 5 {
                0 => CacheUse::Refresh,
                1 => CacheUse::Volatile,
                _ => CacheUse::Normal,
            },
            op_key: (shape & 16 == 0).then(|| key(shape)),
        });
    }
    Plan { vertices }
}

fn key(byte: u8) -> CacheKey {
    KeyHasher::new("fuzz", 1).number(byte.into()).finish()
}

fn answer(question: Action<u8>, byte: u8) -> Event<u8> {
    let found = byte & 1 == 0;
    match question {
        Action::Checksum { vertex, input, .. } if byte == 9 => Event::InputLost { vertex, input },
        Action::Execute { vertex, inputs, .. } if byte == 9 && !inputs.is_empty() => {
            Event::InputLost { vertex, input: 0 }
        }
        action if byte == 7 => Event::Failed {
            vertex: action.vertex(),
        },
        Action::OpKey { vertex } => Event::OpKey {
            vertex,
            key: key(byte),
        },
        Action::LookupLink { vertex, input, .. } => Event::LinkFound {
            vertex,
            input,
            sum: found.then(|| key(byte)),
        },
        Action::Checksum { vertex, input, .. } => Event::Checksum {
            vertex,
            input,
            sum: key(byte),
        },
        Action::LookupResult { vertex, .. } => Event::ResultFound {
            vertex,
            result: found.then_some(byte),
        },
        Action::Execute { vertex, .. } => Event::Executed {
            vertex,
            result: byte,
        },
        Action::Link { vertex, .. } | Action::Save { vertex, .. } => Event::Failed { vertex },
    }
}

/// An answer that nobody may have waited for. `None` when it was refused.
fn nonsense(solver: &mut Solver<u8>, open: &mut Vec<Action<u8>>, choice: u8) -> Option<()> {
    let vertex = VertexIndex(usize::from(choice % 32));
    let input = usize::from(choice % 3);
    let event = match choice % 6 {
        0 => Event::OpKey {
            vertex,
            key: key(choice),
        },
        1 => Event::LinkFound {
            vertex,
            input,
            sum: None,
        },
        2 => Event::Checksum {
            vertex,
            input,
            sum: key(choice),
        },
        3 => Event::ResultFound {
            vertex,
            result: None,
        },
        4 => Event::InputLost { vertex, input },
        _ => Event::Executed {
            vertex,
            result: choice,
        },
    };
    solver.on(event.clone()).ok()?;
    // It was taken for the answer to some question about that vertex.
    let answered = open.iter().position(|question| answers(&event, question));
    let answered = answered.or_else(|| open.iter().position(|q| q.vertex() == vertex));
    open.remove(answered.expect("a question about the vertex was open"));
    Some(())
}

fn answers(event: &Event<u8>, question: &Action<u8>) -> bool {
    event.vertex() == question.vertex()
        && match (event, question) {
            (Event::OpKey { .. }, Action::OpKey { .. })
            | (Event::ResultFound { .. }, Action::LookupResult { .. })
            | (Event::Executed { .. } | Event::InputLost { .. }, Action::Execute { .. }) => true,
            (Event::LinkFound { input, .. }, Action::LookupLink { input: other, .. })
            | (Event::InputLost { input, .. }, Action::Checksum { input: other, .. })
            | (Event::Checksum { input, .. }, Action::Checksum { input: other, .. }) => {
                input == other
            }
            _ => false,
        }
}
