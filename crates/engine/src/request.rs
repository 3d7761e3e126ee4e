//! What a caller asks for, as plain data: parsed, but not yet looked at by anything.
//!
//! Nothing in here was read from the environment by the engine; the caller did, or did not.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{Platform, Reference};

pub use runtime::{Resources, Swap};

/// One `kiln build`.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// The files to build from.
    pub context: Context,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// `--build-context NAME=…`, by lower-case name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`: `None` takes no value (it was not set in the caller's environment).
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--platform`; empty is the base image's, or the machine's.
    pub platforms: Vec<Platform>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--annotation`.
    pub annotations: Vec<Annotation>,
    /// `-t`.
    pub tags: Vec<Reference>,
    /// `-o`, `--push`, `--load`; empty puts the image into the store.
    pub outputs: Vec<Output>,
    /// `--no-cache`, `--no-cache-filter`.
    pub no_cache: NoCache,
    /// `--pull`: ask the registry even when the store has the tag.
    pub pull: bool,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--allow`.
    pub allow: Vec<Entitlement>,
    /// `--add-host`.
    pub add_hosts: Vec<(String, String)>,
    /// `--ulimit name=soft[:hard]`.
    pub ulimits: Vec<(String, u64, u64)>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// `--memory`, `--cpu-quota` and the like: limits of each step, outside of cache keys.
    pub resources: Resources,
    /// `--cache-from`.
    pub cache_from: Vec<CacheImport>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheExport>,
    /// How many steps run at once; `None` is the engine's choice.
    pub jobs: Option<usize>,
    /// `--timestamp`.
    pub timestamp: Timestamp,
    /// `SOURCE_DATE_EPOCH` of the caller's environment, in seconds.
    pub source_date_epoch: Option<i64>,
    /// `--context-modes git`: modes of context files become 644 or 755.
    pub git_modes: bool,
    /// Proxy variables to pass to `RUN` (row A8).
    pub proxy_env: Vec<(String, String)>,
    /// Where `dest=-` goes: the caller's standard output.
    pub stdout: Option<Arc<File>>,
    /// What to do beyond compiling.
    pub call: Call,
}

/// What a build is asked to produce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Call {
    /// Build.
    #[default]
    Build,
    /// Report diagnostics.
    Check,
    /// Describe the target's arguments, secrets and mounts.
    Outline,
    /// List the stages.
    Targets,
    /// Print the lowered graph.
    Graph,
}

/// The main context.
#[derive(Clone, Debug, Default)]
pub enum Context {
    /// A directory.
    Directory(PathBuf),
    /// Standard input, or the like: an archive, or a Dockerfile without a context.
    Stream(Arc<File>),
    /// A git repository, as `URL#ref:dir`.
    Git(String),
    /// A file to download: an archive, or a Dockerfile.
    Http(String),
    /// No files.
    #[default]
    Empty,
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, Default)]
pub enum DockerfileSource {
    /// `Dockerfile` (or `dockerfile`) of the context.
    #[default]
    Default,
    /// This path, relative to the caller's directory for directory contexts and to the context
    /// for others.
    Path(PathBuf),
    /// These bytes, from standard input.
    Inline(Vec<u8>),
}

/// A named context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory.
    Directory(PathBuf),
    /// `docker-image://`.
    Image(Reference),
    /// `oci-layout://PATH[:tag][@digest]`.
    OciLayout {
        /// The layout's directory.
        path: PathBuf,
        /// Tag or digest in its index; `None` is its only image.
        version: Option<String>,
    },
    /// A git URL.
    Git(String),
    /// An http(s) URL of an archive.
    Http(String),
}

/// Which steps may not use the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// All may.
    #[default]
    Off,
    /// None may.
    All,
    /// Those of these stages may not.
    Stages(Vec<String>),
}

/// Where a secret's value is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// Here: the caller read it from its environment.
    Value(Vec<u8>),
}

/// Who has the keys that an id of `--ssh` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshSource {
    /// The agent that listens on this socket.
    Agent(PathBuf),
    /// These files, one at least, without passphrases. The build starts an agent that has them.
    Keys(Vec<PathBuf>),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "File({})", path.display()),
            SecretSource::Value(_) => f.write_str("Value(****)"),
        }
    }
}

/// The network of `RUN` steps without `--network`, and of containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the machine gives by default.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The machine's own.
    Host,
}

/// A privilege that `RUN` may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entitlement {
    /// `network.host`.
    NetworkHost,
    /// `security.insecure`.
    SecurityInsecure,
    /// `device`: any, or `device=NAME`, a device or a class of devices.
    Device(Option<String>),
}

/// `--annotation [level[platform]:]key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Where it goes.
    pub level: AnnotationLevel,
    /// Only to the image of this platform. Never set for an index.
    pub platform: Option<Platform>,
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
}

/// The four places of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationLevel {
    /// The image's manifest.
    Manifest,
    /// The index.
    Index,
    /// The manifest's descriptor in the index.
    ManifestDescriptor,
    /// The index's descriptor in the layout.
    IndexDescriptor,
}

/// One output of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What is written.
    pub kind: OutputKind,
    /// Names beside the request's tags.
    pub names: Vec<Reference>,
    /// Annotations beside the request's.
    pub annotations: Vec<Annotation>,
    /// Compression and media types of images.
    pub encoding: Encoding,
}

impl BuildRequest {
    /// Whether some output goes to standard output.
    pub fn takes_stdout(&self) -> bool {
        self.outputs.iter().any(Output::takes_stdout)
    }

    /// The socket of the agent for an id of `--ssh`, if there is one.
    pub(crate) fn ssh_socket(&self, id: &str) -> Option<&Path> {
        match self.ssh.get(id)? {
            SshSource::Agent(socket) => Some(socket),
            SshSource::Keys(_) => None,
        }
    }
}

impl Output {
    /// An output without names and annotations of its own, encoded as usual.
    pub fn plain(kind: OutputKind) -> Output {
        Output {
            kind,
            names: Vec::new(),
            annotations: Vec::new(),
            encoding: Encoding::default(),
        }
    }

    /// Whether it goes to standard output.
    pub fn takes_stdout(&self) -> bool {
        use OutputKind::{Docker, Oci, Tar};
        match &self.kind {
            Oci { dest, .. } | Docker { dest } | Tar { dest, .. } => *dest == Destination::Stdout,
            _ => false,
        }
    }
}

/// The kinds of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// The image, into the store or to registries.
    Image(ImageOutput),
    /// An OCI layout.
    Oci {
        /// Where.
        dest: Destination,
        /// As an archive, or as a directory.
        tar: bool,
    },
    /// An archive for `docker load`.
    Docker {
        /// Where.
        dest: Destination,
    },
    /// The files, into a directory.
    Local {
        /// Where.
        dest: PathBuf,
        /// A directory for each platform; `None` if there are several.
        split: Option<bool>,
        /// What is there and not in the result goes (`mode=delete`).
        delete: bool,
    },
    /// The files, as a tar archive.
    Tar {
        /// Where.
        dest: Destination,
        /// As for `Local`.
        split: Option<bool>,
    },
    /// Nothing: the result stays in the cache.
    CacheOnly,
}

/// Where `type=image` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// Push it to the registry of each of its names.
    pub push: bool,
    /// Push it without a tag, to be found by its digest.
    pub by_digest: bool,
    /// Keep it in the store.
    pub store: bool,
    /// Give it another name in the store: with its digest.
    pub canonical: bool,
}

impl ImageOutput {
    /// Into the store.
    pub const STORE: ImageOutput = ImageOutput {
        push: false,
        by_digest: false,
        store: true,
        canonical: false,
    };
    /// Into the store and to registries.
    pub const PUSH: ImageOutput = ImageOutput {
        push: true,
        ..ImageOutput::STORE
    };
}

/// A file, or standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A path.
    Path(PathBuf),
    /// `dest=-`: the request's `stdout`.
    Stdout,
}

/// How an image's layers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Algorithm.
    pub compression: Compression,
    /// `compression-level`; `None` is the algorithm's default here.
    pub level: Option<u32>,
    /// Recompress the base image's layers too.
    pub force: bool,
    /// Docker media types instead of OCI ones.
    pub docker_media_types: bool,
}

/// Compression of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    #[default]
    Gzip,
    /// Zstandard.
    Zstd,
    /// None.
    Uncompressed,
}

/// The time of what a layer holds (architecture, layer times).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamp {
    /// The layer's own time, from its content; `SOURCE_DATE_EPOCH` clamps.
    #[default]
    Auto,
    /// True modification times.
    Preserve,
    /// Clamped to the commit time of the context's git HEAD.
    Git,
    /// Clamped to this many seconds since 1970.
    Epoch(i64),
}

/// `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheImport {
    /// An image reference in a registry.
    Registry(Reference),
    /// An OCI layout.
    Local(PathBuf),
}

/// `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheExport {
    /// Where.
    pub to: CacheImport,
    /// Every step, or those of the result only.
    pub mode: CacheMode,
    /// A failed export is a warning.
    pub ignore_error: bool,
}

/// How much a cache export holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The chain of the result.
    #[default]
    Min,
    /// Every step.
    Max,
}
