//! What a Dockerfile becomes: files, config, order, failures of steps.

use crate::harness::{Gate, Project};

#[test]
fn copies_runs_and_configures() {
    let project = Project::with(
        "FROM busybox AS build\n\
         ARG WHO=nobody\n\
         ENV GREETING=hello\n\
         WORKDIR /src\n\
         COPY in.txt dir/ ./\n\
         RUN echo \"$GREETING $WHO\" > out.txt && cat in.txt >> out.txt\n\
         FROM busybox\n\
         LABEL a=b\n\
         COPY --from=build /src/out.txt /result/\n\
         USER user\n\
         EXPOSE 80\n\
         VOLUME /data\n\
         ENTRYPOINT [\"cat\"]\n\
         CMD [\"/result/out.txt\"]\n",
    );
    project.write("in.txt", "from the context\n");
    project.write("dir/other", "x");
    project
        .kiln(&["build", "-t", "image", "--build-arg", "WHO=world", "."])
        .success();
    assert_eq!(
        project.kiln(&["run", "--rm", "image"]).success().stdout,
        "hello world\nfrom the context\n"
    );
    let shown: serde_json::Value =
        serde_json::from_str(&project.kiln(&["inspect", "image"]).success().stdout).expect("JSON");
    let config = &shown[0]["Config"];
    assert_eq!(config["Labels"]["a"], "b");
    assert_eq!(config["User"], "user");
    assert_eq!(config["Entrypoint"], serde_json::json!(["cat"]));
    assert_eq!(config["Cmd"], serde_json::json!(["/result/out.txt"]));
    assert!(config["ExposedPorts"]["80/tcp"].is_object());
    assert!(config["Volumes"]["/data"].is_object());
}

#[test]
fn unpacks_local_archives() {
    let project = Project::with("FROM busybox\nADD a.tar.gz /there/\nADD plain.tar.gz /there/\n");
    project.write("tree/x/y", "inside");
    let archive = project.path("a.tar.gz");
    let tree = project.path("tree");
    crate::harness::tool(
        "tar",
        &[
            "-czf",
            archive.to_str().unwrap(),
            "-C",
            tree.to_str().unwrap(),
            "x",
        ],
    )
    .success();
    project.write("plain.tar.gz", "no archive");
    project.build();
    assert_eq!(
        project.shell("cat /there/x/y; cat /there/plain.tar.gz"),
        "insideno archive"
    );
}

#[test]
fn deletions_and_replaced_directories_reach_the_image() {
    let project = Project::with(
        "FROM busybox\n\
         RUN mkdir -p /a/b /c && touch /a/b/1 /a/2 /c/3\n\
         RUN rm /a/2 && rm -r /c && mkdir /c && touch /c/4\n\
         RUN rm -r /a/b && echo file > /a/b\n",
    );
    project.build();
    assert_eq!(
        project.shell("find /a /c -type f | sort; cat /a/b"),
        "/a/b\n/c/4\nfile\n"
    );
}

#[test]
fn unreachable_stages_do_not_run_and_independent_ones_run_together() {
    let gate = Gate::new();
    let wait = gate.command();
    let project = Project::with(&format!(
        "FROM busybox AS never\nRUN false\n\
         FROM busybox AS one\nRUN {wait} && echo 1 > /f\n\
         FROM busybox AS two\nRUN {wait} && echo 2 > /f\n\
         FROM busybox\nCOPY --from=one /f /1\nCOPY --from=two /f /2\n",
    ));
    let arguments = ["build", "-t", "image", "--progress", "quiet", "."];
    let mut build = project.command(&arguments).spawn().unwrap();
    drop(gate.wait_for(2));
    assert!(build.wait().unwrap().success());
    assert_eq!(project.shell("cat /1 /2"), "1\n2\n");
}

#[test]
fn a_failing_step_shows_line_caret_code_and_tail() {
    let project =
        Project::with("FROM busybox\nRUN echo before && echo broken >&2 && exit 7\nRUN true\n");
    project
        .kiln(&["build", "--progress", "plain", "."])
        .code(1)
        .says(&[
            "Dockerfile:2",
            "RUN echo before",
            "^^^",
            "exit code: 7",
            "broken",
        ]);
}

#[test]
fn words_for_signals_and_missing_commands() {
    let project = Project::with("FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n");
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["exit code: 137", "SIGKILL"]);
    project.write("Dockerfile", "FROM busybox\nRUN no-such-command\n");
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["exit code: 127", "command not found"]);
    project.write("Dockerfile", "FROM busybox\nRUN [\"/no/such/program\"]\n");
    project
        .kiln(&["build", "."])
        .code(1)
        .says(&["/no/such/program"]);
}

#[test]
fn a_run_sees_a_container() {
    let project = Project::with(
        "FROM busybox\n\
         RUN [ $$ = 1 ] && [ \"$(hostname)\" = buildkitsandbox ] && [ -c /dev/null ] && [ -e /proc/self ] && ! touch /sys/kernel/x\n\
         RUN grep -q '^CapBnd:.*00000000a80425fb' /proc/self/status\n\
         RUN umask | grep -q 0022 && [ \"$HOME\" = /root ] && grep -q buildkitsandbox /etc/hosts\n\
         USER user\n\
         RUN [ \"$(id -u):$(id -g)\" = 1000:1001 ] && id -G | grep -q 2000 && [ \"$HOME\" = /home/user ]\n\
         RUN --network=none [ \"$(ls /sys/class/net)\" = lo ]\n",
    );
    project.build();
    assert_eq!(
        project.shell("ls /etc/resolv.conf /etc/hosts 2>/dev/null; true"),
        "/etc/hosts\n/etc/resolv.conf\n"
    );
}

#[test]
fn generated_files_stay_out_of_layers() {
    let project = Project::with(
        "FROM busybox\n\
         RUN echo >> /etc/hosts && echo >> /etc/resolv.conf\n\
         RUN --network=none [ ! -s /etc/resolv.conf ] && echo >> /etc/resolv.conf\n",
    );
    project.build();
    project
        .kiln(&["build", "-o", "type=tar,dest=tree.tar", "."])
        .success();
    let listing = crate::harness::tool("tar", &["-tf", project.path("tree.tar").to_str().unwrap()])
        .success()
        .stdout;
    assert!(
        !listing.contains("resolv.conf") && !listing.contains("etc/hosts"),
        "{listing}"
    );
}

#[test]
fn progress_as_json_lines() {
    let project = Project::with("FROM busybox\nRUN echo hi\n");
    let output = project
        .kiln(&["build", "--progress", "json", "."])
        .success();
    let kinds: Vec<String> = output
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("a JSON line")["kind"]
                .to_string()
        })
        .collect();
    for kind in ["announced", "started", "log", "finished"] {
        assert!(
            kinds.contains(&format!("\"{kind}\"")),
            "{kind} is missing in {kinds:?}"
        );
    }
}

#[test]
fn a_run_over_scratch_and_an_image_without_layers() {
    let project = Project::with(
        "FROM scratch\n\
         RUN --mount=type=bind,from=busybox,source=/bin,target=/bin [\"/bin/sh\", \"-c\", \"echo made > /f\"]\n",
    );
    project.kiln(&["build", "-o", "out", "."]).success();
    assert_eq!(
        std::fs::read_to_string(project.path("out/f")).unwrap(),
        "made\n"
    );
    project.write("Dockerfile", "FROM scratch\nLABEL a=b\n");
    project.build();
    project.kiln(&["run", "image", "/x"]).code(127);
}
