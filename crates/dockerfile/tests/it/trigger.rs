//! `ONBUILD` triggers as they come back from an image config.

use dockerfile::ast::InstructionKind;
use dockerfile::{parse, parse_trigger};

#[track_caller]
fn check_error(trigger: &str, expected: &str) {
    let parsed = parse_trigger(trigger);
    assert_eq!(parsed.instruction, None, "{trigger}");
    let messages: Vec<&str> = parsed
        .diagnostics
        .iter()
        .map(|one| one.message.as_str())
        .collect();
    assert_eq!(messages, [expected], "{trigger}");
}

#[test]
fn o1_a_stored_trigger_reads_back() {
    let text = "FROM a\nONBUILD COPY --chmod=644 \\\n  <<-\"E\" b /x  \n\thi $a\n\tE\n";
    let parsed = parse(text.as_bytes());
    assert_eq!(parsed.diagnostics, [], "{parsed:?}");
    let InstructionKind::OnBuild(stored) = &parsed.dockerfile.stages[0].instructions[0].value
    else {
        panic!("{parsed:?}");
    };
    assert_eq!(
        stored.trigger,
        "COPY --chmod=644   <<-\"E\" b /x  \n\thi $a\nE"
    );
    let read = parse_trigger(&stored.trigger);
    let Some(InstructionKind::Copy(copy)) = read.instruction.map(|node| node.value) else {
        panic!("{:?}", read.diagnostics);
    };
    assert_eq!(copy.transfer.heredocs[0].content(), "hi $a\n");
    assert_eq!(copy.transfer.sources[0].text(), "b");
}

#[test]
fn o2_what_is_no_trigger() {
    check_error(
        "ONBUILD RUN x",
        "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    );
    check_error("FROM x", "FROM isn't allowed as an ONBUILD trigger");
    check_error(
        "MAINTAINER x",
        "MAINTAINER isn't allowed as an ONBUILD trigger",
    );
    check_error("RUN a\nRUN b", "a trigger is one instruction");
    check_error("# nothing", "the trigger holds no instruction");
    check_error("RUM x", "unknown instruction: RUM (did you mean RUN?)");
}
