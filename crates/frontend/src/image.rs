//! The image config of the target: the base image's, changed by every stage on the way.

use std::collections::HashMap;
use std::sync::Arc;

use oci::{ContainerConfig, Healthcheck, ImageConfig, Platform};

use crate::lowered::{HistoryEntry, ImageTemplate};
use crate::request::LowerRequest;
use crate::stage::StageOutput;

/// One setting of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConfigChange {
    Env(String, String),
    Label(String, String),
    Port(String),
    Volume(String),
    User(String),
    WorkingDir(String),
    StopSignal(String),
    Shell(Vec<String>),
    Cmd(Vec<String>),
    /// `reset_cmd`: no `CMD` of the same stage came before (E3).
    Entrypoint {
        args: Vec<String>,
        reset_cmd: bool,
    },
    Healthcheck(Healthcheck),
    OnBuild(String),
    Author(String),
}

/// The template of the image that `target` is, which takes over what its stages say of it.
pub(crate) fn template(
    outputs: Vec<Option<StageOutput>>,
    target: usize,
    request: &LowerRequest,
) -> ImageTemplate {
    let chain = chain(outputs, target);
    let base: Option<Arc<ImageConfig>> = chain.first().and_then(|root| root.base.clone());
    let mut fold = Fold::new(base.as_deref());
    let mut history: Vec<HistoryEntry> = Vec::new();
    let platform = chain.last().map_or_else(
        || request.target_platform().clone(),
        |stage| image_platform(&stage.state.platform, base.as_deref(), request),
    );
    for stage in chain {
        // A base's triggers have run and are not inherited further.
        fold.config.on_build.clear();
        for change in stage.changes {
            fold.apply(change);
        }
        match history.is_empty() {
            true => history = stage.history,
            false => history.extend(stage.history),
        }
    }
    let Fold {
        mut config, author, ..
    } = fold;
    config.labels.extend(request.labels.clone());
    ImageTemplate {
        platform,
        author,
        config,
        base,
        history,
    }
}

/// The stages from the one that has no stage below it up to `target`.
fn chain(mut outputs: Vec<Option<StageOutput>>, target: usize) -> Vec<StageOutput> {
    let mut chain = Vec::new();
    let mut next = Some(target);
    while let Some(stage) = next.and_then(|index| outputs.get_mut(index)?.take()) {
        next = stage.parent;
        chain.push(stage);
    }
    chain.reverse();
    chain
}

/// A platform that was asked for is the image's; otherwise the base says it (F13).
fn image_platform(
    stage: &Platform,
    base: Option<&ImageConfig>,
    request: &LowerRequest,
) -> Platform {
    let of_base = base.map(ImageConfig::platform);
    let Some(asked) = &request.platform else {
        return of_base.unwrap_or_else(|| stage.clone()).normalized();
    };
    let mut platform = asked.clone();
    let same_system = |of: &Platform| of.os == asked.os && of.architecture == asked.architecture;
    if let Some(of_base) = of_base.filter(same_system) {
        platform.variant = platform.variant.or(of_base.variant);
        platform.os_version = platform.os_version.or(of_base.os_version);
        if platform.os_features.is_empty() {
            platform.os_features = of_base.os_features;
        }
    }
    platform.normalized()
}

/// A config under way: what is changed one by one lies where it is found quickly.
struct Fold {
    config: ContainerConfig,
    author: String,
    /// Position of each variable in `config.env`.
    env: HashMap<String, usize>,
}

impl Fold {
    fn new(base: Option<&ImageConfig>) -> Fold {
        let config = base.map(|base| base.config.clone()).unwrap_or_default();
        let names = config.env.iter().enumerate();
        // Of a name that occurs twice the first is the one that is changed.
        let env = names
            .rev()
            .map(|(at, line)| (name_of(line).to_owned(), at))
            .collect();
        Fold {
            config,
            author: base.map(|base| base.author.clone()).unwrap_or_default(),
            env,
        }
    }

    fn apply(&mut self, change: ConfigChange) {
        let config = &mut self.config;
        match change {
            ConfigChange::Env(name, value) => self.set_env(name, &value),
            ConfigChange::Label(name, value) => {
                config.labels.insert(name, value);
            }
            ConfigChange::Port(port) => {
                config.exposed_ports.insert(port);
            }
            ConfigChange::Volume(path) => {
                config.volumes.insert(path);
            }
            ConfigChange::User(user) => config.user = user,
            ConfigChange::WorkingDir(path) => config.working_dir = path,
            ConfigChange::StopSignal(signal) => config.stop_signal = signal,
            ConfigChange::Shell(shell) => config.shell = shell,
            ConfigChange::Cmd(args) => {
                config.cmd = args;
                config.args_escaped = true;
            }
            ConfigChange::Entrypoint { args, reset_cmd } => {
                config.entrypoint = args;
                if reset_cmd {
                    config.cmd.clear();
                }
            }
            ConfigChange::Healthcheck(check) => config.healthcheck = Some(check),
            ConfigChange::OnBuild(trigger) => config.on_build.push(trigger),
            ConfigChange::Author(name) => self.author = name,
        }
    }

    /// Replaces a variable where it stands, or appends it (I1).
    fn set_env(&mut self, name: String, value: &str) {
        let line = format!("{name}={value}");
        match self.env.get(&name) {
            Some(&at) => self.config.env[at] = line,
            None => {
                self.env.insert(name, self.config.env.len());
                self.config.env.push(line);
            }
        }
    }
}

fn name_of(line: &str) -> &str {
    line.split_once('=').map_or(line, |(name, _)| name)
}
