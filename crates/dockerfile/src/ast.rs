//! The tree of a Dockerfile: typed instructions over unexpanded words.
//!
//! Every node carries its [`Span`] in the file. What is here was checked for form only: words
//! are unexpanded, paths are unresolved, stage names are not looked up. The tree also keeps the
//! file's tokens, so that it can be printed back byte for byte.

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::lint::{Checks, SkipComment};
use crate::source::{Source, Span};
use crate::word::{Escape, Word};

/// A value together with the place it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands in the file.
    pub span: Span,
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text that the spans point into.
    pub source: Source,
    /// Parser directives in the order of the file.
    pub directives: Vec<Directive>,
    /// The escape character in force (`# escape=`).
    pub escape: Escape,
    /// The frontend that the file asks for (`# syntax=`), if it does.
    pub syntax: Option<Syntax>,
    /// What the file says about build checks (`# check=`); the default when it says nothing.
    pub checks: Checks,
    /// `ARG` instructions before the first `FROM`.
    pub global_args: Vec<Node<Arg>>,
    /// Build stages in the order of the file.
    pub stages: Vec<Stage>,
    /// What is missing above because it could not be read; an error says why.
    pub loss: Loss,
    /// Every byte of the file as a run of adjacent tokens.
    pub tokens: Vec<Token>,
}

/// What a tree lacks of its file. Each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Nothing.
    #[default]
    Nothing,
    /// Instructions that no other instruction's meaning depends on.
    Instructions,
    /// Perhaps instructions that set variables.
    Variables,
    /// Perhaps stages, so that names and numbers of stages mean something else.
    Stages,
}

impl Dockerfile {
    /// Prints the file back from its tokens, byte for byte.
    pub fn print(&self) -> Vec<u8> {
        let bytes = self.source.bytes();
        self.tokens
            .iter()
            .flat_map(|token| &bytes[token.span.range()])
            .copied()
            .collect()
    }
}

/// A classified run of bytes. Tokens are adjacent and cover the file from first to last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What the bytes are.
    pub kind: TokenKind,
    /// Where they are.
    pub span: Span,
}

/// What a run of bytes is. Line ends belong to the token that they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// The UTF-8 byte order mark.
    ByteOrderMark,
    /// A parser directive.
    Directive,
    /// A comment, on its own or inside a continued instruction.
    Comment,
    /// A blank line, on its own or inside a continued instruction.
    Blank,
    /// One physical line's share of an instruction.
    Instruction,
    /// The escape character, blanks and line end that continue an instruction.
    Continuation,
    /// A line of a here-document.
    HeredocBody,
    /// The line that ends a here-document.
    HeredocEnd,
}

/// A parser directive: `# key=value` before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The key, in lower case.
    pub name: Spanned<String>,
    /// The value, without surrounding white space.
    pub value: Spanned<String>,
}

/// The frontend that a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// Image reference of the frontend: the first word.
    pub image: String,
    /// The whole value, the frontend's command line.
    pub command_line: String,
    /// Where the value stands.
    pub span: Span,
}

/// A comment line directly above an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Text without the `#` and without surrounding white space.
    pub text: String,
    /// The line, from `#` to the last character.
    pub span: Span,
}

/// An instruction's frame: everything that all instructions have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<T> {
    /// From the keyword to the last character, here-documents included.
    pub span: Span,
    /// The keyword as written.
    pub keyword: Spanned<String>,
    /// The logical line: continuations joined, comments removed, ends trimmed; no
    /// here-document bodies.
    pub text: String,
    /// Comments above the instruction, nearest last. A blank line or a blank comment
    /// starts them afresh.
    pub comments: Vec<Comment>,
    /// Checks that a `# check=skip=…` comment above switches off for this instruction.
    pub skip: SkipComment,
    /// What the instruction says.
    pub value: T,
}

impl<T> Node<T> {
    /// Returns the description that the comments give to `name` (`# <name> <description>`).
    pub fn description_of(&self, name: &str) -> Option<&str> {
        self.comments.iter().find_map(|comment| {
            let rest = comment.text.strip_prefix(name)?;
            rest.strip_prefix(' ').map(str::trim)
        })
    }
}

impl<T> Node<T> {
    /// Takes the value out of its frame.
    pub(crate) fn split(self) -> (Node<()>, T) {
        let Node {
            span,
            keyword,
            text,
            comments,
            skip,
            value,
        } = self;
        (
            Node {
                span,
                keyword,
                text,
                comments,
                skip,
                value: (),
            },
            value,
        )
    }
}

impl Node<()> {
    /// Puts a value into the frame.
    pub(crate) fn with<T>(self, value: T) -> Node<T> {
        let Node {
            span,
            keyword,
            text,
            comments,
            skip,
            value: (),
        } = self;
        Node {
            span,
            keyword,
            text,
            comments,
            skip,
            value,
        }
    }
}

/// An instruction of a stage.
pub type Instruction = Node<InstructionKind>;

/// A `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The instruction that opens the stage.
    pub from: Node<From>,
    /// The instructions of the stage in the order of the file.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// Returns the stage's name in lower case, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.from
            .value
            .name
            .as_ref()
            .map(|name| name.value.as_str())
    }
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// `--platform`, expanded with global arguments only.
    pub platform: Option<Word>,
    /// The base, expanded with global arguments only.
    pub image: Word,
    /// The word between base and name, as written (`AS`, `as`).
    pub as_keyword: Option<Spanned<String>>,
    /// The stage's name in lower case.
    pub name: Option<Spanned<String>>,
    /// The stage's name as written.
    pub written_name: Option<String>,
}

/// What an instruction of a stage says. `FROM` opens a stage and is [`From`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`
    Add(Box<Add>),
    /// `ARG`
    Arg(Arg),
    /// `CMD`
    Cmd(ShellOrExec),
    /// `COPY`
    Copy(Box<Copy>),
    /// `ENTRYPOINT`
    Entrypoint(ShellOrExec),
    /// `ENV`
    Env(KeyValues),
    /// `EXPOSE`
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Box<Healthcheck>),
    /// `LABEL`
    Label(KeyValues),
    /// `MAINTAINER`, never expanded
    Maintainer(Word),
    /// `ONBUILD`
    OnBuild(Box<OnBuild>),
    /// `RUN`
    Run(Box<Run>),
    /// `SHELL`, never expanded, at least one word
    Shell(Vec<Word>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`, at least one word
    Volume(Vec<Word>),
    /// `WORKDIR`
    Workdir(Word),
}

impl InstructionKind {
    /// Returns the instruction's name in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            InstructionKind::Add(_) => "ADD",
            InstructionKind::Arg(_) => "ARG",
            InstructionKind::Cmd(_) => "CMD",
            InstructionKind::Copy(_) => "COPY",
            InstructionKind::Entrypoint(_) => "ENTRYPOINT",
            InstructionKind::Env(_) => "ENV",
            InstructionKind::Expose(_) => "EXPOSE",
            InstructionKind::Healthcheck(_) => "HEALTHCHECK",
            InstructionKind::Label(_) => "LABEL",
            InstructionKind::Maintainer(_) => "MAINTAINER",
            InstructionKind::OnBuild(_) => "ONBUILD",
            InstructionKind::Run(_) => "RUN",
            InstructionKind::Shell(_) => "SHELL",
            InstructionKind::StopSignal(_) => "STOPSIGNAL",
            InstructionKind::User(_) => "USER",
            InstructionKind::Volume(_) => "VOLUME",
            InstructionKind::Workdir(_) => "WORKDIR",
        }
    }
}

/// `ARG name[=default]…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// At least one declaration.
    pub declarations: Vec<ArgDeclaration>,
}

/// One name of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name, not blank.
    pub name: Word,
    /// The default; `ARG x=` has an empty one, `ARG x` has none.
    pub default: Option<Word>,
}

/// `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValues {
    /// At least one pair.
    pub pairs: Vec<KeyValue>,
    /// Written as `ENV key rest of line`; then there is exactly one pair.
    pub legacy: bool,
}

/// One `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, not blank before expansion.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// A command in shell or exec form. Never expanded by the builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellOrExec {
    /// Text for the shell, verbatim; may be empty.
    Shell(Word),
    /// An argument vector from a JSON array; may be empty.
    Exec(Vec<Word>),
}

/// `RUN [flags] command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Option<Spanned<Network>>,
    /// `--security`.
    pub security: Option<Spanned<Security>>,
    /// `--device`, in order.
    pub devices: Vec<DeviceFlag>,
    /// What to run.
    pub command: ShellOrExec,
    /// Here-documents in order of appearance.
    pub heredocs: Vec<Heredoc>,
}

/// What a `RUN` hands over, once here-documents are taken into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunScript {
    /// No here-document: the command alone decides.
    Command,
    /// A sole here-document whose body is the one argument of the shell.
    Shell(String),
    /// A sole here-document that starts with `#!`: an executable file of this name and body.
    Executable {
        /// File name below `/dev/pipes`.
        name: String,
        /// The file's text.
        body: String,
    },
    /// Anything else: command, bodies and terminators joined again, for the shell to read.
    Complex(String),
}

impl Run {
    /// Tells how here-documents change what is run (`#!` is honoured as on Linux).
    pub fn script(&self) -> RunScript {
        let ShellOrExec::Shell(command) = &self.command else {
            return RunScript::Command;
        };
        let Some(first) = self.heredocs.first() else {
            return RunScript::Command;
        };
        if command.text() == first.marker.text() {
            let body = first.content();
            if body.starts_with("#!") {
                return RunScript::Executable {
                    name: first.name.clone(),
                    body,
                };
            }
            return RunScript::Shell(body);
        }
        let mut text = command.text().to_owned();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.body.value);
            text.push_str(&heredoc.name);
        }
        RunScript::Complex(text)
    }
}

/// `--mount=key=value,…` of a `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// The whole flag.
    pub span: Span,
    /// The options in order, CSV quoting removed. `from` holds no variable.
    pub options: Vec<MountOption>,
}

/// One option of a `--mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOption {
    /// The key, in lower case; whether a mount type knows it is not checked.
    pub key: Spanned<String>,
    /// The value, expanded when the instruction is lowered; `None` for a bare key.
    pub value: Option<Word>,
}

/// `--network` of a `RUN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// The sandbox network.
    Default,
    /// Loopback only.
    None,
    /// The host's network.
    Host,
}

/// `--security` of a `RUN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// The default profile.
    Sandbox,
    /// All capabilities, no filter.
    Insecure,
}

/// `--device=name[,required]` of a `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFlag {
    /// The whole flag.
    pub span: Span,
    /// The device name.
    pub name: Word,
    /// Fail when the device is not there.
    pub required: bool,
}

/// `COPY [flags] source… destination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// `--from`: a stage, an index, a context or an image; holds no variable.
    pub from: Option<Spanned<String>>,
    /// `--parents`.
    pub parents: bool,
    /// What `COPY` and `ADD` share.
    pub transfer: Transfer,
}

/// `ADD [flags] source… destination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`, if it was given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, if it was given.
    pub unpack: Option<bool>,
    /// What `COPY` and `ADD` share.
    pub transfer: Transfer,
}

/// Sources, destination and the flags that `COPY` and `ADD` share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude` patterns in order; never expanded.
    pub excludes: Vec<Spanned<String>>,
    /// Sources that are paths or URLs, in order.
    pub sources: Vec<Word>,
    /// Sources that are here-documents, in order; they are copied after the others.
    pub heredocs: Vec<Heredoc>,
    /// The destination.
    pub destination: Word,
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that announces it (`<<EOF`, `3<<-"END"`).
    pub marker: Word,
    /// The delimiter without quotes: the name of the file.
    pub name: String,
    /// File descriptor before `<<`; 0 when there is none.
    pub file_descriptor: u32,
    /// The delimiter was unquoted: `COPY` and `ADD` expand variables in the body.
    pub expand: bool,
    /// `<<-`: leading tabs are stripped from the body.
    pub strip_tabs: bool,
    /// The lines between marker and terminator as they stand in the file.
    pub body: Spanned<String>,
}

impl Heredoc {
    /// Returns the body as its reader sees it: without leading tabs after `<<-`, else verbatim.
    pub fn content(&self) -> String {
        if !self.strip_tabs {
            return self.body.value.clone();
        }
        self.body
            .value
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: an inherited check is off.
    None,
    /// `HEALTHCHECK [options] CMD …`.
    Check(Check),
}

/// A health check. Times of zero and no retries mean "inherit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The command; an exec form has at least one word.
    pub command: ShellOrExec,
    /// `--interval`.
    pub interval: Duration,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--start-period`.
    pub start_period: Duration,
    /// `--start-interval`.
    pub start_interval: Duration,
    /// `--retries`.
    pub retries: u32,
}

/// `ONBUILD trigger`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnBuild {
    /// The trigger as an image config stores it: one line, then bodies and terminators of
    /// here-documents.
    pub trigger: String,
    /// The trigger, parsed; spans point into the same file. One that cannot be parsed fails the
    /// build that it fires in, with this error, and not this one.
    pub instruction: Result<Instruction, Box<Diagnostic>>,
}
