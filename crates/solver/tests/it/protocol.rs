use std::collections::{BTreeMap, BTreeSet};

use solver::{
    Action, CacheKey, Event, How, KeyHasher, KeyPart, Plan, PlanError, PlanInput, PlanVertex,
    Solver, Status, VertexIndex,
};

use crate::driver::{CHAINED, content, plan};

const ONE: VertexIndex = VertexIndex(1);

#[test]
fn plans_out_of_order_are_refused() {
    let input = PlanInput {
        vertex: ONE,
        how: How::Chained,
    };
    let own = PlanVertex {
        inputs: vec![input],
        ..PlanVertex::default()
    };
    let plan = Plan {
        vertices: vec![PlanVertex::default(), own],
    };
    let error = Solver::<()>::new(&plan, &[]).unwrap_err();
    assert_eq!(
        error,
        PlanError::Order {
            vertex: ONE,
            input: 0,
            of: ONE
        }
    );
}

#[test]
fn unknown_targets_are_refused() {
    let error = Solver::<()>::new(&Plan::default(), &[ONE]).unwrap_err();
    assert_eq!(
        error,
        PlanError::Target {
            target: ONE,
            vertices: 0
        }
    );
}

#[test]
fn a_plan_without_targets_is_done() {
    let mut solver = Solver::<()>::new(&plan(&[&[]]), &[]).unwrap();
    assert_eq!(solver.poll(), []);
    assert_eq!(solver.status(VertexIndex(0)), Some(Status::Unneeded));
    assert_eq!(solver.status(ONE), None);
}

/// Answers to questions that nobody asked change nothing.
#[test]
fn answers_without_questions_are_refused() {
    let mut solver = Solver::new(&plan(&[&[], &[(0, CHAINED)]]), &[ONE]).unwrap();
    let actions = solver.poll();
    assert!(
        matches!(actions[..], [Action::LookupResult { vertex: ONE, .. }]),
        "{actions:?}"
    );
    let vertex = ONE;
    let key = CacheKey::from_bytes([0; 32]);
    let wrong = [
        Event::OpKey { vertex, key },
        Event::LinkFound {
            vertex,
            input: 0,
            sum: None,
        },
        Event::Checksum {
            vertex,
            input: 7,
            sum: key,
        },
        Event::Executed { vertex, result: 1 },
        Event::ResultFound {
            vertex: VertexIndex(0),
            result: None,
        },
        Event::Failed {
            vertex: VertexIndex(9),
        },
    ];
    for event in wrong {
        solver.on(event.clone()).expect_err(&format!("{event:?}"));
        assert_eq!((solver.poll(), solver.in_flight()), (vec![], 1));
    }
    solver
        .on(Event::ResultFound {
            vertex,
            result: Some(5),
        })
        .unwrap();
    assert_eq!(solver.status(ONE), Some(Status::Found(&5)));
    solver
        .on(Event::ResultFound {
            vertex,
            result: None,
        })
        .unwrap_err();
}

/// What this build made itself cannot be lost: whoever says so has failed.
#[test]
fn losses_end() {
    let zero = VertexIndex(0);
    let mut solver = Solver::new(&plan(&[&[], &[(0, CHAINED)]]), &[ONE]).unwrap();
    solver.poll();
    solver
        .on(Event::ResultFound {
            vertex: ONE,
            result: None,
        })
        .unwrap();
    solver.poll();
    solver
        .on(Event::ResultFound {
            vertex: zero,
            result: Some(1),
        })
        .unwrap();
    let mut executed = Vec::new();
    while let Some(Action::Execute { vertex, .. }) =
        solver.poll().into_iter().find(Action::is_question)
    {
        executed.push(vertex);
        let event = if vertex == ONE {
            Event::InputLost { vertex, input: 0 }
        } else {
            Event::Executed { vertex, result: 2 }
        };
        solver.on(event).unwrap();
    }
    assert_eq!(executed, [ONE, zero, ONE, ONE]);
    assert_eq!(solver.status(ONE), Some(Status::Failed));
    assert_eq!((solver.poll(), solver.in_flight()), (vec![], 0));
}

/// While a step looks up the key that its inputs turned out to have, one of them is lost and comes
/// out otherwise: the step has another key again, and so have those that stand on it.
#[test]
fn a_key_that_changes_while_it_is_looked_up_is_made_anew() {
    let plan = plan(&[
        &[],
        &[(0, content())],
        &[],
        &[(1, CHAINED), (2, content())],
        &[(3, CHAINED)],
        &[(1, content())],
    ]);
    let sum = |name: &str| KeyHasher::new("test.sum", 1).text(name).finish();
    let mut solver = Solver::new(&plan, &[VertexIndex(4), VertexIndex(5)]).unwrap();
    let (mut pending, mut looked_up, mut lost) = (Vec::new(), BTreeSet::new(), false);
    let mut made_under: BTreeMap<usize, CacheKey> = BTreeMap::new();
    let mut saved = Vec::new();
    loop {
        for action in solver.poll() {
            match action {
                Action::Save { vertex, parts, .. } => saved.push((vertex.0, parts)),
                Action::Link { .. } => {}
                question => pending.push(question),
            }
        }
        // Vertex 3's second look-up is answered last, the sum of the lost input before it.
        let turn = |question: &Action<u64>| match question {
            Action::LookupResult { vertex, key } if vertex.0 == 3 => {
                2 * usize::from(!looked_up.is_empty() && !looked_up.contains(key))
            }
            Action::Checksum { vertex, .. } => usize::from(vertex.0 == 5),
            _ => 0,
        };
        let Some(next) = (0..pending.len()).min_by_key(|&n| turn(&pending[n])) else {
            break;
        };
        let vertex = pending[next].vertex();
        let event = match pending.remove(next) {
            Action::LookupLink { input, .. } => Event::LinkFound {
                vertex,
                input,
                sum: (vertex.0 != 5).then(|| sum("linked")),
            },
            Action::LookupResult { key, .. } => {
                if vertex.0 == 3 {
                    looked_up.insert(key);
                }
                Event::ResultFound {
                    vertex,
                    result: (vertex.0 == 1 && !lost).then_some(10),
                }
            }
            Action::Checksum { input, .. } if vertex.0 == 5 && !lost => {
                lost = true;
                Event::InputLost { vertex, input }
            }
            Action::Checksum { input, .. } => Event::Checksum {
                vertex,
                input,
                sum: sum("seen"),
            },
            Action::Execute { key, .. } => {
                made_under.insert(vertex.0, key);
                Event::Executed { vertex, result: 11 }
            }
            other => panic!("{other:?}"),
        };
        solver.on(event).unwrap();
    }
    let last = |id: usize| {
        let parts = saved.iter().rev().find(|(vertex, _)| *vertex == id);
        parts.map(|(_, parts)| parts.inputs[0]).unwrap()
    };
    assert_eq!(looked_up.len(), 3, "vertex 3 had three keys");
    assert_eq!(last(3), KeyPart::Chained(made_under[&1]));
    assert_eq!(last(4), KeyPart::Chained(made_under[&3]));
}

#[test]
fn questions_that_were_not_handed_out_are_taken_back() {
    let mut solver = Solver::<()>::new(&plan(&[&[]]), &[VertexIndex(0)]).unwrap();
    solver.cancel();
    assert_eq!((solver.poll(), solver.in_flight()), (vec![], 0));
}
