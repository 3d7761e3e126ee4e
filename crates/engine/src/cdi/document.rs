//! A specification file, as JSON or YAML. An unknown field is an error, as the interface demands:
//! what it asks for would be left out.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::yaml;

/// Files larger than this are nobody's specification.
const LARGEST: u64 = 16 << 20;

/// A specification: the devices of one class.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document {
    cdi_version: String,
    /// Vendor and class.
    pub(super) kind: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// For whoever uses one of the devices.
    #[serde(default, rename = "containerEdits")]
    pub(super) edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default, rename = "containerEdits")]
    pub(super) edits: Edits,
}

/// What is to be done for a container.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Edits {
    /// `NAME=value` each.
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    pub(super) additional_gids: Vec<u32>,
    pub(super) intel_rdt: Option<serde_json::Value>,
    pub(super) net_devices: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DeviceNode {
    /// In the container; on the machine too, unless that is said.
    pub(super) path: PathBuf,
    pub(super) host_path: Option<PathBuf>,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) file_mode: Option<u32>,
    /// For a control group of devices, which kiln has none of.
    #[serde(rename = "permissions")]
    _permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) options: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: PathBuf,
    #[serde(rename = "args", default)]
    _args: Vec<String>,
    #[serde(rename = "env", default)]
    _env: Vec<String>,
    #[serde(rename = "timeout")]
    _timeout: Option<i64>,
}

/// Reads a file; `None` when its name is that of no specification.
pub(super) fn read(path: &Path) -> Option<Result<Document, String>> {
    let is_yaml = match path.extension()?.to_str()? {
        "json" => false,
        "yaml" | "yml" => true,
        _ => return None,
    };
    let text = || {
        let size = std::fs::metadata(path)?.len();
        match size > LARGEST {
            true => Err(std::io::ErrorKind::FileTooLarge.into()),
            false => std::fs::read_to_string(path),
        }
    };
    let text = text().map_err(|error| error.to_string());
    Some(text.and_then(|text| parse(&text, is_yaml)))
}

fn parse(text: &str, is_yaml: bool) -> Result<Document, String> {
    let document: Document = match is_yaml {
        true => serde_json::from_value(yaml::parse(text)?),
        false => serde_json::from_str(text),
    }
    .map_err(|error| error.to_string())?;
    let version = document.cdi_version.strip_prefix('v');
    let version = version.unwrap_or(&document.cdi_version);
    if !matches!(version.split_once('.'), Some(("0" | "1", _))) {
        return Err(format!("version {} is not known", document.cdi_version));
    }
    if !is_kind(&document.kind) {
        return Err(format!("`{}` is no vendor and class", document.kind));
    }
    if document.devices.is_empty() {
        return Err("it describes no device".into());
    }
    for device in &document.devices {
        if !is_name(&device.name, "_-.:", char::is_alphanumeric) {
            return Err(format!("`{}` is no name of a device", device.name));
        }
    }
    let edits = document.devices.iter().map(|device| &device.edits);
    for variable in edits.chain([&document.edits]).flat_map(|edits| &edits.env) {
        if !variable.contains('=') {
            return Err(format!("`{variable}` is no NAME=value"));
        }
    }
    Ok(document)
}

/// Whether a text is a vendor and a class, as in `vendor.com/class`.
pub(super) fn is_kind(text: &str) -> bool {
    text.split_once('/').is_some_and(|(vendor, class)| {
        [vendor, class]
            .iter()
            .all(|name| is_name(name, "_-.", char::is_alphabetic))
    })
}

/// Whether a text has only letters, digits and some of `between`, those not at its ends.
fn is_name(text: &str, between: &str, first: fn(char) -> bool) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || between.contains(c);
    text.is_ascii()
        && text.starts_with(first)
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expect`: a text in what the parsed document looks like, or in the error.
    #[track_caller]
    fn check(text: &str, expect: Result<&str, &str>) {
        for is_yaml in [true, false] {
            let found = match is_yaml {
                true => parse(text, true),
                // The same by way of JSON.
                false => match yaml::parse(text) {
                    Ok(value) => parse(&value.to_string(), false),
                    Err(error) => Err(error),
                },
            };
            match (found.map(|document| format!("{document:?}")), expect) {
                (Ok(found), Ok(expect)) => assert!(found.contains(expect), "{found}"),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    fn device(edits: &str) -> String {
        format!(
            "cdiVersion: 0.8.0\nkind: vendor.com/gpu\ndevices:\n- name: '0'\n  containerEdits:\n    {edits}\n"
        )
    }

    #[test]
    fn fields() {
        check(
            &device(
                "deviceNodes: [{path: /dev/a, hostPath: /dev/b, type: c, major: 1, minor: 7, fileMode: 0640, permissions: rw, uid: 5, gid: 6}]",
            ),
            Ok("major: Some(1), minor: Some(7), file_mode: Some(416)"),
        );
        check(
            &device(
                "mounts: [{hostPath: /a, containerPath: /b, type: bind, options: [ro, nosuid]}]",
            ),
            Ok("container_path: \"/b\", kind: Some(\"bind\"), options: [\"ro\", \"nosuid\"]"),
        );
        check(
            &device(
                "hooks: [{hookName: createContainer, path: /bin/x, args: [x, y], env: [A=b], timeout: 5}]",
            ),
            Ok("hook_name: \"createContainer\", path: \"/bin/x\""),
        );
        check(
            &device("additionalGids: [44, 109]"),
            Ok("additional_gids: [44, 109]"),
        );
        check(&device("env: [A=b, C=]"), Ok("env: [\"A=b\", \"C=\"]"));
        check(
            &device("netDevices: [{hostInterfaceName: eth1, name: x}]"),
            Ok("eth1"),
        );
    }

    #[test]
    fn mistakes() {
        check(&device("envs: []"), Err("unknown field `envs`"));
        check(&device("env: [A]"), Err("`A` is no NAME=value"));
        check(
            &device("deviceNodes: [{hostPath: /x}]"),
            Err("missing field `path`"),
        );
        let whole = |version: &str, kind: &str, devices: &str| {
            format!("cdiVersion: {version}\nkind: {kind}\ndevices: {devices}\n")
        };
        let one = "[{name: a, containerEdits: {}}]";
        check(&whole("1.1.0", "v.com/c", one), Ok("kind: \"v.com/c\""));
        check(
            &whole("2.0.0", "v.com/c", one),
            Err("version 2.0.0 is not known"),
        );
        check(
            &whole("0.6", "v.com/c", one),
            Err("invalid type: floating point"),
        );
        check(
            &whole("0.6.0", "v.com", one),
            Err("`v.com` is no vendor and class"),
        );
        check(&whole("0.6.0", "v.com/c-", one), Err("no vendor and class"));
        check(
            &whole("0.6.0", "v.com/c", "[]"),
            Err("it describes no device"),
        );
        check(
            &whole("0.6.0", "v.com/c", "[{name: a=b}]"),
            Err("no name of a device"),
        );
    }
}
