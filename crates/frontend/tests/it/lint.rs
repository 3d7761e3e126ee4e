//! When each build check is reported, and when not: by rule and line.

use dockerfile::LineIndex;
use serde_json::{Value, json};

use crate::case;

/// Lowers every stage, as `--check` does, and compares what the checks find, in the order of the
/// file, each as `Rule line`.
#[track_caller]
fn check_with(request: &Value, text: &str, expected: &[&str]) {
    let mut request = request.clone();
    request["all_stages"] = json!(true);
    let index = LineIndex::new(text);
    let mut found: Vec<(usize, String)> = case::diagnostics(text.as_bytes(), &request)
        .into_iter()
        .map(|one| {
            let start = one.span().map_or(0, |span| span.start);
            let line = index.position(text, start).line;
            (start, format!("{} {line}", one.code.as_str()))
        })
        .collect();
    found.sort();
    let found: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(found, expected, "{text}");
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    check_with(&json!({}), text, expected);
}

#[test]
fn the_check_directive() {
    let body = "FROM scratch as base\ncopy Dockerfile .\n";
    for (directive, expected) in [
        ("skip=all", &[][..]),
        ("skip=all;error=true", &[]),
        ("skip=ConsistentInstructionCasing,FromAsCasing", &[]),
        ("skip=ConsistentInstructionCasing", &["FromAsCasing 2"]),
        (
            "error=true;skip=consistentinstructioncasing",
            &["FromAsCasing 2"],
        ),
        ("skip=FromAsCasing", &["ConsistentInstructionCasing 3"]),
    ] {
        check(&format!("#check={directive}\n{body}"), expected);
    }
    let argument = |value: &str| json!({"args": {"BUILDKIT_DOCKERFILE_CHECK": value}});
    let skip_all = format!("#check=skip=all\n{body}");
    let request = argument("skip=ConsistentInstructionCasing;error=true");
    check_with(&request, &skip_all, &["FromAsCasing 2"]);
    let error = format!("#check=error=true\n{body}");
    check_with(&argument("skip=all"), &error, &[]);
}

#[test]
fn experimental_checks_are_skipped_by_not_asking_for_them() {
    let body = "# something else\nFROM scratch AS base\n";
    check(body, &[]);
    let asked = "InvalidDefinitionDescription 2";
    let all = format!("# check=experimental=all\n{body}");
    check(&all, &[asked]);
    let named = format!("# check=skip=all;experimental=InvalidDefinitionDescription\n{body}");
    check(&named, &[asked]);
}

#[test]
fn comments_above_an_instruction_skip_for_it_alone() {
    check(
        "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv\nENV PASSWORD=a\nENV TOKEN=a\n",
        &["SecretsUsedInArgOrEnv 4"],
    );
    check("# check=skip=FromAsCasing\n\nFROM scratch as a\n", &[]);
}

#[test]
fn stage_names_and_the_case_of_keywords() {
    check("FROM scratch AS BadStageName\n", &["StageNameCasing 1"]);
    check(
        "FROM scratch as a\n\nFROM scratch AS b\n",
        &["FromAsCasing 1"],
    );
    check(
        "from scratch AS a\n\nfrom scratch as b\n",
        &["FromAsCasing 1"],
    );
    let mixed = "ConsistentInstructionCasing 1";
    check("From scratch as a\nFROM scratch AS b\n", &[mixed]);
    check("frOM scratch as a\nfrom scratch as b\n", &[mixed]);
    check("from scratch\nCOPY a /\nCOPY b /\n", &[mixed]);
    check("FROM scratch\ncopy a /\ncopy b /\n", &[mixed]);
    check(
        "FROM scratch\ncopy a /\nCOPY b /\n",
        &["ConsistentInstructionCasing 2"],
    );
    check(
        "from scratch\nCOPY a /\ncopy b /\n",
        &["ConsistentInstructionCasing 2"],
    );
    check(
        "FROM scratch\ncopy a /\n",
        &["ConsistentInstructionCasing 2"],
    );
    check("from scratch\ncopy a /\n", &[]);
    check("FROM scratch\nRUN <<'eot'\nenv\neot\n", &[]);
    check(
        "FROM scratch AS b\nFROM scratch AS B\n",
        &["DuplicateStageName 2", "StageNameCasing 2"],
    );
    check("FROM scratch AS b1\nFROM scratch AS b2\n", &[]);
    check(
        "FROM scratch AS scratch\nFROM scratch AS context\n",
        &["ReservedStageName 1", "ReservedStageName 2"],
    );
    check("FROM scratch\nFROM scratch AS a\n", &[]);
}

#[test]
fn empty_lines_maintainers_and_legacy_pairs() {
    check(
        "FROM scratch\nCOPY a \\\n\n.\nCOPY a \\\n# comment\n.\n",
        &["NoEmptyContinuation 3"],
    );
    check("FROM scratch\nMAINTAINER me\n", &["MaintainerDeprecated 2"]);
    check(
        "FROM scratch\nLABEL org.opencontainers.image.authors=me\n",
        &[],
    );
    let legacy = &["LegacyKeyValueFormat 2", "LegacyKeyValueFormat 3"];
    check("FROM scratch\nENV a value\nLABEL a value\n", legacy);
    check("FROM scratch\nENV a=value\nLABEL a=value\n", &[]);
}

#[test]
fn shell_form_of_commands() {
    for name in ["CMD", "ENTRYPOINT"] {
        check(
            &format!("FROM scratch\n{name} command\n"),
            &["JSONArgsRecommended 2"],
        );
        check(&format!("FROM scratch\n{name} [\"command\"]\n"), &[]);
        check(
            &format!("FROM scratch\nSHELL [\"/sh\"]\n{name} command\n"),
            &[],
        );
        check(
            &format!("FROM scratch AS a\nSHELL [\"/sh\"]\nFROM a\n{name} command\n"),
            &[],
        );
        check(
            &format!("FROM scratch\n{name} command\nSHELL [\"/sh\"]\n"),
            &["JSONArgsRecommended 2"],
        );
    }
    check("FROM scratch\nHEALTHCHECK CMD command\nRUN command\n", &[]);
}

#[test]
fn arguments_of_from() {
    check("ARG base=scratch\nFROM $base\n", &[]);
    check(
        "ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n",
        &[],
    );
    check("FROM --platform=$BUILDPLATFORM scratch\n", &[]);
    check("ARG DEBUG\nFROM scratch${DEBUG}\n", &[]);
    check("ARG DEBUG\nFROM scra${DEBUG:-tch}\n", &[]);
    check("ARG DEBUG=\"\"\nFROM scratch${DEBUG-@bogus}\n", &[]);
    check(
        "FROM --platform=$BULIDPLATFORM scratch\n",
        &["UndefinedArgInFrom 1", "platform 1"],
    );
    check(
        "ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox\n",
        &["platform 2", "UndefinedArgInFrom 2"],
    );
    check(
        "ARG tag=latest\nFROM busybox:${tag}${version} AS b\n",
        &["UndefinedArgInFrom 2"],
    );
}

#[test]
fn default_values_that_name_no_image() {
    let given = |name: &str, value: &str| json!({"args": {name: value}});
    let invalid = &["InvalidDefaultArgInFrom 2"];
    check_with(&given("V", "1"), "ARG V\nFROM busybox:$V\n", invalid);
    check_with(&given("I", "busybox"), "ARG I\nFROM $I\n", invalid);
    check_with(
        &given("S", "box:1"),
        "ARG S=\"box:\"\nFROM busy${S}\n",
        invalid,
    );
    check_with(&given("V", "1"), "ARG V=latest\nFROM busybox:${V}\n", &[]);
    check_with(
        &given("V", "-musl"),
        "ARG V=\"\"\nFROM busybox:stable${V}\n",
        &[],
    );
    check_with(
        &given("V", "-musl"),
        "ARG V\nFROM busybox:stable${V}\n",
        &[],
    );
    check_with(&given("V", "1"), "ARG V\nFROM busybox:${V:-latest}\n", &[]);
}

#[test]
fn platforms_of_from() {
    check(
        "FROM --platform=$TARGETPLATFORM scratch\n",
        &["RedundantTargetPlatform 1"],
    );
    check(
        "FROM --platform=${TARGETPLATFORM} scratch\n",
        &["RedundantTargetPlatform 1"],
    );
    check("FROM --platform=$TARGETOS/$TARGETARCH scratch\n", &[]);
    check(
        "FROM --platform=linux/amd64 scratch\n",
        &["FromPlatformFlagConstDisallowed 1"],
    );
    check(
        "FROM --platform=linux/amd64 scratch AS my_amd64_stage\n",
        &[],
    );
    check("FROM --platform=linux/amd64 scratch AS linux\n", &[]);
    let image = json!({"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers"}});
    let request = |platform: &str| json!({"platform": platform, "images": {"other:latest": image}});
    check_with(
        &request("linux/amd64"),
        "FROM other\n",
        &["InvalidBaseImagePlatform 1"],
    );
    check_with(&request("linux/arm64"), "FROM other\n", &[]);
}

#[test]
fn relative_working_directories() {
    let relative = &["WorkdirRelativePath 2"];
    check("FROM scratch\nWORKDIR app/\n", relative);
    check("FROM scratch\nWORKDIR app\nWORKDIR sub\n", relative);
    check("FROM scratch\nWORKDIR \"/app\"\n", &[]);
    check(
        "FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR sub\n",
        &[],
    );
    check(
        "FROM scratch\nENV D=app\nWORKDIR $D\n",
        &["WorkdirRelativePath 3"],
    );
    check("FROM scratch\nENV D=/app\nWORKDIR $D\n", &[]);
}

#[test]
fn undefined_variables() {
    check("FROM scratch\nARG foo\nCOPY a${foo} .\n", &[]);
    check(
        "FROM scratch AS base\nARG foo=a\nFROM base\nCOPY $foo .\n",
        &[],
    );
    check("FROM scratch\nRUN echo $PATH $nobody\n", &[]);
    check(
        "FROM scratch\nCOPY $foo .\nARG foo=a\n",
        &["UndefinedVar 2"],
    );
    check(
        "FROM scratch\nARG DIR_ASSETS=a\nCOPY $DIR_ASSET .\n",
        &["UndefinedVar 3"],
    );
    check("FROM scratch\nENV PATH=$PAHT:/bin\n", &["UndefinedVar 2"]);
    check(
        "FROM scratch AS first\nCOPY $foo .\nFROM scratch AS second\nCOPY $bar .\n",
        &["UndefinedVar 2", "UndefinedVar 4"],
    );
    check(
        "FROM scratch\nCOPY <<EOF /a\n$foo\nEOF\n",
        &["UndefinedVar 3"],
    );
    check("FROM scratch\nCOPY <<'EOF' /a\n$foo\nEOF\n", &[]);
}

#[test]
fn instructions_that_replace_each_other() {
    check(
        "FROM scratch\nENTRYPOINT [\"a\"]\nCMD [\"a\"]\nHEALTHCHECK CMD [\"a\"]\nCOPY a /\n\
         ENTRYPOINT [\"b\"]\nCMD [\"b\"]\nHEALTHCHECK CMD [\"b\"]\n",
        &[
            "MultipleInstructionsDisallowed 2",
            "MultipleInstructionsDisallowed 3",
            "MultipleInstructionsDisallowed 4",
        ],
    );
    check(
        "FROM scratch AS a\nENTRYPOINT [\"a\"]\nCMD [\"a\"]\nHEALTHCHECK NONE\n\
         FROM a\nENTRYPOINT [\"b\"]\nCMD [\"b\"]\nHEALTHCHECK CMD [\"b\"]\n",
        &[],
    );
}

#[test]
fn names_that_sound_like_secrets() {
    let text = "FROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\n\
                ARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\nENV git_key=\n\
                ENV PUBLIC_KEY= KEY_FILE= token_version=1\nARG public_token monkey keyboard\n";
    check(
        text,
        &[2, 3, 4, 4, 5, 5, 6, 7]
            .map(|line| format!("SecretsUsedInArgOrEnv {line}"))
            .each_ref()
            .map(String::as_str),
    );
}

#[test]
fn copies_of_ignored_files() {
    let ignored = |patterns: &[&str]| json!({"ignore": patterns});
    let both = "FROM scratch\nCOPY Dockerfile .\nADD Dockerfile /windy\n";
    let found = &["CopyIgnoredFile 2", "CopyIgnoredFile 3"];
    check_with(&ignored(&["Dockerfile"]), both, found);
    check_with(&ignored(&["Dockerfile", "!x"]), both, &[]);
    let from =
        "FROM scratch AS base\nCOPY Dockerfile /foobar\nFROM base\nCOPY --from=base /foobar /a\n";
    check_with(&ignored(&["foobar"]), from, &[]);
    let all = "FROM scratch\nCOPY . /\nCOPY / /\nCOPY dir/../. /\n";
    check_with(&ignored(&["dir", "*.md"]), all, &[]);
    for pattern in ["*", "**", "**/*"] {
        let expected = &[
            "CopyIgnoredFile 2",
            "CopyIgnoredFile 3",
            "CopyIgnoredFile 4",
        ];
        check_with(&ignored(&[pattern]), all, expected);
    }
    let below = "FROM scratch\nCOPY dir/sub/file /\nCOPY ./dir/ /\nCOPY /dir /\nCOPY other /\n";
    let expected = &[
        "CopyIgnoredFile 2",
        "CopyIgnoredFile 3",
        "CopyIgnoredFile 4",
    ];
    check_with(&ignored(&["dir"]), below, expected);
}

#[test]
fn descriptions() {
    let head = "# check=experimental=InvalidDefinitionDescription\n";
    let good = "# foo this is the foo\nARG foo=bar\n\n# base this is the base\nFROM scratch AS base\n\n\
                # version of it\nARG version=latest\n\n# baz this is the baz\nARG foo=baz bar=qux baz=quux\n\
                #\nARG bit=bat\n\n# for something other\nCOPY Dockerfile .\n";
    check(&format!("{head}{good}"), &[]);
    let bad = "# bar this is the bar\nARG foo=bar\n# BasE image\nFROM scratch AS base\n# a bad comment\n\
               ARG version=latest\n# a bad comment\nARG foo=baz bar=qux baz=quux\n";
    let expected = [2, 4, 6, 8].map(|line| format!("InvalidDefinitionDescription {line}"));
    check(
        &format!("{head}{bad}"),
        &expected.each_ref().map(String::as_str),
    );
}

#[test]
fn ports() {
    check("FROM scratch\nEXPOSE 80/TCP\n", &["ExposeProtoCasing 2"]);
    check("FROM scratch\nEXPOSE 80/tcp 81 82-84/udp\n", &[]);
    for port in [
        "127.0.0.1:80:80",
        "5000:5000",
        "[::1]:8080:8080/tcp",
        "5000-5001:80",
    ] {
        check(
            &format!("FROM scratch\nEXPOSE {port}\n"),
            &["ExposeInvalidFormat 2"],
        );
    }
    check(
        "FROM scratch\nEXPOSE 80:81/TCP\n",
        &["ExposeInvalidFormat 2", "ExposeProtoCasing 2"],
    );
    check(
        "FROM scratch\nARG P=80/TCP\nEXPOSE $P\n",
        &["ExposeProtoCasing 3"],
    );
}

#[test]
fn warnings_come_with_errors() {
    check(
        "FROM scratch AS BadStageName\nMAINTAINER me\nBADCMD\n",
        &[
            "StageNameCasing 1",
            "MaintainerDeprecated 2",
            "unknown-instruction 3",
        ],
    );
}
