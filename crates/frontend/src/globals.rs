//! What is known before the first stage: automatic platform arguments and the `ARG`s above the first
//! `FROM` (rows A2, A3, A9).

use std::collections::BTreeMap;

use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Dockerfile, Span};
use graph::Environment;
use oci::{Platform, Reference};

use crate::request::LowerRequest;
use crate::scope::{Variables, expand_error};

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
    diagnostics: &mut Vec<Diagnostic>,
) -> Globals {
    check_defaults(file, request, diagnostics);
    let mut env = automatic(request);
    let mut declared = BTreeMap::new();
    diagnostics.extend(declare(file, Some(request), &mut env));
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
) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let nodes = file.global_args.iter();
    for declaration in nodes.flat_map(|node| &node.value.declarations) {
        let name = declaration.name.text();
        if let Some(value) = request.and_then(|request| request.build_arg(name)) {
            env.set(name, value);
        } else if let Some(default) = &declaration.default {
            match default.expand(&Variables(env), file.escape) {
                Ok(expanded) => env.set(name, &expanded.text),
                Err(error) => errors.push(expand_error(&error)),
            }
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

/// A file whose defaults alone name no valid base image works only for those who know which
/// arguments to pass (`InvalidDefaultArgInFrom`).
fn check_defaults(file: &Dockerfile, request: &LowerRequest, diagnostics: &mut Vec<Diagnostic>) {
    let mut env = automatic(request);
    if !declare(file, None, &mut env).is_empty() {
        return;
    }
    for stage in &file.stages {
        let image = &stage.from.value.image;
        let Ok(expanded) = image.expand(&Variables(&env), file.escape) else {
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
