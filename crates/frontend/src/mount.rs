//! `RUN --mount` (rows M1 to M5): options in order, checked against the type seen so far, lowered to
//! typed mounts and inputs.

use dockerfile::ast::{Instruction, MountFlag, MountOption, Run};
use dockerfile::{Diagnostic, Span, nearest};
use graph::{
    CacheMount, Edge, Input, InputIndex, Mount, MountKind, Naming, SecretMount, SelectedPath,
    Selector, Sharing, SshMount,
};
use oci::path::clamp;

use crate::lowered::Request;
use crate::path::{base_name, clean_absolute, resolve};
use crate::plan::FromReference;
use crate::run::push_input;
use crate::scope::did_you_mean;
use crate::stage::StageLowering;

/// The mounts of one `RUN`, and the first error among them.
pub(crate) struct LoweredMounts {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) problems: Option<Diagnostic>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: &[(&str, Type)] = &[
    ("bind", Type::Bind),
    ("cache", Type::Cache),
    ("tmpfs", Type::Tmpfs),
    ("secret", Type::Secret),
    ("ssh", Type::Ssh),
];

const SHARINGS: &[(&str, Sharing)] = &[
    ("shared", Sharing::Shared),
    ("private", Sharing::Private),
    ("locked", Sharing::Locked),
];

/// A `--mount` with its values expanded and read.
#[derive(Debug, Default)]
struct Options {
    kind: Type,
    from: Option<(String, Span)>,
    source: Option<String>,
    target: Option<String>,
    /// The target before expansion, which a cache is named after.
    written_target: String,
    readonly: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: bool,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl StageLowering<'_, '_> {
    /// Lowers the mounts of a `RUN`; `inputs` gets what they mount.
    pub(crate) fn mounts(
        &mut self,
        run: &Run,
        instruction: &Instruction,
        inputs: &mut Vec<Input>,
    ) -> LoweredMounts {
        let mut lowered = LoweredMounts {
            mounts: Vec::with_capacity(run.mounts.len()),
            problems: None,
        };
        let mut agents = 0;
        for flag in &run.mounts {
            let mount = self.mount_options(flag).and_then(|options| {
                check(&options, flag.span)?;
                let span = self.place(instruction);
                self.mount(&options, flag.span, span, inputs, &mut agents)
            });
            match mount {
                Ok(mount) => lowered.mounts.push(mount),
                // One instruction gives one error: the rest of it hangs on what is wrong.
                Err(error) => lowered.problems = lowered.problems.or(Some(error)),
            }
        }
        lowered
    }

    fn mount_options(&mut self, flag: &MountFlag) -> Result<Options, Diagnostic> {
        let mut options = Options::default();
        for option in &flag.options {
            self.mount_option(option, &mut options)?;
        }
        Ok(options)
    }

    fn mount_option(
        &mut self,
        option: &MountOption,
        options: &mut Options,
    ) -> Result<(), Diagnostic> {
        let key = option.key.value.as_str();
        let span = option
            .value
            .as_ref()
            .map_or(option.key.span, |word| word.span());
        let value = match (&option.value, key) {
            (Some(word), "from") => Some(word.text().to_owned()),
            (Some(word), _) => Some(self.expand(word)?),
            (None, "readonly" | "ro" | "readwrite" | "rw" | "required") => None,
            (None, _) => {
                let message = format!("invalid field '{key}' must be a key=value pair");
                return Err(Diagnostic::error("mount-option", span, message));
            }
        };
        let invalid = |value: &str| {
            let message = format!("invalid value for {key}: {value}");
            Diagnostic::error("mount-option", span, message)
        };
        let flag = |value: &Option<String>| match value {
            None => Ok(true),
            Some(text) => parse_bool(text).ok_or_else(|| invalid(text)),
        };
        let only_for = |types: &[Type]| match types.contains(&options.kind) {
            true => Ok(()),
            false => Err(unexpected_key(key, options.kind, option.key.span)),
        };
        let text = value.clone().unwrap_or_default();
        let id = |text: &str| text.parse::<u32>().map_err(|_| invalid(text));
        match key {
            "type" => options.kind = choose(TYPES, &text, "mount type", span)?,
            "from" => options.from = Some((text, span)).filter(|(text, _)| !text.is_empty()),
            "source" | "src" => options.source = Some(text).filter(|text| !text.is_empty()),
            "target" | "dst" | "destination" => {
                let written = option.value.as_ref().map(|word| word.text());
                options.written_target = written.unwrap_or_default().to_owned();
                options.target = Some(text).filter(|text| !text.is_empty());
            }
            "readonly" | "ro" => options.readonly = Some(flag(&value)?),
            "readwrite" | "rw" => options.readonly = Some(!flag(&value)?),
            "required" => {
                only_for(&[Type::Secret, Type::Ssh])?;
                options.required = flag(&value)?;
            }
            "size" => {
                only_for(&[Type::Tmpfs])?;
                options.size = Some(parse_size(&text).ok_or_else(|| invalid(&text))?);
            }
            "id" => options.id = Some(text).filter(|text| !text.is_empty()),
            "sharing" => options.sharing = Some(choose(SHARINGS, &text, "sharing value", span)?),
            "mode" => {
                let mode = u32::from_str_radix(&text, 8)
                    .ok()
                    .filter(|&mode| mode <= 0o7777);
                options.mode = Some(mode.ok_or_else(|| invalid(&text))?);
            }
            "uid" => options.uid = Some(id(&text)?),
            "gid" => options.gid = Some(id(&text)?),
            "env" => options.env = Some(text).filter(|text| !text.is_empty()),
            key => return Err(unexpected_key(key, options.kind, option.key.span)),
        }
        Ok(())
    }

    fn mount(
        &mut self,
        options: &Options,
        flag: Span,
        instruction: Span,
        inputs: &mut Vec<Input>,
        agents: &mut usize,
    ) -> Result<Mount, Diagnostic> {
        let target = match &options.target {
            Some(target) => self.mount_target(target, flag)?,
            None => String::new(),
        };
        let kind = match options.kind {
            Type::Bind => self.bind(options, flag, inputs)?,
            Type::Cache => self.cache(options, flag, instruction, inputs)?,
            Type::Tmpfs => MountKind::Tmpfs { size: options.size },
            Type::Secret => return self.secret(options, target, flag, instruction),
            Type::Ssh => return Ok(self.ssh(options, target, instruction, agents)),
        };
        Ok(Mount { target, kind })
    }

    fn mount_target(&self, target: &str, span: Span) -> Result<String, Diagnostic> {
        let target = resolve(&self.state.workdir, target);
        if target == "/" {
            let message = format!("invalid mount target {target:?}");
            let error = Diagnostic::error("mount-target", span, message)
                .with_help("mount below the root directory");
            return Err(error);
        }
        Ok(target)
    }

    fn bind(
        &mut self,
        options: &Options,
        flag: Span,
        inputs: &mut Vec<Input>,
    ) -> Result<MountKind, Diagnostic> {
        let edge = match &options.from {
            Some((name, span)) => self.mount_from(name, *span)?,
            None => self.lowerer.context_edge(flag)?,
        };
        let source = options.source.as_deref().unwrap_or("/");
        let input = push_input(inputs, Input::content(edge, mounted(source)));
        Ok(MountKind::Bind {
            input,
            source: clean_absolute(source),
            writable: options.readonly == Some(false),
        })
    }

    fn cache(
        &mut self,
        options: &Options,
        flag: Span,
        instruction: Span,
        inputs: &mut Vec<Input>,
    ) -> Result<MountKind, Diagnostic> {
        let from = match &options.from {
            Some((name, _)) if name == "scratch" => None,
            Some((name, span)) => {
                let edge = self.mount_from(name, *span)?;
                let source = options.source.as_deref().unwrap_or("/");
                let input: InputIndex = push_input(inputs, Input::content(edge, mounted(source)));
                Some((input, clean_absolute(source)))
            }
            None => None,
        };
        let default_id = || {
            let absolute = options.written_target.starts_with('/');
            let clean = clean_absolute(&options.written_target);
            if absolute { clean } else { clamp(&clean) }
        };
        let id = options.id.clone().unwrap_or_else(default_id);
        let request = self.lowerer.request;
        let namespace = request.build_arg("BUILDKIT_CACHE_MOUNT_NS");
        let id = match namespace.or(request.cache_namespace.as_deref()) {
            Some(namespace) if !namespace.is_empty() => format!("{namespace}/{id}"),
            _ => id,
        };
        let asked = self.lowerer.caches.entry(id.clone());
        asked.or_insert_with(|| Request {
            id: id.clone(),
            required: false,
            span: if self.trigger.is_some() {
                instruction
            } else {
                flag
            },
        });
        Ok(MountKind::Cache(CacheMount {
            id,
            sharing: options.sharing.unwrap_or(Sharing::Shared),
            from,
            readonly: options.readonly == Some(true),
            mode: options.mode.unwrap_or(0o755),
            uid: options.uid.unwrap_or(0),
            gid: options.gid.unwrap_or(0),
        }))
    }

    fn secret(
        &mut self,
        options: &Options,
        target: String,
        flag: Span,
        instruction: Span,
    ) -> Result<Mount, Diagnostic> {
        let id = options.id.as_ref().or(options.source.as_ref()).cloned();
        let id = id.or_else(|| options.target.as_deref().map(|t| base_name(t).to_owned()));
        let Some(id) = id else {
            let message = "invalid secret mount: one of id, source, target required";
            return Err(Diagnostic::error("mount-secret", flag, message));
        };
        let target = match (target.is_empty(), &options.env) {
            (true, None) => format!("/run/secrets/{}", base_name(&id)),
            _ => target,
        };
        let span = if self.trigger.is_some() {
            instruction
        } else {
            flag
        };
        ask(&mut self.lowerer.secrets, &id, options.required, span);
        let kind = MountKind::Secret(SecretMount {
            id,
            required: options.required,
            mode: options.mode.unwrap_or(0o400),
            uid: options.uid.unwrap_or(0),
            gid: options.gid.unwrap_or(0),
            env: options.env.clone(),
        });
        Ok(Mount { target, kind })
    }

    fn ssh(
        &mut self,
        options: &Options,
        target: String,
        instruction: Span,
        agents: &mut usize,
    ) -> Mount {
        let id = options.id.clone().unwrap_or_else(|| "default".to_owned());
        let target = match target.is_empty() {
            true => format!("/run/buildkit/ssh_agent.{agents}"),
            false => target,
        };
        *agents += 1;
        ask(&mut self.lowerer.ssh, &id, options.required, instruction);
        let kind = MountKind::Ssh(SshMount {
            id,
            required: options.required,
            mode: options.mode.unwrap_or(0o600),
            uid: options.uid.unwrap_or(0),
            gid: options.gid.unwrap_or(0),
        });
        Mount { target, kind }
    }

    /// What a mount's `from` names.
    fn mount_from(&mut self, name: &str, span: Span) -> Result<Edge, Diagnostic> {
        let reference = FromReference {
            name,
            span,
            by_index: false,
        };
        Ok(self.referenced_tree(reference)?.edge)
    }
}

fn ask(
    requests: &mut std::collections::BTreeMap<String, Request>,
    id: &str,
    required: bool,
    span: Span,
) {
    let asked = requests.entry(id.to_owned()).or_insert_with(|| Request {
        id: id.to_owned(),
        required,
        span,
    });
    asked.required |= required;
}

/// What a bind mount of `source` can see.
fn mounted(source: &str) -> Selector {
    Selector {
        paths: vec![SelectedPath {
            path: clamp(source),
            pattern: false,
        }],
        exclude: Vec::new(),
        naming: Naming::Mount,
        ignore_owner: false,
        ignore_mode: false,
    }
}

/// Checks options that do not go together.
fn check(options: &Options, span: Span) -> Result<(), Diagnostic> {
    let kind = options.kind;
    let error = |message: String| Err(Diagnostic::error("mount-option", span, message));
    let owned = [Type::Cache, Type::Secret, Type::Ssh].contains(&kind);
    let given = [
        ("mode", options.mode.is_some()),
        ("uid", options.uid.is_some()),
        ("gid", options.gid.is_some()),
    ];
    if let Some((key, _)) = given.iter().find(|&&(_, given)| given && !owned) {
        return error(format!(
            "{key} not allowed for {:?} type mounts",
            name_of(kind)
        ));
    }
    if options.env.is_some() && kind != Type::Secret {
        return Err(unexpected_key("env", kind, span));
    }
    match kind {
        Type::Secret if options.from.is_some() => {
            return error("secret mount should not have a from".to_owned());
        }
        Type::Secret if options.sharing.is_some() => {
            return error("secret mount should not define sharing".to_owned());
        }
        Type::Secret if options.source.is_some() && options.id.is_some() => {
            return error("both source and id can't be set".to_owned());
        }
        Type::Ssh if options.source.is_some() => {
            return error("ssh mount does not support source".to_owned());
        }
        Type::Bind | Type::Cache | Type::Tmpfs if options.target.is_none() => {
            let message = format!("{} mount needs a target", name_of(kind));
            let error = Diagnostic::error("mount-option", span, message)
                .with_help("add target=/path, the place in the container");
            return Err(error);
        }
        _ => {}
    }
    if options.sharing.is_some() && kind != Type::Cache {
        return error(format!(
            "invalid cache sharing set for {} mount",
            name_of(kind)
        ));
    }
    Ok(())
}

/// Every option, for suggestions.
const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "readwrite",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

fn name_of(kind: Type) -> &'static str {
    TYPES
        .iter()
        .find(|(_, known)| *known == kind)
        .map_or("bind", |(name, _)| name)
}

fn unexpected_key(key: &str, kind: Type, span: Span) -> Diagnostic {
    let message = format!("unexpected key '{key}' for mount type '{}'", name_of(kind));
    let help = match key {
        "required" | "size" => {
            Some("options are read in order: write type= before the others".to_owned())
        }
        key => did_you_mean(key, KEYS.iter().copied()),
    };
    Diagnostic::error("mount-option", span, message).with_help_if(help)
}

/// The value of a name in a table, whatever its case.
fn choose<T: Copy>(
    table: &[(&str, T)],
    text: &str,
    what: &str,
    span: Span,
) -> Result<T, Diagnostic> {
    let found = table
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|&(_, value)| value).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|&(name, _)| name).collect();
        let help = match nearest(text, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        let message = format!("unsupported {what} {text:?}");
        Diagnostic::error("mount-option", span, message).with_help(help)
    })
}

/// The spellings of Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Bytes, with a unit of 1024 to some power: `64m`, `1.5GiB`, `100`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * 1024_f64.powi(power);
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn m3_sizes() {
        let cases = [
            ("100", Some(100)),
            ("64m", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2 KB", Some(2048)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(super::parse_size(text), bytes, "{text:?}");
        }
    }
}
