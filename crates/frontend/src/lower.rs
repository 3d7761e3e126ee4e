//! The driver: evaluates the global scope, plans the stages, asks for what it does not know, and
//! lowers the reachable stages in the order of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dockerfile::ast::Instruction;
use dockerfile::ignore::IgnoreFile;
use dockerfile::{Diagnostic, Dockerfile, Span};
use graph::{Builder, Edge, Environment, FileId};

use crate::error::LowerError;
use crate::globals::{self, Globals};
use crate::image;
use crate::known::Known;
use crate::loss;
use crate::lowered::{Entitlement, Lowered, Lowering, Request};
use crate::outline::OutlineArg;
use crate::plan::{self, Plan};
use crate::reach::{Reach, reach};
use crate::request::{Context, LowerRequest};
use crate::run::proxies;
use crate::scope::Budget;
use crate::stage::StageOutput;

/// Lowers a parsed file to a graph and an image config, for one platform.
///
/// Pure: what it has to know about the world it asks for by returning [`Lowering::Needs`]; call it
/// again with the answers in `known` until it is done. A file that is fine asks at most twice, for
/// base images and for what their triggers refer to.
///
/// Errors of the parser are the caller's business: a file that has some lowers to whatever is left
/// of it, and of what is wrong with that only what does not follow from the loss is reported.
///
/// # Errors
/// When the file cannot be built as asked. All independent errors are in the one [`LowerError`].
pub fn lower(
    file: &Dockerfile,
    request: &LowerRequest,
    known: &Known,
) -> Result<Lowering, LowerError> {
    let mut diagnostics = Vec::new();
    let mut budget = Budget::new();
    let globals = globals::evaluate(file, request, &mut budget, &mut diagnostics);
    let plan = plan::plan(file, request, &globals, &mut budget, &mut diagnostics);
    let Some(plan) = plan else {
        return Err(failure(file, diagnostics));
    };
    let reach = reach(&plan, request, known, &mut diagnostics);
    // What is wrong already is found out without asking anybody; the rest is lowered all the same,
    // for the sake of its errors.
    let asks = !request.without_images && !diagnostics.iter().any(Diagnostic::is_error);
    if asks && !reach.needs.is_empty() {
        return Ok(Lowering::Needs(reach.needs));
    }
    let mut lowerer = Lowerer::new(file, request, known, globals, plan);
    lowerer.budget = budget;
    lowerer.diagnostics = diagnostics;
    lowerer.lower_stages(&reach);
    lowerer.finish(&reach)
}

fn failure(file: &Dockerfile, diagnostics: Vec<Diagnostic>) -> LowerError {
    LowerError {
        diagnostics: in_order(file, diagnostics),
    }
}

/// Leaves out what follows from other errors, applies `# check=` and sorts by place; what stands at one place keeps its order.
fn in_order(file: &Dockerfile, diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let diagnostics = loss::independent(file, diagnostics);
    let mut diagnostics = file.checks.apply(file, diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span().map(|span| span.start));
    diagnostics
}

/// Everything that the stages of one file share while they are lowered.
pub(crate) struct Lowerer<'a> {
    pub(crate) file: &'a Dockerfile,
    pub(crate) request: &'a LowerRequest,
    pub(crate) known: &'a Known,
    pub(crate) globals: Globals,
    pub(crate) plan: Plan<'a>,
    pub(crate) builder: Builder,
    pub(crate) budget: Budget,
    /// Proxies of the request, which every `RUN` gets.
    pub(crate) proxies: Environment,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// By stage; those that are lowered.
    pub(crate) outputs: Vec<Option<StageOutput>>,
    pub(crate) secrets: BTreeMap<String, Request>,
    pub(crate) ssh: BTreeMap<String, Request>,
    pub(crate) caches: BTreeMap<String, Request>,
    pub(crate) entitlements: BTreeSet<Entitlement>,
    pub(crate) args: Vec<OutlineArg>,
    /// The main context's ignore file, for the check of copied paths.
    pub(crate) ignore: Option<IgnoreFile>,
    /// The vertex of the main context, once something used it.
    pub(crate) main_context: Option<Edge>,
    /// Ports exposed so far, by all stages.
    pub(crate) ports: usize,
    file_id: FileId,
}

impl<'a> Lowerer<'a> {
    fn new(
        file: &'a Dockerfile,
        request: &'a LowerRequest,
        known: &'a Known,
        globals: Globals,
        plan: Plan<'a>,
    ) -> Lowerer<'a> {
        let instructions = file.stages.iter().map(|stage| stage.instructions.len());
        let mut builder = Builder::with_capacity(instructions.sum::<usize>() + 1);
        let file_id = builder.add_file(&request.file_name, Arc::from(file.source.text()));
        let ignore = match &request.context {
            Context::Files { ignore } if !ignore.is_empty() => {
                IgnoreFile::from_patterns(ignore.iter().map(String::as_str)).ok()
            }
            _ => None,
        };
        Lowerer {
            file,
            request,
            known,
            globals,
            outputs: plan.stages.iter().map(|_| None).collect(),
            plan,
            builder,
            budget: Budget::new(),
            proxies: proxies(request),
            diagnostics: Vec::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            caches: BTreeMap::new(),
            entitlements: BTreeSet::new(),
            args: Vec::new(),
            ignore,
            main_context: None,
            ports: 0,
            file_id,
        }
    }

    fn lower_stages(&mut self, reach: &Reach) {
        for index in 0..self.plan.stages.len() {
            if reach.stages[index] {
                let output = crate::base::lower_stage(self, index, reach);
                self.outputs[index] = Some(output);
            }
        }
    }

    fn finish(mut self, reach: &Reach) -> Result<Lowering, LowerError> {
        let epoch = crate::epoch::source_date_epoch(&mut self);
        let unused = crate::globals::unused_build_args(self.file, self.request, reach);
        self.diagnostics.extend(unused);
        let outline = self.outline(reach);
        let target = self.plan.target;
        let edge: Option<Edge> = self.outputs[target].as_ref().and_then(|out| out.state.edge);
        let image = image::template(self.outputs, target, self.request);
        let diagnostics = in_order(self.file, self.diagnostics);
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(LowerError { diagnostics });
        }
        Ok(Lowering::Done(Box::new(Lowered {
            definition: self.builder.finish(),
            target: edge,
            image,
            diagnostics,
            secrets: self.secrets.into_values().collect(),
            ssh: self.ssh.into_values().collect(),
            entitlements: self.entitlements,
            outline,
            source_date_epoch: epoch,
        })))
    }

    /// A place of the file in the words of the graph.
    pub(crate) fn graph_span(&self, span: Span) -> graph::Span {
        graph::Span {
            file: self.file_id,
            start: span.start,
            end: span.end,
        }
    }

    /// An instruction as written; that of a base image's trigger stands in no file.
    pub(crate) fn written(&self, instruction: &Instruction, foreign: bool) -> String {
        match foreign {
            true => instruction.text.clone(),
            false => self.file.source.slice(instruction.span).to_owned(),
        }
    }
}
