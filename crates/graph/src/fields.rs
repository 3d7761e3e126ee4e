//! An op as named, typed values: the one walk over it that everything else is derived from.
//!
//! Each field says whether it is *keyed*: whether another value asks for another cached result.
//! What is not keyed either cannot change the result (proxies, addresses of extra hosts, where an
//! image's blobs are), or is a matter of taste (identity and sharing of a cache mount), or reaches
//! the key by the content it selects (sources and exclusions of a copy).

use std::borrow::Cow;

use crate::environment::Environment;
use crate::op::*;
use crate::selector::{Naming, Selector};

/// A typed value.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Absent,
    Flag(bool),
    Number(u64),
    /// Permission bits.
    Mode(u32),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Record(Vec<Field<'a>>),
    Environment(&'a Environment),
}

/// A value with its name.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'static str,
    pub(crate) value: Value<'a>,
    pub(crate) keyed: bool,
}

fn keyed<'a>(name: &'static str, value: impl Into<Value<'a>>) -> Field<'a> {
    keyed_if(true, name, value)
}

fn unkeyed<'a>(name: &'static str, value: impl Into<Value<'a>>) -> Field<'a> {
    keyed_if(false, name, value)
}

fn keyed_if<'a>(keyed: bool, name: &'static str, value: impl Into<Value<'a>>) -> Field<'a> {
    let value = value.into();
    Field { name, value, keyed }
}

/// Name of the op's kind, as dumps print it.
pub(crate) fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Source(Source::Image(_)) => "image",
        Op::Source(Source::Local(_)) => "local",
        Op::Source(Source::Http(_)) => "http",
        Op::Source(Source::Git(_)) => "git",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Merge => "merge",
        Op::Diff => "diff",
    }
}

/// Every field of an op, in fixed order.
pub(crate) fn op_fields(op: &Op) -> Vec<Field<'_>> {
    match op {
        Op::Source(Source::Image(image)) => image_fields(image),
        Op::Source(Source::Local(local)) => vec![
            keyed("name", &local.name),
            keyed("ignore", texts(&local.ignore)),
        ],
        Op::Source(Source::Http(http)) => http_fields(http),
        Op::Source(Source::Git(git)) => git_fields(git),
        Op::Exec(exec) => exec_fields(exec),
        Op::File(file) => vec![
            keyed("base", file.base),
            keyed("actions", list(&file.actions, action_value)),
        ],
        Op::Merge | Op::Diff => Vec::new(),
    }
}

/// Every field of a selector, in fixed order.
pub(crate) fn selector_fields(selector: &Selector) -> Vec<Field<'_>> {
    let naming = match selector.naming {
        Naming::Mount => "mount",
        Naming::Contents => "contents",
        Naming::Parents => "parents",
    };
    let paths = list(&selector.paths, |path| {
        Value::Record(vec![
            keyed("path", &path.path),
            keyed("pattern", path.pattern),
        ])
    });
    vec![
        keyed("paths", paths),
        keyed("exclude", texts(&selector.exclude)),
        keyed("naming", naming),
        keyed("ignore_owner", selector.ignore_owner),
        keyed("ignore_mode", selector.ignore_mode),
    ]
}

fn image_fields(image: &ImageSource) -> Vec<Field<'_>> {
    let layout = match &image.origin {
        ImageOrigin::Registry => None,
        ImageOrigin::Layout(name) => Some(name.as_str()),
    };
    vec![
        unkeyed("reference", image.reference.to_string()),
        keyed("manifest", image.manifest.to_string()),
        keyed("platform", image.platform.to_string()),
        unkeyed("layout", layout),
    ]
}

fn http_fields(http: &HttpSource) -> Vec<Field<'_>> {
    let pinned = http.checksum.is_some();
    vec![
        keyed_if(!pinned, "url", &http.url),
        keyed("checksum", http.checksum.as_ref().map(|d| d.to_string())),
        keyed("filename", &http.filename),
    ]
}

fn git_fields(git: &GitSource) -> Vec<Field<'_>> {
    // A checkout without `.git` is a function of the commit; with it, the branch's name shows.
    let by_name = git.commit.is_none() || git.keep_git_dir;
    vec![
        keyed("remote", &git.remote),
        keyed_if(by_name, "reference", git.reference.as_deref()),
        keyed("commit", git.commit.as_deref()),
        keyed("subdir", &git.subdir),
        keyed("keep_git_dir", git.keep_git_dir),
        keyed("submodules", git.submodules),
        keyed("checksum", git.checksum.as_deref()),
    ]
}

fn exec_fields(exec: &Exec) -> Vec<Field<'_>> {
    let network = match exec.network {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
    };
    let security = match exec.security {
        Security::Sandbox => "sandbox",
        Security::Insecure => "insecure",
    };
    let script = exec.script.as_ref().map(|script| {
        Value::Record(vec![
            keyed("name", &script.name),
            keyed("body", &script.body),
        ])
    });
    let device = |device: &Device| {
        Value::Record(vec![
            keyed("name", device.name.clone()),
            keyed("required", device.required),
        ])
    };
    vec![
        keyed("args", texts(&exec.args)),
        keyed("env", Value::Environment(&exec.env)),
        unkeyed("proxy_env", Value::Environment(&exec.proxy_env)),
        keyed("cwd", &exec.cwd),
        keyed("user", &exec.user),
        keyed("hostname", &exec.hostname),
        keyed("mounts", list(&exec.mounts, mount_value)),
        keyed("network", network),
        keyed("security", security),
        keyed("devices", list(&exec.devices, device)),
        keyed(
            "extra_hosts",
            list(&exec.extra_hosts, |(name, _)| name.into()),
        ),
        unkeyed(
            "extra_host_addresses",
            list(&exec.extra_hosts, |(_, ip)| ip.into()),
        ),
        keyed("limits", limits_value(&exec.limits)),
        keyed("platform", exec.platform.to_string()),
        keyed("script", script.unwrap_or(Value::Absent)),
    ]
}

fn limits_value(limits: &Limits) -> Value<'_> {
    let ulimits = list(&limits.ulimits, |ulimit| {
        Value::Record(vec![
            keyed("name", &ulimit.name),
            keyed("soft", ulimit.soft),
            keyed("hard", ulimit.hard),
        ])
    });
    Value::Record(vec![
        keyed("ulimits", ulimits),
        keyed("shm_size", limits.shm_size),
        keyed("cgroup_parent", limits.cgroup_parent.as_deref()),
    ])
}

fn mount_value(mount: &Mount) -> Value<'_> {
    let mut fields = vec![keyed("target", &mount.target)];
    match &mount.kind {
        MountKind::Bind {
            input,
            source,
            writable,
        } => fields.extend([
            keyed("type", "bind"),
            keyed("input", *input),
            // The content under the source is the key; where it lies is not.
            unkeyed("source", source),
            keyed("writable", *writable),
        ]),
        MountKind::Cache(cache) => {
            let sharing = match cache.sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            let (input, source) = cache.from.as_ref().map(|(i, s)| (*i, s.as_str())).unzip();
            fields.extend([
                keyed("type", "cache"),
                unkeyed("id", &cache.id),
                unkeyed("sharing", sharing),
                keyed("input", input),
                unkeyed("source", source),
                keyed("readonly", cache.readonly),
            ]);
            fields.extend(ownership_fields(cache.mode, cache.uid, cache.gid));
        }
        MountKind::Tmpfs { size } => {
            fields.extend([keyed("type", "tmpfs"), keyed("size", *size)]);
        }
        MountKind::Secret(secret) => {
            fields.extend([
                keyed("type", "secret"),
                keyed("id", &secret.id),
                keyed("required", secret.required),
                keyed("env", secret.env.as_deref()),
            ]);
            fields.extend(ownership_fields(secret.mode, secret.uid, secret.gid));
        }
        MountKind::Ssh(ssh) => {
            fields.extend([
                keyed("type", "ssh"),
                keyed("id", &ssh.id),
                keyed("required", ssh.required),
            ]);
            fields.extend(ownership_fields(ssh.mode, ssh.uid, ssh.gid));
        }
    }
    Value::Record(fields)
}

fn ownership_fields<'a>(mode: u32, uid: u32, gid: u32) -> [Field<'a>; 3] {
    [
        keyed("mode", Value::Mode(mode)),
        keyed("uid", u64::from(uid)),
        keyed("gid", u64::from(gid)),
    ]
}

fn action_value(action: &FileAction) -> Value<'_> {
    Value::Record(match action {
        FileAction::Copy(copy) => copy_fields(copy),
        FileAction::Mkdir(mkdir) => vec![
            keyed("action", "mkdir"),
            keyed("path", &mkdir.path),
            keyed("mode", Value::Mode(mkdir.mode)),
            keyed("owner", owner_value(mkdir.owner.as_ref())),
        ],
        FileAction::Mkfile(mkfile) => vec![
            keyed("action", "mkfile"),
            keyed_if(mkfile.dest_is_dir, "name", &mkfile.name),
            keyed("data", Value::Bytes(&mkfile.data)),
            keyed("dest", &mkfile.dest),
            keyed("dest_is_dir", mkfile.dest_is_dir),
            keyed("owner", owner_value(mkfile.owner.as_ref())),
            keyed("mode", mode_value(mkfile.mode.as_ref())),
            keyed("follow_dest_links", mkfile.follow_dest_links),
        ],
    })
}

fn copy_fields(copy: &Copy) -> Vec<Field<'_>> {
    let unpack = match copy.unpack {
        Unpack::Never => "never",
        Unpack::Detect => "detect",
    };
    vec![
        keyed("action", "copy"),
        keyed("input", copy.input),
        unkeyed("sources", texts(&copy.sources)),
        keyed("dest", &copy.dest),
        keyed("dest_is_dir", copy.dest_is_dir),
        keyed("owner", owner_value(copy.owner.as_ref())),
        keyed("reset_owner", copy.reset_owner),
        keyed("mode", mode_value(copy.mode.as_ref())),
        keyed("parents", copy.parents),
        unkeyed("exclude", texts(&copy.exclude)),
        keyed("unpack", unpack),
        keyed("follow_dest_links", copy.follow_dest_links),
    ]
}

fn owner_value(owner: Option<&Owner>) -> Value<'_> {
    fn principal(principal: &Principal) -> Value<'_> {
        match principal {
            Principal::Id(id) => u64::from(*id).into(),
            Principal::Name(name) => name.into(),
        }
    }
    owner.map_or(Value::Absent, |owner| {
        Value::Record(vec![
            keyed("user", principal(&owner.user)),
            keyed(
                "group",
                owner.group.as_ref().map_or(Value::Absent, principal),
            ),
        ])
    })
}

fn mode_value(mode: Option<&ModeChange>) -> Value<'_> {
    match mode {
        None => Value::Absent,
        Some(ModeChange::Octal(mode)) => Value::Mode(*mode),
        Some(ModeChange::Symbolic(text)) => text.into(),
    }
}

fn list<'a, T>(items: &'a [T], value: impl Fn(&'a T) -> Value<'a>) -> Value<'a> {
    Value::List(items.iter().map(value).collect())
}

fn texts(items: &[String]) -> Value<'_> {
    list(items, Value::from)
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Value<'a> {
        Value::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Value<'a> {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

impl From<InputIndex> for Value<'_> {
    fn from(index: InputIndex) -> Self {
        Value::Number(index.0 as u64)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Value<'a> {
        value.map_or(Value::Absent, Into::into)
    }
}
