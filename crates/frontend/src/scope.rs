//! Variables in scope, for the expansion of words.

use dockerfile::{
    Diagnostic, Escape, ExpandError, ExpandErrorKind, Expanded, Scope, Span, VariableUse, Word,
    nearest,
};
use graph::Environment;

/// Most [`Expanded::steps`] of a whole file, with the arguments that its history repeats and
/// [`TRIGGER`] for every trigger that fires. A file of a few kilobytes reaches any size otherwise; a
/// real one needs less than a thousandth.
const MAX_STEPS: usize = 64 << 20;

/// An environment as the language's expansion looks it up.
pub(crate) struct Variables<'a>(pub(crate) &'a Environment);

impl Scope for Variables<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }
}

/// What a trigger counts that fires: a stage of n triggers and n stages built from it are n² of
/// them.
pub(crate) const TRIGGER: usize = 1024;

/// Most findings that get a search for the nearest name; the search costs a pass over all names.
const MAX_SUGGESTIONS: usize = 50;

/// What all expansions of one file may still take.
pub(crate) struct Budget {
    suggestions: usize,
    /// `None` once too much was asked for.
    left: Option<usize>,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget {
            suggestions: MAX_SUGGESTIONS,
            left: Some(MAX_STEPS),
        }
    }

    /// Takes `steps` off. The error is there once, at the word that is too much; whatever comes
    /// after finds the budget exhausted and is left alone.
    pub(crate) fn spend(&mut self, steps: usize, span: Span) -> Result<(), Diagnostic> {
        self.left = self.left.and_then(|left| left.checked_sub(steps));
        if self.left.is_some() {
            return Ok(());
        }
        let message =
            format!("variables and triggers make more than {MAX_STEPS} bytes of this file");
        let error = Diagnostic::error("expand", span, message);
        Err(error.with_help("put large texts into files, and COPY them"))
    }

    /// The error of an expansion. One that was too long took as much as a file may take.
    pub(crate) fn failed(&mut self, error: &ExpandError) -> Diagnostic {
        if error.kind == ExpandErrorKind::TooLong {
            self.left = None;
        }
        expand_error(error)
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.left.is_none()
    }

    /// Whether one more search for a nearest name may be made.
    pub(crate) fn may_suggest(&mut self) -> bool {
        let left = self.suggestions.checked_sub(1);
        self.suggestions = left.unwrap_or(0);
        left.is_some()
    }

    /// Expands a word with the variables of `env`.
    pub(crate) fn expand(
        &mut self,
        word: &Word,
        env: &Environment,
        escape: Escape,
    ) -> Result<Expanded, Diagnostic> {
        let expanded = word.expand(&Variables(env), escape);
        let expanded = expanded.map_err(|error| self.failed(&error))?;
        self.spend(expanded.steps, word.span())?;
        Ok(expanded)
    }
}

/// The error of a word that cannot be expanded.
pub(crate) fn expand_error(error: &ExpandError) -> Diagnostic {
    let help = match &error.kind {
        ExpandErrorKind::BadSubstitution => "write `${name}`; a dollar sign that is meant is `\\$`",
        ExpandErrorKind::MissingBrace => "end the substitution with `}`",
        ExpandErrorKind::MissingSlash => "write `${name/pattern/replacement}`",
        ExpandErrorKind::UnsupportedModifier(_) => {
            "there are `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` and `//`"
        }
        ExpandErrorKind::UnterminatedQuote(_) => "end the quote, or escape it if it is meant",
        ExpandErrorKind::Required { .. } => {
            "declare it above with ARG or ENV, or give an ARG its value with --build-arg"
        }
        ExpandErrorKind::TooLong => "put large texts into files, and COPY them",
        _ => return Diagnostic::error("expand", error.span, error.to_string()),
    };
    Diagnostic::error("expand", error.span, error.to_string()).with_help(help)
}

/// Names that were used although nothing gives them a value, each once.
pub(crate) fn undefined(uses: &[VariableUse]) -> Vec<&VariableUse> {
    let mut list: Vec<&VariableUse> = Vec::new();
    for one in uses.iter().filter(|one| !one.set && !one.guarded) {
        if !list.iter().any(|known| known.name == one.name) {
            list.push(one);
        }
    }
    list
}

/// Advice for a name that nobody declared.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, candidates).map(|near| format!("did you mean `{near}`?"))
}
