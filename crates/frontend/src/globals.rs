//! What is known before the first stage: automatic platform arguments and the `ARG`s above the first
//! `FROM` (rows A2, A3, A9).

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::ast::{Arg, Instruction, InstructionKind};
use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Dockerfile, Span};
use graph::Environment;
use oci::{Platform, Reference};

use crate::plan::of_the_request;
use crate::reach::Reach;
use crate::request::LowerRequest;
use crate::run::PROXIES;
use crate::scope::{Budget, did_you_mean};

/// The global scope.
pub(crate) struct Globals {
    /// Values of automatic and declared arguments.
    pub(crate) env: Environment,
    /// The `ARG`s of the file, by name; of several the last.
    pub(crate) declared: BTreeMap<String, GlobalArg>,
}

/// A global `ARG`.
pub(crate) struct GlobalArg {
    pub(crate) description: String,
    pub(crate) span: Span,
}

/// Evaluates the global scope. Errors and warnings go to `diagnostics`.
pub(crate) fn evaluate(
    file: &Dockerfile,
    request: &LowerRequest,
    budget: &mut Budget,
    diagnostics: &mut Vec<Diagnostic>,
) -> Globals {
    check_defaults(file, request, diagnostics);
    let mut env = automatic(request);
    let mut declared = BTreeMap::new();
    diagnostics.extend(declare(file, Some(request), &mut env, budget));
    for node in &file.global_args {
        for declaration in &node.value.declarations {
            let name = declaration.name.text();
            let arg = GlobalArg {
                description: node.description_of(name).unwrap_or_default().to_owned(),
                span: node.span,
            };
            declared.insert(name.to_owned(), arg);
        }
    }
    Globals { env, declared }
}

/// Adds the file's global arguments to `env`, with the values of the request if there is one.
/// Returns the errors of their defaults.
fn declare(
    file: &Dockerfile,
    request: Option<&LowerRequest>,
    env: &mut Environment,
    budget: &mut Budget,
) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let nodes = file.global_args.iter();
    for declaration in nodes.flat_map(|node| &node.value.declarations) {
        let name = declaration.name.text();
        if let Some(value) = request.and_then(|request| request.build_arg(name)) {
            env.set(name, value);
        } else if let Some(default) = &declaration.default {
            match budget.expand(default, env, file.escape) {
                Ok(expanded) => env.set(name, &expanded.text),
                Err(error) => errors.push(error),
            }
        }
        if budget.is_exhausted() {
            break;
        }
    }
    errors
}

/// The arguments that every build has.
fn automatic(request: &LowerRequest) -> Environment {
    let build = platform_args("BUILD", &request.build_platform);
    let target = platform_args("TARGET", request.target_platform());
    let stage = request.target.as_deref().unwrap_or("default");
    let stage = [("TARGETSTAGE".to_owned(), stage.to_owned())];
    let all = build.into_iter().chain(target).chain(stage);
    all.map(|(name, value)| {
        let given = request.build_arg(&name).map(str::to_owned);
        (name, given.unwrap_or(value))
    })
    .collect()
}

fn platform_args(prefix: &str, platform: &Platform) -> Vec<(String, String)> {
    let optional = |part: &Option<String>| part.clone().unwrap_or_default();
    vec![
        (format!("{prefix}PLATFORM"), platform.to_string()),
        (format!("{prefix}OS"), platform.os.clone()),
        (format!("{prefix}OSVERSION"), optional(&platform.os_version)),
        (format!("{prefix}ARCH"), platform.architecture.clone()),
        (format!("{prefix}VARIANT"), optional(&platform.variant)),
    ]
}

/// Warns of build arguments that no `ARG` declares: nothing sees their values.
pub(crate) fn unused_build_args(
    file: &Dockerfile,
    request: &LowerRequest,
    reach: &Reach,
) -> Vec<Diagnostic> {
    let given = request.build_args.iter();
    let mut unused: Vec<&str> = given
        .filter(|(name, value)| value.is_some() && !is_predefined(name, request))
        .map(|(name, _)| name.as_str())
        .collect();
    if unused.is_empty() {
        return Vec::new();
    }
    let globals = file.global_args.iter().map(|node| &node.value);
    let stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    let triggers = reach.image_triggers.values().flatten();
    let all = stages.chain(triggers.map(|trigger| &trigger.instruction));
    let declared: BTreeSet<&str> = globals
        .chain(all.filter_map(declaration))
        .flat_map(|arg| &arg.declarations)
        .map(|declaration| declaration.name.text())
        .collect();
    unused.retain(|name| !declared.contains(name));
    let warn = |name: &str| {
        let message = format!("build argument `{name}` is not used: no ARG declares it");
        let near = did_you_mean(name, declared.iter().copied());
        let warning = Diagnostic::warning("unused-build-arg", Span::default(), message);
        of_the_request(warning).with_help_if(near)
    };
    unused.into_iter().map(warn).collect()
}

/// The `ARG` that an instruction is, or leaves to the stages built from its own.
fn declaration(instruction: &Instruction) -> Option<&Arg> {
    match &instruction.value {
        InstructionKind::Arg(arg) => Some(arg),
        InstructionKind::OnBuild(onbuild) => match &onbuild.instruction.as_ref().ok()?.value {
            InstructionKind::Arg(arg) => Some(arg),
            _ => None,
        },
        _ => None,
    }
}

/// Arguments that have a meaning without an `ARG` (rows A8 to A11).
fn is_predefined(name: &str, request: &LowerRequest) -> bool {
    let platforms =
        ["BUILD", "TARGET"].map(|prefix| platform_args(prefix, &request.build_platform));
    name.starts_with("BUILDKIT_")
        || ["SOURCE_DATE_EPOCH", "TARGETSTAGE"].contains(&name)
        || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
        || platforms.iter().flatten().any(|(known, _)| known == name)
}

/// A file whose defaults alone name no valid base image works only for those who know which
/// arguments to pass (`InvalidDefaultArgInFrom`).
fn check_defaults(file: &Dockerfile, request: &LowerRequest, diagnostics: &mut Vec<Diagnostic>) {
    let mut env = automatic(request);
    let mut budget = Budget::new();
    if !declare(file, None, &mut env, &mut budget).is_empty() {
        return;
    }
    for stage in &file.stages {
        let image = &stage.from.value.image;
        let Ok(expanded) = budget.expand(image, &env, file.escape) else {
            return;
        };
        if expanded.uses.is_empty() || expanded.text.parse::<Reference>().is_ok() {
            continue;
        }
        let message = format!(
            "default values of arguments make `{}` the invalid or empty image name `{}`",
            image.text(),
            expanded.text
        );
        let diagnostic = Diagnostic::check(Rule::InvalidDefaultArgInFrom, image.span(), message)
            .with_help("give each argument of the name a default that works");
        diagnostics.push(diagnostic);
    }
}
