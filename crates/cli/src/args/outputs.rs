//! Comma-separated values: outputs, caches and contexts, spelled as in buildx.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use engine::request::{
    Annotation, CacheExport, CacheImport, CacheMode, Compression, Destination, Encoding,
    ImageOutput, NamedContext, Output, OutputKind,
};
use oci::Reference;

use super::annotations;

/// Fields of a comma-separated value, taken one by one so that leftovers are errors.
struct Fields {
    pairs: Vec<(String, String)>,
}

impl Fields {
    /// Splits at commas; a field in double quotes may hold some.
    fn parse(text: &str) -> Result<Fields> {
        let mut pairs = Vec::new();
        for field in split_csv(text)? {
            let (key, value) = field
                .split_once('=')
                .with_context(|| format!("`{field}` is not KEY=VALUE"))?;
            // Names of annotations keep their case.
            let key = match key.split_once('.') {
                Some((option, name)) => format!("{}.{name}", option.to_ascii_lowercase()),
                None => key.to_ascii_lowercase(),
            };
            pairs.push((key, value.to_string()));
        }
        Ok(Fields { pairs })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.remove(at).1)
    }

    fn take_bool(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.take(key).as_deref() {
            None => Ok(default),
            Some("" | "true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => bail!("{key}={other}: must be true or false"),
        }
    }

    fn take_optional_bool(&mut self, key: &str) -> Result<Option<bool>> {
        self.has(key).then(|| self.take_bool(key, true)).transpose()
    }

    fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(name, _)| name == key)
    }

    /// Takes every `annotation[-LEVEL][PLATFORM].KEY=VALUE`.
    fn take_annotations(&mut self) -> Result<Vec<Annotation>> {
        let mut taken = Vec::new();
        let mut rest = Vec::new();
        for (name, value) in std::mem::take(&mut self.pairs) {
            match annotations::attribute(&name, &value)? {
                Some(annotation) => taken.push(annotation),
                None => rest.push((name, value)),
            }
        }
        self.pairs = rest;
        Ok(taken)
    }

    fn finish(self, what: &str, known: &[&str]) -> Result<()> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, _)) => bail!("{what} has no option `{key}` (it has {})", known.join(", ")),
        }
    }
}

/// Splits at commas outside double quotes.
pub(super) fn split_csv(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    if quoted {
        bail!("a double quote is not closed");
    }
    Ok(fields)
}

/// `-o type=registry`.
pub(super) fn push() -> Output {
    Output::plain(OutputKind::Image(ImageOutput::PUSH))
}

/// Parses one `--output`.
pub(super) fn parse(text: &str) -> Result<Output> {
    if text == "-" {
        let kind = OutputKind::Tar {
            dest: Destination::Stdout,
            split: None,
        };
        return Ok(Output::plain(kind));
    }
    if !text.contains('=') {
        return Ok(Output::plain(OutputKind::Local {
            dest: text.into(),
            split: None,
            delete: false,
        }));
    }
    let mut fields = Fields::parse(text)?;
    let name = fields
        .take("type")
        .context("the type is missing: type=oci, docker, local, tar, image or registry")?;
    let encoding = encoding(&mut fields, name == "docker")?;
    if !fields.take_bool("rewrite-timestamp", true)? {
        bail!(
            "rewrite-timestamp=false: true times are kept by --timestamp preserve, for all outputs"
        );
    }
    let annotations = fields.take_annotations()?;
    let names = match name.as_str() {
        "oci" | "docker" | "image" | "registry" => image_names(&mut fields)?,
        _ => Vec::new(),
    };
    let (kind, known) = kind(&name, &mut fields)?;
    fields.finish(&format!("type={name}"), known)?;
    Ok(Output {
        kind,
        names,
        annotations,
        encoding,
    })
}

/// What a type stands for, and the names of its options.
fn kind(name: &str, fields: &mut Fields) -> Result<(OutputKind, &'static [&'static str])> {
    Ok(match name {
        "oci" => {
            let tar = fields.take_bool("tar", true)?;
            let dest = destination(fields, name)?;
            let known = &["dest", "tar", "name", "compression", "annotation.KEY"];
            (OutputKind::Oci { dest, tar }, known)
        }
        // What `--load` stands for: there is no daemon, the store is where images are run from.
        "docker" if !fields.has("dest") => {
            (OutputKind::Image(ImageOutput::STORE), &["dest", "name"])
        }
        "docker" => {
            let dest = destination(fields, name)?;
            (
                OutputKind::Docker { dest },
                &["dest", "name", "compression"],
            )
        }
        "tar" => {
            let dest = destination(fields, name)?;
            let split = fields.take_optional_bool("platform-split")?;
            (OutputKind::Tar { dest, split }, &["dest", "platform-split"])
        }
        "local" => {
            let delete = match fields.take("mode").as_deref() {
                None | Some("copy") => false,
                Some("delete") => true,
                Some(other) => bail!("mode={other}: must be copy or delete"),
            };
            let split = fields.take_optional_bool("platform-split")?;
            let dest = fields
                .take("dest")
                .context("type=local needs dest=DIRECTORY")?;
            let dest = dest.into();
            let kind = OutputKind::Local {
                dest,
                split,
                delete,
            };
            (kind, &["dest", "mode", "platform-split"])
        }
        "image" | "registry" => (image(fields, name == "registry")?, IMAGE),
        "cacheonly" => (OutputKind::CacheOnly, &[]),
        other => bail!(
            "there is no output type `{other}`: kiln has oci, docker, local, tar, image, registry, cacheonly"
        ),
    })
}

/// Options of `type=image`.
const IMAGE: &[&str] = &[
    "name",
    "push",
    "push-by-digest",
    "name-canonical",
    "store",
    "unpack",
    "rewrite-timestamp",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
    "annotation.KEY",
];

fn image(fields: &mut Fields, push: bool) -> Result<OutputKind> {
    // Layers in the store are ready to be mounted whatever is said about it.
    fields.take_bool("unpack", true)?;
    if fields.take("registry.insecure").is_some() {
        bail!(
            "registry.insecure: say it in the configuration file, for the registry: insecure = true"
        );
    }
    let by_digest = fields.take_bool("push-by-digest", false)?;
    Ok(OutputKind::Image(ImageOutput {
        push: fields.take_bool("push", push)?,
        by_digest,
        store: fields.take_bool("store", true)?,
        canonical: fields.take_bool("name-canonical", false)?,
    }))
}

fn image_names(fields: &mut Fields) -> Result<Vec<Reference>> {
    let names = fields.take("name").unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| Ok(name.parse::<Reference>()?)).collect()
}

fn destination(fields: &mut Fields, kind: &str) -> Result<Destination> {
    match fields.take("dest").as_deref() {
        Some("-") => Ok(Destination::Stdout),
        Some(path) => Ok(Destination::Path(path.into())),
        None => bail!("type={kind} needs dest=FILE, or dest=- for standard output"),
    }
}

fn encoding(fields: &mut Fields, docker: bool) -> Result<Encoding> {
    let compression = match fields.take("compression").as_deref() {
        None | Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some("uncompressed") => Compression::Uncompressed,
        Some(other) => bail!("compression={other}: kiln has gzip, zstd and uncompressed"),
    };
    let level = match fields.take("compression-level") {
        None => None,
        Some(level) => Some(
            level
                .parse()
                .with_context(|| format!("compression-level={level}: must be a number"))?,
        ),
    };
    Ok(Encoding {
        compression,
        level,
        force: fields.take_bool("force-compression", false)?,
        docker_media_types: !fields.take_bool("oci-mediatypes", !docker)?,
    })
}

/// Parses one `--cache-from`.
pub(super) fn cache_import(text: &str) -> Result<CacheImport> {
    if !text.contains('=') {
        return Ok(CacheImport::Registry(text.parse()?));
    }
    let mut fields = Fields::parse(text)?;
    let place = cache_place(&mut fields, "src")?;
    fields.finish("--cache-from", &["type", "ref", "src"])?;
    Ok(place)
}

/// Parses one `--cache-to`.
pub(super) fn cache_export(text: &str) -> Result<CacheExport> {
    if !text.contains('=') {
        return Ok(CacheExport {
            to: CacheImport::Registry(text.parse()?),
            mode: CacheMode::Min,
            ignore_error: false,
        });
    }
    let mut fields = Fields::parse(text)?;
    let to = cache_place(&mut fields, "dest")?;
    let mode = match fields.take("mode").as_deref() {
        None | Some("min") => CacheMode::Min,
        Some("max") => CacheMode::Max,
        Some(other) => bail!("mode={other}: must be min or max"),
    };
    let ignore_error = fields.take_bool("ignore-error", false)?;
    fields.finish(
        "--cache-to",
        &["type", "ref", "dest", "mode", "ignore-error"],
    )?;
    Ok(CacheExport {
        to,
        mode,
        ignore_error,
    })
}

fn cache_place(fields: &mut Fields, directory: &str) -> Result<CacheImport> {
    match fields.take("type").as_deref() {
        Some("registry") | None => {
            let reference = fields.take("ref").context("type=registry needs ref=NAME")?;
            Ok(CacheImport::Registry(reference.parse()?))
        }
        Some("local") => {
            let path = fields
                .take(directory)
                .with_context(|| format!("type=local needs {directory}=DIRECTORY"))?;
            Ok(CacheImport::Local(path.into()))
        }
        Some(other) => bail!("there is no cache type `{other}`: kiln has registry and local"),
    }
}

/// A context that is not on this machine.
pub(super) enum Remote {
    /// A git repository.
    Git(String),
    /// A file.
    Http(String),
}

/// Tells URLs from directories (rows B3, B4, C19).
pub(super) fn remote(text: &str) -> Option<Remote> {
    let before_fragment = text.split(['#', '?']).next().unwrap_or(text);
    let http = text.starts_with("http://") || text.starts_with("https://");
    let git = text.starts_with("git://")
        || text.starts_with("ssh://")
        || text.starts_with("git@")
        || (http && before_fragment.ends_with(".git"));
    if git {
        Some(Remote::Git(text.to_string()))
    } else if text.starts_with("github.com/") {
        Some(Remote::Git(format!("https://{text}")))
    } else if http {
        Some(Remote::Http(text.to_string()))
    } else {
        None
    }
}

/// Parses the source of a `--build-context`.
pub(super) fn named_context(text: &str) -> Result<NamedContext> {
    if let Some(reference) = text.strip_prefix("docker-image://") {
        return Ok(NamedContext::Image(reference.parse()?));
    }
    if let Some(layout) = text.strip_prefix("oci-layout://") {
        let (path, version) = match (layout.split_once('@'), layout.rsplit_once(':')) {
            (Some((path, digest)), _) => (path, Some(digest.to_string())),
            (None, Some((path, tag))) if !tag.contains('/') => (path, Some(tag.to_string())),
            _ => (layout, None),
        };
        return Ok(NamedContext::OciLayout {
            path: path.into(),
            version,
        });
    }
    Ok(match remote(text) {
        Some(Remote::Git(url)) => NamedContext::Git(url),
        Some(Remote::Http(url)) => NamedContext::Http(url),
        None => NamedContext::Directory(PathBuf::from(text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<OutputKind, &str>) {
        let found = parse(text)
            .map(|output| output.kind)
            .map_err(|error| format!("{error:#}"));
        assert_eq!(found, expected.map_err(String::from), "{text}");
    }

    #[test]
    fn outputs() {
        let local = |split, delete| OutputKind::Local {
            dest: "out".into(),
            split,
            delete,
        };
        check("out", Ok(local(None, false)));
        check("type=local,dest=out,mode=delete", Ok(local(None, true)));
        check(
            "type=local,dest=out,mode=copy,platform-split=false",
            Ok(local(Some(false), false)),
        );
        check(
            "type=local,dest=out,mode=move",
            Err("mode=move: must be copy or delete"),
        );
        check(
            "-",
            Ok(OutputKind::Tar {
                dest: Destination::Stdout,
                split: None,
            }),
        );
        let image = ImageOutput::STORE;
        check(
            "type=image,unpack=true,rewrite-timestamp=true",
            Ok(OutputKind::Image(image)),
        );
        check(
            "type=image,push=true,push-by-digest=true,name-canonical=true,store=false",
            Ok(OutputKind::Image(ImageOutput {
                push: true,
                by_digest: true,
                store: false,
                canonical: true,
            })),
        );
        check(
            "type=image,rewrite-timestamp=false",
            Err(
                "rewrite-timestamp=false: true times are kept by --timestamp preserve, for all outputs",
            ),
        );
        check(
            "type=registry,registry.insecure=true",
            Err(
                "registry.insecure: say it in the configuration file, for the registry: insecure = true",
            ),
        );
        check("type=docker", Ok(OutputKind::Image(image)));
        check(
            "type=oci,dest=a.tar",
            Ok(OutputKind::Oci {
                dest: Destination::Path("a.tar".into()),
                tar: true,
            }),
        );
        check(
            "type=oci,\"dest=a,b\",tar=false",
            Ok(OutputKind::Oci {
                dest: Destination::Path("a,b".into()),
                tar: false,
            }),
        );
        check("type=registry", Ok(OutputKind::Image(ImageOutput::PUSH)));
        check(
            "type=oci",
            Err("type=oci needs dest=FILE, or dest=- for standard output"),
        );
        check(
            "type=tar,dest=-,speed=9",
            Err("type=tar has no option `speed` (it has dest, platform-split)"),
        );
        check(
            "type=zip,dest=x",
            Err(
                "there is no output type `zip`: kiln has oci, docker, local, tar, image, registry, cacheonly",
            ),
        );
        check(
            "dest=x",
            Err("the type is missing: type=oci, docker, local, tar, image or registry"),
        );
    }

    #[test]
    fn contexts() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let found = match remote(text) {
                Some(Remote::Git(url)) => format!("git {url}"),
                Some(Remote::Http(url)) => format!("http {url}"),
                None => "directory".to_string(),
            };
            assert_eq!(found, expected, "{text}");
        }
        check(".", "directory");
        check("git@host:a/b", "git git@host:a/b");
        check(
            "https://host/a.git#main:dir",
            "git https://host/a.git#main:dir",
        );
        check("https://host/a.tar.gz", "http https://host/a.tar.gz");
        check("github.com/a/b", "git https://github.com/a/b");
    }
}
