//! `SOURCE_DATE_EPOCH` (row A11): a number, a context, or a stage that is one remote `ADD`.

use dockerfile::Diagnostic;
use dockerfile::ast::InstructionKind;
use graph::{Edge, Op, Source};

use crate::lower::Lowerer;
use crate::lowered::SourceDateEpoch;
use crate::plan::of_the_request;

/// The build argument.
pub(crate) const NAME: &str = "SOURCE_DATE_EPOCH";

/// The epoch that the build arguments, or a global `ARG`, set.
pub(crate) fn source_date_epoch(lowerer: &mut Lowerer<'_>) -> Option<SourceDateEpoch> {
    let given = lowerer
        .request
        .build_arg(NAME)
        .or(lowerer.globals.env.get(NAME))?;
    if given.is_empty() {
        return None;
    }
    let value = given.to_owned();
    if let Ok(seconds) = value.parse::<i64>()
        && seconds >= 0
    {
        return Some(SourceDateEpoch::Seconds(seconds));
    }
    if value == "context" {
        return Some(SourceDateEpoch::Context);
    }
    if let Some(name) = lowerer.request.named_context(&value, None) {
        return Some(SourceDateEpoch::NamedContext(name.to_owned()));
    }
    if let Some(edge) = remote_stage(lowerer, &value) {
        return Some(SourceDateEpoch::Source(edge));
    }
    let declared = lowerer.globals.declared.get(NAME).map(|arg| arg.span);
    let message = format!("invalid {NAME}: {value}");
    let error = Diagnostic::error("source-date-epoch", declared.unwrap_or_default(), message).with_help(
        "give seconds since 1970, `context`, a named context, or a stage of FROM scratch and one \
         ADD of a URL",
    );
    let error = match declared {
        Some(_) => error,
        None => of_the_request(error),
    };
    lowerer.diagnostics.push(error);
    None
}

/// The source vertex of a reachable stage that holds nothing but one remote `ADD`.
fn remote_stage(lowerer: &Lowerer<'_>, name: &str) -> Option<Edge> {
    let index = lowerer.plan.by_name(name)?;
    let planned = &lowerer.plan.stages[index];
    let mut adds = 0;
    for instruction in &planned.stage.instructions {
        match &instruction.value {
            InstructionKind::Add(_) => adds += 1,
            InstructionKind::Arg(_) => {}
            _ => return None,
        }
    }
    let edge = lowerer.outputs[index].as_ref()?.state.edge?;
    let inputs = &lowerer.builder.vertex(edge).inputs;
    let [input] = inputs.as_slice() else {
        return None;
    };
    let source = &lowerer.builder.vertex(input.edge).op;
    let remote = matches!(source, Op::Source(Source::Http(_) | Source::Git(_)));
    (adds == 1 && remote).then_some(input.edge)
}
