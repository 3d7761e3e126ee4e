//! Diagnostics as people read them, and as JSON. Pure: text out, nothing printed.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use engine::diagnose::{Diagnostic, Excerpt, LineIndex, Report, Severity, Span};
use serde_json::{Value, json};

const WIDTH: usize = 120;

/// Renders all diagnostics of a report, a blank line between two.
pub(crate) fn render(report: &Report, color: bool) -> String {
    let one =
        |diagnostic: &Diagnostic| diagnostic_text(&report.name, &report.text, diagnostic, color);
    report
        .diagnostics
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn diagnostic_text(name: &str, text: &str, diagnostic: &Diagnostic, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(
        level
            .primary_title(&diagnostic.message)
            .id(diagnostic.code.as_str()),
    );
    if !diagnostic.labels.is_empty() {
        let snippet = diagnostic.labels.iter().enumerate().fold(
            Snippet::source(text).path(name).fold(true),
            |snippet, (position, label)| {
                let kind = if position == 0 {
                    AnnotationKind::Primary
                } else {
                    AnnotationKind::Context
                };
                let annotation = kind.span(clamp(text, label.span));
                snippet.annotation(if label.text.is_empty() {
                    annotation
                } else {
                    annotation.label(&label.text)
                })
            },
        );
        group = group.element(snippet);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    renderer(color).render(&[group])
}

/// Renders an error at a place of a file.
pub(crate) fn excerpt(title: &str, excerpt: &Excerpt, remark: &str, color: bool) -> String {
    let annotation = AnnotationKind::Primary.span(clamp(&excerpt.text, excerpt.span));
    let annotation = if remark.is_empty() {
        annotation
    } else {
        annotation.label(remark)
    };
    let snippet = Snippet::source(&*excerpt.text)
        .path(&excerpt.name)
        .fold(true)
        .annotation(annotation);
    renderer(color).render(&[Group::with_title(Level::ERROR.primary_title(title)).element(snippet)])
}

fn renderer(color: bool) -> Renderer {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.term_width(WIDTH).decor_style(DecorStyle::Ascii)
}

/// A span that the text surely has.
fn clamp(text: &str, span: Span) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.min(text.len()));
    start..end.max(start)
}

/// Diagnostics as a JSON array: code, severity, message, places with line and column, notes, help.
pub(crate) fn json(report: &Report) -> Value {
    let lines = LineIndex::new(&report.text);
    let place = |span| span_json(&report.name, &report.text, &lines, span);
    let one = |diagnostic: &Diagnostic| {
        let labels: Vec<Value> = diagnostic
            .labels
            .iter()
            .map(|label| json!({"place": place(label.span), "text": label.text}))
            .collect();
        json!({
            "code": diagnostic.code.as_str(),
            "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "message": diagnostic.message,
            "labels": labels,
            "notes": diagnostic.notes,
            "help": diagnostic.help,
        })
    };
    report.diagnostics.iter().map(one).collect()
}

/// A place of a file as JSON, as in a diagnostic's labels.
pub(crate) fn place(excerpt: &Excerpt) -> Value {
    let lines = LineIndex::new(&excerpt.text);
    span_json(&excerpt.name, &excerpt.text, &lines, excerpt.span)
}

fn span_json(name: &str, text: &str, lines: &LineIndex, span: Span) -> Value {
    let (start, end) = (
        lines.position(text, span.start),
        lines.position(text, span.end),
    );
    json!({
        "file": name,
        "start": {"line": start.line, "column": start.column, "byte": span.start},
        "end": {"line": end.line, "column": end.column, "byte": span.end},
    })
}
