//! Statements to stages: what stands before the first `FROM`, and what belongs to which stage.

use super::instruction::{Statement, Unreadable};
use crate::ast::{Arg, InstructionKind, Loss, Node, Stage};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// The stages read so far.
#[derive(Default)]
pub(super) struct Stages {
    pub(super) global_args: Vec<Node<Arg>>,
    pub(super) stages: Vec<Stage>,
    pub(super) loss: Loss,
    position: Position,
    /// Some instruction was read, or could not be.
    any: bool,
    /// The file was reported to lack a stage.
    reported: bool,
}

/// Where the next instruction belongs.
#[derive(Default, PartialEq, Eq)]
enum Position {
    #[default]
    BeforeFrom,
    /// The last of the stages.
    InStage,
    /// A stage whose `FROM` could not be read.
    InUnreadable,
}

impl Stages {
    pub(super) fn add(&mut self, node: Node<Statement>, diagnostics: &mut Vec<Diagnostic>) {
        self.any = true;
        let keyword = node.keyword.span;
        let (frame, statement) = node.split();
        match statement {
            Statement::From(from) => {
                let from = frame.with(*from);
                self.stages.push(Stage {
                    from,
                    instructions: Vec::new(),
                });
                self.position = Position::InStage;
            }
            Statement::Unreadable(Unreadable { loss, is_from }) => {
                self.loss = self.loss.max(loss);
                if is_from {
                    self.position = Position::InUnreadable;
                }
            }
            Statement::Instruction(kind) => match (&self.position, kind) {
                (Position::InStage, kind) => {
                    if let Some(stage) = self.stages.last_mut() {
                        stage.instructions.push(frame.with(kind));
                    }
                }
                (Position::InUnreadable, _) => {}
                (Position::BeforeFrom, InstructionKind::Arg(arg)) => {
                    self.global_args.push(frame.with(arg));
                }
                (Position::BeforeFrom, kind) if !self.reported => {
                    self.reported = true;
                    self.loss = self.loss.max(Loss::Variables);
                    diagnostics.push(
                        Diagnostic::error("no-stage", keyword, "no build stage in current context")
                            .with_remark(format!("{} before the first FROM", kind.name()))
                            .with_note(
                                "only ARG, comments and parser directives may come before FROM",
                            )
                            .with_help("start the file with `FROM <image>`"),
                    );
                }
                (Position::BeforeFrom, _) => {}
            },
        }
    }

    pub(super) fn finish(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        let (name, message) = match (self.any, &self.position) {
            (false, _) => ("empty-file", "file with no instructions"),
            // Any error so far may be why there is no stage.
            (true, Position::BeforeFrom) if !diagnostics.iter().any(Diagnostic::is_error) => {
                ("no-stages", "dockerfile contains no stages to build")
            }
            _ => return,
        };
        let last = self
            .global_args
            .last()
            .map_or(Span::default(), |arg| arg.span);
        diagnostics.push(
            Diagnostic::error(name, last, message)
                .with_help("add `FROM <image>`, or `FROM scratch` to start from nothing"),
        );
    }
}
