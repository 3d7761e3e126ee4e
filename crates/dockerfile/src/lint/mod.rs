//! Build checks: the table of rules, the configuration that filters them, and the rules that
//! the tree alone decides.
//!
//! A rule that needs variables, an image or the context is reported by whoever knows those,
//! through the same [`Rule`] and [`crate::Diagnostic`]; [`Checks::apply`] then treats all alike.

mod checks;
mod duplicates;
mod rules;
mod tree;

pub use checks::{Checks, ChecksError, SkipComment};
pub use rules::{Level, Rule, RuleInfo, RuleSet};
pub(crate) use tree::check_tree;
