//! The configuration file: TOML, its registry tables spelled as in buildkitd.toml. Reads and
//! checks; an unknown key is an error that names the nearest known one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// What the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// `root`: the state directory.
    pub(crate) root: Option<PathBuf>,
    /// `layers`.
    pub(crate) layers: Layers,
    /// `[registry."HOST"]`.
    pub(crate) registries: BTreeMap<String, RegistryTable>,
    /// `[gc]`.
    pub(crate) gc: GcTable,
    /// `[cdi]`.
    pub(crate) cdi: CdiTable,
}

/// `layers`: how layers are mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layers {
    /// `auto`: packed wherever the kernel mounts EROFS.
    #[default]
    Auto,
    /// `directories`: written out, which every kernel and every backup tool understands.
    Directories,
}

/// One `[registry."HOST"]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegistryTable {
    /// Hosts to ask first, in order.
    pub(crate) mirrors: Vec<String>,
    /// Plain HTTP, or not; without a word the address decides.
    pub(crate) http: Option<bool>,
    /// HTTPS without checking certificates, plain HTTP as a fall-back.
    pub(crate) insecure: bool,
    /// Files with further certificate authorities.
    pub(crate) ca: Vec<PathBuf>,
}

/// `[gc]`: limits of the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GcTable {
    /// `max-size`, in bytes.
    pub(crate) max_size: Option<u64>,
    /// `min-free`, in bytes.
    pub(crate) min_free: Option<u64>,
}

/// `[cdi]`: devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CdiTable {
    /// `specDirs`: directories of files that describe devices; later ones count more.
    pub(crate) spec_dirs: Vec<PathBuf>,
}

impl Default for CdiTable {
    /// BuildKit's.
    fn default() -> CdiTable {
        CdiTable {
            spec_dirs: ["/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"]
                .map(PathBuf::from)
                .into(),
        }
    }
}

/// Reads the configuration: `explicit` must exist, the others are tried in order.
///
/// # Errors
/// When a file cannot be read or parsed, or has an unknown key.
pub(crate) fn load(explicit: Option<&Path>, defaults: &[PathBuf]) -> Result<Config> {
    let path = match explicit {
        Some(path) => path,
        None => match defaults.iter().find(|path| path.exists()) {
            Some(path) => path,
            None => return Ok(Config::default()),
        },
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("in configuration file {}", path.display()))
}

/// Parses a configuration.
///
/// # Errors
/// When it is no TOML, a value has the wrong type, or a key is unknown.
pub(crate) fn parse(text: &str) -> Result<Config> {
    let table: Table = text.parse().context("it is no valid TOML")?;
    let mut config = Config::default();
    for (key, value) in table {
        match key.as_str() {
            "root" => config.root = Some(string("root", value)?.into()),
            "registry" => {
                for (host, value) in sub_table("registry", value)? {
                    let name = format!("registry.\"{host}\"");
                    config
                        .registries
                        .insert(host, registry(&name, sub_table(&name, value)?)?);
                }
            }
            "layers" => {
                config.layers = match string("layers", value)?.as_str() {
                    "auto" => Layers::Auto,
                    "directories" => Layers::Directories,
                    other => bail!("`layers` must be `auto` or `directories`, not `{other}`"),
                }
            }
            "gc" => config.gc = gc(sub_table("gc", value)?)?,
            "cdi" => config.cdi = cdi(sub_table("cdi", value)?)?,
            other => {
                let known = ["root", "layers", "registry", "gc", "cdi"];
                return Err(unknown("", other, &known));
            }
        }
    }
    Ok(config)
}

fn registry(name: &str, table: Table) -> Result<RegistryTable> {
    let mut registry = RegistryTable::default();
    for (key, value) in table {
        let path = format!("{name}.{key}");
        match key.as_str() {
            "mirrors" => registry.mirrors = strings(&path, value)?,
            "http" => registry.http = Some(boolean(&path, value)?),
            "insecure" => registry.insecure = boolean(&path, value)?,
            "ca" => {
                registry.ca = strings(&path, value)?
                    .into_iter()
                    .map(PathBuf::from)
                    .collect()
            }
            other => {
                return Err(unknown(
                    &format!("{name}."),
                    other,
                    &["mirrors", "http", "insecure", "ca"],
                ));
            }
        }
    }
    Ok(registry)
}

fn gc(table: Table) -> Result<GcTable> {
    let mut gc = GcTable::default();
    for (key, value) in table {
        let path = format!("gc.{key}");
        match key.as_str() {
            "max-size" => gc.max_size = Some(size(&path, value)?),
            "min-free" => gc.min_free = Some(size(&path, value)?),
            other => return Err(unknown("gc.", other, &["max-size", "min-free"])),
        }
    }
    Ok(gc)
}

fn cdi(table: Table) -> Result<CdiTable> {
    let mut cdi = CdiTable::default();
    for (key, value) in table {
        match key.as_str() {
            "specDirs" => {
                let names = strings("cdi.specDirs", value)?;
                cdi.spec_dirs = names.into_iter().map(PathBuf::from).collect();
            }
            other => return Err(unknown("cdi.", other, &["specDirs"])),
        }
    }
    Ok(cdi)
}

fn unknown(prefix: &str, key: &str, known: &[&str]) -> anyhow::Error {
    match engine::nearest(key, known.iter().copied()) {
        Some(nearest) => {
            anyhow::anyhow!("unknown key `{prefix}{key}`: did you mean `{prefix}{nearest}`?")
        }
        None => anyhow::anyhow!(
            "unknown key `{prefix}{key}`: known are {}",
            known.join(", ")
        ),
    }
}

fn sub_table(path: &str, value: Value) -> Result<Table> {
    match value {
        Value::Table(table) => Ok(table),
        other => bail!("`{path}` must be a table, not {}", other.type_str()),
    }
}

fn string(path: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => bail!("`{path}` must be a string, not {}", other.type_str()),
    }
}

fn strings(path: &str, value: Value) -> Result<Vec<String>> {
    match value {
        Value::Array(values) => values
            .into_iter()
            .map(|value| string(path, value))
            .collect(),
        other => bail!(
            "`{path}` must be an array of strings, not {}",
            other.type_str()
        ),
    }
}

fn boolean(path: &str, value: Value) -> Result<bool> {
    match value {
        Value::Boolean(value) => Ok(value),
        other => bail!("`{path}` must be true or false, not {}", other.type_str()),
    }
}

fn size(path: &str, value: Value) -> Result<u64> {
    let text = match value {
        Value::Integer(bytes) => bytes.to_string(),
        other => string(path, other)?,
    };
    crate::args::parse_size(&text).map_err(|reason| anyhow::anyhow!("`{path}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<Config, &str>) {
        let found = parse(text).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(String::from));
    }

    #[test]
    fn registries() {
        let docker = RegistryTable {
            mirrors: vec!["127.0.0.1:5000".into()],
            ..RegistryTable::default()
        };
        let local = RegistryTable {
            http: Some(true),
            ca: vec!["/ca.pem".into()],
            ..RegistryTable::default()
        };
        check(
            "[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:5000\"]\n[registry.\"127.0.0.1:5000\"]\nhttp = true\nca = [\"/ca.pem\"]",
            Ok(Config {
                registries: BTreeMap::from([
                    ("docker.io".into(), docker),
                    ("127.0.0.1:5000".into(), local),
                ]),
                ..Config::default()
            }),
        );
    }

    #[test]
    fn limits() {
        let gc = GcTable {
            max_size: Some(20 << 30),
            min_free: Some(1000),
        };
        check(
            "[gc]\nmax-size = \"20GB\"\nmin-free = 1000",
            Ok(Config {
                gc,
                ..Config::default()
            }),
        );
    }

    #[test]
    fn devices() {
        let cdi = |names: &[&str]| CdiTable {
            spec_dirs: names.iter().map(PathBuf::from).collect(),
        };
        check(
            "[cdi]\nspecDirs = ['/a', '/b']",
            Ok(Config {
                cdi: cdi(&["/a", "/b"]),
                ..Config::default()
            }),
        );
        let usual = ["/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"];
        assert_eq!(Config::default().cdi, cdi(&usual));
        check(
            "[cdi]\nspec-dirs = []",
            Err("unknown key `cdi.spec-dirs`: did you mean `cdi.specDirs`?"),
        );
    }

    #[test]
    fn mistakes_are_named() {
        check(
            "rooot = '/x'",
            Err("unknown key `rooot`: did you mean `root`?"),
        );
        check(
            "[registry.\"a\"]\nmirror = []",
            Err("unknown key `registry.\"a\".mirror`: did you mean `registry.\"a\".mirrors`?"),
        );
        check(
            "[gc]\nzzz = 1",
            Err("unknown key `gc.zzz`: known are max-size, min-free"),
        );
        check(
            "layers = 'tar'",
            Err("`layers` must be `auto` or `directories`, not `tar`"),
        );
        check("root = 1", Err("`root` must be a string, not integer"));
    }
}
