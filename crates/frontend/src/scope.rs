//! Variables in scope, for the expansion of words.

use dockerfile::{Diagnostic, ExpandError, Scope, VariableUse, nearest};
use graph::Environment;

/// An environment as the language's expansion looks it up.
pub(crate) struct Variables<'a>(pub(crate) &'a Environment);

impl Scope for Variables<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }
}

/// The error of a word that cannot be expanded.
pub(crate) fn expand_error(error: &ExpandError) -> Diagnostic {
    Diagnostic::error("expand", error.span, error.to_string())
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
