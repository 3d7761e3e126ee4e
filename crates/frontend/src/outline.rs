//! What a Dockerfile offers its user: targets, build arguments, secrets, agents and caches. Data for
//! `--call outline` and `--call targets`; nothing here is printed.

use std::collections::{BTreeMap, HashSet};

use dockerfile::Span;
use dockerfile::ast::InstructionKind;

use crate::lower::Lowerer;
use crate::lowered::Request;
use crate::reach::Reach;

/// What one target can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Name of the target; empty when it has none.
    pub name: String,
    /// The comment above its `FROM`.
    pub description: String,
    /// Build arguments that change something, in the order of the file.
    pub args: Vec<OutlineArg>,
    /// Secrets, sorted by id.
    pub secrets: Vec<OutlineMount>,
    /// Ssh agents, sorted by id.
    pub ssh: Vec<OutlineMount>,
    /// Cache mounts by identity, sorted.
    pub caches: Vec<OutlineMount>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Name.
    pub name: String,
    /// The comment above its `ARG`.
    pub description: String,
    /// Value in force; `None` when it is not set.
    pub value: Option<String>,
    /// The declaration.
    pub span: Span,
}

/// A secret, an agent or a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineMount {
    /// Identity in the build request.
    pub id: String,
    /// A step fails without it.
    pub required: bool,
    /// The first instruction that asks for it.
    pub span: Span,
}

/// A target of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name in lower case; empty when it has none.
    pub name: String,
    /// The comment above its `FROM`.
    pub description: String,
    /// The base as written, unexpanded.
    pub base: String,
    /// `--platform` as written, unexpanded.
    pub platform: Option<String>,
    /// What is built when nobody names a target: the last one.
    pub is_default: bool,
    /// The `FROM`.
    pub span: Span,
}

/// Every stage of a file as a target, in the order of the file. Nothing is expanded or looked up.
pub fn targets(file: &dockerfile::Dockerfile) -> Vec<Target> {
    let last = file.stages.len().saturating_sub(1);
    let stages = file.stages.iter().enumerate();
    stages
        .map(|(index, stage)| {
            let from = &stage.from.value;
            let name = stage.name().unwrap_or_default();
            Target {
                name: name.to_owned(),
                description: stage
                    .from
                    .description_of(name)
                    .unwrap_or_default()
                    .to_owned(),
                base: from.image.text().to_owned(),
                platform: from.platform.as_ref().map(|word| word.text().to_owned()),
                is_default: index == last,
                span: stage.from.span,
            }
        })
        .collect()
}

impl Lowerer<'_> {
    /// The outline of the target, after its stages were lowered.
    pub(crate) fn outline(&mut self, reach: &Reach) -> Outline {
        let planned = &self.plan.stages[self.plan.target];
        let name = planned.stage.name().unwrap_or_default().to_owned();
        let description = planned
            .stage
            .from
            .description_of(&name)
            .unwrap_or_default()
            .to_owned();
        let mut args = self.global_args(reach);
        args.append(&mut self.args);
        let mut seen = HashSet::new();
        args.retain(|arg| seen.insert(arg.name.clone()));
        args.sort_by_key(|arg| arg.span.start);
        Outline {
            name,
            description,
            args,
            secrets: mounts(&self.secrets),
            ssh: mounts(&self.ssh),
            caches: mounts(&self.caches),
        }
    }

    /// Global arguments that reachable stages use, in `FROM` or by an `ARG` that imports them.
    fn global_args(&self, reach: &Reach) -> Vec<OutlineArg> {
        let stages = self.plan.stages.iter().zip(&reach.stages);
        let stages: Vec<_> = stages
            .filter(|(_, reached)| **reached)
            .map(|(s, _)| s)
            .collect();
        let in_from = stages
            .iter()
            .flat_map(|planned| planned.used_args.iter().cloned());
        let imported = stages
            .iter()
            .flat_map(|planned| &planned.stage.instructions);
        let imported = imported.filter_map(|instruction| match &instruction.value {
            InstructionKind::Arg(arg) => Some(&arg.declarations),
            _ => None,
        });
        let bare = imported
            .flatten()
            .filter(|declaration| declaration.default.is_none());
        let used: HashSet<String> = in_from
            .chain(bare.map(|declaration| declaration.name.text().to_owned()))
            .collect();
        let declared = self
            .globals
            .declared
            .iter()
            .filter(|(name, _)| used.contains(*name));
        declared
            .map(|(name, arg)| OutlineArg {
                name: name.clone(),
                description: arg.description.clone(),
                value: self.globals.env.get(name).map(str::to_owned),
                span: arg.span,
            })
            .collect()
    }
}

fn mounts(requests: &BTreeMap<String, Request>) -> Vec<OutlineMount> {
    let requests = requests.values();
    requests
        .map(|request| OutlineMount {
            id: request.id.clone(),
            required: request.required,
            span: request.span,
        })
        .collect()
}
