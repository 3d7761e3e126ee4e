//! Large graphs end, and nothing recurses.

use std::time::{Duration, Instant};

use solver::{How, Plan, Status};

use crate::driver::{CHAINED, World, content, plan};

const VERTICES: usize = 10_000;

/// Far above what an unoptimised build takes on a busy machine: what takes longer hangs.
const BOUND: Duration = Duration::from_secs(120);

#[track_caller]
fn check(plan: &Plan) {
    let begun = Instant::now();
    let last = plan.vertices.len() - 1;
    let mut world = World::default();
    assert!(matches!(
        world.build(plan, &[last]).status(last),
        Status::Executed(_)
    ));
    assert!(matches!(
        world.build(plan, &[last]).status(last),
        Status::Found(_)
    ));
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
}

fn chain(how: How) -> Plan {
    let inputs: Vec<Vec<(usize, How)>> = (0..VERTICES)
        .map(|id| {
            id.checked_sub(1)
                .map(|before| (before, how))
                .into_iter()
                .collect()
        })
        .collect();
    let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
    plan(&inputs)
}

#[test]
fn a_long_chain() {
    check(&chain(CHAINED));
}

#[test]
fn a_long_chain_of_copies() {
    check(&chain(content()));
}

#[test]
fn one_consumer_of_everything() {
    let all: Vec<(usize, How)> = (0..VERTICES - 1).map(|id| (id, content())).collect();
    let mut inputs: Vec<&[(usize, How)]> = vec![&[]; VERTICES - 1];
    inputs.push(&all);
    check(&plan(&inputs));
}

#[test]
fn everything_consumes_one() {
    let one = [(0, content())];
    let all: Vec<(usize, How)> = (1..VERTICES - 1).map(|id| (id, CHAINED)).collect();
    let mut inputs: Vec<&[(usize, How)]> = vec![&[]];
    inputs.extend(std::iter::repeat_n(&one[..], VERTICES - 2));
    inputs.push(&all);
    check(&plan(&inputs));
}
