//! `--memory`, `--cpus`, `--pids-limit` and the like: what processes may use, and what is said when
//! they want more, or when nobody may limit them here.

use crate::harness::{Project, wrap_in};
use crate::mounts::lines;

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
    let json = ["build", "--progress", "json", "-m", "24m", "."];
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

/// Removes the groups with this name from every tree. Fails when something is left in one.
fn remove_parents(name: &str) {
    let top = std::path::Path::new("/sys/fs/cgroup");
    let trees = std::fs::read_dir(top).unwrap().flatten();
    let trees = trees.map(|entry| entry.path()).chain([top.to_path_buf()]);
    let mut removed = 0;
    for group in trees.map(|tree| tree.join(name)) {
        if group.is_dir() {
            std::fs::remove_dir(&group).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 0, "it was used");
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
    let done = crate::harness::output(&mut hidden).code(1);
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
    let done = crate::harness::output(&mut shown).code(1);
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

#[test]
fn an_ordinary_user_is_told_how_to_be_allowed() {
    let project = Project::with("FROM busybox\nRUN true\n");
    let mut build = project.command(&["build", "-m", "64m", "."]);
    let script = "chown -R 65533 . \"$KILN_ROOT\"; chmod 755 ..; \
        exec setpriv --reuid 65533 --clear-groups -- \"$0\" \"$@\"";
    wrap_in(&mut build, &["/usr/bin/env"], script);
    let done = crate::harness::output(&mut build).code(1);
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
