//! What lowering is asked for: everything that is not in the Dockerfile.
//!
//! Plain data without defaults of its own; the caller has read the command line, the environment
//! and the ignore files already.

use std::collections::{BTreeMap, BTreeSet};

use graph::{GitSource, HttpSource, Limits, Network};
use oci::{Platform, Reference};

/// Everything outside the Dockerfile that decides what it lowers to, for one platform.
#[derive(Clone, Debug)]
pub struct LowerRequest {
    /// Path of the Dockerfile, as people know it.
    pub file_name: String,
    /// `--target`: name of a stage in any case; `None` is the last stage.
    pub target: Option<String>,
    /// Lower every stage, needed or not, so that checks see all of the file.
    pub all_stages: bool,
    /// Ask for nothing: what images hold counts as unknown. The graph is then not to be built;
    /// errors and outline say what the file alone says.
    pub without_images: bool,
    /// `--build-arg`. `None` is a name without value that the caller's environment did not have:
    /// it counts as not given (A4).
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--platform`; `None` leaves it to the base image (F13), starting from `build_platform`.
    pub platform: Option<Platform>,
    /// The platform that the build runs on.
    pub build_platform: Platform,
    /// Several platforms are built: names of steps begin with theirs.
    pub multi_platform: bool,
    /// The main context.
    pub context: Context,
    /// `--build-context`, by name as given: a stage's or an image's, perhaps with `::platform`.
    pub named_contexts: BTreeMap<String, Context>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache` and `--no-cache-filter`.
    pub no_cache: NoCache,
    /// `--network`, for every `RUN` without its own.
    pub network: Network,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`, `--shm-size`, `--cgroup-parent`.
    pub limits: Limits,
    /// Host name in a `RUN`; `None` is `buildkitsandbox`, which build scripts know.
    pub hostname: Option<String>,
    /// Put before the identities of cache mounts; `None` for none. The build argument
    /// `BUILDKIT_CACHE_MOUNT_NS` goes before it.
    pub cache_namespace: Option<String>,
}

impl LowerRequest {
    /// A request for the last stage, for `platform` on `platform`, with a main context of files
    /// that nothing is ignored in, and nothing else asked for.
    pub fn new(platform: Platform) -> LowerRequest {
        LowerRequest {
            file_name: "Dockerfile".to_owned(),
            target: None,
            all_stages: false,
            without_images: false,
            build_args: BTreeMap::new(),
            platform: None,
            build_platform: platform,
            multi_platform: false,
            context: Context::Files { ignore: Vec::new() },
            named_contexts: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: NoCache::Never,
            network: Network::Default,
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            hostname: None,
            cache_namespace: None,
        }
    }

    /// The platform that is built for, as far as it is known before the base image is.
    pub(crate) fn target_platform(&self) -> &Platform {
        self.platform.as_ref().unwrap_or(&self.build_platform)
    }

    /// Value of a build argument that was given and has a value.
    pub(crate) fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.get(name)?.as_deref()
    }
}

/// What a context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// There is none: a Dockerfile alone came through standard input.
    None,
    /// A tree of files that the caller provides under the context's name: a local directory, an
    /// unpacked archive. `ignore` holds the clean patterns of its ignore file; an archive has
    /// none in force (G6).
    Files {
        /// Patterns, in order, `!` included.
        ignore: Vec<String>,
    },
    /// A git repository.
    Git(GitSource),
    /// One file over http.
    Http(HttpSource),
    /// An image of a registry (`docker-image://`).
    Image(Reference),
    /// An OCI layout (`oci-layout://`), which the caller finds by the context's name.
    Layout,
}

/// Which steps run even if a result is cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    Never,
    /// Every `RUN`, `COPY` and `ADD`.
    All,
    /// Those of the stages with these names, in lower case.
    Stages(BTreeSet<String>),
}

impl LowerRequest {
    /// The key in `named_contexts` of the context that stands for a stage or an image of this
    /// name (F3): for `name::platform` first, names normalised and `:latest` left out.
    pub(crate) fn named_context(&self, name: &str, platform: Option<&Platform>) -> Option<&str> {
        if self.named_contexts.is_empty() || matches!(name, "scratch" | "context") {
            return None;
        }
        let wanted = context_key(name)?;
        let platform = platform.unwrap_or_else(|| self.target_platform());
        let platform = platform.normalized().to_string();
        let mut general = None;
        for key in self.named_contexts.keys() {
            let (name, of_platform) = match key.split_once("::") {
                Some((name, platform)) => (name, Some(platform)),
                None => (key.as_str(), None),
            };
            if context_key(name).as_ref() != Some(&wanted) {
                continue;
            }
            match of_platform {
                Some(of) if of == platform => return Some(key),
                Some(_) => {}
                None => general = Some(key.as_str()),
            }
        }
        general
    }
}

/// What two names of one context have in common: `docker.io/library/alpine:latest` is `alpine`.
fn context_key(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let reference: Reference = lower.parse().ok()?;
    let familiar = reference.familiar().to_string();
    Some(
        familiar
            .strip_suffix(":latest")
            .unwrap_or(&familiar)
            .to_owned(),
    )
}
