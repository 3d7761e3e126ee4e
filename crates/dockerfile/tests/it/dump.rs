//! A tree and its diagnostics as text: one line for each node, places as line:column.

#![expect(clippy::unwrap_used, reason = "writing to a String does not fail")]

use std::fmt::Write;

use dockerfile::ast::{
    Healthcheck, Heredoc, InstructionKind, KeyValues, Node, RunScript, ShellOrExec, Transfer,
};
use dockerfile::{Diagnostic, LineIndex, Parse, Severity, Source, Span, Word};

pub(crate) fn dump(parse: &Parse) -> String {
    let file = &parse.dockerfile;
    let printer = Printer {
        index: LineIndex::new(file.source.text()),
        source: &file.source,
    };
    let mut out = String::new();
    for directive in &file.directives {
        let value = &directive.value;
        let place = printer.place(value.span);
        writeln!(
            out,
            "directive {}={:?} {place}",
            directive.name.value, value.value
        )
        .unwrap();
    }
    if let Some(syntax) = &file.syntax {
        writeln!(out, "syntax {:?} {:?}", syntax.image, syntax.command_line).unwrap();
    }
    for node in &file.global_args {
        printer.node(&mut out, node, "ARG", &printer.arg(&node.value));
    }
    for stage in &file.stages {
        let from = &stage.from.value;
        let mut text = printer.word(&from.image);
        if let Some(platform) = &from.platform {
            write!(text, " platform={}", printer.word(platform)).unwrap();
        }
        if let Some(name) = &from.name {
            write!(text, " name={}@{}", name.value, printer.place(name.span)).unwrap();
        }
        printer.node(&mut out, &stage.from, "FROM", &text);
        for node in &stage.instructions {
            out.push_str("  ");
            printer.node(
                &mut out,
                node,
                node.value.name(),
                &printer.kind(&node.value),
            );
        }
    }
    for diagnostic in &parse.diagnostics {
        printer.diagnostic(&mut out, diagnostic);
    }
    out
}

struct Printer<'a> {
    index: LineIndex,
    source: &'a Source,
}

impl Printer<'_> {
    fn place(&self, span: Span) -> String {
        let start = self.index.position(self.source.text(), span.start);
        let end = self.index.position(self.source.text(), span.end);
        match start.line == end.line {
            true => format!("{}:{}-{}", start.line, start.column, end.column),
            false => format!(
                "{}:{}-{}:{}",
                start.line, start.column, end.line, end.column
            ),
        }
    }

    fn word(&self, word: &Word) -> String {
        format!("{:?}@{}", word.text(), self.place(word.span()))
    }

    fn words(&self, words: &[Word]) -> String {
        let words: Vec<String> = words.iter().map(|word| self.word(word)).collect();
        format!("[{}]", words.join(", "))
    }

    fn node<T>(&self, out: &mut String, node: &Node<T>, name: &str, text: &str) {
        writeln!(out, "{} {name} {text}", self.place(node.span)).unwrap();
        for comment in &node.comments {
            writeln!(
                out,
                "    above: {:?} {}",
                comment.text,
                self.place(comment.span)
            )
            .unwrap();
        }
        if node.skip != Default::default() {
            writeln!(out, "    skips {:?}", node.skip.rules).unwrap();
        }
    }

    fn arg(&self, arg: &dockerfile::ast::Arg) -> String {
        let one = |declaration: &dockerfile::ast::ArgDeclaration| match &declaration.default {
            Some(default) => format!("{} = {}", self.word(&declaration.name), self.word(default)),
            None => self.word(&declaration.name),
        };
        arg.declarations
            .iter()
            .map(one)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn pairs(&self, pairs: &KeyValues) -> String {
        let all: Vec<String> = pairs
            .pairs
            .iter()
            .map(|pair| format!("{} = {}", self.word(&pair.key), self.word(&pair.value)))
            .collect();
        format!(
            "{}{}",
            if pairs.legacy { "legacy " } else { "" },
            all.join(", ")
        )
    }

    fn command(&self, command: &ShellOrExec) -> String {
        match command {
            ShellOrExec::Shell(text) => format!("shell {}", self.word(text)),
            ShellOrExec::Exec(words) => format!("exec {}", self.words(words)),
        }
    }

    fn heredocs(&self, heredocs: &[Heredoc]) -> String {
        let mut text = String::new();
        for heredoc in heredocs {
            let flags = [(heredoc.expand, "expand"), (heredoc.strip_tabs, "strip")];
            let flags: Vec<&str> = flags
                .iter()
                .filter(|flag| flag.0)
                .map(|flag| flag.1)
                .collect();
            write!(
                text,
                "\n    heredoc {} fd={} {} {} {:?} {}",
                heredoc.name,
                heredoc.file_descriptor,
                flags.join("+"),
                self.word(&heredoc.marker),
                heredoc.content(),
                self.place(heredoc.body.span),
            )
            .unwrap();
        }
        text
    }

    fn transfer(&self, transfer: &Transfer) -> String {
        let mut text = format!(
            "{} -> {}",
            self.words(&transfer.sources),
            self.word(&transfer.destination)
        );
        for (name, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
            if let Some(value) = value {
                write!(text, " {name}={}", self.word(value)).unwrap();
            }
        }
        if transfer.link {
            text.push_str(" link");
        }
        for exclude in &transfer.excludes {
            write!(
                text,
                " exclude={:?}@{}",
                exclude.value,
                self.place(exclude.span)
            )
            .unwrap();
        }
        text + &self.heredocs(&transfer.heredocs)
    }

    fn kind(&self, kind: &InstructionKind) -> String {
        match kind {
            InstructionKind::Add(add) => {
                let mut text = String::new();
                if let Some(checksum) = &add.checksum {
                    write!(text, "checksum={} ", self.word(checksum)).unwrap();
                }
                for (name, value) in [("keep-git-dir", add.keep_git_dir), ("unpack", add.unpack)] {
                    if let Some(value) = value {
                        write!(text, "{name}={value} ").unwrap();
                    }
                }
                text + &self.transfer(&add.transfer)
            }
            InstructionKind::Copy(copy) => {
                let mut text = String::new();
                if let Some(from) = &copy.from {
                    write!(text, "from={}@{} ", from.value, self.place(from.span)).unwrap();
                }
                if copy.parents {
                    text.push_str("parents ");
                }
                text + &self.transfer(&copy.transfer)
            }
            InstructionKind::Arg(arg) => self.arg(arg),
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
                self.command(command)
            }
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => self.pairs(pairs),
            InstructionKind::Expose(words)
            | InstructionKind::Shell(words)
            | InstructionKind::Volume(words) => self.words(words),
            InstructionKind::Maintainer(word)
            | InstructionKind::StopSignal(word)
            | InstructionKind::User(word)
            | InstructionKind::Workdir(word) => self.word(word),
            InstructionKind::Healthcheck(check) => self.healthcheck(check),
            InstructionKind::OnBuild(on_build) => {
                let trigger = format!("{:?}", on_build.trigger);
                match &on_build.instruction {
                    Ok(node) => {
                        let place = self.place(node.span);
                        let name = node.value.name();
                        format!("{trigger}\n    {place} {name} {}", self.kind(&node.value))
                    }
                    Err(error) => {
                        let mut text = trigger + "\n";
                        self.diagnostic(&mut text, error);
                        text.trim_end().to_owned()
                    }
                }
            }
            InstructionKind::Run(run) => self.run(run),
        }
    }

    fn run(&self, run: &dockerfile::ast::Run) -> String {
        let mut text = self.command(&run.command);
        for mount in &run.mounts {
            write!(text, "\n    mount {}", self.place(mount.span)).unwrap();
            for option in &mount.options {
                let value = option
                    .value
                    .as_ref()
                    .map_or("-".to_owned(), |value| self.word(value));
                write!(text, " {}={value}", option.key.value).unwrap();
            }
        }
        if let Some(network) = &run.network {
            write!(
                text,
                "\n    network {:?} {}",
                network.value,
                self.place(network.span)
            )
            .unwrap();
        }
        if let Some(security) = &run.security {
            write!(text, "\n    security {:?}", security.value).unwrap();
        }
        for device in &run.devices {
            let required = if device.required { " required" } else { "" };
            write!(text, "\n    device {}{required}", self.word(&device.name)).unwrap();
        }
        text += &self.heredocs(&run.heredocs);
        match run.script() {
            RunScript::Command => {}
            script => write!(text, "\n    script {script:?}").unwrap(),
        }
        text
    }

    fn healthcheck(&self, check: &Healthcheck) -> String {
        match check {
            Healthcheck::None => "none".to_owned(),
            Healthcheck::Check(check) => format!(
                "{} interval={:?} timeout={:?} start={:?}/{:?} retries={}",
                self.command(&check.command),
                check.interval,
                check.timeout,
                check.start_period,
                check.start_interval,
                check.retries
            ),
        }
    }

    fn diagnostic(&self, out: &mut String, diagnostic: &Diagnostic) {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(
            out,
            "{severity}[{}]: {}",
            diagnostic.code.as_str(),
            diagnostic.message
        )
        .unwrap();
        for label in &diagnostic.labels {
            let text = format!("  {} {}", self.place(label.span), label.text);
            writeln!(out, "{}", text.trim_end()).unwrap();
        }
        for note in &diagnostic.notes {
            writeln!(out, "  note: {note}").unwrap();
        }
        if let Some(help) = &diagnostic.help {
            writeln!(out, "  help: {help}").unwrap();
        }
    }
}
