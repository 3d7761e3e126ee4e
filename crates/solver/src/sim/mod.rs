//! Deterministic simulation: random graphs, random completion order, failures, cancellations,
//! refreshes, remote caches, pruned results and several targets, against a naive oracle.
//!
//! `KILN_SIM_BUILDS` sets the number of builds, `KILN_SIM_SEED` the seed of the first. The
//! performing side can be given a [`Bug`]; that each of them is caught is the test of the test.

mod build;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use build::{Cache, Drawn, Machine, Options, Outcome, build};
use world::{Keyed, Rng, Value, World, op_key};

/// Faults of the performing side, of the kinds that engines have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A local context's key is taken to tell its content.
    VolatileIsTrusted,
    /// `--no-cache` does not reach the solver.
    RefreshIsIgnored,
    /// Two selections of one input share a link.
    SelectorsAreForgotten,
    /// The root file system is not in the key.
    ChainIsForgotten,
    /// A checksum is remembered by the key of the input instead of its content.
    SumsByKey,
    /// Results of different keys meet.
    KeysAreTruncated,
}

const BUGS: [Bug; 6] = [
    Bug::VolatileIsTrusted,
    Bug::RefreshIsIgnored,
    Bug::SelectorsAreForgotten,
    Bug::ChainIsForgotten,
    Bug::SumsByKey,
    Bug::KeysAreTruncated,
];

/// One world and what happens to it, a few builds long. Returns how many builds it was, and what
/// was difficult about them.
fn history(seed: u64, bug: Option<Bug>) -> Result<(usize, Drawn), String> {
    let mut rng = Rng::new(seed);
    let moody = rng.one_in(4);
    let mut world = World::random(&mut rng, moody);
    let mut machine = Machine {
        drawn: Drawn::default(),
        local: Cache::default(),
        remote: Cache::default(),
        mood: 0,
        bug,
        remembered: HashMap::new(),
    };
    let before = world.vertices.clone();
    let mut builds = 0;
    for _ in 0..5 {
        match rng.below(6) {
            0 => world.vertices.clone_from(&before),
            1 => machine.remote = std::mem::take(&mut machine.local),
            2 => machine.local.results.retain(|_, _| rng.one_in(2)),
            3 => machine.local.links.retain(|_, _| rng.one_in(2)),
            _ => {
                let id = rng.below(world.vertices.len());
                world.vertices[id].op = rng.next();
            }
        }
        rough_build(&mut machine, &world, &mut rng, moody)?;
        builds += 1;
        if !moody {
            builds += calm_builds(&mut machine, &mut world, &mut rng)?;
        }
    }
    Ok((builds, machine.drawn))
}

fn random_targets(world: &World, rng: &mut Rng) -> Vec<usize> {
    let last = world.vertices.len() - 1;
    let mut targets = vec![last];
    while rng.one_in(3) {
        targets.push(rng.below(last + 1));
    }
    targets
}

/// Anything may go wrong; what comes out must still be right.
fn rough_build(m: &mut Machine, world: &World, rng: &mut Rng, moody: bool) -> Result<(), String> {
    let count = world.vertices.len();
    let options = Options {
        targets: random_targets(world, rng),
        refresh: (0..count).map(|_| rng.one_in(12)).collect(),
        cancel_after: rng.one_in(4).then(|| rng.below(2 * count)),
        flaky: if rng.one_in(4) { 10 } else { 0 },
        lossy: if rng.one_in(3) { 3 } else { 0 },
    };
    let outcome = build(m, world, &options, rng)?;
    let calm = options.cancel_after.is_none() && options.flaky == 0;
    if moody {
        return check_derivations(world, &options, &outcome);
    }
    check_values(world, &options, &outcome, calm)?;
    for &target in &options.targets {
        let vertex = &world.vertices[target];
        let expected = options.refresh[target] && !vertex.volatile;
        if calm
            && expected
            && world.oracle(true)[target].is_some()
            && !outcome.executed.contains(&target)
        {
            return Err(format!(
                "target {target} was to be refreshed, and was not executed"
            ));
        }
    }
    Ok(())
}

/// Nothing goes wrong: how much is executed can be told as well.
fn calm_builds(m: &mut Machine, world: &mut World, rng: &mut Rng) -> Result<usize, String> {
    let options = Options {
        targets: random_targets(world, rng),
        refresh: vec![false; world.vertices.len()],
        ..Options::default()
    };
    let outcome = build(m, world, &options, rng)?;
    check_values(world, &options, &outcome, true)?;
    if outcome.values.iter().any(Option::is_none) {
        return Ok(1);
    }
    let again = build(m, world, &options, rng)?;
    check_values(world, &options, &again, true)?;
    check_executions("nothing changed", &again, 0)?;

    // The targets' own results and the links are all that an unchanged build needs.
    let all = m.local.clone();
    let kept = |value: &Rc<Value>| outcome.values.iter().flatten().any(|v| v.key == value.key);
    m.local.results.retain(|_, value| kept(value));
    let pruned = build(m, world, &options, rng)?;
    check_values(world, &options, &pruned, true)?;
    check_executions("only the targets' results are left", &pruned, 0)?;
    m.local = all;

    // A changed vertex costs at most what depends on it.
    let changed = rng.below(world.vertices.len());
    let old = std::mem::replace(&mut world.vertices[changed].op, rng.next());
    let needed = world.needed_by(&options.targets);
    let reached = world.reached_from(changed);
    let dirty = needed
        .iter()
        .zip(&reached)
        .filter(|&(&n, &r)| n && r)
        .count();
    let results = m.local.results.clone();
    let rebuilt = build(m, world, &options, rng)?;
    check_values(world, &options, &rebuilt, true)?;
    if world
        .needed_by(&options.targets)
        .iter()
        .enumerate()
        .all(|(id, &n)| !n || cached(&results, world, id))
    {
        check_executions("one vertex changed", &rebuilt, dirty)?;
    }

    world.vertices[changed].op = old;
    let reverted = build(m, world, &options, rng)?;
    check_values(world, &options, &reverted, true)?;
    check_executions("the change was reverted", &reverted, 0)?;
    Ok(5)
}

/// Whether some result of this vertex's operation is cached.
fn cached(results: &BTreeMap<crate::CacheKey, Rc<Value>>, world: &World, id: usize) -> bool {
    let op = op_key(&world.vertices[id]);
    results.values().any(|value| value.op == op)
}

fn check_executions(when: &str, outcome: &Outcome, most: usize) -> Result<(), String> {
    if outcome.executed.len() > most {
        return Err(format!(
            "{when}: executed {:?}, {most} would do",
            outcome.executed
        ));
    }
    Ok(())
}

fn check_values(world: &World, o: &Options, outcome: &Outcome, calm: bool) -> Result<(), String> {
    let (executed, cached) = (world.oracle(true), world.oracle(false));
    for (&target, value) in o.targets.iter().zip(&outcome.values) {
        let content = value.as_ref().map(|value| value.content);
        let fine = match content {
            Some(_) => content == executed[target] || content == cached[target],
            None => executed[target].is_none() || !calm,
        };
        if !fine {
            return Err(format!(
                "target {target} is {content:?}, not {:?}",
                executed[target]
            ));
        }
    }
    Ok(())
}

/// Where an operation may give another content each time, no oracle can tell the content; but a
/// value still has to stand on values of the vertices that it is chained on.
fn check_derivations(world: &World, options: &Options, outcome: &Outcome) -> Result<(), String> {
    let mut open: Vec<(usize, Rc<Value>)> = Vec::new();
    for (&target, value) in options.targets.iter().zip(&outcome.values) {
        open.extend(value.iter().map(|value| (target, value.clone())));
    }
    while let Some((id, value)) = open.pop() {
        let vertex = &world.vertices[id];
        if value.op != op_key(vertex) {
            return Err(format!("vertex {id} has a result of another operation"));
        }
        for (&(of, keyed), input) in vertex.inputs.iter().zip(&value.inputs) {
            if keyed == Keyed::Chained {
                open.push((of, input.clone()));
            }
        }
    }
    Ok(())
}

fn number(variable: &str, usual: u64) -> u64 {
    let set = std::env::var_os(variable);
    set.and_then(|n| n.to_str()?.parse().ok()).unwrap_or(usual)
}

#[test]
fn results_equal_the_oracles() {
    let wanted = number("KILN_SIM_BUILDS", 100_000) as usize;
    let mut builds = 0;
    for seed in number("KILN_SIM_SEED", 1).. {
        if builds >= wanted {
            break;
        }
        let history = history(seed, None);
        builds += history
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"))
            .0;
    }
}

#[test]
fn whatever_is_difficult_is_drawn() {
    let mut all = [0; 8];
    for seed in 1..200 {
        let (_, drawn) = history(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let Drawn {
            found_remotely,
            linked_remotely,
            failed,
            lost,
            cancelled,
            refreshed,
            several_targets,
            moody,
        } = drawn;
        let counts = [
            found_remotely,
            linked_remotely,
            failed,
            lost,
            cancelled,
            refreshed,
            several_targets,
            moody,
        ];
        all.iter_mut()
            .zip(counts)
            .for_each(|(sum, count)| *sum += count);
    }
    assert!(all.iter().all(|&count| count > 10), "{all:?}");
}

#[test]
fn seeded_bugs_are_caught() {
    for bug in BUGS {
        let caught = (1..2_000).any(|seed| history(seed, Some(bug)).is_err());
        assert!(caught, "{bug:?} went unnoticed");
    }
}
