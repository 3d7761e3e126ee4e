//! `RUN` (rows R, P26 to P28): argument vector, environment, mounts and permissions as one exec.

use dockerfile::Diagnostic;
use dockerfile::ast::{self, Instruction, Run, RunScript, ShellOrExec};
use graph::{Device, Environment, Exec, Input, InputIndex, Network, Op, Script, Security};

use crate::lowered::Entitlement;
use crate::mount::LoweredMounts;
use crate::request::LowerRequest;
use crate::stage::StageLowering;

/// Host name of a `RUN`; some build scripts look for it.
const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

/// Proxy variables that may be passed without being declared, in either case (A8).
pub(crate) const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

impl StageLowering<'_, '_> {
    pub(crate) fn run(&mut self, instruction: &Instruction, run: &Run) -> Result<(), Diagnostic> {
        let (args, script, shown) = self.run_args(run);
        let no_text = matches!(&run.command, ShellOrExec::Shell(word) if word.text().is_empty());
        if args.is_empty() || no_text {
            let message = "RUN has no command";
            return Err(Diagnostic::error("empty-run", instruction.span, message));
        }
        let created_by = self.run_history(&shown);
        let repeated = created_by.len() - shown.len();
        self.lowerer.budget.spend(repeated, instruction.span)?;
        let mut inputs = vec![self.root_input()];
        let LoweredMounts { mounts, problems } = self.mounts(run, instruction, &mut inputs);
        let request = self.lowerer.request;
        let network = run
            .network
            .as_ref()
            .map_or(request.network, |flag| network(flag.value));
        let security = run
            .security
            .as_ref()
            .map_or(Security::Sandbox, |flag| security(flag.value));
        let devices = self.devices(run)?;
        if let Some(problem) = problems {
            return Err(problem);
        }
        if network == Network::Host {
            self.lowerer.entitlements.insert(Entitlement::NetworkHost);
        }
        if security == Security::Insecure {
            self.lowerer
                .entitlements
                .insert(Entitlement::SecurityInsecure);
        }
        let hostname = request.hostname.as_deref();
        let hostname = hostname.or(request.build_arg("BUILDKIT_SANDBOX_HOSTNAME"));
        let exec = Exec {
            args,
            env: self.state.env.clone(),
            proxy_env: self.lowerer.proxies.clone(),
            cwd: self.state.workdir.to_string(),
            user: self.state.user.to_string(),
            hostname: hostname.unwrap_or(DEFAULT_HOSTNAME).to_owned(),
            mounts,
            network,
            security,
            devices,
            extra_hosts: request.extra_hosts.clone(),
            limits: request.limits.clone(),
            platform: self.state.platform.clone(),
            script,
        };
        let mut meta = self.step_meta(instruction);
        if let Some(heredoc) = run.heredocs.first() {
            meta.name
                .push_str(&format!(" ({})", summary(&heredoc.body.value)));
        }
        meta.no_cache = self.no_cache;
        let edge = self.add(Op::Exec(Box::new(exec)), inputs, meta);
        self.commit_layer(edge, created_by);
        Ok(())
    }

    /// The argument vector, the executable here-document, and what the history shows.
    fn run_args(&self, run: &Run) -> (Vec<String>, Option<Script>, String) {
        let args = match run.script() {
            RunScript::Command => self.command_line(&run.command),
            RunScript::Shell(body) => self.with_shell(&body),
            RunScript::Complex(text) => self.with_shell(&text),
            RunScript::Executable { name, body } => {
                let args = vec![format!("/dev/pipes/{name}")];
                let command = match &run.command {
                    ShellOrExec::Shell(word) => word.text(),
                    ShellOrExec::Exec(_) => "",
                };
                let shown = format!("{command}\n{body}{name}");
                return (args, Some(Script { name, body }), shown);
            }
        };
        let shown = args.join(" ");
        (args, None, shown)
    }

    /// `RUN |n K=V … command # buildkit`: every argument declared so far, with the value that the
    /// command sees (A6).
    fn run_history(&self, command: &str) -> String {
        let args = &self.state.args;
        let mut text = String::from("RUN ");
        if !args.is_empty() {
            text.push_str(&format!("|{} ", args.len()));
        }
        for (name, value) in args.iter() {
            let value = self.state.env.get(name).unwrap_or(value);
            text.push_str(&format!("{name}={value} "));
        }
        text.push_str(command);
        text.push_str(" # buildkit");
        text
    }

    /// The root file system: the stage's files, or an empty tree.
    fn root_input(&mut self) -> Input {
        let edge = self.state.edge.unwrap_or_else(|| self.lowerer.empty_edge());
        Input::chained(edge)
    }

    fn devices(&mut self, run: &Run) -> Result<Vec<Device>, Diagnostic> {
        let mut devices = Vec::with_capacity(run.devices.len());
        for flag in &run.devices {
            let name = self.expand(&flag.name)?;
            if name.is_empty() {
                let message = "--device names no device";
                return Err(Diagnostic::error("device", flag.span, message));
            }
            self.lowerer
                .entitlements
                .insert(Entitlement::Device(name.clone()));
            let required = flag.required;
            devices.push(Device { name, required });
        }
        Ok(devices)
    }
}

/// Adds an input and returns its position.
pub(crate) fn push_input(inputs: &mut Vec<Input>, input: Input) -> InputIndex {
    inputs.push(input);
    InputIndex(inputs.len() - 1)
}

fn network(network: ast::Network) -> Network {
    match network {
        ast::Network::Default => Network::Default,
        ast::Network::None => Network::None,
        ast::Network::Host => Network::Host,
    }
}

fn security(security: ast::Security) -> Security {
    match security {
        ast::Security::Sandbox => Security::Sandbox,
        ast::Security::Insecure => Security::Insecure,
    }
}

/// Proxy variables among the build arguments, in capitals and in small letters.
pub(crate) fn proxies(request: &LowerRequest) -> Environment {
    let mut env = Environment::new();
    for proxy in PROXIES {
        let given = request.build_args.iter().find_map(|(name, value)| {
            let value = value.as_deref()?;
            name.eq_ignore_ascii_case(proxy).then_some(value)
        });
        if let Some(value) = given {
            env.set(proxy, value);
            env.set(&proxy.to_lowercase(), value);
        }
    }
    env
}

/// First line of a here-document, for people.
fn summary(body: &str) -> String {
    let mut lines = body.trim().lines();
    let first = lines.next().unwrap_or_default().trim_end();
    match lines.next() {
        Some(_) => format!("{first}..."),
        None => first.to_owned(),
    }
}
