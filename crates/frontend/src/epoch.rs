//! `SOURCE_DATE_EPOCH` (row A11): a number, a context, or a stage that is one remote `ADD`.

use dockerfile::ast::InstructionKind;
use dockerfile::{Diagnostic, Span};
use graph::{Edge, Op, Source};

use crate::lower::Lowerer;
use crate::lowered::SourceDateEpoch;

const NAME: &str = "SOURCE_DATE_EPOCH";

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
    let span = lowerer
        .globals
        .declared
        .get(NAME)
        .map_or(Span::new(0, 0), |arg| arg.span);
    let message = format!("invalid {NAME}: {value}");
    let error = Diagnostic::error("source-date-epoch", span, message).with_help(
        "give seconds since 1970, `context`, a named context, or a stage of FROM scratch and one \
         ADD of a URL",
    );
    lowerer.diagnostics.push(error);
    None
}

/// The source vertex of a reachable stage that holds nothing but one remote `ADD`.
fn remote_stage(lowerer: &Lowerer<'_>, name: &str) -> Option<Edge> {
    let mut stages = lowerer.plan.stages.iter().enumerate();
    let (index, planned) = stages.rfind(|(_, planned)| planned.stage.name() == Some(name))?;
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
