//! One stage on its way through its instructions: what is in scope, what the image config becomes,
//! and the vertex that holds the files so far.
//!
//! State is cheap to copy, because a child stage starts from its parent's. What only the target's
//! image needs (labels, history, ports) is not state: it is a list of changes per stage, folded
//! once along the target's chain of bases by `image`.

use std::sync::Arc;

use dockerfile::ast::Instruction;
use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Span, VariableUse, Word};
use graph::{Edge, Environment, Input, Meta, Op};
use oci::{ImageConfig, Platform};

use crate::image::ConfigChange;
use crate::lower::Lowerer;
use crate::lowered::HistoryEntry;
use crate::scope::{did_you_mean, undefined};

/// What an instruction finds when its turn comes.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The files; `None` is the empty tree without layers.
    pub(crate) edge: Option<Edge>,
    /// Image variables, `ENV` and `ARG`, the last of a name winning (A5).
    pub(crate) env: Environment,
    /// Arguments declared so far, in order; set or not. Values are unused.
    pub(crate) args: Environment,
    /// Absolute and clean.
    pub(crate) workdir: Arc<str>,
    /// This file has set a `WORKDIR` already, here or in a stage below.
    pub(crate) workdir_set: bool,
    /// `USER` as written; empty is root.
    pub(crate) user: Arc<str>,
    /// `SHELL`; empty is `/bin/sh -c`.
    pub(crate) shell: Arc<[String]>,
    /// Platform whose binaries run.
    pub(crate) platform: Platform,
    /// The base is known, and with it every variable. Otherwise there is an error already.
    pub(crate) settled: bool,
}

/// A lowered stage.
pub(crate) struct StageOutput {
    /// At the stage's end.
    pub(crate) state: State,
    /// The stage that it was built from.
    pub(crate) parent: Option<usize>,
    /// Config of the base image, for a stage that was not built from another.
    pub(crate) base: Option<Arc<ImageConfig>>,
    /// What the stage does to the image config.
    pub(crate) changes: Vec<ConfigChange>,
    /// What it adds to the history.
    pub(crate) history: Vec<HistoryEntry>,
}

/// Lowers the instructions of one stage.
pub(crate) struct StageLowering<'a, 'l> {
    pub(crate) lowerer: &'l mut Lowerer<'a>,
    pub(crate) index: usize,
    pub(crate) state: State,
    pub(crate) changes: Vec<ConfigChange>,
    pub(crate) history: Vec<HistoryEntry>,
    /// A `CMD` stands in this stage (E3).
    pub(crate) cmd_set: bool,
    /// Steps of the stage that make a vertex.
    pub(crate) steps: usize,
    /// Steps named so far.
    pub(crate) step: usize,
    /// Results of its steps are not taken from the cache.
    pub(crate) no_cache: bool,
    /// The trigger of the base image that is being lowered, with the span of the `FROM`.
    pub(crate) trigger: Option<(String, Span)>,
    /// An `ONBUILD` trigger is being lowered.
    pub(crate) in_onbuild: bool,
}

impl StageLowering<'_, '_> {
    /// Expands a word in the stage's scope, and tells of variables that nothing sets.
    pub(crate) fn expand(&mut self, word: &Word) -> Result<String, Diagnostic> {
        let escape = self.lowerer.file.escape;
        let budget = &mut self.lowerer.budget;
        let expanded = budget.expand(word, &self.state.env, escape)?;
        self.check_uses(&expanded.uses);
        Ok(expanded.text)
    }

    /// Reports variables that were used but are neither set nor declared.
    pub(crate) fn check_uses(&mut self, uses: &[VariableUse]) {
        if !self.state.settled || uses.iter().all(|one| one.set) {
            return;
        }
        for unset in undefined(uses) {
            // Arguments of the scanner are read by it and never become variables.
            let special = matches!(
                unset.name.as_str(),
                "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE"
            );
            if special || self.state.args.contains(&unset.name) {
                continue;
            }
            let message = format!("usage of undefined variable `${}`", unset.name);
            let help = match self.lowerer.globals.env.contains(&unset.name) {
                true => Some(format!(
                    "it is set outside the stage only; declare `ARG {}` in it",
                    unset.name
                )),
                false if self.lowerer.budget.may_suggest() => {
                    did_you_mean(&unset.name, self.state.env.iter().map(|(name, _)| name))
                }
                false => None,
            };
            let warning = Diagnostic::check(Rule::UndefinedVar, unset.span, message);
            self.report(warning.with_help_if(help));
        }
    }

    /// Takes a finding, pointed at the `FROM` when it is about a base image's trigger.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        let diagnostic = match &self.trigger {
            Some((text, from)) => crate::reach::in_trigger(diagnostic, *from, text),
            None => diagnostic,
        };
        self.lowerer.diagnostics.push(diagnostic);
    }

    /// The place in the file that an instruction's vertex points at.
    pub(crate) fn place(&self, instruction: &Instruction) -> Span {
        self.trigger
            .as_ref()
            .map_or(instruction.span, |&(_, from)| from)
    }

    /// Adds a vertex to the graph; it becomes the stage's files when the caller says so.
    pub(crate) fn add(&mut self, op: Op, inputs: Vec<Input>, meta: Meta) -> Edge {
        self.lowerer.builder.add(op, inputs, meta)
    }

    /// Meta of a vertex that is a step of the stage, and counts it.
    pub(crate) fn step_meta(&mut self, instruction: &Instruction) -> Meta {
        self.step += 1;
        let onbuild = if self.in_onbuild { "ONBUILD " } else { "" };
        let name = format!("{}{onbuild}{}", self.step_prefix(), one_line(instruction));
        self.meta(name, instruction)
    }

    /// Meta of a vertex that helps the current step.
    pub(crate) fn meta(&self, name: String, instruction: &Instruction) -> Meta {
        let span = self.place(instruction);
        let planned = &self.lowerer.plan.stages[self.index];
        Meta {
            name,
            stage: Some(planned.label.clone()).filter(|label| !label.is_empty()),
            spans: vec![self.lowerer.graph_span(span)],
            description: self.lowerer.written(instruction, self.trigger.is_some()),
            no_cache: false,
        }
    }

    /// `[linux/arm64 build 3/7] `.
    pub(crate) fn step_prefix(&self) -> String {
        let label = &self.lowerer.plan.stages[self.index].label;
        let mut prefix = String::from("[");
        if self.lowerer.request.multi_platform {
            prefix.push_str(&format!("{}{} ", self.state.platform, self.cross_target()));
        }
        if !label.is_empty() {
            prefix.push_str(&format!("{label} "));
        }
        let width = self.steps.checked_ilog10().unwrap_or(0) as usize + 1;
        prefix.push_str(&format!("{:>width$}/{}] ", self.step, self.steps));
        prefix
    }

    /// `->arm64` in a stage that builds for another platform than it runs on, and knows it.
    fn cross_target(&self) -> String {
        let env = &self.state.env;
        let target = env
            .get("TARGETPLATFORM")
            .and_then(|text| text.parse::<Platform>().ok());
        let target = target.or_else(|| {
            let os = env.get("TARGETOS").unwrap_or(&self.state.platform.os);
            Some(Platform::new(
                os,
                env.get("TARGETARCH")?,
                env.get("TARGETVARIANT"),
            ))
        });
        let own = &self.state.platform;
        match target {
            Some(target) if target.os != own.os => format!("->{target}"),
            Some(target) if target.architecture != own.architecture => {
                let text = target.to_string();
                format!("->{}", text.strip_prefix("linux/").unwrap_or(&text))
            }
            _ => String::new(),
        }
    }

    /// Records a layer on top of the stage's files.
    pub(crate) fn commit_layer(&mut self, edge: Edge, created_by: String) {
        self.state.edge = Some(edge);
        self.history.push(HistoryEntry::new(created_by, Some(edge)));
    }

    /// Records a change of settings.
    pub(crate) fn commit_settings(&mut self, created_by: String) {
        self.history.push(HistoryEntry::new(created_by, None));
    }

    /// The shell with a command line as its last argument.
    pub(crate) fn with_shell(&self, command: &str) -> Vec<String> {
        let mut args = self.state.shell.to_vec();
        if args.is_empty() {
            args = vec!["/bin/sh".to_owned(), "-c".to_owned()];
        }
        args.push(command.to_owned());
        args
    }
}

/// An instruction for a list of steps: keyword in capitals, runs of blanks as one.
fn one_line(instruction: &Instruction) -> String {
    let text = instruction.text.as_str();
    let keyword = &instruction.keyword.value;
    let mut line = String::with_capacity(text.len());
    line.push_str(&keyword.to_uppercase());
    let arguments = text.get(keyword.len()..).unwrap_or_default();
    for word in arguments.split_whitespace() {
        line.push(' ');
        line.push_str(word);
    }
    line
}
