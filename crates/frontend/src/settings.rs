//! Instructions that change settings and make no layer (rows I, E, H, O, A), and `WORKDIR`, which
//! makes one. One function an instruction.

use dockerfile::ast::{
    Arg, Healthcheck, Instruction, InstructionKind, KeyValues, OnBuild, ShellOrExec,
};
use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Word};
use graph::{FileAction, FileOp, Input, InputIndex, Mkdir, Op};

use crate::gofmt;
use crate::image::ConfigChange;
use crate::outline::OutlineArg;
use crate::owner::parse_owner;
use crate::path::resolve;
use crate::stage::StageLowering;

/// Mode of a directory that `WORKDIR` makes.
const WORKDIR_MODE: u32 = 0o755;

/// `ARG`s that are read by name and never become variables of a `RUN`.
const NOT_VARIABLES: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl StageLowering<'_, '_> {
    /// Lowers one instruction; an error is reported and the next instruction goes on.
    pub(crate) fn instruction(&mut self, instruction: &Instruction) {
        if self.lowerer.budget.is_exhausted() {
            return;
        }
        let result = match &instruction.value {
            InstructionKind::Add(add) => self.add_instruction(instruction, add),
            InstructionKind::Arg(arg) => self.arg(instruction, arg),
            InstructionKind::Cmd(command) => self.cmd(instruction, command),
            InstructionKind::Copy(copy) => self.copy(instruction, copy),
            InstructionKind::Entrypoint(command) => self.entrypoint(instruction, command),
            InstructionKind::Env(pairs) => self.env(pairs),
            InstructionKind::Expose(ports) => self.expose(ports),
            InstructionKind::Healthcheck(check) => self.healthcheck(check),
            InstructionKind::Label(pairs) => self.label(pairs),
            InstructionKind::Maintainer(name) => self.maintainer(name),
            InstructionKind::OnBuild(onbuild) => self.onbuild(onbuild),
            InstructionKind::Run(run) => self.run(instruction, run),
            InstructionKind::Shell(words) => self.shell(words),
            InstructionKind::StopSignal(signal) => self.stop_signal(signal),
            InstructionKind::User(user) => self.user(user),
            InstructionKind::Volume(paths) => self.volume(paths),
            InstructionKind::Workdir(path) => self.workdir(instruction, path),
        };
        if let Err(error) = result {
            self.report(error);
        }
    }

    fn arg(&mut self, instruction: &Instruction, arg: &Arg) -> Result<(), Diagnostic> {
        let mut texts = Vec::with_capacity(arg.declarations.len());
        for declaration in &arg.declarations {
            let name = declaration.name.text();
            let request = self.lowerer.request;
            let mut imported = false;
            let value = match (request.build_arg(name), &declaration.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => {
                    let global = self.lowerer.globals.env.get(name).map(str::to_owned);
                    imported = global.is_some();
                    global
                }
            };
            if let Some(value) = &value
                && !NOT_VARIABLES.contains(&name)
            {
                self.state.env.set(name, value);
            }
            if !imported {
                let description = instruction.description_of(name).unwrap_or_default();
                self.lowerer.args.push(OutlineArg {
                    name: name.to_owned(),
                    description: description.to_owned(),
                    value: value.clone(),
                    span: self.place(instruction),
                });
            }
            self.state
                .args
                .set(name, value.as_deref().unwrap_or_default());
            texts.push(match value {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            });
        }
        self.commit_settings(format!("ARG {}", texts.join(" ")));
        Ok(())
    }

    fn env(&mut self, pairs: &KeyValues) -> Result<(), Diagnostic> {
        let pairs = self.expand_pairs("ENV", pairs)?;
        let mut text = String::from("ENV");
        for (name, value) in pairs {
            text.push_str(&format!(" {name}={value}"));
            self.state.env.set(&name, &value);
            self.changes.push(ConfigChange::Env(name, value));
        }
        self.commit_settings(text);
        Ok(())
    }

    fn label(&mut self, pairs: &KeyValues) -> Result<(), Diagnostic> {
        let pairs = self.expand_pairs("LABEL", pairs)?;
        let mut text = String::from("LABEL");
        for (name, value) in pairs {
            text.push_str(&format!(" {name}={value}"));
            self.changes.push(ConfigChange::Label(name, value));
        }
        self.commit_settings(text);
        Ok(())
    }

    /// All pairs in the scope before the instruction (X12).
    fn expand_pairs(
        &mut self,
        instruction: &str,
        pairs: &KeyValues,
    ) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut expanded = Vec::with_capacity(pairs.pairs.len());
        for pair in &pairs.pairs {
            let key = self.expand(&pair.key)?;
            let value = self.expand(&pair.value)?;
            if key.is_empty() {
                let message = format!("{instruction} names can not be blank");
                return Err(Diagnostic::error("blank-name", pair.key.span(), message));
            }
            expanded.push((key, value));
        }
        Ok(expanded)
    }

    fn user(&mut self, user: &Word) -> Result<(), Diagnostic> {
        let user = self.expand(user)?;
        self.state.user = user.as_str().into();
        self.commit_settings(format!("USER {user}"));
        self.changes.push(ConfigChange::User(user));
        Ok(())
    }

    fn volume(&mut self, paths: &[Word]) -> Result<(), Diagnostic> {
        let mut expanded = Vec::with_capacity(paths.len());
        for word in paths {
            let path = self.expand(word)?;
            if path.is_empty() {
                let message = "VOLUME specified can not be an empty string";
                return Err(Diagnostic::error("blank-volume", word.span(), message));
            }
            expanded.push(path);
        }
        self.commit_settings(format!("VOLUME {}", gofmt::plain_list(&expanded)));
        self.changes
            .extend(expanded.into_iter().map(ConfigChange::Volume));
        Ok(())
    }

    fn stop_signal(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let signal = self.expand(word)?;
        crate::signal::check(&signal, word.span())?;
        self.commit_settings(format!("STOPSIGNAL {signal}"));
        self.changes.push(ConfigChange::StopSignal(signal));
        Ok(())
    }

    fn shell(&mut self, words: &[Word]) -> Result<(), Diagnostic> {
        let shell = texts(words);
        self.commit_settings(format!("SHELL {}", gofmt::plain_list(&shell)));
        self.state.shell = shell.clone().into();
        self.changes.push(ConfigChange::Shell(shell));
        Ok(())
    }

    fn maintainer(&mut self, name: &Word) -> Result<(), Diagnostic> {
        let name = name.text().to_owned();
        self.commit_settings(format!("MAINTAINER {name}"));
        self.changes.push(ConfigChange::Author(name));
        Ok(())
    }

    fn cmd(&mut self, instruction: &Instruction, command: &ShellOrExec) -> Result<(), Diagnostic> {
        self.check_exec_form(instruction, command);
        let args = self.command_line(command);
        self.commit_settings(format!("CMD {}", gofmt::quoted_list(&args)));
        self.changes.push(ConfigChange::Cmd(args));
        self.cmd_set = true;
        Ok(())
    }

    fn entrypoint(
        &mut self,
        instruction: &Instruction,
        command: &ShellOrExec,
    ) -> Result<(), Diagnostic> {
        self.check_exec_form(instruction, command);
        let args = self.command_line(command);
        self.commit_settings(format!("ENTRYPOINT {}", gofmt::quoted_list(&args)));
        let reset_cmd = !self.cmd_set;
        self.changes
            .push(ConfigChange::Entrypoint { args, reset_cmd });
        Ok(())
    }

    /// The argument vector of a command, the shell in front of the shell form.
    pub(crate) fn command_line(&self, command: &ShellOrExec) -> Vec<String> {
        match command {
            ShellOrExec::Exec(words) => texts(words),
            ShellOrExec::Shell(word) => self.with_shell(word.text()),
        }
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> Result<(), Diagnostic> {
        let config = match check {
            Healthcheck::None => oci::Healthcheck {
                test: vec!["NONE".to_owned()],
                ..oci::Healthcheck::default()
            },
            Healthcheck::Check(check) => {
                let test = match &check.command {
                    ShellOrExec::Shell(word) => {
                        vec!["CMD-SHELL".to_owned(), word.text().to_owned()]
                    }
                    ShellOrExec::Exec(words) => std::iter::once("CMD".to_owned())
                        .chain(texts(words))
                        .collect(),
                };
                let nanoseconds =
                    |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
                oci::Healthcheck {
                    test,
                    interval: nanoseconds(check.interval),
                    timeout: nanoseconds(check.timeout),
                    start_period: nanoseconds(check.start_period),
                    start_interval: nanoseconds(check.start_interval),
                    retries: i64::from(check.retries),
                }
            }
        };
        self.commit_settings(format!("HEALTHCHECK {}", gofmt::healthcheck(&config)));
        self.changes.push(ConfigChange::Healthcheck(config));
        Ok(())
    }

    fn onbuild(&mut self, onbuild: &OnBuild) -> Result<(), Diagnostic> {
        self.changes
            .push(ConfigChange::OnBuild(onbuild.trigger.clone()));
        Ok(())
    }

    fn workdir(&mut self, instruction: &Instruction, word: &Word) -> Result<(), Diagnostic> {
        let written = self.expand(word)?;
        self.check_relative(word, &written);
        let path = resolve(&self.state.workdir, &written);
        let meta = self.step_meta(instruction);
        let created_by = format!("WORKDIR {path}");
        self.state.workdir = path.as_str().into();
        self.changes.push(ConfigChange::WorkingDir(path.clone()));
        if path == "/" {
            self.commit_settings(created_by);
            return Ok(());
        }
        let owner = Some(&*self.state.user)
            .filter(|user| !user.is_empty())
            .map(parse_owner);
        let inputs: Vec<Input> = self.state.edge.map(Input::chained).into_iter().collect();
        let op = Op::File(FileOp {
            base: self.state.edge.map(|_| InputIndex(0)),
            actions: vec![FileAction::Mkdir(Mkdir {
                path,
                mode: WORKDIR_MODE,
                owner,
            })],
        });
        let edge = self.add(op, inputs, meta);
        self.commit_layer(edge, created_by);
        Ok(())
    }

    /// Reports a relative path whose meaning depends on the base image. Only that of the first
    /// `WORKDIR` above it does: the others are relative to that one.
    fn check_relative(&mut self, word: &Word, path: &str) {
        let first = !std::mem::replace(&mut self.state.workdir_set, true);
        let known = self.state.settled || !word.text().contains('$');
        if !first || !known || path.starts_with('/') {
            return;
        }
        let message = format!(
            "relative workdir {path:?} can have unexpected results if the base image changes"
        );
        let finding = Diagnostic::check(Rule::WorkdirRelativePath, word.span(), message);
        self.report(finding.with_help(format!(
            "write an absolute path, for example `WORKDIR /{path}`"
        )));
    }
}

fn texts(words: &[Word]) -> Vec<String> {
    words.iter().map(|word| word.text().to_owned()).collect()
}
