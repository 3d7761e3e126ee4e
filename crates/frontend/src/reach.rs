//! Which stages the target needs, which images they need, and which triggers run where.
//!
//! Stages that nothing reachable refers to are not looked at: neither lowered nor asked for.

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::ast::{Instruction, InstructionKind};
use dockerfile::{Diagnostic, Severity, Span, parse_trigger};

use crate::external::{External, bad_name, resolve};
use crate::known::{Known, Need};
use crate::plan::{Base, Origin, Plan, references};
use crate::request::LowerRequest;

/// What the target needs.
pub(crate) struct Reach {
    /// By stage: whether it is needed.
    pub(crate) stages: Vec<bool>,
    /// Questions without an answer yet.
    pub(crate) needs: BTreeSet<Need>,
    /// Triggers of base images, by stage.
    pub(crate) image_triggers: BTreeMap<usize, Vec<Trigger>>,
}

/// An `ONBUILD` trigger of a base image.
pub(crate) struct Trigger {
    pub(crate) text: String,
    pub(crate) instruction: Instruction,
}

/// The triggers that an earlier stage leaves to the stage built from it.
pub(crate) fn stage_triggers<'a>(
    plan: &Plan<'a>,
    base: &Base,
) -> impl Iterator<Item = &'a Instruction> + use<'a> {
    let parent = match base {
        Base::Stage(parent) => Some(plan.stages[*parent].stage),
        _ => None,
    };
    let instructions = parent.into_iter().flat_map(|stage| &stage.instructions);
    instructions.filter_map(|instruction| match &instruction.value {
        InstructionKind::OnBuild(onbuild) => onbuild.instruction.as_ref().ok(),
        _ => None,
    })
}

/// Follows every reference from the target.
pub(crate) fn reach(
    plan: &Plan<'_>,
    request: &LowerRequest,
    known: &Known,
    diagnostics: &mut Vec<Diagnostic>,
) -> Reach {
    let mut reach = Reach {
        stages: vec![false; plan.stages.len()],
        needs: BTreeSet::new(),
        image_triggers: BTreeMap::new(),
    };
    let mut pending = roots(plan, request);
    for &root in &pending {
        reach.stages[root] = true;
    }
    while let Some(index) = pending.pop() {
        let planned = &plan.stages[index];
        let mut origins: Vec<Origin> = Vec::new();
        let mut own = planned.stage.instructions.as_slice();
        match &planned.base {
            Base::Stage(base) => origins.push(Origin::Stage(*base)),
            // A replaced stage's own instructions are not run.
            Base::Replaced(_) => own = &[],
            Base::External(_) | Base::Scratch | Base::Unknown => {}
        }
        let answer = base_image(plan, index, request, known, &mut reach.needs);
        if let Some(config) = answer
            && !config.on_build.is_empty()
            && !matches!(planned.base, Base::Replaced(_))
        {
            let span = planned.stage.from.value.image.span();
            let triggers = parse_triggers(&config.on_build, span, diagnostics);
            reach.image_triggers.insert(index, triggers);
        }
        let image_triggers = reach.image_triggers.get(&index);
        let triggers = image_triggers
            .into_iter()
            .flatten()
            .map(|trigger| &trigger.instruction);
        let inherited = stage_triggers(plan, &planned.base);
        let from_triggers = triggers.chain(inherited).flat_map(references);
        let all = own.iter().flat_map(references).chain(from_triggers);
        // A reference that names nothing is reported where it is lowered.
        origins.extend(all.filter_map(|reference| plan.origin(reference).ok()));
        for origin in origins {
            match origin {
                Origin::Stage(stage) if !reach.stages[stage] => {
                    reach.stages[stage] = true;
                    pending.push(stage);
                }
                Origin::External(name) => {
                    if let Ok(External::Image { need, .. }) = resolve(&name, None, request)
                        && known.get(&need).is_none()
                    {
                        reach.needs.insert(need);
                    }
                }
                Origin::Stage(_) | Origin::Scratch => {}
            }
        }
    }
    check_unreached(plan, &reach, request, diagnostics);
    diagnostics.extend(unreadable_triggers(plan, &reach));
    reach
}

/// Names in stages that nobody needs must make sense too, as in those that are lowered.
fn check_unreached(
    plan: &Plan<'_>,
    reach: &Reach,
    request: &LowerRequest,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for (index, planned) in plan
        .stages
        .iter()
        .enumerate()
        .filter(|(i, _)| !reach.stages[*i])
    {
        let check = |name: &str, span: Span| {
            let error = resolve(name, None, request).err()?;
            Some(bad_name(&error, span, plan.stage_names(index)))
        };
        if let Base::External(name) = &planned.base {
            diagnostics.extend(check(name, planned.stage.from.value.image.span()));
        }
        for reference in planned.stage.instructions.iter().flat_map(references) {
            diagnostics.extend(match plan.origin(reference) {
                Ok(Origin::External(name)) => check(&name, reference.span),
                Ok(Origin::Stage(_) | Origin::Scratch) => None,
                Err(error) => Some(error),
            });
        }
    }
}

/// The stages that are wanted for themselves: the target, and the one whose time is the image's.
fn roots(plan: &Plan<'_>, request: &LowerRequest) -> Vec<usize> {
    if request.all_stages {
        return (0..plan.stages.len()).collect();
    }
    let clock = request
        .build_arg(crate::epoch::NAME)
        .and_then(|value| plan.by_name(value));
    [Some(plan.target), clock].into_iter().flatten().collect()
}

/// The config of a stage's base image, if the base is one and is known.
fn base_image<'k>(
    plan: &Plan<'_>,
    index: usize,
    request: &LowerRequest,
    known: &'k Known,
    needs: &mut BTreeSet<Need>,
) -> Option<&'k oci::ContainerConfig> {
    let planned = &plan.stages[index];
    let external = match &planned.base {
        Base::External(name) => resolve(name, planned.platform.as_ref(), request).ok()?,
        Base::Replaced(key) => crate::external::context(key, planned.platform.as_ref(), request),
        _ => return None,
    };
    let External::Image { need, .. } = external else {
        return None;
    };
    match known.get(&need) {
        Some(answer) => answer.as_ref().ok().map(|image| &image.config.config),
        None => {
            needs.insert(need);
            None
        }
    }
}

fn parse_triggers(texts: &[String], from: Span, diagnostics: &mut Vec<Diagnostic>) -> Vec<Trigger> {
    let mut triggers = Vec::with_capacity(texts.len());
    for text in texts {
        let parsed = parse_trigger(text);
        let errors = parsed.diagnostics.into_iter().filter(Diagnostic::is_error);
        diagnostics.extend(errors.map(|error| {
            let mut error = in_trigger(error, from, text);
            // Nobody can mend the text of a finished image.
            error.help = Some("choose a base image whose triggers can be read".to_owned());
            error
        }));
        if let Some(instruction) = parsed.instruction {
            let text = text.clone();
            triggers.push(Trigger { text, instruction });
        }
    }
    triggers
}

/// The triggers of the file that cannot be read: errors where they fire in a stage that is needed,
/// warnings else.
fn unreadable_triggers(plan: &Plan<'_>, reach: &Reach) -> Vec<Diagnostic> {
    let mut fires: BTreeMap<usize, Span> = BTreeMap::new();
    for (planned, _) in plan.stages.iter().zip(&reach.stages).filter(|(_, r)| **r) {
        if let Base::Stage(base) = planned.base {
            fires.entry(base).or_insert(planned.stage.from.span);
        }
    }
    let mut found = Vec::new();
    for (index, planned) in plan.stages.iter().enumerate() {
        for instruction in &planned.stage.instructions {
            let InstructionKind::OnBuild(onbuild) = &instruction.value else {
                continue;
            };
            let Err(error) = &onbuild.instruction else {
                continue;
            };
            let mut error = Diagnostic::clone(error);
            found.push(match fires.get(&index) {
                Some(from) => error.with_label(*from, "the trigger fires here"),
                None => {
                    error.severity = Severity::Warning;
                    error.with_note("every build from this image will fail at this trigger")
                }
            });
        }
    }
    found
}

/// Points a diagnostic about a base image's trigger at the `FROM` that brought it in.
pub(crate) fn in_trigger(mut diagnostic: Diagnostic, from: Span, trigger: &str) -> Diagnostic {
    diagnostic.labels.truncate(1);
    for label in &mut diagnostic.labels {
        label.span = from;
    }
    diagnostic.with_note(format!(
        "in this trigger of the base image: ONBUILD {trigger}"
    ))
}
