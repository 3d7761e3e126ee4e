//! One instruction: its keyword, flags and here-documents, and the forms that are only words.

use super::flags::{self, Flags, RawFlag, Table, Takes};
use super::fragment::Fragment;
use super::lines::{Lines, LogicalLine};
use super::{Parsed, healthcheck, heredoc, json, run, transfer};
use crate::ast::{
    Arg, ArgDeclaration, From, Heredoc, InstructionKind, KeyValue, KeyValues, Loss, Node, OnBuild,
    ShellOrExec, Spanned,
};
use crate::diagnostic::{Code, Diagnostic};
use crate::lint::SkipComment;
use crate::source::Span;
use crate::suggest::nearest;
use crate::word::{Escape, Word};

/// Every keyword.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

const FROM_FLAGS: Table = &[("platform", Takes::Value)];

/// What an instruction's line turned out to be.
pub(super) enum Statement {
    From(Box<From>),
    Instruction(InstructionKind),
    /// It was reported, and this is what the tree lacks for it.
    Unreadable(Unreadable),
}

/// A line that was reported and left out.
pub(super) struct Unreadable {
    pub(super) loss: Loss,
    /// It is a `FROM`, or was meant to be one: what follows belongs to no known stage.
    pub(super) is_from: bool,
}

impl Unreadable {
    fn new(name: &str) -> Unreadable {
        let meant = KEYWORDS.iter().find(|known| **known == name).copied();
        let is_from = meant.or(nearest(name, KEYWORDS)) == Some("FROM");
        let loss = match meant {
            None | Some("FROM") => Loss::Stages,
            Some("ARG" | "ENV" | "ONBUILD") => Loss::Variables,
            Some(_) => Loss::Instructions,
        };
        Unreadable { loss, is_from }
    }
}

/// A line cut into keyword, flags and arguments.
struct Head<'a> {
    keyword: Fragment<'a>,
    /// The keyword in upper case.
    name: String,
    flags: Vec<RawFlag>,
    arguments: Fragment<'a>,
    /// The line behind the keyword, flags included.
    rest: Fragment<'a>,
}

impl<'a> Head<'a> {
    fn split(line: Fragment<'a>) -> Head<'a> {
        let trimmed = line.trim();
        let (keyword, rest) = trimmed.split_first();
        let end = trimmed.text.len();
        let rest = rest.unwrap_or(trimmed.slice(end..end));
        let (flags, arguments) = flags::split(rest);
        Head {
            keyword,
            name: keyword.text.to_ascii_uppercase(),
            flags,
            arguments,
            rest,
        }
    }

    /// Tells whether the instruction may announce here-documents. Exec form does not.
    fn may_have_heredocs(&self) -> bool {
        match self.name.as_str() {
            "RUN" | "COPY" | "ADD" => matches!(json::array(self.arguments), Ok(None)),
            "ONBUILD" => {
                let nested = Head::split(self.rest);
                nested.name != "ONBUILD" && nested.may_have_heredocs()
            }
            _ => false,
        }
    }
}

/// Reads an instruction, and from `lines` its here-documents. What is wrong goes to the
/// diagnostics of `lines`.
pub(super) fn read(lines: &mut Lines<'_>, line: &LogicalLine, escape: Escape) -> Node<Statement> {
    let whole = Fragment::new(&line.text, &line.map);
    let head = Head::split(whole);
    let mut span = whole.trim().span();
    let mut heredocs = Vec::new();
    let mut complete = true;
    if line.text.contains("<<") && head.may_have_heredocs() {
        heredocs = heredoc::markers(whole);
        for heredoc in &mut heredocs {
            if let Err(body) = lines.heredoc_body(heredoc) {
                lines.diagnostics.push(unterminated(heredoc, body));
                complete = false;
                break;
            }
        }
        if !heredocs.is_empty() {
            span.end = lines.end_of_last_line().max(span.end);
        }
    }
    let frame = Node {
        span,
        keyword: head.keyword.spanned(),
        text: line.text.trim().to_owned(),
        comments: Vec::new(),
        skip: SkipComment::default(),
        value: (),
    };
    if !complete {
        // Whatever stood below it was taken for its text.
        return frame.with(Statement::Unreadable(Unreadable {
            loss: Loss::Stages,
            is_from: false,
        }));
    }
    let name = head.name.clone();
    let statement = if name == "FROM" {
        from(head).map(|from| Statement::From(Box::new(from)))
    } else {
        let reader = Reader {
            escape,
            span,
            diagnostics: &mut lines.diagnostics,
        };
        reader
            .instruction(head, whole, heredocs)
            .map(Statement::Instruction)
    };
    let statement = statement.unwrap_or_else(|diagnostic| {
        lines.diagnostics.push(*diagnostic);
        Statement::Unreadable(Unreadable::new(&name))
    });
    frame.with(statement)
}

/// Says why an instruction is no trigger, if it is none.
pub(super) fn refused_as_trigger(keyword: &str) -> Option<String> {
    match keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => Some("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        name @ ("FROM" | "MAINTAINER") => {
            Some(format!("{name} isn't allowed as an ONBUILD trigger"))
        }
        _ => None,
    }
}

struct Reader<'d> {
    escape: Escape,
    /// The whole instruction.
    span: Span,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn instruction(
        mut self,
        head: Head<'_>,
        line: Fragment<'_>,
        heredocs: Vec<Heredoc>,
    ) -> Parsed<InstructionKind> {
        let Head {
            keyword,
            flags,
            arguments,
            ..
        } = head;
        Ok(match head.name.as_str() {
            "ADD" => {
                let add = transfer::add(keyword, flags, arguments, heredocs)?;
                InstructionKind::Add(Box::new(add))
            }
            "COPY" => {
                let copy = transfer::copy(keyword, flags, arguments, heredocs)?;
                InstructionKind::Copy(Box::new(copy))
            }
            "RUN" => InstructionKind::Run(Box::new(run::parse(flags, arguments, heredocs)?)),
            "HEALTHCHECK" => {
                let check = healthcheck::parse(keyword, flags, arguments)?;
                InstructionKind::Healthcheck(Box::new(check))
            }
            "ONBUILD" => InstructionKind::OnBuild(Box::new(
                self.on_build(keyword, head.rest, line, heredocs)?,
            )),
            name => {
                let name = KEYWORDS.iter().find(|known| **known == name);
                let Some(name) = name else {
                    return Err(unknown(keyword));
                };
                Flags::check(flags, name, &[])?;
                words(name, keyword, arguments, self.escape)?
            }
        })
    }

    fn on_build(
        &mut self,
        keyword: Fragment<'_>,
        rest: Fragment<'_>,
        line: Fragment<'_>,
        heredocs: Vec<Heredoc>,
    ) -> Parsed<OnBuild> {
        let head = Head::split(rest);
        if head.keyword.text.is_empty() {
            return Err(too_few(keyword, "ONBUILD", "`ONBUILD <instruction>`"));
        }
        if let Some(reason) = refused_as_trigger(head.keyword.text) {
            return Err(Box::new(
                Diagnostic::error("invalid-trigger", head.keyword.span(), reason)
                    .with_help("any other instruction may be a trigger"),
            ));
        }
        let frame = Node {
            span: Span::new(rest.span().start, self.span.end),
            keyword: head.keyword.spanned(),
            text: rest.text.to_owned(),
            comments: Vec::new(),
            skip: SkipComment::default(),
            value: (),
        };
        let trigger = trigger_text(line, &heredocs);
        let reader = Reader {
            diagnostics: &mut *self.diagnostics,
            ..*self
        };
        match reader.instruction(head, rest, heredocs) {
            Err(error) if breaks_line(&error) => Err(error),
            instruction => Ok(OnBuild {
                trigger,
                instruction: instruction.map(|kind| frame.with(kind)),
            }),
        }
    }
}

/// The text that an image config stores: the line behind `ONBUILD`, then the here-documents.
fn trigger_text(line: Fragment<'_>, heredocs: &[Heredoc]) -> String {
    let line = line.text.trim_start();
    let mut trigger = line["ONBUILD".len()..].trim_start().to_owned();
    for heredoc in heredocs {
        trigger.push('\n');
        trigger.push_str(&heredoc.body.value);
        trigger.push_str(&heredoc.name);
    }
    trigger
}

/// Whether an error of a trigger fails the build that the trigger stands in, and not only those
/// that it fires in: what breaks the line itself.
fn breaks_line(error: &Diagnostic) -> bool {
    ["json-not-strings", "invalid-key-value"]
        .map(Code::Language)
        .contains(&error.code)
}

fn unterminated(heredoc: &Heredoc, body: Span) -> Diagnostic {
    let message = format!("unterminated heredoc: no line `{}` follows", heredoc.name);
    let indent = match heredoc.strip_tabs {
        true => "only tabs may stand before it",
        false => "nothing may stand before or after it; `<<-` allows tabs before it",
    };
    Diagnostic::error("unterminated-heredoc", heredoc.marker.span(), message)
        .with_remark("starts here")
        .with_label(Span::new(body.end, body.end), "the file ends")
        .with_help(format!(
            "end the text with a line `{}`: {indent}",
            heredoc.name
        ))
}

fn unknown(keyword: Fragment<'_>) -> Box<Diagnostic> {
    let near = nearest(keyword.text, KEYWORDS);
    let message = match near {
        Some(near) => format!(
            "unknown instruction: {} (did you mean {near}?)",
            keyword.text
        ),
        None => format!("unknown instruction: {}", keyword.text),
    };
    let help = match near {
        Some(near) => format!("write `{near}`"),
        None => {
            "a line that continues the one before needs an escape character at the end of that one"
                .to_owned()
        }
    };
    Box::new(Diagnostic::error("unknown-instruction", keyword.span(), message).with_help(help))
}

fn too_few(keyword: Fragment<'_>, name: &str, form: &str) -> Box<Diagnostic> {
    let message = format!("{name} requires at least one argument");
    Box::new(
        Diagnostic::error("too-few-arguments", keyword.span(), message)
            .with_help(format!("write {form}")),
    )
}

fn from(head: Head<'_>) -> Parsed<From> {
    let flags = Flags::check(head.flags, "FROM", FROM_FLAGS)?;
    let words = head.arguments.split_blanks();
    let named = match words.as_slice() {
        [_] => None,
        [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => Some((keyword, name)),
        _ => {
            let message = "FROM requires either one or three arguments";
            let place = if words.is_empty() {
                head.keyword
            } else {
                head.arguments
            };
            return Err(Box::new(
                Diagnostic::error("invalid-from", place.span(), message)
                    .with_help("write `FROM <image>` or `FROM <image> AS <name>`"),
            ));
        }
    };
    let name = match named {
        Some((_, name)) => Some(stage_name(*name)?),
        None => None,
    };
    Ok(From {
        platform: flags.value("platform"),
        image: words[0].word(),
        as_keyword: named.map(|(keyword, _)| keyword.spanned()),
        name,
        written_name: named.map(|(_, name)| name.text.to_owned()),
    })
}

fn stage_name(name: Fragment<'_>) -> Parsed<Spanned<String>> {
    let value = name.text.to_lowercase();
    let tail = |ch: char| ch.is_ascii_lowercase() || ch.is_ascii_digit() || "-_.".contains(ch);
    if value.starts_with(|ch: char| ch.is_ascii_lowercase()) && value.chars().all(tail) {
        return Ok(Spanned {
            value,
            span: name.span(),
        });
    }
    let message = format!(
        "invalid name for build stage: \"{}\", name can't start with a number or contain symbols",
        name.text
    );
    let mut diagnostic = Diagnostic::error("invalid-stage-name", name.span(), message)
        .with_help("use letters, digits, `-`, `_` and `.`, a letter first");
    if name.text.contains('$') {
        diagnostic = diagnostic.with_note("variables are not expanded in stage names");
    }
    Err(Box::new(diagnostic))
}

/// Reads an argument that is a command: exec form, or else text for the shell.
pub(super) fn shell_or_exec(argument: Fragment<'_>) -> Parsed<ShellOrExec> {
    Ok(match json::array(argument)? {
        Some(words) => ShellOrExec::Exec(words),
        None => ShellOrExec::Shell(argument.word()),
    })
}

/// Reads the instructions that have no flags and no here-documents.
fn words(
    name: &str,
    keyword: Fragment<'_>,
    arguments: Fragment<'_>,
    escape: Escape,
) -> Parsed<InstructionKind> {
    let one = |form| exactly_one(name, keyword, arguments, form);
    Ok(match name {
        "ARG" => InstructionKind::Arg(arg(keyword, arguments, escape)?),
        "CMD" => InstructionKind::Cmd(shell_or_exec(arguments)?),
        "ENTRYPOINT" => InstructionKind::Entrypoint(shell_or_exec(arguments)?),
        "ENV" => InstructionKind::Env(key_values(name, keyword, arguments, escape)?),
        "EXPOSE" => {
            let ports: Vec<Word> = arguments
                .split_blanks()
                .iter()
                .map(Fragment::word)
                .collect();
            if ports.is_empty() {
                return Err(too_few(keyword, name, "`EXPOSE <port>[/<protocol>]`"));
            }
            InstructionKind::Expose(ports)
        }
        "LABEL" => InstructionKind::Label(key_values(name, keyword, arguments, escape)?),
        "MAINTAINER" => {
            InstructionKind::Maintainer(one("`LABEL org.opencontainers.image.authors=<name>`")?)
        }
        "SHELL" => InstructionKind::Shell(shell(keyword, arguments)?),
        "STOPSIGNAL" => InstructionKind::StopSignal(one("`STOPSIGNAL <signal>`")?),
        "USER" => InstructionKind::User(one("`USER <user>[:<group>]`")?),
        "VOLUME" => InstructionKind::Volume(volume(keyword, arguments)?),
        _ => InstructionKind::Workdir(one("`WORKDIR <directory>`")?),
    })
}

fn exactly_one(
    name: &str,
    keyword: Fragment<'_>,
    arguments: Fragment<'_>,
    form: &str,
) -> Parsed<Word> {
    if arguments.text.is_empty() {
        let message = format!("{name} requires exactly one argument");
        return Err(Box::new(
            Diagnostic::error("too-few-arguments", keyword.span(), message)
                .with_help(format!("write {form}")),
        ));
    }
    Ok(arguments.word())
}

fn arg(keyword: Fragment<'_>, arguments: Fragment<'_>, escape: Escape) -> Parsed<Arg> {
    let words = arguments.split_quoted(escape.char());
    if words.is_empty() {
        return Err(too_few(keyword, "ARG", "`ARG <name>[=<default>]`"));
    }
    let declarations = words.iter().map(|word| match word.text.split_once('=') {
        Some(("", _)) => Err(blank_name("ARG", *word)),
        Some((name, _)) => Ok(ArgDeclaration {
            name: word.slice(0..name.len()).word(),
            default: Some(word.slice(name.len() + 1..word.text.len()).word()),
        }),
        None => Ok(ArgDeclaration {
            name: word.word(),
            default: None,
        }),
    });
    Ok(Arg {
        declarations: declarations.collect::<Parsed<_>>()?,
    })
}

fn blank_name(instruction: &str, word: Fragment<'_>) -> Box<Diagnostic> {
    let message = format!("{instruction} names can not be blank");
    Box::new(
        Diagnostic::error("blank-name", word.span(), message)
            .with_remark("nothing before the equals sign")
            .with_help("white space around `=` is not allowed: write `name=value`"),
    )
}

fn key_values(
    name: &str,
    keyword: Fragment<'_>,
    arguments: Fragment<'_>,
    escape: Escape,
) -> Parsed<KeyValues> {
    let words = arguments.split_quoted(escape.char());
    let Some(first) = words.first() else {
        return Err(too_few(keyword, name, &format!("`{name} <name>=<value>`")));
    };
    if !first.text.contains('=') {
        let (key, Some(value)) = arguments.split_first() else {
            let message = format!("{name} must have two arguments");
            return Err(Box::new(
                Diagnostic::error("invalid-key-value", arguments.span(), message)
                    .with_help(format!("write `{name} {}=<value>`", first.text)),
            ));
        };
        let pairs = vec![KeyValue {
            key: key.word(),
            value: value.word(),
        }];
        return Ok(KeyValues {
            pairs,
            legacy: true,
        });
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in &words {
        pairs.push(key_value(name, *word)?);
    }
    Ok(KeyValues {
        pairs,
        legacy: false,
    })
}

/// Reads one `key=value`.
fn key_value(name: &str, word: Fragment<'_>) -> Parsed<KeyValue> {
    match word.text.split_once('=') {
        Some(("", _)) => Err(blank_name(name, word)),
        Some((key, _)) => Ok(KeyValue {
            key: word.slice(0..key.len()).word(),
            value: word.slice(key.len() + 1..word.text.len()).word(),
        }),
        None => {
            let message = format!(
                "can't find = in \"{}\". Must be of the form: name=value",
                word.text
            );
            Err(Box::new(
                Diagnostic::error("invalid-key-value", word.span(), message)
                    .with_help("quote a value that has spaces in it: `name=\"two words\"`"),
            ))
        }
    }
}

fn shell(keyword: Fragment<'_>, arguments: Fragment<'_>) -> Parsed<Vec<Word>> {
    match json::array(arguments)? {
        Some(words) if !words.is_empty() => Ok(words),
        None if !arguments.text.is_empty() => {
            let message = "SHELL requires the arguments to be in JSON form";
            let quoted: Vec<String> = arguments
                .split_blanks()
                .iter()
                .map(|word| format!("{:?}", word.text))
                .collect();
            Err(Box::new(
                Diagnostic::error("shell-not-json", arguments.span(), message)
                    .with_help(format!("write `SHELL [{}]`", quoted.join(", "))),
            ))
        }
        _ => Err(too_few(keyword, "SHELL", "`SHELL [\"/bin/sh\", \"-c\"]`")),
    }
}

fn volume(keyword: Fragment<'_>, arguments: Fragment<'_>) -> Parsed<Vec<Word>> {
    let words = match json::array(arguments)? {
        Some(words) => words,
        None => arguments
            .split_blanks()
            .iter()
            .map(Fragment::word)
            .collect(),
    };
    if let Some(blank) = words.iter().find(|word| word.text().trim().is_empty()) {
        let message = "VOLUME specified can not be an empty string";
        return Err(Box::new(
            Diagnostic::error("blank-volume", blank.span(), message)
                .with_help("write the path of a directory"),
        ));
    }
    if words.is_empty() {
        return Err(too_few(keyword, "VOLUME", "`VOLUME <directory>`"));
    }
    Ok(words)
}
