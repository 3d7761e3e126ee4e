//! The image config: what a container of the image runs with, its layers and its history.
//!
//! The fields are those of the OCI's image-spec (config.md) and of Docker's extension of it
//! (`Healthcheck`, `OnBuild`, `Shell`, `ArgsEscaped`). Unknown keys are kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::json::{is_default, null_as_default};
use crate::{DiffId, Platform, Timestamp};

/// An image's config.
///
/// Written with its keys sorted, as BuildKit's exporter does.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Who made it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub author: String,
    /// Processor architecture in Go's words.
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    /// Variant of the architecture; empty when there is none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub variant: String,
    /// Operating system in Go's words.
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    /// Version of the operating system; empty when there is none.
    #[serde(default, rename = "os.version", deserialize_with = "null_as_default")]
    pub os_version: String,
    /// Features that the operating system must have.
    #[serde(default, rename = "os.features", deserialize_with = "null_as_default")]
    pub os_features: Vec<String>,
    /// What a container runs with.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ContainerConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// What each layer and each setting came from, oldest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<History>,
    /// Keys that are not listed above.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// The platform that the image says it is for, in its one spelling.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: Some(self.variant.clone()),
            os_version: Some(self.os_version.clone()),
            os_features: self.os_features.clone(),
        }
        .normalized()
    }

    /// Says that the image is for `platform`.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.os = platform.os.clone();
        self.architecture = platform.architecture.clone();
        self.variant = platform.variant.clone().unwrap_or_default();
        self.os_version = platform.os_version.clone().unwrap_or_default();
        self.os_features = platform.os_features.clone();
    }
}

/// One value of the config's top level, so that all of them sort into one map.
#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Created(&'a Timestamp),
    Text(&'a str),
    Texts(&'a [String]),
    Config(&'a ContainerConfig),
    RootFs(&'a RootFs),
    History(&'a [History]),
    Extra(&'a Value),
}

impl Serialize for ImageConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts = [
            ("architecture", &self.architecture),
            ("author", &self.author),
            ("os", &self.os),
            ("os.version", &self.os_version),
            ("variant", &self.variant),
        ];
        let required = ["architecture", "os"];
        let mut members: BTreeMap<&str, Member<'_>> = self
            .extra
            .iter()
            .map(|(key, value)| (key.as_str(), Member::Extra(value)))
            .collect();
        for (key, text) in texts {
            if required.contains(&key) || !text.is_empty() {
                members.insert(key, Member::Text(text));
            }
        }
        if let Some(created) = &self.created {
            members.insert("created", Member::Created(created));
        }
        if !self.os_features.is_empty() {
            members.insert("os.features", Member::Texts(&self.os_features));
        }
        if !self.history.is_empty() {
            members.insert("history", Member::History(&self.history));
        }
        members.insert("config", Member::Config(&self.config));
        members.insert("rootfs", Member::RootFs(&self.rootfs));
        let mut map = serializer.serialize_map(Some(members.len()))?;
        for (key, member) in &members {
            map.serialize_entry(key, member)?;
        }
        map.end()
    }
}

/// What a container of the image runs with (image-spec, config.md#properties, `config`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `USER`: name or number, with an optional group; empty is root.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `EXPOSE`: port and protocol, `80/tcp`.
    #[serde(with = "set_as_map", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `ENV`: `NAME=value`, in order.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub entrypoint: Vec<String>,
    /// `CMD`.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cmd: Vec<String>,
    /// `VOLUME`: absolute paths.
    #[serde(with = "set_as_map", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// `WORKDIR`: absolute path; empty is the root directory.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`: name or number; empty is SIGTERM.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Whether `CMD` is one escaped text (Windows); BuildKit sets it for every shell-form command.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_default"
    )]
    pub args_escaped: bool,
    /// `HEALTHCHECK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// `ONBUILD`: instructions as written.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// `SHELL`; empty is the platform's own.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
    /// Keys that are not listed above.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How a container's health is found out. Times are in nanoseconds, and 0 means to inherit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// Empty to inherit, `NONE`, `CMD` and arguments, or `CMD-SHELL` and a command line.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_default"
    )]
    pub interval: i64,
    /// Time after which a check has failed.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_default"
    )]
    pub timeout: i64,
    /// Time at the start in which failures do not count.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_default"
    )]
    pub start_period: i64,
    /// Time between two checks in the start period.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_default"
    )]
    pub start_interval: i64,
    /// How many failures in a row make a container unhealthy.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_default"
    )]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> RootFs {
        RootFs {
            kind: "layers".into(),
            diff_ids: Vec::new(),
        }
    }
}

/// What one layer or one setting came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The instruction.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// Who.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Anything else.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// It made no layer.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_default"
    )]
    pub empty_layer: bool,
}

/// A set is written as an object whose values are empty objects.
mod set_as_map {
    use super::*;

    #[derive(Serialize)]
    struct Nothing {}

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|member| (member, Nothing {})))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}
