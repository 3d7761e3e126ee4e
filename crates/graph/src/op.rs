//! What a vertex does: the closed set of operations, as plain values.
//!
//! An op names its inputs by position in [`crate::Vertex::inputs`] and never by vertex. Everything
//! that takes part in carrying it out is in here and goes into the vertex digest; everything that
//! is only for people (names, spans) is in [`crate::Meta`] and does not. Which fields enter the
//! cache key as well is decided in one place, the module `fields`.

use oci::{Digest, Platform, Reference};

use crate::environment::Environment;

/// Position of an input in [`crate::Vertex::inputs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputIndex(pub usize);

/// The operation of a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Brings files in from outside; has no inputs.
    Source(Source),
    /// Runs a process over input 0, the root file system.
    Exec(Box<Exec>),
    /// Copies, creates or unpacks files in one new layer.
    File(FileOp),
    /// Stacks the layers of every later input on top of input 0. Of no inputs it is the empty
    /// tree, which has no layer.
    Merge,
    /// The layers that input 1 has on top of input 0.
    Diff,
}

impl Op {
    /// Whether the op alone says which bytes a source has. One that is not pinned (a local
    /// directory, a URL without checksum, a branch) must be resolved for its cache key.
    pub fn is_pinned(&self) -> bool {
        match self {
            Op::Source(Source::Local(_)) => false,
            Op::Source(Source::Http(http)) => http.checksum.is_some(),
            Op::Source(Source::Git(git)) => git.commit.is_some(),
            Op::Source(Source::Image(_)) | Op::Exec(_) | Op::File(_) | Op::Merge | Op::Diff => true,
        }
    }
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An image, by the manifest that its reference was resolved to.
    Image(Box<ImageSource>),
    /// A directory or archive that the user builds from. Consumers key it by content.
    Local(LocalSource),
    /// One file over http or https.
    Http(HttpSource),
    /// A commit of a git repository.
    Git(GitSource),
}

/// An image that was resolved before lowering ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// The reference as the user meant it, normalised.
    pub reference: Reference,
    /// Digest of the platform's manifest.
    pub manifest: Digest,
    /// The platform that was asked for.
    pub platform: Platform,
    /// Where the blobs are.
    pub origin: ImageOrigin,
}

/// Which repository holds an image's blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageOrigin {
    /// The registry of the reference (or the store, when it has them).
    Registry,
    /// The named context of this name, an OCI layout.
    Layout(String),
}

/// A context of the build request, by name (`context` is the main one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSource {
    /// Name of the context.
    pub name: String,
    /// Lines of the ignore file in force, already parsed and cleaned; empty when there is none.
    pub ignore: Vec<String>,
}

/// A file to download. It gets mode 0600, owner 0:0, and the server's modification time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// The URL, variables expanded.
    pub url: String,
    /// What the bytes must hash to.
    pub checksum: Option<Digest>,
    /// Name of the file in the result.
    pub filename: String,
}

/// A repository to check out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// What `git` is asked to fetch from.
    pub remote: String,
    /// Branch, tag or commit; `None` is the remote's HEAD.
    pub reference: Option<String>,
    /// The commit that the reference was resolved to, when it is known already.
    pub commit: Option<String>,
    /// Directory of the repository that is the result's root; empty for all of it.
    pub subdir: String,
    /// Keep `.git`.
    pub keep_git_dir: bool,
    /// Check out submodules too.
    pub submodules: bool,
    /// Prefix that the resolved commit must have.
    pub checksum: Option<String>,
}

/// A process to run over input 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The argument vector, shell included.
    pub args: Vec<String>,
    /// Environment in order: image, `ENV`, arguments in scope. Each name once.
    pub env: Environment,
    /// Predefined proxy variables that no `ARG` declares: given to the process, not keyed. `env`
    /// wins where both have a name.
    pub proxy_env: Environment,
    /// Absolute working directory.
    pub cwd: String,
    /// `USER` as written; empty is root.
    pub user: String,
    /// Host name seen by the process.
    pub hostname: String,
    /// Mounts in the order of the instruction.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device` requests.
    pub devices: Vec<Device>,
    /// `--add-host`: names are keyed, addresses are not.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`, `--shm-size`, `--cgroup-parent`.
    pub limits: Limits,
    /// Platform whose binaries run.
    pub platform: Platform,
    /// The body of a `#!` here-document, seen as an executable file and run instead of a shell.
    pub script: Option<Script>,
}

/// An executable here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// File name below `/dev/pipes`.
    pub name: String,
    /// The file's bytes.
    pub body: String,
}

/// A mount of an [`Exec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the container. Empty for a secret that is only an environment variable.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
}

/// The kinds of `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A path of an input. Writes are discarded.
    Bind {
        /// Which input.
        input: InputIndex,
        /// Absolute path inside it.
        source: String,
        /// Whether writes are allowed (and then thrown away).
        writable: bool,
    },
    /// A directory that persists from build to build.
    Cache(CacheMount),
    /// An empty memory file system.
    Tmpfs {
        /// Bytes; `None` is the kernel's default.
        size: Option<u64>,
    },
    /// A secret of the build request.
    Secret(SecretMount),
    /// A forwarded ssh agent.
    Ssh(SshMount),
}

/// `RUN --mount=type=cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Identity of the cache, namespace included. Not keyed, as is `sharing`.
    pub id: String,
    /// What happens when several steps use it at once.
    pub sharing: Sharing,
    /// Initial content: an input and an absolute path inside it.
    pub from: Option<(InputIndex, String)>,
    /// Mount it read-only.
    pub readonly: bool,
    /// Mode of a new directory.
    pub mode: u32,
    /// Owner of a new directory.
    pub uid: u32,
    /// Group of a new directory.
    pub gid: u32,
}

/// How concurrent users share a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    Shared,
    /// A fresh one when it is in use.
    Private,
    /// One at a time.
    Locked,
}

/// `RUN --mount=type=secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// Identity of the secret in the build request.
    pub id: String,
    /// A missing secret is an error.
    pub required: bool,
    /// Mode of the file.
    pub mode: u32,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Environment variable that gets the value. With one, the file exists only if the
    /// mount's target is not empty.
    pub env: Option<String>,
}

/// `RUN --mount=type=ssh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshMount {
    /// Identity of the agent in the build request.
    pub id: String,
    /// A missing agent is an error.
    pub required: bool,
    /// Mode of the socket.
    pub mode: u32,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// What the machine gives a build by default.
    Default,
    /// Loopback only.
    None,
    /// The machine's own.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Default capabilities and system call filter.
    Sandbox,
    /// All capabilities, no filter.
    Insecure,
}

/// `RUN --device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// A CDI name.
    pub name: String,
    /// A missing device is an error.
    pub required: bool,
}

/// Limits of a process that are part of its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `--ulimit name=soft:hard`, sorted by name.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size` in bytes; `None` is 64 MiB.
    pub shm_size: Option<u64>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Name as in `ulimit`: `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// One instruction's changes to a tree: they become one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOp {
    /// The tree that is changed; `None` is the empty one (`COPY --link`).
    pub base: Option<InputIndex>,
    /// In order.
    pub actions: Vec<FileAction>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// Copy from an input.
    Copy(Copy),
    /// Make a directory and its parents.
    Mkdir(Mkdir),
    /// Write a file of a here-document.
    Mkfile(Mkfile),
}

/// `COPY` or `ADD` of one set of sources from one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Which input.
    pub input: InputIndex,
    /// Paths and patterns in the order of the instruction: clean, relative to the input's root,
    /// empty for the root. With `parents` one may hold one `/./` (or begin with `./`): the pivot,
    /// after which the part begins that is kept below the destination.
    pub sources: Vec<String>,
    /// Absolute destination, clean, without trailing slash.
    pub dest: String,
    /// The destination was written as a directory (`/`, `/.`, `.`, or empty).
    pub dest_is_dir: bool,
    /// `--chown`; `None` is 0:0 for contexts and the source's own otherwise.
    pub owner: Option<Owner>,
    /// Sources come from a context, whose owners mean nothing: they become 0:0.
    pub reset_owner: bool,
    /// `--chmod`.
    pub mode: Option<ModeChange>,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
    /// What to do with archives.
    pub unpack: Unpack,
    /// Follow symbolic links on the way to the destination (not with `--link`).
    pub follow_dest_links: bool,
}

/// When a source that is an archive is extracted instead of copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// Never (`COPY`, `ADD --unpack=false`, `ADD` of a URL).
    Never,
    /// When its content is an archive (`ADD` of a local file, `ADD --unpack` of a URL).
    Detect,
}

/// `user[:group]` of `--chown` and `WORKDIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub user: Principal,
    /// Group; without one, see rows C12 and I6 of the language reference.
    pub group: Option<Principal>,
}

/// A user or group, by number or by name in the base's passwd and group files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// Octal, 0 to 0o7777.
    Octal(u32),
    /// Symbolic as in chmod(1): `u=rwX,go=rX`. Syntax checked by the frontend.
    Symbolic(String),
}

/// A directory to create with its parents; an existing one stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mkdir {
    /// Absolute path.
    pub path: String,
    /// Mode of what is created.
    pub mode: u32,
    /// Owner of what is created; `None` is 0:0.
    pub owner: Option<Owner>,
}

/// A file with given content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mkfile {
    /// File name, used when the destination is a directory.
    pub name: String,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Absolute destination, clean, without trailing slash.
    pub dest: String,
    /// The destination was written as a directory.
    pub dest_is_dir: bool,
    /// `--chown`; `None` is 0:0.
    pub owner: Option<Owner>,
    /// `--chmod`; `None` is 0644.
    pub mode: Option<ModeChange>,
    /// Follow symbolic links on the way to the destination.
    pub follow_dest_links: bool,
}
