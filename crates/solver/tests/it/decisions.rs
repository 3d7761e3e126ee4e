use solver::{CacheUse, Status, VertexIndex};

use crate::driver::{CHAINED, UNKEYED, World, content, plan};

#[test]
fn an_unchanged_build_looks_only_at_its_target() {
    let plan = plan(&[&[], &[(0, CHAINED)], &[(1, CHAINED)]]);
    let mut world = World::default();
    world.build(&plan, &[2]).check(&[
        "look up 2 miss",
        "look up 1 miss",
        "look up 0 miss",
        "execute 0",
        "execute 1",
        "execute 2",
    ]);
    let again = world.build(&plan, &[2]);
    again.check(&["look up 2 hit"]);
    assert_eq!(again.status(0), Status::Keyed);
    assert_eq!(again.status(2), Status::Found(&2));
}

#[test]
fn nothing_is_asked_about_what_no_target_needs() {
    let plan = plan(&[&[], &[(0, CHAINED)], &[]]);
    let log = World::default().build(&plan, &[2]);
    log.check(&["look up 2 miss", "execute 2"]);
    assert_eq!(log.status(1), Status::Unneeded);
}

#[test]
fn op_keys_are_asked_for_when_they_are_not_known() {
    let mut plan = plan(&[&[], &[(0, CHAINED)]]);
    plan.vertices[0].op_key = None;
    let log = World::default().build(&plan, &[1]);
    assert_eq!(log.words[0], "op 0");
}

/// A link stands in for the files: the input of a cached COPY is not even looked up.
#[test]
fn a_link_makes_the_content_unnecessary() {
    let plan = plan(&[&[], &[(0, content())]]);
    let mut world = World::default();
    world.build(&plan, &[1]).check(&[
        "link 1 miss",
        "look up 0 miss",
        "execute 0",
        "sum 1",
        "look up 1 miss",
        "execute 1",
    ]);
    world
        .build(&plan, &[1])
        .check(&["link 1 hit", "look up 1 hit"]);
}

/// A stage that is executed again and gives the same files does not run its consumers again.
#[test]
fn equal_output_cuts_off() {
    let mut plan = plan(&[&[], &[(0, CHAINED)], &[(1, content())]]);
    let mut world = World::default();
    world.build(&plan, &[2]);
    // Another operation at the root, and so another key for 1, which gives what it gave before.
    plan.vertices[0].op_key = plan.vertices[2].op_key;
    world.build(&plan, &[2]).check(&[
        "link 2 miss",
        "look up 1 miss",
        "look up 0 miss",
        "execute 0",
        "execute 1",
        "sum 2",
        "look up 2 hit",
    ]);
}

/// A link was believed, the result was gone, and the input came out otherwise: what is executed
/// is saved under the key of what was really seen.
#[test]
fn what_was_only_believed_is_verified() {
    let plan = plan(&[&[], &[(0, content())], &[(1, CHAINED)]]);
    let mut world = World::default();
    let first = world.build(&plan, &[2]);
    (0..3).for_each(|id| world.prune(&first, id));
    world.gives.insert(0, 77);
    let second = world.build(&plan, &[2]);
    second.check(&[
        "link 1 hit",
        "look up 2 miss",
        "look up 1 miss",
        "look up 0 miss",
        "execute 0",
        "sum 1",
        "look up 1 miss",
        "execute 1",
        "look up 2 miss",
        "execute 2",
    ]);
    assert_ne!(
        first.solver.key(VertexIndex(2)),
        second.solver.key(VertexIndex(2))
    );
    world
        .build(&plan, &[2])
        .check(&["link 1 hit", "look up 2 hit"]);
}

#[test]
fn refreshing_executes_what_is_chained_and_sums_what_is_content() {
    let mut plan = plan(&[&[], &[(0, CHAINED)], &[(1, content())]]);
    let mut world = World::default();
    world.build(&plan, &[2]);
    plan.vertices[0].cache = CacheUse::Refresh;
    // Equal output: the COPY behind the stage still hits.
    world
        .build(&plan, &[2])
        .check(&["execute 0", "execute 1", "sum 2", "look up 2 hit"]);
    world.gives.insert(1, 55);
    let changed = [
        "execute 0",
        "execute 1",
        "sum 2",
        "look up 2 miss",
        "execute 2",
    ];
    world.build(&plan, &[2]).check(&changed);
    // What was refreshed took the place of what was cached.
    plan.vertices[0].cache = CacheUse::Normal;
    world.build(&plan, &[1]).check(&["look up 1 hit"]);
    assert_eq!(world.build(&plan, &[1]).status(1), Status::Found(&55));
}

#[test]
fn volatile_sources_are_never_looked_up() {
    let mut plan = plan(&[&[], &[(0, content())]]);
    plan.vertices[0].cache = CacheUse::Volatile;
    let mut world = World::default();
    world
        .build(&plan, &[1])
        .check(&["execute 0", "sum 1", "look up 1 miss", "execute 1"]);
    world
        .build(&plan, &[1])
        .check(&["execute 0", "sum 1", "look up 1 hit"]);
    world.gives.insert(0, 9);
    world
        .build(&plan, &[1])
        .check(&["execute 0", "sum 1", "look up 1 miss", "execute 1"]);
    assert_eq!(world.links.len(), 0);
}

#[test]
fn unkeyed_inputs_matter_only_to_an_execution() {
    let mut plan = plan(&[&[], &[(0, UNKEYED)]]);
    let mut world = World::default();
    world
        .build(&plan, &[1])
        .check(&["look up 1 miss", "look up 0 miss", "execute 0", "execute 1"]);
    plan.vertices[0].op_key = plan.vertices[1].op_key;
    world.build(&plan, &[1]).check(&["look up 1 hit"]);
}

#[test]
fn a_failure_blocks_its_consumers_and_spares_the_others() {
    let plan = plan(&[
        &[],
        &[(0, CHAINED)],
        &[(1, content())],
        &[(2, CHAINED)],
        &[],
    ]);
    let mut world = World {
        fails: [1].into(),
        ..World::default()
    };
    let log = world.build(&plan, &[3, 4]);
    assert_eq!(log.status(0), Status::Executed(&0));
    assert_eq!(log.status(1), Status::Failed);
    let by = VertexIndex(1);
    assert_eq!(log.status(2), Status::Blocked { by });
    assert_eq!(log.status(3), Status::Blocked { by });
    assert_eq!(log.status(4), Status::Executed(&4));
    // What was finished is kept.
    world.fails.clear();
    let log = world.build(&plan, &[3, 4]);
    assert_eq!(log.status(0), Status::Found(&0));
    assert_eq!(log.status(3), Status::Executed(&3));
    assert_eq!(log.status(4), Status::Found(&4));
}

#[test]
fn a_cached_consumer_does_not_care_that_its_input_failed() {
    let plan = plan(&[&[], &[(0, CHAINED)]]);
    let mut world = World::default();
    let first = world.build(&plan, &[1]);
    world.prune(&first, 0);
    world.fails.insert(0);
    let log = world.build(&plan, &[0, 1]);
    assert_eq!(log.status(0), Status::Failed);
    assert_eq!(log.status(1), Status::Found(&1));
}

#[test]
fn a_cancelled_build_keeps_what_it_finished() {
    let plan = plan(&[&[], &[(0, CHAINED)], &[(1, CHAINED)]]);
    let mut world = World {
        cancel_at: Some(1),
        ..World::default()
    };
    let log = world.build(&plan, &[2]);
    assert_eq!(log.words.last().unwrap(), "execute 1");
    assert_eq!(log.status(2), Status::Pending);
    world.cancel_at = None;
    world
        .build(&plan, &[2])
        .check(&["look up 2 miss", "look up 1 hit", "execute 2"]);
}

/// A record outlived its files: the step is executed after all, and what stands on it notices if
/// it came out otherwise.
#[test]
fn a_result_that_is_gone_is_made_again() {
    let plan = plan(&[
        &[],
        &[(0, CHAINED)],
        &[(1, content())],
        &[(2, CHAINED), (1, CHAINED)],
    ]);
    let mut world = World::default();
    let first = world.build(&plan, &[3]);
    (2..4).for_each(|id| world.prune(&first, id));
    world.lost.insert(1);
    world.gives.insert(1, 41);
    let log = world.build(&plan, &[3]);
    log.check(&[
        "link 2 hit",
        "look up 3 miss",
        "look up 1 hit",
        "look up 2 miss",
        "lost for 2",
        "look up 0 hit",
        "execute 1",
        "sum 2",
        "look up 2 miss",
        "execute 2",
        "look up 3 miss",
        "execute 3",
    ]);
    assert_eq!(log.status(1), Status::Executed(&41));
    world.lost.clear();
    world
        .build(&plan, &[3])
        .check(&["link 2 hit", "look up 3 hit"]);
}

#[test]
fn the_parts_of_a_key_are_told() {
    let plan = plan(&[&[], &[(0, CHAINED), (0, content()), (0, UNKEYED)]]);
    let mut world = World::default();
    for _ in 0..2 {
        let log = world.build(&plan, &[1]);
        let parts = log.solver.parts(VertexIndex(1)).unwrap();
        assert_eq!(Some(parts.key()), log.solver.key(VertexIndex(1)));
        assert_eq!(
            (Some(parts.op), parts.inputs.len()),
            (plan.vertices[1].op_key, 3)
        );
    }
}
