//! `--name=value` flags between an instruction's keyword and its arguments.
//!
//! Quotes and backslashes of a flag are resolved here, whatever the file's escape character is.

use nom::bytes::complete::tag;
use nom::{IResult, Offset, Parser};

use super::Parsed;
use super::fragment::Fragment;
use crate::ast::Spanned;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::suggest::nearest;
use crate::word::Word;

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `true` or `false`; at most once.
    Bool,
    /// A value; at most once.
    Value,
    /// A value; any number of times.
    Values,
}

/// The flags that an instruction has.
pub(super) type Table = &'static [(&'static str, Takes)];

/// A flag as written.
pub(super) struct RawFlag {
    /// Without the dashes.
    name: String,
    value: Option<Word>,
    span: Span,
}

/// The flags of one instruction, checked against its table.
pub(super) struct Flags {
    flags: Vec<RawFlag>,
}

/// Cuts the flags off an instruction's arguments. What stays starts behind the last flag or
/// behind a lone `--`.
pub(super) fn split(arguments: Fragment<'_>) -> (Vec<RawFlag>, Fragment<'_>) {
    let mut flags = Vec::new();
    let mut rest = arguments.trim();
    while rest.text.starts_with("--") {
        let (raw, decoded) = match flag_word(rest.text) {
            Ok((after, decoded)) => (rest.slice(0..rest.text.offset(after)), decoded),
            Err(_) => break,
        };
        rest = rest.slice(raw.text.len()..rest.text.len()).trim();
        if decoded == "--" {
            break;
        }
        flags.push(raw_flag(raw, &decoded));
    }
    (flags, rest)
}

fn raw_flag(raw: Fragment<'_>, decoded: &str) -> RawFlag {
    let span = raw.span();
    let (name, value) = match decoded.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (decoded, None),
    };
    let value = value.map(|value| {
        // Where nothing was quoted, the value stands in the file letter by letter.
        match raw.text == decoded {
            true => raw.slice(name.len() + 1..raw.text.len()).word(),
            false => Word::decoded(value.to_owned(), span),
        }
    });
    RawFlag {
        name: name.trim_start_matches("--").to_owned(),
        value,
        span,
    }
}

/// Reads a word up to white space outside quotes, without its quotes and backslashes.
fn flag_word(input: &str) -> IResult<&str, String> {
    let (mut rest, _) = nom::combinator::peek(tag("--")).parse(input)?;
    let mut decoded = String::new();
    let mut quote = None;
    while let Some(ch) = rest.chars().next() {
        if quote.is_none() && ch.is_whitespace() {
            break;
        }
        rest = &rest[ch.len_utf8()..];
        if ch == '\\' {
            let mut chars = rest.chars();
            decoded.extend(chars.next());
            rest = chars.as_str();
        } else if quote == Some(ch) {
            quote = None;
        } else if quote.is_none() && matches!(ch, '\'' | '"') {
            quote = Some(ch);
        } else {
            decoded.push(ch);
        }
    }
    Ok((rest, decoded))
}

impl Flags {
    /// Checks flags against the table of `instruction`.
    pub(super) fn check(flags: Vec<RawFlag>, instruction: &str, table: Table) -> Parsed<Flags> {
        for (at, flag) in flags.iter().enumerate() {
            let Some((_, takes)) = table.iter().find(|(name, _)| *name == flag.name) else {
                return Err(unknown(flag, instruction, table));
            };
            let earlier = flags[..at].iter().find(|other| other.name == flag.name);
            if let Some(earlier) = earlier.filter(|_| *takes != Takes::Values) {
                let message = format!("duplicate flag specified: {}", flag.name);
                return Err(Box::new(
                    Diagnostic::error("duplicate-flag", flag.span, message)
                        .with_label(earlier.span, "the first one"),
                ));
            }
            match (takes, &flag.value) {
                (Takes::Bool, Some(value)) if parse_bool(value.text()).is_none() => {
                    return Err(not_boolean(flag, value));
                }
                (Takes::Value | Takes::Values, None) => {
                    let message = format!("missing a value on flag: {}", flag.name);
                    let help = format!("write `--{}=<value>`, without a space", flag.name);
                    return Err(Box::new(
                        Diagnostic::error("missing-flag-value", flag.span, message).with_help(help),
                    ));
                }
                _ => {}
            }
        }
        Ok(Flags { flags })
    }

    fn get(&self, name: &str) -> Option<&RawFlag> {
        self.flags.iter().find(|flag| flag.name == name)
    }

    /// Returns whether a boolean flag was given, and what it says.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|flag| match &flag.value {
            Some(value) => parse_bool(value.text()).unwrap_or_default(),
            None => true,
        })
    }

    /// Returns the value of a flag; an empty one counts as not given.
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.written(name).filter(|value| !value.text().is_empty())
    }

    /// Returns the value of a flag, empty or not.
    pub(super) fn written(&self, name: &str) -> Option<Word> {
        self.get(name)?.value.clone()
    }

    /// Returns all values of a flag with the places of the whole flags.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = (Span, &Word)> {
        let named = self.flags.iter().filter(move |flag| flag.name == name);
        named.filter_map(|flag| Some((flag.span, flag.value.as_ref()?)))
    }
}

/// A word that is never expanded, as a plain value.
pub(super) fn plain(word: &Word) -> Spanned<String> {
    Spanned {
        value: word.text().to_owned(),
        span: word.span(),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn unknown(flag: &RawFlag, instruction: &str, table: Table) -> Box<Diagnostic> {
    let names = table.iter().map(|(name, _)| *name);
    let help = match nearest(&flag.name, names.clone()) {
        Some(near) => format!("did you mean --{near}?"),
        None if table.is_empty() => {
            format!("{instruction} has no flags; quote the word to pass it on")
        }
        None => {
            let known: Vec<String> = names.map(|name| format!("--{name}")).collect();
            format!("{instruction} has {}", known.join(", "))
        }
    };
    Box::new(
        Diagnostic::error(
            "unknown-flag",
            flag.span,
            format!("unknown flag: {}", flag.name),
        )
        .with_remark(format!("{instruction} has no such flag"))
        .with_help(help),
    )
}

fn not_boolean(flag: &RawFlag, value: &Word) -> Box<Diagnostic> {
    let (name, text) = (&flag.name, value.text());
    if text.is_empty() {
        let message = format!("missing a value on flag: {name}");
        return Box::new(
            Diagnostic::error("missing-flag-value", flag.span, message)
                .with_help(format!("write `--{name}` or `--{name}=true`")),
        );
    }
    let message = format!("expecting boolean value for flag {name}, not: {text}");
    Box::new(
        Diagnostic::error("not-boolean", value.span(), message)
            .with_help(format!("write `--{name}` or `--{name}=false`")),
    )
}
