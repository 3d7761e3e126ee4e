//! The checks that the tree alone decides, for every stage of the file.
//!
//! Words are judged as written: where a variable could change the answer, nothing is reported.

use std::collections::HashMap;

use super::{Rule, SkipComment, duplicates};
use crate::ast::{Dockerfile, From, Instruction, InstructionKind, KeyValues, Node, Spanned, Stage};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::word::Word;

/// Reports what the tree alone tells; the file's `# check=` is not applied yet. Empty lines in
/// continuations are no part of the tree: the reader of lines reports them.
pub(crate) fn check_tree(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    check_keyword_case(file, &mut found);
    check_stage_names(&file.stages, &mut found);
    check_descriptions(file, &mut found);
    for stage in &file.stages {
        duplicates::check(stage, &mut found);
        check_stage(stage, &mut found);
    }
    found
}

fn check_stage(stage: &Stage, found: &mut Vec<Diagnostic>) {
    let mut last_of: [Option<&Instruction>; 3] = [None; 3];
    for instruction in &stage.instructions {
        let span = instruction.span;
        match &instruction.value {
            InstructionKind::Cmd(_) => check_once(instruction, &mut last_of[0], found),
            InstructionKind::Entrypoint(_) => check_once(instruction, &mut last_of[1], found),
            InstructionKind::Healthcheck(_) => check_once(instruction, &mut last_of[2], found),
            InstructionKind::Maintainer(author) => found.push(
                Diagnostic::check(
                    Rule::MaintainerDeprecated,
                    span,
                    "MAINTAINER instruction is deprecated in favor of using label",
                )
                .with_help(format!(
                    "write `LABEL org.opencontainers.image.authors={:?}`",
                    author.text()
                )),
            ),
            InstructionKind::Env(pairs) => {
                check_legacy(instruction, pairs, found);
                pairs
                    .pairs
                    .iter()
                    .for_each(|pair| check_secret("ENV", &pair.key, found));
            }
            InstructionKind::Label(pairs) => check_legacy(instruction, pairs, found),
            InstructionKind::Arg(arg) => {
                arg.declarations
                    .iter()
                    .for_each(|one| check_secret("ARG", &one.name, found));
            }
            _ => {}
        }
    }
}

fn is_lower(word: &str) -> bool {
    !word.contains(|ch: char| ch.is_ascii_uppercase())
}

fn is_upper(word: &str) -> bool {
    !word.contains(|ch: char| ch.is_ascii_lowercase())
}

fn check_keyword_case(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let keywords = || {
        file.stages.iter().flat_map(|stage| {
            let instructions = stage.instructions.iter().map(|node| &node.keyword);
            std::iter::once(&stage.from.keyword).chain(instructions)
        })
    };
    let lower = keywords()
        .filter(|keyword| is_lower(&keyword.value))
        .count();
    let upper = keywords()
        .filter(|keyword| is_upper(&keyword.value))
        .count();
    let (fits, majority): (fn(&str) -> bool, _) = if lower > upper {
        (is_lower, "lowercase")
    } else {
        (is_upper, "uppercase")
    };
    for keyword in keywords().filter(|keyword| !fits(&keyword.value)) {
        let written = &keyword.value;
        let right = match majority {
            "lowercase" => written.to_ascii_lowercase(),
            _ => written.to_ascii_uppercase(),
        };
        let message = format!(
            "command '{written}' should match the case of the command majority ({majority})"
        );
        found.push(
            Diagnostic::check(Rule::ConsistentInstructionCasing, keyword.span, message)
                .with_help(format!("write `{right}`")),
        );
    }
}

fn check_stage_names(stages: &[Stage], found: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for stage in stages {
        check_as_case(&stage.from, found);
        let From {
            name, written_name, ..
        } = &stage.from.value;
        let Some(Spanned { value: name, span }) = name else {
            continue;
        };
        let written = written_name.as_deref().unwrap_or(name);
        if written != name {
            let message = format!("stage name '{written}' should be lowercase");
            found.push(
                Diagnostic::check(Rule::StageNameCasing, *span, message)
                    .with_help(format!("write `{name}`")),
            );
        }
        if ["scratch", "context"].contains(&name.as_str()) {
            let message = format!("stage name '{name}' is reserved");
            found.push(
                Diagnostic::check(Rule::ReservedStageName, *span, message)
                    .with_help("use a different stage name"),
            );
        }
        if let Some(first) = seen.get(name.as_str()) {
            let message = format!("duplicate stage name '{name}', stage names should be unique");
            found.push(
                Diagnostic::check(Rule::DuplicateStageName, *span, message)
                    .with_label(*first, "the first one")
                    .with_note("FROM means the nearest stage of the name before it, COPY --from and --target the last one"),
            );
        } else {
            seen.insert(name, *span);
        }
    }
}

fn check_as_case(from: &Node<From>, found: &mut Vec<Diagnostic>) {
    let Some(keyword) = &from.value.as_keyword else {
        return;
    };
    let (from, written) = (&from.keyword.value, &keyword.value);
    let same = (is_lower(from) && is_lower(written)) || (is_upper(from) && is_upper(written));
    // A keyword in mixed case is the business of another check.
    if !same && (is_lower(from) || is_upper(from)) {
        let right = if is_lower(from) { "as" } else { "AS" };
        let message = format!("'{written}' and '{from}' keywords' casing do not match");
        found.push(
            Diagnostic::check(Rule::FromAsCasing, keyword.span, message)
                .with_help(format!("write `{right}`")),
        );
    }
}

fn check_descriptions(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    for stage in &file.stages {
        if let Some(name) = stage.name() {
            check_description(&stage.from, &[name], "FROM", found);
        }
    }
    let declared = |arg: &crate::ast::Arg| -> Vec<String> {
        arg.declarations
            .iter()
            .map(|one| one.name.text().to_owned())
            .collect()
    };
    for node in &file.global_args {
        let names = declared(&node.value);
        check_description(node, &names, "ARG", found);
    }
    for node in file.stages.iter().flat_map(|stage| &stage.instructions) {
        if let InstructionKind::Arg(arg) = &node.value {
            check_description(node, &declared(arg), "ARG", found);
        }
    }
}

fn check_description<T, S: AsRef<str>>(
    node: &Node<T>,
    names: &[S],
    instruction: &str,
    found: &mut Vec<Diagnostic>,
) {
    let Some(comment) = node
        .comments
        .last()
        .filter(|_| node.skip == SkipComment::default())
    else {
        return;
    };
    let word = comment.text.split(' ').next();
    if names.iter().any(|name| Some(name.as_ref()) == word) {
        return;
    }
    let name = match names {
        [name] => name.as_ref(),
        _ => "<arg_key>",
    };
    let message =
        format!("comment for {instruction} should follow the format: `# {name} <description>`");
    found.push(
        Diagnostic::check(Rule::InvalidDefinitionDescription, comment.span, message)
            .with_help("if it describes something else, leave an empty line below the comment"),
    );
}

fn check_once<'a>(
    instruction: &'a Instruction,
    last: &mut Option<&'a Instruction>,
    found: &mut Vec<Diagnostic>,
) {
    if let Some(earlier) = last.replace(instruction) {
        let name = instruction.value.name();
        let message = format!(
            "multiple {name} instructions should not be used in the same stage because only the \
             last one will be used"
        );
        found.push(
            Diagnostic::check(Rule::MultipleInstructionsDisallowed, earlier.span, message)
                .with_remark("has no effect")
                .with_label(instruction.span, "replaces it"),
        );
    }
}

fn check_legacy(instruction: &Instruction, pairs: &KeyValues, found: &mut Vec<Diagnostic>) {
    let (true, Some(pair)) = (pairs.legacy, pairs.pairs.first()) else {
        return;
    };
    let name = instruction.value.name();
    let message = format!(
        "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
    );
    let (key, value) = (pair.key.text(), pair.value.text());
    let help = match (
        value.contains(char::is_whitespace),
        value.contains(['"', '\'']),
    ) {
        (false, _) => format!("write `{name} {key}={value}`"),
        (true, false) => format!("write `{name} {key}=\"{value}\"`"),
        (true, true) => format!("write `{name} {key}=<value>` and quote the value as a whole"),
    };
    found.push(
        Diagnostic::check(Rule::LegacyKeyValueFormat, instruction.span, message).with_help(help),
    );
}

/// Parts of a name that speak of a secret, and parts that say it is none.
const SECRET_PARTS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const HARMLESS_PARTS: [&str; 3] = ["public", "file", "version"];

fn check_secret(instruction: &str, name: &Word, found: &mut Vec<Diagnostic>) {
    let lower = name.text().to_ascii_lowercase();
    let has = |parts: &[&str]| lower.split('_').any(|part| parts.contains(&part));
    if !has(&SECRET_PARTS) || has(&HARMLESS_PARTS) {
        return;
    }
    let message = format!(
        "do not use ARG or ENV instructions for sensitive data ({instruction} \"{}\")",
        name.text()
    );
    found.push(
        Diagnostic::check(Rule::SecretsUsedInArgOrEnv, name.span(), message)
            .with_note("the value stays readable in the image's history and configuration")
            .with_help(format!(
                "pass it to the step that needs it: `RUN --mount=type=secret,id={lower},env={} …`",
                name.text()
            )),
    );
}
