use solver::{
    Action, CacheKey, Event, How, Plan, PlanError, PlanInput, PlanVertex, Solver, Status,
    VertexIndex,
};

use crate::driver::{CHAINED, plan};

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

#[test]
fn questions_that_were_not_handed_out_are_taken_back() {
    let mut solver = Solver::<()>::new(&plan(&[&[]]), &[VertexIndex(0)]).unwrap();
    solver.cancel();
    assert_eq!((solver.poll(), solver.in_flight()), (vec![], 0));
}
