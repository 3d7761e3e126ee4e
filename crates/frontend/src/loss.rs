//! Which errors may only follow from what the parser could not read: whoever mends that may find
//! nothing wrong with the rest.

use dockerfile::ast::Loss;
use dockerfile::{Code, Diagnostic, Dockerfile};

/// Errors that depend on which stages there are, and in which order.
const ABOUT_STAGES: [&str; 4] = [
    "unknown-target",
    "stage-index",
    "stage-order",
    "stage-cycle",
];

/// Keeps of a file's findings those that stand whatever the unreadable parts of it say: all, if
/// there are none. Warnings are not worth the doubt.
pub(crate) fn independent(file: &Dockerfile, mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if file.loss == Loss::Nothing {
        return found;
    }
    found.retain(|one| {
        let about_stages = ABOUT_STAGES.map(Code::Language).contains(&one.code);
        let follows = (file.loss >= Loss::Stages && about_stages)
            || (file.loss >= Loss::Variables && mentions_variable(file, one));
        one.is_error() && !follows
    });
    found
}

fn mentions_variable(file: &Dockerfile, found: &Diagnostic) -> bool {
    found
        .span()
        .is_some_and(|span| file.source.slice(span).contains('$'))
}
