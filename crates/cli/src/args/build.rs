//! `kiln build`: its flags, and the request they make.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use engine::GitState;
use engine::request::{
    Annotation, AnnotationLevel, BuildRequest, Call, Context, DockerfileSource, Entitlement,
    NamedContext, NoCache, Output, RunNetwork, Timestamp,
};
use oci::{Platform, Reference};

use super::{
    LimitArgs, ProgressMode, annotations, git, limits, mounts, outputs, values::parse_size,
};

/// What the process was given beside its arguments; read once, in `main`.
pub(crate) struct Environment {
    /// Looks up an environment variable.
    pub(crate) variable: fn(&str) -> Option<String>,
    /// Reads standard input to its end.
    pub(crate) stdin: fn() -> std::io::Result<Vec<u8>>,
    /// Standard input as a file, to be read once.
    pub(crate) stdin_file: fn() -> std::io::Result<File>,
    /// Standard output as a file.
    pub(crate) stdout: fn() -> std::io::Result<File>,
}

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Name of the image: NAME[:TAG], with {git}, {git.short}, {git.branch}, {git.tag}
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Dockerfile [default: CONTEXT/Dockerfile]; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Set an ARG; without a value, pass on the environment's
    #[arg(long, value_name = "K[=V]")]
    pub(crate) build_arg: Vec<String>,
    /// Another context: NAME=DIR, docker-image://…, oci-layout://…, git or http URL
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(crate) build_context: Vec<String>,
    /// Platforms to build for [default: this machine's]
    #[arg(long, value_delimiter = ',', value_name = "OS/ARCH")]
    pub(crate) platform: Vec<String>,
    /// Do not use the cache
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Do not use the cache for these stages
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registry for base images even when the store has them
    #[arg(long)]
    pub(crate) pull: bool,
    /// Output: type=oci|docker|local|tar|image|registry[,dest=…][,…], or a directory, or `-`
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) output: Vec<String>,
    /// Push the image: shorthand of -o type=registry
    #[arg(long)]
    pub(crate) push: bool,
    /// Put the image into the store: what happens anyway (accepted for docker's sake)
    #[arg(long)]
    pub(crate) load: bool,
    /// How to show progress
    #[arg(
        long,
        value_name = "MODE",
        value_enum,
        default_value_t,
        env = "BUILDKIT_PROGRESS"
    )]
    pub(crate) progress: ProgressMode,
    /// Print the image id only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say for every step that runs which input of its cache key changed
    #[arg(long)]
    pub(crate) explain: bool,
    /// Label of the image
    #[arg(long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// Label the image with revision, source and time of the context's git commit
    #[arg(long)]
    pub(crate) git_labels: bool,
    /// Annotate the image with revision, source and time of the context's git commit
    #[arg(long)]
    pub(crate) git_annotations: bool,
    /// OCI annotation, [manifest|index|manifest-descriptor|index-descriptor[PLATFORM],…:]K=V
    #[arg(long, value_name = "[LEVEL:]K=V")]
    pub(crate) annotation: Vec<String>,
    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=VARIABLE]
    #[arg(long, value_name = "SPEC")]
    pub(crate) secret: Vec<String>,
    /// Agent for RUN --mount=type=ssh: default, ID=SOCKET, or files of keys: ID=KEY[,KEY]
    #[arg(long, value_name = "default|ID[=SOCKET|KEY]")]
    pub(crate) ssh: Vec<String>,
    /// Network of RUN steps
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(crate) network: NetworkArg,
    /// Privilege that RUN may ask for: network.host, security.insecure, device[=NAME]
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Line of /etc/hosts in RUN
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Limit of RUN's processes: nofile=1024:2048 and the like
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm in RUN [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) shm_size: Option<u64>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Limits in buildx's form: memory=, memory-swap=, cpu-shares=, cpu-period=, cpu-quota=, …
    #[arg(long, value_name = "KEY=VALUE[,…]")]
    pub(crate) resource: Vec<String>,
    /// Cache to read: a reference, or type=registry,ref=…, or type=local,src=DIR
    #[arg(long, value_name = "SPEC")]
    pub(crate) cache_from: Vec<String>,
    /// Cache to write: a reference, or type=registry,ref=…[,mode=max], or type=local,dest=DIR
    #[arg(long, value_name = "SPEC")]
    pub(crate) cache_to: Vec<String>,
    /// How many steps run at once [default: 8, or twice the number of cores if that is more]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Time of files in layers: auto, preserve, git, seconds since 1970, or RFC 3339
    #[arg(long, default_value = "auto", value_name = "TIME")]
    pub(crate) timestamp: String,
    /// Modes of the context's files: keep them, or make them 644 or 755 as git does
    #[arg(long, value_name = "RULE", default_value = "keep", value_parser = ["keep", "git"])]
    pub(crate) context_modes: String,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write the build's results to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Build twice, with another clock, user and directory, and fail if the images differ
    #[arg(long)]
    pub(crate) verify: bool,
    /// Do this instead of building: check, or show what can be set or which stages there are
    #[arg(long, value_name = "check|outline|targets[,format=json]")]
    pub(crate) call: Option<String>,
    /// Check the Dockerfile: shorthand of --call check
    #[arg(long)]
    pub(crate) check: bool,
    /// Print the graph instead of building
    #[arg(long, value_name = "graph[,format=json]")]
    pub(crate) print: Option<String>,
    /// Directory, git or http URL, or `-` for an archive or a Dockerfile on standard input
    pub(crate) context: String,
}

/// `--network` of `kiln build`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkArg {
    /// What the machine gives by default.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The machine's own.
    Host,
}

impl BuildArgs {
    /// The format that `--call` or `--print` asks for.
    pub(crate) fn wants_json(&self) -> bool {
        [&self.call, &self.print]
            .into_iter()
            .flatten()
            .any(|text| text.contains("format=json"))
    }

    /// Turns the flags into a request.
    ///
    /// # Errors
    /// When a value is malformed, naming the flag and the value.
    pub(crate) fn request(&self, environment: &Environment) -> Result<BuildRequest> {
        let (context, dockerfile) = self.sources(environment)?;
        let git = self.git_state(&context)?;
        let (labels, annotations) = self.labels_and_annotations(git.as_ref())?;
        let epoch = (environment.variable)("SOURCE_DATE_EPOCH");
        Ok(BuildRequest {
            context,
            dockerfile,
            named_contexts: self.named_contexts()?,
            target: self.target.clone(),
            build_args: self.build_args(environment),
            platforms: each("--platform", &self.platform, parse_platform)?,
            labels,
            annotations,
            tags: each("--tag", &self.tag, |text| match &git {
                Some(state) => Ok(git::expand(text, state)?.parse::<Reference>()?),
                None => Ok(text.parse::<Reference>()?),
            })?,
            outputs: self.outputs()?,
            no_cache: self.no_cache(),
            pull: self.pull,
            secrets: mounts::secrets(&self.secret, environment)?,
            ssh: mounts::agents(&self.ssh, environment)?,
            network: match self.network {
                NetworkArg::Default => RunNetwork::Default,
                NetworkArg::None => RunNetwork::None,
                NetworkArg::Host => RunNetwork::Host,
            },
            allow: each("--allow", &self.allow, entitlement)?,
            add_hosts: each("--add-host", &self.add_host, mounts::host)?,
            ulimits: each("--ulimit", &self.ulimit, mounts::ulimit)?,
            shm_size: self.shm_size,
            cgroup_parent: self.limits.cgroup_parent.clone(),
            resources: limits::with_resources(&self.limits, &self.resource)?.resources()?,
            cache_from: each("--cache-from", &self.cache_from, outputs::cache_import)?,
            cache_to: each("--cache-to", &self.cache_to, outputs::cache_export)?,
            jobs: self.jobs,
            timestamp: timestamp(&self.timestamp)?,
            source_date_epoch: epoch
                .filter(|text| !text.is_empty())
                .map(|text| seconds("SOURCE_DATE_EPOCH", &text))
                .transpose()?,
            git_modes: self.context_modes == "git",
            proxy_env: mounts::proxies(environment),
            stdout: Some(Arc::new(
                (environment.stdout)().context("cannot use standard output")?,
            )),
            call: self.what()?,
        })
    }

    fn outputs(&self) -> Result<Vec<Output>> {
        let mut outputs = each("--output", &self.output, outputs::parse)?;
        if self.push {
            outputs.push(outputs::push());
        }
        Ok(outputs)
    }

    /// What git says of the context comes first, what the flags say counts more.
    fn labels_and_annotations(
        &self,
        git: Option<&GitState>,
    ) -> Result<(BTreeMap<String, String>, Vec<Annotation>)> {
        let facts = git.map(git::facts).transpose()?.unwrap_or_default();
        let mut labels = BTreeMap::new();
        if self.git_labels {
            labels.extend(facts.iter().cloned());
        }
        labels.extend(each("--label", &self.label, pair)?);
        let mut annotations = Vec::new();
        if self.git_annotations {
            annotations.extend(facts.into_iter().map(|(key, value)| Annotation {
                level: AnnotationLevel::Manifest,
                platform: None,
                key,
                value,
            }));
        }
        let given = each("--annotation", &self.annotation, annotations::flag)?;
        annotations.extend(given.into_iter().flatten());
        Ok((labels, annotations))
    }

    /// What git says of the context, if some flag asks for it.
    fn git_state(&self, context: &Context) -> Result<Option<GitState>> {
        let named = self.tag.iter().any(|name| git::is_template(name));
        if !named && !self.git_labels && !self.git_annotations {
            return Ok(None);
        }
        match context {
            Context::Directory(path) => Ok(Some(engine::git_state(path)?)),
            _ => bail!("names and labels from git take a directory as context"),
        }
    }

    fn sources(&self, environment: &Environment) -> Result<(Context, DockerfileSource)> {
        let file = self.file.as_deref();
        if self.context == "-" && file == Some("-") {
            bail!("the context and the Dockerfile cannot both be standard input");
        }
        let dockerfile = match file {
            Some("-") => DockerfileSource::Inline(
                (environment.stdin)().context("cannot read standard input")?,
            ),
            Some(path) => DockerfileSource::Path(path.into()),
            None => DockerfileSource::Default,
        };
        if self.context == "-" {
            let stream = (environment.stdin_file)().context("cannot read standard input")?;
            return Ok((Context::Stream(Arc::new(stream)), dockerfile));
        }
        let context = match outputs::remote(&self.context) {
            Some(outputs::Remote::Git(url)) => Context::Git(url),
            Some(outputs::Remote::Http(url)) => Context::Http(url),
            None => Context::Directory(self.context.clone().into()),
        };
        Ok((context, dockerfile))
    }

    fn build_args(&self, environment: &Environment) -> BTreeMap<String, Option<String>> {
        let parse = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (text.clone(), (environment.variable)(text)),
        };
        self.build_arg.iter().map(parse).collect()
    }

    fn named_contexts(&self) -> Result<BTreeMap<String, NamedContext>> {
        each("--build-context", &self.build_context, |text| {
            let (name, source) = text.split_once('=').context("must be NAME=SOURCE")?;
            Ok((name.to_ascii_lowercase(), outputs::named_context(source)?))
        })
        .map(|pairs| pairs.into_iter().collect())
    }

    fn no_cache(&self) -> NoCache {
        match (self.no_cache, self.no_cache_filter.as_slice()) {
            (true, _) => NoCache::All,
            (false, []) => NoCache::Off,
            (false, stages) => NoCache::Stages(stages.to_vec()),
        }
    }

    fn what(&self) -> Result<Call> {
        let word = |text: &Option<String>| {
            text.as_deref()
                .map(|text| text.split(',').next().unwrap_or("").to_string())
        };
        match (
            word(&self.print).as_deref(),
            word(&self.call).as_deref(),
            self.check,
        ) {
            (Some("graph"), None, false) => Ok(Call::Graph),
            (Some(other), None, false) => bail!("--print {other}: kiln can print `graph`"),
            (None, Some("check" | "lint"), _) | (None, None, true) => Ok(Call::Check),
            (None, Some("outline"), false) => Ok(Call::Outline),
            (None, Some("targets"), false) => Ok(Call::Targets),
            (None, None | Some("build"), false) => Ok(Call::Build),
            (None, Some(other), _) => {
                bail!("--call {other}: kiln can do `build`, `check`, `outline` or `targets`")
            }
            _ => bail!("--print, --call and --check exclude one another"),
        }
    }
}

/// Parses every value of a repeated flag.
fn each<T>(flag: &str, values: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    values
        .iter()
        .map(|value| parse(value).with_context(|| format!("{flag} {value}")))
        .collect()
}

fn pair(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        bail!("the name is empty");
    }
    Ok((key.to_string(), value.to_string()))
}

/// Parses a platform; `local` is this machine's.
pub(crate) fn parse_platform(text: &str) -> Result<Platform> {
    if text == "local" {
        Ok(engine::host_platform())
    } else {
        Ok(text.parse()?)
    }
}

fn entitlement(text: &str) -> Result<Entitlement> {
    match text {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        "device" => Ok(Entitlement::Device(None)),
        text => match text.strip_prefix("device=") {
            Some(name) if !name.is_empty() => Ok(Entitlement::Device(Some(name.to_string()))),
            _ => bail!("kiln knows `network.host`, `security.insecure` and `device[=NAME]`"),
        },
    }
}

fn timestamp(text: &str) -> Result<Timestamp> {
    Ok(match text {
        "auto" => Timestamp::Auto,
        "preserve" => Timestamp::Preserve,
        "git" => Timestamp::Git,
        text => Timestamp::Epoch(seconds("--timestamp", text)?),
    })
}

fn seconds(name: &str, text: &str) -> Result<i64> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let time: jiff::Timestamp = text.parse().with_context(|| {
        format!("{name} {text}: neither seconds since 1970 nor a time as in RFC 3339")
    })?;
    Ok(time.as_second())
}
