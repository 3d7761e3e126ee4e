//! `--memory`, `--cpus`, `--pids-limit` and the like: what processes may use, and what is said when
//! they want more, or when nobody may limit them here.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Done, Project, output, wrap_in};
use crate::mounts::lines;
use crate::parallel::wait_for;

/// Takes memory until it is killed, which the shell lives to tell.
const GREEDY: &str = "awk 'BEGIN { s = \"x\"; while (1) s = s s }'; exit $?";

#[test]
fn a_step_that_wants_more_memory_is_killed_and_the_error_says_so() {
    let project = Project::with(&format!("FROM busybox\nRUN {GREEDY}\n"));
    let build = ["build", "--memory", "24m", "--memory-swap", "24m", "."];
    let done = project.kiln(&build).code(1);
    let done = done.says(&[
        "did not complete successfully: exit code: 137: out of memory",
        "help: --memory allows 24 MiB and it used 24 MiB: raise the limit",
    ]);
    assert!(!done.stderr.contains("dmesg"), "{}", done.stderr);
    // For machines too.
    let json = [
        "build",
        "--progress",
        "json",
        "--resource",
        "memory=24m",
        ".",
    ];
    let done = project.kiln(&json).code(1);
    drop(done.says(&["exit code: 137: out of memory\"", "--memory allows 24 MiB"]));
    // A signal of its own making is none of that.
    project.write("Dockerfile", "FROM busybox\nRUN exit 137\n");
    let done = project.kiln(&["build", "-m", "24m", "."]).code(1);
    assert!(!done.stderr.contains("out of memory:"), "{}", done.stderr);
}

#[test]
fn limits_are_in_force_and_in_no_key() {
    let project = Project::with(
        "FROM busybox\n\
         RUN grep Cpus_allowed_list /proc/self/status | sed 's/.*\\t/> /'; \
             df -k /dev/shm | awk 'NR==2{print \"> \" $2}'; ulimit -n | sed 's/^/> /'\n",
    );
    let build = |more: &[&str]| {
        let all: Vec<&str> = ["build", "--progress", "plain"]
            .into_iter()
            .chain(more.iter().copied())
            .chain(["."])
            .collect();
        project.kiln(&all)
    };
    let limits = ["--cpuset-cpus", "0", "-m", "64m", "-c", "512"];
    let keyed = ["--shm-size", "1m", "--ulimit", "nofile=77"];
    let done = build(&[limits.as_slice(), &keyed].concat()).success();
    assert_eq!(lines(&done), ["0", "1024", "77"]);
    // Another limit of memory or processors is the same step.
    let done = build(&[&["-m", "65m"], keyed.as_slice()].concat()).success();
    assert_eq!(done.executed(), Vec::<String>::new());
    assert_eq!(build(&keyed).success().executed(), Vec::<String>::new());
    // The others are part of it.
    assert_eq!(build(&["--shm-size", "1m"]).success().executed().len(), 1);
    let parent = format!("kiln-test-{}", std::process::id());
    let keyed = [keyed.as_slice(), &["--cgroup-parent", &parent]].concat();
    assert_eq!(build(&keyed).success().executed().len(), 1);
    remove_parents(&parent);
}

/// The groups with this name in every tree.
fn parents(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let trees = std::fs::read_dir(top).unwrap().flatten();
    let trees = trees.map(|entry| entry.path()).chain([top.to_path_buf()]);
    let groups = trees.map(|tree| tree.join(name));
    groups.filter(|group| group.is_dir()).collect()
}

/// How many groups are in them.
fn groups_below(parent: &str) -> usize {
    let entries = parents(parent)
        .into_iter()
        .flat_map(|group| std::fs::read_dir(group).unwrap().flatten());
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .count()
}

/// Removes the groups with this name from every tree. Fails when something is left in one.
fn remove_parents(name: &str) {
    let groups = parents(name);
    assert!(!groups.is_empty(), "it was used");
    let began = Instant::now();
    for group in groups {
        // What waits for the disk after a build lives where the build did.
        while let Err(error) = std::fs::remove_dir(&group) {
            assert!(began.elapsed() < Duration::from_secs(20), "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn containers_are_limited_too() {
    let project = Project::with("FROM busybox\n");
    project.build();
    let run = |limits: &[&str], script: &str| {
        let all: Vec<&str> = ["run", "--rm"]
            .into_iter()
            .chain(limits.iter().copied())
            .chain(["image", "sh", "-c", script])
            .collect();
        project.kiln(&all)
    };
    let done = run(&["-m", "24m", "--memory-swap", "24m"], GREEDY).code(137);
    drop(done.says(&["warning: out of memory: --memory allows 24 MiB and it used 24 MiB"]));
    let fork = "for n in 1 2 3 4 5; do sleep 1 & done 2>&1 | grep -c fork";
    assert_eq!(run(&["--pids-limit", "4"], fork).success().stdout, "1\n");
    let all = [
        "--cpus",
        "1.5",
        "--memory",
        "64m",
        "--memory-reservation",
        "32m",
        "--ulimit",
        "nofile=77:88",
        "--shm-size",
        "2m",
        "--cpuset-mems",
        "0",
        "--cpuset-cpus",
        "0",
    ];
    let show = "nproc; ulimit -n; ulimit -Hn; df -k /dev/shm | awk 'NR==2{print $2}'";
    assert_eq!(run(&all, show).success().stdout, "1\n77\n88\n2048\n");
}

#[test]
fn what_cannot_be_limited_is_an_error_before_anything_runs() {
    let project = Project::with("FROM busybox\nRUN echo ran > /ran; echo '> ran'\n");
    let refused = |arguments: &[&str], says: &[&str]| {
        let done = project.kiln(arguments).code(match arguments[0] {
            "run" => 125,
            _ => 1,
        });
        assert!(!done.stderr.contains("> ran"), "{}", done.stderr);
        drop(done.says(says));
    };
    refused(
        &["build", "--cpuset-cpus", "4095", "."],
        &["requested processors are not available: requested 4095, available: 0"],
    );
    refused(
        &["run", "--cpuset-mems", "999", "busybox", "echo", "> ran"],
        &["cannot limit what steps and containers use: requested memory nodes"],
    );
    refused(
        &["build", "--cgroup-parent", "../x", "."],
        &["\"../x\" names no control group"],
    );
    // What a machine without the controller, or a container without the tree, is like.
    let build = ["build", "--progress", "plain", "-m", "64m", "."];
    let mut hidden = project.command(&build);
    let script = "mount -t tmpfs none /sys/fs/cgroup; exec \"$0\" \"$@\"";
    wrap_in(&mut hidden, &["/usr/bin/unshare", "--mount"], script);
    let done = output(&mut hidden).code(1);
    assert!(!done.stderr.contains("> ran"), "{}", done.stderr);
    drop(done.says(&[
        "cannot limit what steps and containers use",
        "no controller `memory` of control groups",
        "help: boot the kernel with cgroup_enable=memory",
    ]));
    // And one that only shows it.
    let mut shown = project.command(&build);
    let script = "for at in /sys/fs/cgroup /sys/fs/cgroup/*; do \
        mountpoint -q $at && mount -o remount,bind,ro $at; done; exec \"$0\" \"$@\"";
    wrap_in(&mut shown, &["/usr/bin/unshare", "--mount"], script);
    let done = output(&mut shown).code(1);
    drop(done.says(&[
        "make a control group in /sys/fs/cgroup",
        "Read-only file system",
    ]));
    // What needs no group works there.
    project.write("Dockerfile", "FROM busybox\nCOPY Dockerfile /\n");
    project
        .kiln(&["build", "-q", "--cgroup-parent", "../x", "."])
        .success();
}

/// Gives project and store to an ordinary user, and goes on as that one.
pub(crate) const AS_ANOTHER_USER: &str = "chown -R 65533 . \"$KILN_ROOT\"; chmod 755 ..; \
    exec setpriv --reuid 65533 --clear-groups -- \"$0\" \"$@\"";

/// Builds with this `--cgroup-parent` where version 2 is what there is, by way of a shell script.
fn build_over_version_2(project: &Project, parent: &str, script: &str) -> Done {
    let arguments = [
        "build",
        "--progress",
        "plain",
        "--cgroup-parent",
        parent,
        ".",
    ];
    let mut build = project.command(&arguments);
    let script = format!("mount -t cgroup2 none /sys/fs/cgroup; {script}");
    wrap_in(&mut build, &["/usr/bin/unshare", "--mount"], &script);
    output(&mut build).success()
}

#[test]
fn where_version_2_is_all_there_is() {
    let project = Project::with(
        "FROM busybox\nRUN test -e /sys/fs/cgroup/cgroup.type && wc -l < /sys/fs/cgroup/cgroup.procs | sed 's/^/> /'\n",
    );
    let parent = format!("kiln-test-2-{}", std::process::id());
    let done = build_over_version_2(&project, &parent, "exec \"$0\" \"$@\"");
    // The shell and those of its pipe that live.
    let processes = lines(&done)
        .first()
        .and_then(|count| count.parse::<u32>().ok());
    assert!(processes.is_some_and(|count| count > 0), "{}", done.stderr);
    remove_parents(&parent);
}

#[test]
fn nothing_is_left_of_a_build_that_is_killed() {
    let project = Project::with("FROM busybox\nRUN sleep 66.$(echo 31)\n");
    let parent = format!("kiln-test-3-{}", std::process::id());
    let mut build = project.command(&["build", "-m", "64m", "--cgroup-parent", &parent, "."]);
    let mut build = build.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for("sleep 66.31");
    build.kill().unwrap();
    build.wait().unwrap();
    // Its keeper sees to it.
    let began = Instant::now();
    while groups_below(&parent) > 0 && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    remove_parents(&parent);
}

#[test]
fn an_ordinary_user_is_told_how_to_be_allowed() {
    let project = Project::with("FROM busybox\nRUN true\n");
    let mut build = project.command(&["build", "-m", "64m", "."]);
    wrap_in(&mut build, &["/usr/bin/env"], AS_ANOTHER_USER);
    let done = output(&mut build).code(1);
    let says = done.says(&[
        "make a control group in /sys/fs/cgroup",
        "Permission denied",
    ]);
    let advice = [
        "systemd-run --user --scope -p Delegate=yes kiln",
        "boot with version 2",
    ];
    assert!(
        advice.iter().any(|text| says.stderr.contains(text)),
        "{}",
        says.stderr
    );
}

#[test]
fn an_ordinary_user_makes_groups_where_one_was_delegated() {
    let project = Project::with("FROM busybox\nRUN sed -n 's/^0::/> /p' /proc/self/cgroup\n");
    let name = format!("kiln-test-4-{}", std::process::id());
    let parent = format!("{name}/own");
    // As systemd does it: the group, what moves processes and what gives controllers; and the
    // process itself somewhere below.
    let script = format!(
        "at=/sys/fs/cgroup/{name}; mkdir $at $at/session; echo $$ > $at/session/cgroup.procs; \
         chown 65533 $at $at/cgroup.procs $at/cgroup.subtree_control; {AS_ANOTHER_USER}"
    );
    let done = build_over_version_2(&project, &parent, &script);
    // It begins where the container's view does.
    assert_eq!(lines(&done), ["/"]);
    let made = parents(&parent);
    let owners: Vec<_> = made
        .iter()
        .map(|group| group.metadata().unwrap().uid())
        .collect();
    assert_eq!(owners, [65533]);
    assert_eq!(groups_below(&parent), 0);
    for group in [parent, format!("{name}/session"), name] {
        remove_parents(&group);
    }
}
