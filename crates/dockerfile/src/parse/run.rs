//! `RUN`: its flags and its command.

use nom::branch::alt;
use nom::bytes::complete::take_till;
use nom::character::complete::{char, none_of};
use nom::combinator::{consumed, value};
use nom::multi::{fold_many0, separated_list1};
use nom::sequence::{delimited, pair};
use nom::{IResult, Offset, Parser};

use super::flags::{Flags, RawFlag, Table, Takes};
use super::fragment::Fragment;
use super::{Parsed, shell_or_exec};
use crate::ast::{DeviceFlag, Heredoc, MountFlag, MountOption, Network, Run, Security, Spanned};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::suggest::nearest;
use crate::word::Word;

const FLAGS: Table = &[
    ("mount", Takes::Values),
    ("network", Takes::Value),
    ("security", Takes::Value),
    ("device", Takes::Values),
];

const NETWORKS: [(&str, Network); 3] = [
    ("default", Network::Default),
    ("none", Network::None),
    ("host", Network::Host),
];

const SECURITIES: [(&str, Security); 2] = [
    ("sandbox", Security::Sandbox),
    ("insecure", Security::Insecure),
];

pub(super) fn parse(
    flags: Vec<RawFlag>,
    arguments: Fragment<'_>,
    heredocs: Vec<Heredoc>,
) -> Parsed<Run> {
    let flags = Flags::check(flags, "RUN", FLAGS)?;
    Ok(Run {
        mounts: flags
            .values("mount")
            .map(|(span, word)| mount(span, word))
            .collect::<Parsed<_>>()?,
        network: flags
            .written("network")
            .map(|word| choice(&word, "network mode", &NETWORKS))
            .transpose()?,
        security: flags
            .written("security")
            .map(|word| choice(&word, "security mode", &SECURITIES))
            .transpose()?,
        devices: flags
            .values("device")
            .map(|(span, word)| device(span, word))
            .collect::<Parsed<_>>()?,
        command: shell_or_exec(arguments)?,
        heredocs,
    })
}

fn choice<T: Copy>(word: &Word, what: &str, choices: &[(&str, T)]) -> Parsed<Spanned<T>> {
    let found = choices.iter().find(|(name, _)| *name == word.text());
    if let Some((_, value)) = found {
        return Ok(Spanned {
            value: *value,
            span: word.span(),
        });
    }
    let names = choices.iter().map(|(name, _)| *name);
    let help = match nearest(word.text(), names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
    };
    let message = format!("invalid {what} `{}`", word.text());
    Err(Box::new(
        Diagnostic::error("invalid-mode", word.span(), message).with_help(help),
    ))
}

fn mount(span: Span, word: &Word) -> Parsed<MountFlag> {
    let mut options = Vec::new();
    for field in fields(word, "mount")? {
        let text = field.text();
        let (key, value) = match text.split_once('=') {
            Some((key, _)) => (key, Some(field.slice(key.len() + 1..text.len()))),
            None => (text, None),
        };
        let key = Spanned {
            value: key.to_lowercase(),
            span: field.span_of(0..key.len()),
        };
        if key.value == "from"
            && let Some(value) = &value
            && has_variable(value.text())
        {
            let message = "'from' doesn't support variable expansion, define alias stage instead";
            return Err(Box::new(
                Diagnostic::error("variable-in-from", value.span(), message)
                    .with_remark("a variable")
                    .with_help(format!(
                        "add a stage `FROM {} AS <name>` and write `from=<name>`",
                        value.text()
                    )),
            ));
        }
        options.push(MountOption { key, value });
    }
    Ok(MountFlag { span, options })
}

/// Tells whether a text that is never expanded looks as if it should be.
pub(super) fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

fn device(span: Span, word: &Word) -> Parsed<DeviceFlag> {
    let mut name: Option<Word> = None;
    let mut required = false;
    for field in fields(word, "device")? {
        let text = field.text();
        match text.split_once('=') {
            None if text.eq_ignore_ascii_case("required") => required = true,
            Some((key, value)) if key.eq_ignore_ascii_case("required") => {
                required = match value.to_ascii_lowercase().as_str() {
                    "true" | "1" | "t" => true,
                    "false" | "0" | "f" => false,
                    _ => {
                        let message = format!("invalid value for required: {value}");
                        return Err(Box::new(
                            Diagnostic::error("not-boolean", field.span(), message)
                                .with_help("write `required` or `required=false`"),
                        ));
                    }
                };
            }
            Some((key, _)) if key.eq_ignore_ascii_case("name") => {
                name = Some(field.slice(key.len() + 1..text.len()));
            }
            _ if name.is_none() => name = Some(field),
            _ => {
                let message = format!("unexpected `{text}` in device, it has a name already");
                return Err(Box::new(
                    Diagnostic::error("invalid-device", field.span(), message)
                        .with_help("write one --device for each device"),
                ));
            }
        }
    }
    match name {
        Some(name) => Ok(DeviceFlag {
            span,
            name,
            required,
        }),
        None => Err(Box::new(
            Diagnostic::error("invalid-device", span, "a device needs a name")
                .with_help("write `--device=vendor.com/class=name`"),
        )),
    }
}

/// Splits a flag's value as one CSV record.
fn fields(word: &Word, flag: &str) -> Parsed<Vec<Word>> {
    let text = word.text();
    let record = record(text).ok().filter(|(rest, _)| rest.is_empty());
    let Some((_, fields)) = record else {
        let message = format!("failed to parse the value of --{flag} as comma separated options");
        return Err(Box::new(
            Diagnostic::error("invalid-csv", word.span(), message)
                .with_note("a field with a comma in it is quoted as a whole: `\"source=a,b\"`")
                .with_help("close the quote, or remove it"),
        ));
    };
    let place = |raw: &str| {
        let start = text.offset(raw);
        start..start + raw.len()
    };
    let fields = fields.into_iter().map(|field| match field {
        Field::Plain(raw) => word.slice(place(raw)),
        Field::Quoted(raw, decoded) => Word::decoded(decoded, word.span_of(place(raw))),
    });
    Ok(fields.collect())
}

/// A CSV field: as it stands, or between quotes with its quotes doubled.
enum Field<'a> {
    Plain(&'a str),
    Quoted(&'a str, String),
}

fn record(input: &str) -> IResult<&str, Vec<Field<'_>>> {
    let quoted_char = alt((none_of("\""), value('"', pair(char('"'), char('"')))));
    let decoded = fold_many0(quoted_char, String::new, |mut text, ch| {
        text.push(ch);
        text
    });
    let quoted = consumed(delimited(char('"'), decoded, char('"')))
        .map(|(raw, text)| Field::Quoted(raw, text));
    let plain = take_till(|ch| ch == ',' || ch == '"').map(Field::Plain);
    separated_list1(char(','), alt((quoted, plain))).parse(input)
}
