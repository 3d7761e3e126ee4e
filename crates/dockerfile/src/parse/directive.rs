//! Parser directives at the head of a file, and the frontend that a file asks for.

use nom::bytes::complete::{tag, take_while};
use nom::character::complete::{char, satisfy};
use nom::combinator::{recognize, rest, verify};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Offset, Parser};

use super::lines::{Line, Lines};
use crate::ast::{Directive, Spanned, Syntax, TokenKind};
use crate::diagnostic::Diagnostic;
use crate::lint::Checks;
use crate::source::{Source, Span};
use crate::word::Escape;

/// The keys that are directives; anything else of that form is a comment.
const KEYS: [&str; 3] = ["syntax", "escape", "check"];

/// What the directives of a file say.
#[derive(Default)]
pub(super) struct Directives {
    pub(super) list: Vec<Directive>,
    pub(super) escape: Escape,
    pub(super) checks: Checks,
}

/// Reads directives until the first line that is none.
pub(super) fn read(lines: &mut Lines<'_>) -> Directives {
    let mut directives = Directives::default();
    while let Some(line) = lines.peek() {
        let Some(directive) = directive("#", line) else {
            break;
        };
        lines.take(line, TokenKind::Directive);
        let key = directive.name.value.as_str();
        if let Some(earlier) = directives.list.iter().find(|other| other.name.value == key) {
            let message = format!("only one {key} parser directive can be used");
            lines.diagnostics.push(
                Diagnostic::error("duplicate-directive", line.span(), message)
                    .with_label(earlier.name.span.to(earlier.value.span), "the first one")
                    .with_help("remove one of the two"),
            );
            continue;
        }
        match key {
            "escape" => set_escape(lines, &mut directives, &directive.value),
            "check" => set_checks(lines, &mut directives, &directive.value),
            _ => {}
        }
        directives.list.push(directive);
    }
    directives
}

fn set_escape(lines: &mut Lines<'_>, directives: &mut Directives, value: &Spanned<String>) {
    directives.escape = match value.value.as_str() {
        "\\" => Escape::Backslash,
        "`" => Escape::Backtick,
        other => {
            let message = format!("invalid escape token '{other}' does not match ` or \\");
            lines.diagnostics.push(
                Diagnostic::error("invalid-escape", value.span, message)
                    .with_help("write `# escape=\\` or `# escape=` followed by a backtick"),
            );
            return;
        }
    };
    lines.escape = directives.escape.char();
}

fn set_checks(lines: &mut Lines<'_>, directives: &mut Directives, value: &Spanned<String>) {
    match Checks::parse(&value.value) {
        Ok(checks) => {
            for name in &checks.unknown {
                lines.diagnostics.push(unknown_check(name, value.span));
            }
            directives.checks = checks;
        }
        Err(error) => lines.diagnostics.push(
            Diagnostic::error("invalid-check", value.span, format!("failed to {error}"))
                .with_help("write for example `# check=skip=JSONArgsRecommended;error=true`"),
        ),
    }
}

fn unknown_check(name: &str, span: Span) -> Diagnostic {
    let names = crate::lint::Rule::TABLE.iter().map(|row| row.name);
    let help = crate::suggest::nearest(name, names).map(|near| format!("did you mean {near}?"));
    Diagnostic::warning("unknown-check", span, format!("there is no check `{name}`"))
        .with_help_if(help)
}

/// Finds the frontend that a file asks for: a directive behind `#` or `//`, a shebang line before
/// it or not, or a JSON object with the key `syntax`.
pub(super) fn syntax(source: &Source) -> Option<Syntax> {
    let found =
        first_directive(source, "#", "syntax").or_else(|| first_directive(source, "//", "syntax"));
    if let Some(value) = found {
        return Some(Syntax {
            image: value.value.split(' ').next().unwrap_or_default().to_owned(),
            command_line: value.value,
            span: value.span,
        });
    }
    let text = source.text().trim_start_matches('\u{feff}');
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let object: serde_json::Value = serde_json::from_str(text).ok()?;
    let value = object.get("syntax")?.as_str()?.to_owned();
    let span = Span::new(0, source.text().len());
    Some(Syntax {
        image: value.clone(),
        command_line: value,
        span,
    })
}

/// Reads the checks of a file whose directives stand behind a shebang line.
pub(super) fn checks_after_shebang(source: &Source) -> Option<Checks> {
    let shebang = source
        .text()
        .trim_start_matches('\u{feff}')
        .starts_with("#!");
    let value = shebang
        .then(|| first_directive(source, "#", "check"))
        .flatten()?;
    Checks::parse(&value.value).ok()
}

fn first_directive(source: &Source, comment: &str, key: &str) -> Option<Spanned<String>> {
    let mut lines = Lines::new(source);
    if let Some(line) = lines.peek().filter(|line| line.text.starts_with("#!")) {
        lines.skip(line);
    }
    while let Some(line) = lines.peek() {
        let directive = directive(comment, line)?;
        if directive.name.value == key {
            return Some(directive.value);
        }
        lines.skip(line);
    }
    None
}

/// Reads `#key=value`, the comment sign in the first column; `None` for any other line and for a
/// key that is no directive.
fn directive(comment: &str, line: Line<'_>) -> Option<Directive> {
    let (_, (key, value)) = key_value(comment, line.text).ok()?;
    let name = key.to_ascii_lowercase();
    let place = |part: &str| {
        let start = line.start + line.text.offset(part);
        Span::new(start, start + part.len())
    };
    KEYS.contains(&name.as_str()).then(|| Directive {
        name: Spanned {
            value: name,
            span: place(key),
        },
        value: Spanned {
            value: value.to_owned(),
            span: place(value),
        },
    })
}

fn key_value<'a>(comment: &str, input: &'a str) -> IResult<&'a str, (&'a str, &'a str)> {
    let blank = || take_while(char::is_whitespace);
    let key = recognize((
        satisfy(|ch| ch.is_ascii_alphabetic()),
        take_while(|ch: char| ch.is_ascii_alphanumeric()),
    ));
    let value = verify(rest.map(str::trim_end), |value: &str| !value.is_empty());
    let key = preceded((tag(comment), blank()), key);
    (
        terminated(key, delimited(blank(), char('='), blank())),
        value,
    )
        .parse(input)
}
