//! The check for `CMD` and `ENTRYPOINT` in shell form. It stands here and not among the checks of
//! the tree because a `SHELL`, the base image's too, makes the shell form a choice.

use dockerfile::Diagnostic;
use dockerfile::ast::{Instruction, ShellOrExec};
use dockerfile::lint::Rule;

use crate::stage::StageLowering;

impl StageLowering<'_, '_> {
    /// Reports a command in shell form, unless somebody chose the shell.
    pub(crate) fn check_exec_form(&mut self, instruction: &Instruction, command: &ShellOrExec) {
        let ShellOrExec::Shell(text) = command else {
            return;
        };
        if self.state.settled && self.state.shell.is_empty() {
            self.report(finding(instruction, text.text()));
        }
    }
}

fn finding(instruction: &Instruction, text: &str) -> Diagnostic {
    let name = instruction.value.name();
    let message = format!(
        "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
    );
    let diagnostic = Diagnostic::check(Rule::JSONArgsRecommended, instruction.span, message);
    if text.starts_with('[') {
        return diagnostic
            .with_note("this looks like a JSON array but is none, so a shell gets it as text")
            .with_help("put every argument between double quotes, with commas between them");
    }
    let needs_shell = text.contains(['\'', '"', '$', '&', '|', ';', '<', '>', '*', '\\']);
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| format!("{word:?}"))
        .collect();
    diagnostic
        .with_note(
            "in shell form the process is a child of `/bin/sh -c`, which passes no signals on",
        )
        .with_help(match needs_shell {
            true => "move what needs a shell to a script, or set SHELL".to_owned(),
            false => format!("write `{name} [{}]`", words.join(", ")),
        })
}
