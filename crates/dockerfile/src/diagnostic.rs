//! What is wrong with a file, as data. Rendering is the caller's business.

use crate::lint::Rule;
use crate::source::Span;

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The build goes on.
    Warning,
    /// The build stops.
    Error,
}

/// What kind of finding a diagnostic is: stable, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// About the language itself, by a name in kebab case.
    Language(&'static str),
    /// A build check.
    Check(Rule),
}

impl Code {
    /// Returns the name: kebab case for the language, the rule's name for a check.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Language(name) => name,
            Code::Check(rule) => rule.name(),
        }
    }
}

/// A place in the file and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The remark; may be empty.
    pub text: String,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which finding it is.
    pub code: Code,
    /// How grave it is.
    pub severity: Severity,
    /// One line: what is wrong, in lower case.
    pub message: String,
    /// Places, the primary one first; never empty for a finding about the file's text.
    pub labels: Vec<Label>,
    /// Causes and background.
    pub notes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error at a place.
    pub fn error(name: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Code::Language(name), Severity::Error, span, message.into())
    }

    /// Makes a warning about the language at a place; no check switches it off.
    pub fn warning(name: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(
            Code::Language(name),
            Severity::Warning,
            span,
            message.into(),
        )
    }

    /// Makes a warning of a check at a place; [`crate::lint::Checks::apply`] decides whether it
    /// is shown and whether it is an error.
    pub fn check(rule: Rule, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Code::Check(rule), Severity::Warning, span, message.into())
    }

    fn new(code: Code, severity: Severity, span: Span, message: String) -> Diagnostic {
        let labels = vec![Label {
            span,
            text: String::new(),
        }];
        Diagnostic {
            code,
            severity,
            message,
            labels,
            notes: Vec::new(),
            help: None,
        }
    }

    /// Says something about the primary place.
    #[must_use]
    pub fn with_remark(mut self, text: impl Into<String>) -> Diagnostic {
        if let Some(primary) = self.labels.first_mut() {
            primary.text = text.into();
        }
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn with_label(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds a cause or background.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }

    /// Sets the advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Sets the advice if there is one.
    #[must_use]
    pub fn with_help_if(mut self, help: Option<String>) -> Diagnostic {
        self.help = help.or(self.help);
        self
    }

    /// Returns the primary place, if the finding is about the file's text.
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }

    /// Tells whether the build has to stop.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
