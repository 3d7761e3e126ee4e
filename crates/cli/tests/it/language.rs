//! The language, end to end: what instructions leave in files, in the config and in the history.

use serde_json::{Value, json};

use crate::harness::{Project, tool};

/// Builds a Dockerfile over busybox and compares what a script prints in the image.
#[track_caller]
fn check_files(dockerfile: &str, script: &str, expected: &str) {
    let project = Project::with(dockerfile);
    project.write("a.txt", "a\n");
    project.build();
    assert_eq!(project.shell(script), expected);
}

/// Builds, and returns the image's config as others read it.
#[track_caller]
fn config(project: &Project) -> Value {
    let output = "type=oci,dest=../image.tar";
    project
        .kiln(&["build", "-q", "-t", "image", "-o", output, "."])
        .success();
    let archive = format!("oci-archive:{}", project.path("../image.tar").display());
    let shown = tool("skopeo", &["inspect", "--config", "--raw", &archive]).success();
    serde_json::from_str(&shown.stdout).expect("a config is JSON")
}

/// Builds and compares some fields of the config, by JSON pointer.
#[track_caller]
fn check_config(dockerfile: &str, expected: &[(&str, Value)]) {
    let project = Project::with(dockerfile);
    compare(&config(&project), expected);
}

#[track_caller]
fn compare(config: &Value, expected: &[(&str, Value)]) {
    for (pointer, expected) in expected {
        let actual = config.pointer(pointer).unwrap_or(&Value::Null);
        assert_eq!(actual, expected, "{pointer} of {config:#}");
    }
}

#[test]
fn p26_to_p28_here_documents_of_run() {
    check_files(
        "FROM busybox\n\
         ENV V=variable\n\
         RUN <<EOF\necho $V \"two\" > /sole\nfalse\necho last >> /sole\nEOF\n\
         RUN <<SCRIPT\n#!/bin/awk -f\nBEGIN { print \"by awk\" > \"/shebang\" }\nSCRIPT\n\
         RUN cat <<A > /complex && cat <<'B' >> /complex\n$V\nA\n$V\nB\n\
         RUN <<-TABS cat > /tabs\n\t\tindented\n\t  spaces\n\tTABS\n\
         RUN cat 3<<THREE <&3 > /three\nthree\nTHREE\n",
        "cat /sole /shebang /complex /tabs /three; ls /dev/pipes 2>&1 | head -n 1",
        "variable two\nlast\nby awk\nvariable\n$V\nindented\n  spaces\nthree\n\
         ls: /dev/pipes: No such file or directory\n",
    );
}

#[test]
fn p25_and_p29_here_documents_of_copy() {
    check_files(
        "FROM busybox\n\
         ENV V=variable\n\
         COPY <<one <<'two' a.txt /dir/\n$V \\$V \\\\ \"quoted\"\none\n$V \\$V\ntwo\n\
         COPY --chmod=700 --chown=1:2 <<EOF /file\nlast line\nEOF\n\
         ADD <<-EOF /tabs\n\t\ttext\n\tEOF\n",
        "cd /dir && for f in one two a.txt; do echo \"$f $(stat -c %a.%u.%g $f)\"; cat $f; done; \
         stat -c %a.%u.%g /file; cat /file /tabs",
        "one 644.0.0\nvariable $V \\ \"quoted\"\ntwo 644.0.0\n$V \\$V\na.txt 644.0.0\na\n\
         700.1.2\nlast line\ntext\n",
    );
}

#[test]
fn o01_triggers_fire_in_later_stages_and_through_images() {
    let project = Project::with(
        "FROM busybox AS base\n\
         ONBUILD ARG WHO=nobody\n\
         ONBUILD RUN echo $WHO >> /fired\n\
         ONBUILD COPY <<EOF /copied\nheredoc\nEOF\n\
         RUN test ! -e /fired\n",
    );
    let stored = config(&project);
    compare(
        &stored,
        &[(
            "/config/OnBuild",
            json!([
                "ARG WHO=nobody",
                "RUN echo $WHO >> /fired",
                "COPY <<EOF /copied\nheredoc\nEOF"
            ]),
        )],
    );
    project.kiln(&["tag", "image", "base"]).success();
    project.write("Dockerfile", "FROM base\nRUN cat /fired /copied > /seen\n");
    compare(&config(&project), &[("/config/OnBuild", Value::Null)]);
    assert_eq!(project.shell("cat /seen"), "nobody\nheredoc\n");
    let arguments = ["build", "-q", "-t", "image", "--build-arg", "WHO=me", "."];
    project.kiln(&arguments).success();
    assert_eq!(project.shell("cat /seen"), "me\nheredoc\n");
    project.write(
        "Dockerfile",
        "FROM busybox AS base\nONBUILD RUN echo again >> /fired\n\
         FROM base AS child\nRUN test -s /fired\n\
         FROM child\nRUN echo grandchild >> /fired\n",
    );
    project.build();
    assert_eq!(project.shell("cat /fired"), "again\ngrandchild\n");
}

#[test]
fn a_arguments_and_environment() {
    check_files(
        "ARG GLOBAL=global\n\
         FROM busybox AS base\n\
         ARG A=default\n\
         ENV E=$A F=$E\n\
         ENV A=env\n\
         ARG UNSET\n\
         ARG EMPTY=\n\
         RUN echo \"$A $E [$F] [$GLOBAL] [${UNSET-unset}] [${EMPTY-unset}]\" > /base\n\
         ARG GLOBAL\n\
         ARG A=again\n\
         FROM base\n\
         RUN echo \"$GLOBAL $A\" > /child\n\
         LABEL one=${A%in} two=${A/a/b} three=${NOPE:-x${A:+y}}\n\
         RUN [\"/bin/sh\", \"-c\", \"echo $$ \\\"$0\\\" > /exec\", \"zero\"]\n",
        "cat /base /child; cut -d' ' -f2 /exec",
        "env default [] [] [unset] []\nglobal again\nzero\n",
    );
}

#[test]
fn e_h_i_settings_in_the_config() {
    check_config(
        "FROM busybox\n\
         CMD [\"inherited\"]\n\
         ENTRYPOINT [\"/entry\"]\n\
         SHELL [\"/bin/sh\", \"-ec\"]\n\
         HEALTHCHECK --interval=1m30s --retries=2 CMD test -e /healthy\n\
         STOPSIGNAL SIGRTMIN+3\n\
         ARG PORTS=\"90-91 92/UDP\"\n\
         EXPOSE 80 $PORTS 127.0.0.1:8080:8081/sctp\n\
         VOLUME /data\n\
         VOLUME [\"/with space\"]\n\
         LABEL a=1 \"b c\"=\"2 3\"\n\
         LABEL a=last\n\
         USER user:extra\n\
         WORKDIR /w\n\
         WORKDIR ../x/./y\n\
         ENV K=1\n\
         ENV L=2 K=3\n\
         MAINTAINER Some One\n",
        &[
            ("/config/Cmd", json!(["inherited"])),
            ("/config/Entrypoint", json!(["/entry"])),
            ("/config/Shell", json!(["/bin/sh", "-ec"])),
            (
                "/config/Healthcheck",
                json!({"Test": ["CMD-SHELL", "test -e /healthy"], "Interval": 90_000_000_000_i64, "Retries": 2}),
            ),
            ("/config/StopSignal", json!("SIGRTMIN+3")),
            (
                "/config/ExposedPorts",
                json!({"80/tcp": {}, "90/tcp": {}, "91/tcp": {}, "92/udp": {}, "8081/sctp": {}}),
            ),
            ("/config/Volumes", json!({"/data": {}, "/with space": {}})),
            ("/config/Labels", json!({"a": "last", "b c": "2 3"})),
            ("/config/User", json!("user:extra")),
            ("/config/WorkingDir", json!("/x/y")),
            (
                "/config/Env",
                json!([
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "K=3",
                    "L=2"
                ]),
            ),
            ("/author", json!("Some One")),
        ],
    );
}

#[test]
fn e03_an_entrypoint_resets_an_inherited_command() {
    let command = "/config/Cmd";
    check_config(
        "FROM busybox\nENTRYPOINT [\"/e\"]\n",
        &[(command, Value::Null)],
    );
    check_config(
        "FROM busybox\nCMD own\nENTRYPOINT [\"/e\"]\n",
        &[(command, json!(["/bin/sh", "-c", "own"]))],
    );
    check_config(
        "FROM busybox AS a\nCMD own\nFROM a\nENTRYPOINT run\n",
        &[
            (command, Value::Null),
            ("/config/Entrypoint", json!(["/bin/sh", "-c", "run"])),
        ],
    );
    check_config(
        "FROM busybox\nSHELL [\"/bin/ash\", \"-c\"]\nCMD [not, json]\n",
        &[(command, json!(["/bin/ash", "-c", "[not, json]"]))],
    );
}

#[test]
fn i06_a_working_directory_belongs_to_the_user() {
    check_files(
        "FROM busybox\n\
         WORKDIR /of/root\n\
         USER user\n\
         WORKDIR /of/user/below\n\
         WORKDIR relative\n\
         RUN pwd > out\n\
         COPY a.txt .\n",
        "stat -c %a.%u.%g /of /of/user /of/user/below /of/user/below/relative a.txt; cat out",
        "755.0.0\n755.1000.1001\n755.1000.1001\n755.1000.1001\n644.0.0\n\
         /of/user/below/relative\n",
    );
}

#[test]
fn y04_the_history_is_that_of_buildkit() {
    let project = Project::with(
        "FROM scratch\n\
         ARG A=1\n\
         ARG B\n\
         COPY --chown=1:2 a.txt b.txt /d/\n\
         WORKDIR /w\n\
         ENV K=V L=\"a b\"\n\
         LABEL x=$A\n\
         ADD a.txt /y\n\
         EXPOSE 80 81/udp\n\
         USER u\n\
         VOLUME /v\n\
         STOPSIGNAL 9\n\
         SHELL [\"/bin/sh\", \"-ec\"]\n\
         CMD [\"a\", \"b c\"]\n\
         ENTRYPOINT run \"x\"\n\
         HEALTHCHECK NONE\n\
         ONBUILD RUN x\n\
         MAINTAINER me\n\
         WORKDIR /\n",
    );
    project.write("a.txt", "a");
    project.write("b.txt", "b");
    let config = config(&project);
    let history = config["history"].as_array().expect("a history");
    let actual: Vec<String> = history
        .iter()
        .map(|entry| {
            assert_eq!(entry["comment"], "buildkit.dockerfile.v0");
            let empty = entry["empty_layer"].as_bool().unwrap_or(false);
            let mark = if empty { '-' } else { '+' };
            format!(
                "{mark} {}",
                entry["created_by"].as_str().unwrap_or_default()
            )
        })
        .collect();
    let expected = [
        "- ARG A=1",
        "- ARG B",
        "+ COPY --chown=1:2 a.txt b.txt /d/ # buildkit",
        "+ WORKDIR /w",
        "- ENV K=V L=a b",
        "- LABEL x=1",
        "+ ADD a.txt /y # buildkit",
        "- EXPOSE [80/tcp 81/udp]",
        "- USER u",
        "- VOLUME [/v]",
        "- STOPSIGNAL 9",
        "- SHELL [/bin/sh -ec]",
        "- CMD [\"a\" \"b c\"]",
        "- ENTRYPOINT [\"/bin/sh\" \"-ec\" \"run \\\"x\\\"\"]",
        "- HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        "- MAINTAINER me",
        "- WORKDIR /",
    ];
    assert_eq!(actual, expected);
    let layers = config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
    assert_eq!(layers.map(Vec::len), Some(3));
}

#[test]
fn p10_a_frontend_that_is_asked_for_is_not_fetched() {
    let project = Project::new();
    project.write(
        "Dockerfile",
        "# syntax=docker/dockerfile:1.7-labs\nFROM scratch\nCOPY <<EOF /f\nx\nEOF\n",
    );
    let arguments = ["build", "-q", "--build-arg", "BUILDKIT_SYNTAX=no/such", "."];
    let said = project.kiln(&arguments).success().stderr;
    assert!(!said.contains("warning"), "{said}");
}
