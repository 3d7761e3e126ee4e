//! Control groups around containers, with whatever version the machine has.

use crate::support::{Fixture, helper, run};
use runtime::{
    Cgroup, Exit, Groups, Mount, MountKind, Node, Outcome, ProcessSpec, Resources, Setting, Swap,
    Version, spawn,
};
use std::fs;
use std::path::{Path, PathBuf};

/// The mount of version 2; `None` where it is not, unless `KILN_REQUIRE` says that nothing may be
/// skipped.
fn version_2() -> Option<&'static Path> {
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let found = places
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists());
    assert!(
        found.is_some() || std::env::var_os("KILN_REQUIRE").is_none(),
        "no version 2 control groups"
    );
    found
}

/// Starts a script that prints one line, looks at it while it waits after that, and lets it end.
fn watch(fixture: &Fixture, spec: &ProcessSpec, script: &str, mut look: impl FnMut()) -> Outcome {
    let gate = fixture.path("gate");
    fs::create_dir(&gate).unwrap();
    let mut spec = spec.clone();
    let script = format!("{script}; while ! test -e /gate/open; do sleep 0.01; done");
    spec.args = ["/bin/sh", "-c", &script].map(Into::into).into();
    spec.mounts.push(Mount {
        target: "/gate".into(),
        kind: MountKind::Bind {
            source: gate.clone(),
            readonly: true,
            nosuid: false,
            noexec: false,
        },
    });
    let process = spawn(helper(), &spec).unwrap();
    let look = |_, _: &[u8]| {
        look();
        fs::write(gate.join("open"), "").unwrap();
    };
    process.wait(look).unwrap()
}

/// The only group below `parent` that is called as kiln calls its own.
fn group_below(parent: &Path) -> PathBuf {
    let entries = fs::read_dir(parent).unwrap().flatten();
    let mut groups =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("kiln-"));
    let group = groups.next().expect("a group");
    assert!(groups.next().is_none(), "one group");
    group.path()
}

fn limited(resources: &Resources) -> Cgroup {
    // A parent of its own, so that tests do not see each other's groups.
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let parent = format!("kiln-test-{}-{number}", std::process::id());
    let groups = Groups::prepare(resources, Some(&parent)).unwrap();
    groups.cgroup().clone()
}

/// Removes the parents that [`limited`] made. Fails when a group is left in one.
fn remove_parents(cgroup: &Cgroup) {
    for node in &cgroup.nodes {
        fs::remove_dir(&node.parent).unwrap();
    }
}

#[test]
fn a_group_of_version_2_is_made_set_and_removed() {
    let (Some(base), Some(fixture)) = (version_2(), Fixture::new()) else {
        return;
    };
    let parent = base.join(format!("kiln-test-{}", std::process::id()));
    fs::create_dir(&parent).unwrap();
    let setting = |file: &str, value: &str, optional| Setting {
        file: file.into(),
        value: value.into(),
        optional,
    };
    let mut spec = fixture.spec("grep ^0: /proc/self/cgroup");
    spec.cgroup = Some(Cgroup {
        nodes: vec![Node {
            version: Version::Two,
            parent: parent.clone(),
            // Every group has this, whatever controllers there are.
            settings: vec![
                setting("cgroup.max.depth", "3", false),
                setting("no.such.file", "1", true),
            ],
        }],
        memory: None,
    });
    let mut seen = Vec::new();
    let outcome = watch(&fixture, &spec, "echo", || {
        let group = group_below(&parent);
        let read = |file| fs::read_to_string(group.join(file)).unwrap();
        seen.push((
            read("cgroup.max.depth"),
            read("cgroup.procs").lines().count(),
        ));
    });
    let (depth, processes) = seen.pop().expect("it printed");
    assert_eq!((depth.as_str(), processes > 0), ("3\n", true));
    assert_eq!((outcome.exit, outcome.out_of_memory), (Exit::Code(0), None));
    assert_eq!(run(&spec).stdout, "0::/\n");
    // A value that is not accepted is an error before anything runs.
    let cgroup = spec.cgroup.as_mut().unwrap();
    cgroup.nodes[0].settings[0].value = "many".into();
    let error = crate::support::try_run(&spec).unwrap_err();
    let text = crate::support::chain(&error);
    assert!(text.contains("set cgroup.max.depth"), "{text}");
    assert!(text.contains("Invalid argument"), "{text}");
    // Fails when a group is still there below it.
    fs::remove_dir(&parent).unwrap();
}

#[test]
fn memory_that_runs_out_is_reported_for_sure() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let limit = 24 << 20;
    let cgroup = limited(&Resources {
        memory: Some(limit),
        swap: Some(Swap::Total(limit)),
        ..Resources::default()
    });
    let outcome = |script: &str| {
        let mut spec = fixture.spec(script);
        spec.cgroup = Some(cgroup.clone());
        spawn(helper(), &spec).unwrap().wait(|_, _| ()).unwrap()
    };
    let greedy = outcome("exec head -c 200000000 /dev/zero > /dev/shm/f");
    assert_eq!(greedy.exit, Exit::Signal(9));
    let shortage = greedy.out_of_memory.expect("it is told");
    assert_eq!(shortage.limit, Some(limit));
    let peak = shortage.peak.expect("the kernel counts");
    assert!((limit - (1 << 20)..=limit).contains(&peak), "{peak}");
    // A signal is no proof.
    let killed = outcome("kill -9 $$; sleep 1 & kill -9 $!; exit 137");
    assert_eq!((killed.exit, killed.out_of_memory), (Exit::Code(137), None));
    remove_parents(&cgroup);
}

#[test]
fn processes_and_processors_are_bounded() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let cgroup = limited(&Resources {
        pids: Some(4),
        cpu_quota: Some(50_000),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".into()),
        ..Resources::default()
    });
    let mut spec = fixture.spec(
        "grep Cpus_allowed_list /proc/self/status; \
         for n in 1 2 3 4 5; do sleep 1 & done 2>&1 | grep -c fork",
    );
    spec.cgroup = Some(cgroup.clone());
    let mut quotas = Vec::new();
    watch(&fixture, &spec, "echo", || {
        for node in &cgroup.nodes {
            let group = group_below(&node.parent);
            for file in ["cpu.max", "cpu.weight", "cpu.cfs_quota_us", "cpu.shares"] {
                quotas.extend(fs::read_to_string(group.join(file)));
            }
        }
    });
    let expect = match cgroup.nodes[0].version {
        Version::Two => ["50000 100000\n", "59\n"],
        Version::One => ["50000\n", "512\n"],
    };
    assert_eq!(quotas[..2], expect);
    let ran = run(&spec);
    assert_eq!(ran.stdout, "Cpus_allowed_list:\t0\n1\n");
    remove_parents(&cgroup);
}

#[test]
fn what_a_dead_process_left_is_removed_and_what_lives_is_not() {
    if Fixture::new().is_none() {
        return;
    }
    let resources = Resources {
        pids: Some(4),
        ..Resources::default()
    };
    let cgroup = limited(&resources);
    let parent = &cgroup.nodes[0].parent;
    let (empty, inhabited) = (parent.join("kiln-1-0"), parent.join("kiln-2-0"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&inhabited).unwrap();
    let mut sleep = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    fs::write(inhabited.join("cgroup.procs"), sleep.id().to_string()).unwrap();
    let name = parent.file_name().unwrap().to_str().unwrap();
    Groups::prepare(&resources, Some(name)).unwrap();
    assert!(!empty.exists() && inhabited.exists());
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    Groups::prepare(&resources, Some(name)).unwrap();
    remove_parents(&cgroup);
}
