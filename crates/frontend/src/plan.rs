//! The stages of a file and how they hang together: names, bases, platforms, references, cycles.
//!
//! Nothing here needs to know an image; what a base image's triggers add is the business of
//! `reach`.

use std::collections::HashMap;

use dockerfile::ast::{Instruction, InstructionKind, Stage};
use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Dockerfile, Span, Word, nearest};
use oci::Platform;

use crate::globals::Globals;
use crate::request::LowerRequest;
use crate::scope::{Budget, did_you_mean, undefined};

/// Most names that a message lists.
const MAX_LISTED: usize = 20;

/// The stages, by position in the file.
pub(crate) struct Plan<'a> {
    pub(crate) stages: Vec<Planned<'a>>,
    /// Last stage of each name.
    by_name: HashMap<&'a str, usize>,
    /// The stage that is built.
    pub(crate) target: usize,
}

/// A stage before it is lowered.
pub(crate) struct Planned<'a> {
    pub(crate) stage: &'a Stage,
    /// How people call it: its name, or `stage-` and its number; empty in a file with one stage.
    pub(crate) label: String,
    /// What it starts from.
    pub(crate) base: Base,
    /// `--platform`.
    pub(crate) platform: Option<Platform>,
    /// Global arguments that its `FROM` uses.
    pub(crate) used_args: Vec<String>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image, or a named context of that name.
    External(String),
    /// The named context of the stage's own name, which stands for the whole stage (F3).
    Replaced(String),
    /// The error is reported already.
    Unknown,
}

/// What a `from=` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A stage.
    Stage(usize),
    /// Nothing at all.
    Scratch,
    /// An image, or a named context of that name.
    External(String),
}

/// A `from=` of an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromReference<'a> {
    pub(crate) name: &'a str,
    pub(crate) span: Span,
    /// `COPY --from` takes a number for a stage, `RUN --mount=from` does not.
    pub(crate) by_index: bool,
}

/// Every `from=` of an instruction.
pub(crate) fn references(instruction: &Instruction) -> Vec<FromReference<'_>> {
    match &instruction.value {
        InstructionKind::Copy(copy) => {
            let from = copy.from.iter();
            let reference = |from: &'_ dockerfile::ast::Spanned<String>| from.span;
            from.map(|from| FromReference {
                name: &from.value,
                span: reference(from),
                by_index: true,
            })
            .collect()
        }
        InstructionKind::Run(run) => run.mounts.iter().filter_map(mount_reference).collect(),
        _ => Vec::new(),
    }
}

/// The `from` of a mount whose type looks at it.
fn mount_reference(mount: &dockerfile::ast::MountFlag) -> Option<FromReference<'_>> {
    let value = |key: &str| {
        let option = mount
            .options
            .iter()
            .rev()
            .find(|option| option.key.value == key)?;
        option.value.as_ref()
    };
    let kind = value("type").map_or("bind", Word::text);
    let from = value("from").filter(|from| !from.text().is_empty())?;
    let looks = !["tmpfs", "secret", "ssh"]
        .iter()
        .any(|other| kind.eq_ignore_ascii_case(other));
    looks.then(|| FromReference {
        name: from.text(),
        span: from.span(),
        by_index: false,
    })
}

/// Looks at every stage. `None` when the file has none, the target is none of them, or they go
/// round in circles: then there is nothing to lower.
pub(crate) fn plan<'a>(
    file: &'a Dockerfile,
    request: &LowerRequest,
    globals: &Globals,
    budget: &mut Budget,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Plan<'a>> {
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut stages = Vec::with_capacity(file.stages.len());
    for (index, stage) in file.stages.iter().enumerate() {
        let mut planner = FromPlanner {
            file,
            globals,
            budget,
            diagnostics,
            used_args: Vec::new(),
        };
        let base = planner.base(stage, request, &by_name);
        let platform = planner.platform(stage);
        let label = match stage.name() {
            _ if file.stages.len() == 1 => String::new(),
            Some(name) => name.to_owned(),
            None => format!("stage-{index}"),
        };
        if let Some(name) = stage.name() {
            by_name.insert(name, index);
        }
        stages.push(Planned {
            stage,
            label,
            base,
            platform,
            used_args: planner.used_args,
        });
    }
    let target = find_target(file, request, &by_name, diagnostics)?;
    let plan = Plan {
        stages,
        by_name,
        target,
    };
    match plan.cycle() {
        Some(error) => {
            diagnostics.push(error);
            None
        }
        None => Some(plan),
    }
}

fn find_target(
    file: &Dockerfile,
    request: &LowerRequest,
    by_name: &HashMap<&str, usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<usize> {
    let Some(name) = &request.target else {
        if file.stages.is_empty() {
            let end = file.source.text().len();
            let message = "dockerfile contains no stages to build";
            let error = Diagnostic::error("no-stage", Span::new(end, end), message)
                .with_help("begin with `FROM image` or `FROM scratch`");
            diagnostics.push(error);
        }
        return file.stages.len().checked_sub(1);
    };
    let found = by_name.get(name.to_lowercase().as_str()).copied();
    if found.is_none() {
        let names = file.stages.iter().filter_map(Stage::name);
        let near = nearest(name, names.clone()).map(|near| format!("did you mean `{near}`?"));
        let message = format!("target stage `{name}` could not be found");
        let error = Diagnostic::error("unknown-target", Span::default(), message);
        let mut error = of_the_request(error).with_help_if(near);
        if let Some(listed) = list(names) {
            error = error.with_note(format!("the stages are {listed}"));
        }
        diagnostics.push(error);
    }
    found
}

/// The last of some names, for people; `None` when there is none.
pub(crate) fn list<'a>(names: impl DoubleEndedIterator<Item = &'a str>) -> Option<String> {
    let mut last: Vec<&str> = names.rev().take(MAX_LISTED + 1).collect();
    if let Some(first) = last.get_mut(MAX_LISTED) {
        *first = "…";
    }
    last.reverse();
    (!last.is_empty()).then(|| last.join(", "))
}

/// A finding about the command line, which has no place in the file.
pub(crate) fn of_the_request(mut diagnostic: Diagnostic) -> Diagnostic {
    diagnostic.labels.clear();
    diagnostic
}

/// Looks at one `FROM`.
struct FromPlanner<'a, 'b> {
    file: &'a Dockerfile,
    globals: &'b Globals,
    budget: &'b mut Budget,
    diagnostics: &'b mut Vec<Diagnostic>,
    used_args: Vec<String>,
}

impl FromPlanner<'_, '_> {
    fn base(
        &mut self,
        stage: &Stage,
        request: &LowerRequest,
        by_name: &HashMap<&str, usize>,
    ) -> Base {
        let from = &stage.from.value;
        let Some(expanded) = self.expand(&from.image) else {
            return Base::Unknown;
        };
        let image = expanded.text;
        if image.is_empty() {
            let message = format!("base name ({}) should not be blank", from.image.text());
            let error = Diagnostic::error("blank-base", from.image.span(), message)
                .with_help("give the argument a default, or pass it with --build-arg");
            self.diagnostics.push(error);
            return Base::Unknown;
        }
        if let Some(name) = stage
            .name()
            .and_then(|name| request.named_context(name, None))
        {
            return Base::Replaced(name.to_owned());
        }
        match by_name.get(image.as_str()) {
            Some(&earlier) => Base::Stage(earlier),
            None if image == "scratch" => Base::Scratch,
            None => Base::External(image),
        }
    }

    fn platform(&mut self, stage: &Stage) -> Option<Platform> {
        let word = stage.from.value.platform.as_ref()?;
        let expanded = self.expand(word)?;
        self.check_platform(stage, word, &expanded);
        let text = expanded.text.as_str();
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.text());
            let unset = undefined(&expanded.uses);
            let help = unset.first().and_then(|unset| {
                did_you_mean(&unset.name, self.globals.env.iter().map(|(name, _)| name))
            });
            let error = Diagnostic::error("platform", word.span(), message).with_help_if(help);
            self.diagnostics.push(error);
            return None;
        }
        if text == "local" {
            let local = self.globals.env.get("BUILDPLATFORM")?;
            return local.parse().ok();
        }
        match text.parse::<Platform>() {
            Ok(platform) => Some(platform),
            Err(error) => {
                let message = format!("failed to parse platform: {error}");
                let error = Diagnostic::error("platform", word.span(), message);
                self.diagnostics.push(error);
                None
            }
        }
    }

    /// Expands in the global scope, and tells of arguments that nobody declared.
    fn expand(&mut self, word: &Word) -> Option<dockerfile::Expanded> {
        let env = &self.globals.env;
        if self.budget.is_exhausted() {
            return None;
        }
        let expanded = match self.budget.expand(word, env, self.file.escape) {
            Ok(expanded) => expanded,
            Err(error) => {
                self.diagnostics.push(error);
                return None;
            }
        };
        for unset in undefined(&expanded.uses) {
            if self.globals.declared.contains_key(&unset.name) {
                continue;
            }
            let help = self.budget.may_suggest().then(|| {
                let declared = self.globals.declared.keys().map(String::as_str);
                did_you_mean(
                    &unset.name,
                    declared.chain(env.iter().map(|(name, _)| name)),
                )
            });
            let message = format!("FROM argument `{}` is not declared", unset.name);
            let warning = Diagnostic::check(Rule::UndefinedArgInFrom, unset.span, message)
                .with_help_if(help.flatten());
            self.diagnostics.push(warning);
        }
        let used = expanded.uses.iter().map(|used| used.name.clone());
        self.used_args.extend(used);
        Some(expanded)
    }

    fn check_platform(&mut self, stage: &Stage, word: &Word, expanded: &dockerfile::Expanded) {
        let uses = &expanded.uses;
        let value = expanded.text.as_str();
        if uses.is_empty() {
            let Ok(platform) = value.parse::<Platform>() else {
                return;
            };
            let name = stage.name().unwrap_or_default();
            if name.contains(&platform.os) || name.contains(&platform.architecture) {
                return;
            }
            let message = format!("FROM --platform flag should not use constant value `{value}`");
            let rule = Rule::FromPlatformFlagConstDisallowed;
            let warning = Diagnostic::check(rule, word.span(), message).with_help(
                "choose the platform with `kiln build --platform`, or use $BUILDPLATFORM",
            );
            self.diagnostics.push(warning);
            return;
        }
        let only_target = uses
            .iter()
            .all(|one| one.name == "TARGETPLATFORM" && one.set);
        if only_target && self.globals.env.get("TARGETPLATFORM") == Some(value) {
            let message = format!(
                "setting platform to predefined {} in FROM is redundant",
                word.text()
            );
            let warning = Diagnostic::check(Rule::RedundantTargetPlatform, word.span(), message)
                .with_help("leave --platform out: the target platform is the default");
            self.diagnostics.push(warning);
        }
    }
}

impl Plan<'_> {
    /// A stage's name, or what stands for it.
    fn called(&self, index: usize) -> &str {
        let planned = &self.stages[index];
        planned.stage.name().unwrap_or(&planned.label)
    }

    /// The last stage of a name, whatever its case.
    pub(crate) fn by_name(&self, name: &str) -> Option<usize> {
        self.by_name.get(name.to_lowercase().as_str()).copied()
    }

    /// What a `from=` in stage `from_stage` names.
    pub(crate) fn origin(&self, reference: FromReference<'_>) -> Result<Origin, Diagnostic> {
        let name = reference.name;
        if reference.by_index
            && let Ok(index) = name.parse::<i64>()
        {
            let stage = usize::try_from(index)
                .ok()
                .filter(|&index| index < self.stages.len());
            return stage.map(Origin::Stage).ok_or_else(|| {
                let message = format!("invalid stage index {index}");
                let last = self.stages.len() - 1;
                Diagnostic::error("stage-index", reference.span, message)
                    .with_help(format!("stages are numbered from 0 to {last}"))
            });
        }
        if let Some(stage) = self.by_name(name) {
            return Ok(Origin::Stage(stage));
        }
        match name {
            "scratch" => Ok(Origin::Scratch),
            name => Ok(Origin::External(name.to_owned())),
        }
    }

    /// The error of a reference to a stage that is not finished where it is used.
    pub(crate) fn too_early(&self, reference: FromReference<'_>, user: usize) -> Diagnostic {
        let verb = if reference.by_index { "copy" } else { "mount" };
        let (name, user) = (reference.name, self.called(user));
        let message = format!(
            "cannot {verb} from stage `{name}`, it needs to be defined before current stage \
             `{user}`"
        );
        Diagnostic::error("stage-order", reference.span, message)
            .with_help("move the stage up in the file")
    }

    /// The error of the first chain of stages that leads back to where it began.
    fn cycle(&self) -> Option<Diagnostic> {
        let edges: Vec<Vec<(usize, Span)>> = self.stages.iter().map(|s| self.edges(s)).collect();
        let forward = |from: usize| edges[from].iter().any(|&(to, _)| to >= from);
        if !(0..edges.len()).any(forward) {
            return None;
        }
        let cycle = find_cycle(&edges)?;
        let (first, rest) = cycle.split_first()?;
        let message = format!(
            "circular dependency detected on stage: {}",
            self.called(first.0)
        );
        let error = Diagnostic::error("stage-cycle", first.1, message);
        Some(rest.iter().fold(error, |error, &(stage, span)| {
            error.with_label(
                span,
                format!("which `{}` needs in turn", self.called(stage)),
            )
        }))
    }

    /// Names of the stages before `index`.
    pub(crate) fn stage_names(&self, index: usize) -> impl DoubleEndedIterator<Item = &str> {
        let before = self.stages[..index].iter();
        before.filter_map(|planned| planned.stage.name())
    }

    /// The stages that a stage needs, as far as the file alone tells.
    fn edges(&self, planned: &Planned<'_>) -> Vec<(usize, Span)> {
        let mut edges = Vec::new();
        if let Base::Stage(base) = planned.base {
            edges.push((base, planned.stage.from.value.image.span()));
        }
        for reference in planned.stage.instructions.iter().flat_map(references) {
            if let Ok(Origin::Stage(stage)) = self.origin(reference) {
                edges.push((stage, reference.span));
            }
        }
        edges
    }
}

/// A cycle as (stage, span of the reference that leaves it), found by depth-first search without
/// recursion.
fn find_cycle(edges: &[Vec<(usize, Span)>]) -> Option<Vec<(usize, Span)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    for root in 0..edges.len() {
        if marks[root] != Mark::New {
            continue;
        }
        marks[root] = Mark::Open;
        // (stage, how many of its edges were followed)
        let mut path: Vec<(usize, usize)> = vec![(root, 0)];
        while let Some((stage, followed)) = path.last_mut() {
            let Some(&(next, _)) = edges[*stage].get(*followed) else {
                marks[*stage] = Mark::Done;
                path.pop();
                continue;
            };
            *followed += 1;
            match marks[next] {
                Mark::Done => {}
                Mark::New => {
                    marks[next] = Mark::Open;
                    path.push((next, 0));
                }
                Mark::Open => {
                    let start = path.iter().position(|&(stage, _)| stage == next)?;
                    let cycle = path[start..].iter();
                    let cycle = cycle.map(|&(stage, n)| (stage, edges[stage][n - 1].1));
                    return Some(cycle.collect());
                }
            }
        }
    }
    None
}
