//! From text to tree.

use crate::ast::{Dockerfile, Instruction};
use crate::diagnostic::Diagnostic;
use crate::source::Source;

/// A parsed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse {
    /// The tree. When there are errors, the instructions they are about are missing in it.
    pub dockerfile: Dockerfile,
    /// Errors and checks in the order of the file, `# check=` not applied yet
    /// ([`crate::lint::Checks::apply`]).
    pub diagnostics: Vec<Diagnostic>,
}

/// A parsed `ONBUILD` trigger of an image config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedTrigger {
    /// The trigger's text, which the spans point into.
    pub source: Source,
    /// The instruction, if there is no error.
    pub instruction: Option<Instruction>,
    /// Errors; places are in [`ParsedTrigger::source`].
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses a Dockerfile. Never fails: what is wrong is in the diagnostics.
pub fn parse(bytes: &[u8]) -> Parse {
    let _ = Source::new(bytes);
    panic!()
}

/// Parses one trigger as it stands in an image config, under the default escape character.
pub fn parse_trigger(_text: &str) -> ParsedTrigger {
    panic!()
}
