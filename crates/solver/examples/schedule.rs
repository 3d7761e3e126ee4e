//! How long deciding takes in a graph of 10,000 vertices, keys and all, whatever its shape:
//! `cargo run --release -p solver --example schedule`.
//!
//! Performing costs next to nothing here: results and links are in a hash map. The bound is what a
//! user would notice beside a build that does nothing. Exits with an error when it is missed.
#![expect(clippy::print_stdout, reason = "an example that measures")]

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use solver::{
    Action, CacheKey, CacheUse, Event, How, KeyHasher, Plan, PlanInput, PlanVertex, Solver, Status,
    VertexIndex,
};

/// What vertex `n` takes as its inputs.
type Shape<'s> = dyn Fn(usize) -> Vec<(usize, How)> + 's;

const VERTICES: usize = 10_000;
const RUNS: usize = 9;
const BOUND: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let content = How::Content {
        selector: key("selector", 0),
    };
    let before = |n: usize, how| (n.checked_sub(1)).map(|of| (of, how)).into_iter().collect();
    let last = VERTICES - 1;
    let shapes: [(&str, &Shape<'_>); 5] = [
        ("a chain of RUN", &|n| before(n, How::Chained)),
        ("a chain of COPY --from", &|n| before(n, content)),
        ("one takes everything", &|n| match n == last {
            true => (0..last).map(|of| (of, content)).collect(),
            false => Vec::new(),
        }),
        ("everything takes one", &|n| match n {
            0 => Vec::new(),
            n if n == last => (1..last).map(|of| (of, How::Chained)).collect(),
            _ => vec![(0, content)],
        }),
        ("stages that copy from each other", &|n| match n % 10 {
            0 => Vec::new(),
            5 if n > 10 => vec![(n - 1, How::Chained), (n - 7, content)],
            _ => vec![(n - 1, How::Chained)],
        }),
    ];
    let mut code = ExitCode::SUCCESS;
    for (name, shape) in shapes {
        let plan = plan(shape);
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let mut cache = Cache::default();
            cold.push(measure(&plan, &mut cache));
            warm.push(measure(&plan, &mut cache));
        }
        for (times, state) in [(&mut cold, "empty"), (&mut warm, "full")] {
            times.sort();
            let (median, worst) = (times[RUNS / 2], times[RUNS - 1]);
            println!("{name}, {state} cache: median {median:.1?}, worst {worst:.1?}");
            if median > BOUND {
                code = ExitCode::FAILURE;
            }
        }
    }
    println!("bound {BOUND:?}");
    code
}

#[derive(Default)]
struct Cache {
    links: HashMap<CacheKey, CacheKey>,
    results: HashMap<CacheKey, usize>,
}

fn key(domain: &str, n: usize) -> CacheKey {
    KeyHasher::new(domain, 1).number(n as u64).finish()
}

fn plan(shape: &Shape<'_>) -> Plan {
    let vertex = |n| PlanVertex {
        inputs: shape(n)
            .into_iter()
            .map(|(of, how)| PlanInput {
                vertex: VertexIndex(of),
                how,
            })
            .collect(),
        cache: CacheUse::Normal,
        op_key: Some(key("op", n)),
    };
    Plan {
        vertices: (0..VERTICES).map(vertex).collect(),
    }
}

/// One build of all vertices.
fn measure(plan: &Plan, cache: &mut Cache) -> Duration {
    let begun = Instant::now();
    let targets: Vec<VertexIndex> = (0..VERTICES).map(VertexIndex).collect();
    let mut solver = Solver::new(plan, &targets).expect("a plan in order");
    loop {
        let actions = solver.poll();
        if actions.is_empty() {
            break;
        }
        for action in actions {
            if let Some(answer) = perform(action, cache) {
                solver.on(answer).expect("it was asked");
            }
        }
    }
    let taken = begun.elapsed();
    assert!(targets.iter().all(|&target| matches!(
        solver.status(target),
        Some(Status::Executed(_) | Status::Found(_))
    )));
    taken
}

fn perform(action: Action<usize>, cache: &mut Cache) -> Option<Event<usize>> {
    Some(match action {
        Action::OpKey { .. } => unreachable!("the plan has all of them"),
        Action::LookupLink {
            vertex,
            input,
            link,
        } => Event::LinkFound {
            vertex,
            input,
            sum: cache.links.get(&link).copied(),
        },
        Action::Checksum { vertex, input, of } => {
            let mut sum = [0; 32];
            sum[..8].copy_from_slice(&of.to_le_bytes());
            let sum = CacheKey::from_bytes(sum);
            Event::Checksum { vertex, input, sum }
        }
        Action::LookupResult { vertex, key } => Event::ResultFound {
            vertex,
            result: cache.results.get(&key).copied(),
        },
        Action::Execute { vertex, .. } => Event::Executed {
            vertex,
            result: vertex.0,
        },
        Action::Link { link, sum, .. } => {
            cache.links.insert(link, sum);
            return None;
        }
        Action::Save { key, result, .. } => {
            cache.results.insert(key, result);
            return None;
        }
    })
}
