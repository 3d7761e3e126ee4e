//! What each command does: parse the rest, call the engine, print.

mod build;
mod container;
mod diff;
mod images;
mod login;
mod machine;
mod usage;

use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use engine::request::BuildRequest;
use engine::{
    BuildError, BuildOutcome, Engine, EngineOptions, Registries, RegistryOptions, SecondBuild,
    Standpoint,
};

use crate::args::{Cli, Command, Environment, Global};
use crate::config::{self, Config, Layers};

/// Runs one command to its end.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let session = Session { global: cli.global };
    match cli.command {
        Command::Build(args) => build::build(&session, &args),
        Command::Run(args) => container::run(&session, *args),
        Command::Pull(args) => images::pull(&session, &args),
        Command::Push(args) => images::push(&session, &args),
        Command::Load(args) => images::load(&session, args),
        Command::Save(args) => images::save(&session, &args),
        Command::Images(args) => images::list(&session, &args),
        Command::Tag(args) => images::tag(&session, &args),
        Command::Rmi(args) => images::remove(&session, &args),
        Command::Inspect(args) => images::inspect(&session, &args),
        Command::Diff(args) => diff::diff(&session, &args),
        Command::History(args) => images::history(&session, &args),
        Command::Du(args) => usage::du(&session, &args),
        Command::Prune(args) => usage::prune(&session, &args),
        Command::Doctor => machine::doctor(&session),
        Command::Info => machine::info(&session),
        Command::Login(args) => login::login(&session, args),
        Command::Logout(args) => login::logout(&session, &args),
        Command::Version(args) => machine::version(&args),
        Command::Group(group) => run(Cli {
            command: group.command(),
            global: session.global,
        }),
    }
}

/// Whether error output may be coloured.
pub(crate) fn color() -> bool {
    std::io::stderr().is_terminal() && variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What all commands start from.
pub(crate) struct Session {
    global: Global,
}

impl Session {
    /// Opens the engine over the state directory and configuration in force. An ordinary user's
    /// process goes on in a user namespace of its own from here.
    pub(crate) fn engine(&self) -> Result<Engine> {
        let config = self.config()?;
        let root = self.root(&config)?;
        // Before the first thread: a process with threads cannot change its user namespace.
        let standpoint = engine::enter_user_namespace()?;
        Ok(Engine::open(options(root, config, standpoint))?)
    }

    /// How registries are reached, and where credentials for them are.
    pub(crate) fn registries(&self) -> Result<Registries> {
        Ok(registries(self.config()?))
    }

    /// Opens the engine, after splitting off a second build beside its state directory, which
    /// builds with `build` when it is asked to.
    pub(crate) fn engines(
        &self,
        request: &BuildRequest,
        build: impl Fn(&str, &Engine, BuildRequest) -> Result<BuildOutcome, BuildError>,
    ) -> Result<(Engine, SecondBuild)> {
        let config = self.config()?;
        let root = self.root(&config)?;
        let first = options(root, config, engine::enter_user_namespace()?);
        // Before the first thread too.
        let second = SecondBuild::split(&first, request, build)?;
        Ok((Engine::open(first)?, second))
    }

    fn config(&self) -> Result<Config> {
        config::load(self.global.config.as_deref(), &config_paths())
    }

    fn root(&self, config: &Config) -> Result<PathBuf> {
        if let Some(root) = self.global.root.clone().or_else(|| config.root.clone()) {
            return Ok(std::path::absolute(root)?);
        }
        if engine::is_root() {
            return Ok("/var/lib/kiln".into());
        }
        let data = variable("XDG_DATA_HOME")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let data =
            data.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local/share")));
        Ok(data
            .context("neither XDG_DATA_HOME nor HOME is set: name a state directory with --root")?
            .join("kiln"))
    }
}

fn options(root: PathBuf, config: Config, standpoint: Standpoint) -> EngineOptions {
    let gc = (config.gc.max_size, config.gc.min_free);
    let directories = config.layers == Layers::Directories;
    let device_specs = config.cdi.spec_dirs.clone();
    let registries = registries(config);
    EngineOptions {
        root,
        registries: registries.options,
        credentials: registries.credentials,
        helper_folders: registries.helper_folders,
        max_size: gc.0,
        min_free: gc.1,
        directories,
        clock_ahead: 0,
        temporary: false,
        device_specs,
        standpoint,
    }
}

fn registries(config: Config) -> Registries {
    let options = config.registries.into_iter().map(|(host, table)| {
        let options = RegistryOptions {
            mirrors: table.mirrors,
            http: table.http,
            insecure: table.insecure,
            ca: table.ca,
        };
        (host, options)
    });
    Registries {
        options: options.collect(),
        credentials: credential_files(),
        helper_folders: variable("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default(),
    }
}

fn config_paths() -> Vec<PathBuf> {
    let home = variable("XDG_CONFIG_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let home = home.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")));
    home.map(|home| home.join("kiln/config.toml"))
        .into_iter()
        .chain(["/etc/kiln/config.toml".into()])
        .collect()
}

/// Where docker and podman keep credentials, the first that exists wins.
fn credential_files() -> Vec<PathBuf> {
    let named = |name: &str, below: &str| {
        variable(name)
            .filter(|path| !path.is_empty())
            .map(|path| PathBuf::from(path).join(below))
    };
    let files = [
        variable("REGISTRY_AUTH_FILE").map(PathBuf::from),
        named("DOCKER_CONFIG", "config.json"),
        named("HOME", ".docker/config.json"),
        named("XDG_RUNTIME_DIR", "containers/auth.json"),
    ];
    files.into_iter().flatten().collect()
}

/// The one place that reads the environment.
pub(crate) const ENVIRONMENT: Environment = Environment {
    variable,
    stdin: || {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        Ok(bytes)
    },
    stdin_file: || Ok(std::io::stdin().as_fd().try_clone_to_owned()?.into()),
    stdout: || Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into()),
};

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok())
}
