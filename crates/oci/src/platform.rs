//! Platforms: parsing, the one spelling of each, and which images run on which.
//!
//! The rules are containerd's, so that an index resolves here as it does there. Nothing here
//! asks the machine: [`Platform::native`] is what the binary was compiled for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json::null_as_default;

/// The system that an image's binaries run on (image-spec, image-index.md).
///
/// Written `os/architecture[/variant]`, or `os(version)/…` where the version matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor architecture in Go's words: `amd64`, `arm64`, …
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    /// Operating system in Go's words: `linux`, `windows`, …
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    /// Version of the operating system, where its images need it (Windows).
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the architecture: `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no [`Platform`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// There are too many parts, or one is empty or has a character it cannot have.
    #[error("platform {text:?} is not of the form os/architecture[/variant]")]
    Malformed {
        /// The text.
        text: String,
    },
    /// One word that is neither an operating system nor an architecture.
    #[error("platform {text:?} is neither a known operating system nor a known architecture")]
    Unknown {
        /// The text.
        text: String,
    },
    /// An operating system without an architecture.
    #[error("platform {text:?} names no architecture; write {text}/amd64 or the like")]
    NoArchitecture {
        /// The text.
        text: String,
    },
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
    "zos",
];

const KNOWN_ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// A platform without version and features, in its one spelling.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
            os_version: None,
            os_features: Vec::new(),
        }
        .normalized()
    }

    /// What this binary was compiled for.
    pub fn native() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "loongarch64" => "loong64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            other => other,
        };
        Platform::new(std::env::consts::OS, architecture, None)
    }

    /// The same platform in its one spelling: `x86_64` is `amd64`, `aarch64/v8` is `arm64`,
    /// `armhf` is `arm/v7`.
    #[must_use]
    pub fn normalized(&self) -> Platform {
        let os = self.os.to_ascii_lowercase();
        let variant = self
            .variant
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Platform {
            os: if os == "macos" { "darwin".into() } else { os },
            architecture: architecture.into(),
            variant: (!variant.is_empty()).then(|| variant.into()),
            os_version: self
                .os_version
                .clone()
                .filter(|version| !version.is_empty()),
            os_features: self.os_features.clone(),
        }
    }

    /// How well an image of platform `offered` runs where this one is wanted: 0 is what was
    /// asked for, higher is worse, `None` is not at all.
    ///
    /// A newer processor runs what was built for an older one of its line: `arm/v7` takes
    /// `arm/v6`, `arm64` takes `arm/v8`, `amd64` takes `386`.
    pub fn rank(&self, offered: &Platform) -> Option<usize> {
        let wanted = self.normalized();
        let offered = offered.normalized();
        let version_fits = match (&wanted.os_version, &offered.os_version) {
            (Some(wanted_version), Some(version)) if wanted.os == "windows" => {
                windows_build(wanted_version) == windows_build(version)
            }
            _ => true,
        };
        if wanted.os != offered.os || !version_fits {
            return None;
        }
        wanted
            .processors()
            .into_iter()
            .position(|(architecture, variant)| {
                Platform::new(&wanted.os, architecture, variant.as_deref()).processor()
                    == offered.processor()
            })
    }

    /// The one of several that runs best where this platform is wanted, the first of equals;
    /// `None` if none does.
    pub fn choose<T>(
        &self,
        offered: impl IntoIterator<Item = T>,
        platform: impl Fn(&T) -> &Platform,
    ) -> Option<T> {
        let ranked = offered
            .into_iter()
            .filter_map(|offer| Some((self.rank(platform(&offer))?, offer)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, offer)| offer)
    }

    /// Whether an image of platform `offered` runs where this one is wanted.
    pub fn accepts(&self, offered: &Platform) -> bool {
        self.rank(offered).is_some()
    }

    fn processor(&self) -> (&str, Option<&str>) {
        (&self.architecture, self.variant.as_deref())
    }

    /// The architectures and variants that run here, best first.
    fn processors(&self) -> Vec<(&str, Option<String>)> {
        let variant = self.variant.clone();
        match self.architecture.as_str() {
            "amd64" => amd64_line(variant),
            "arm" => arm_line(variant),
            "arm64" => arm64_line(variant),
            other => vec![(other, variant)],
        }
    }
}

fn amd64_line(variant: Option<String>) -> Vec<(&'static str, Option<String>)> {
    let level = variant.as_deref().and_then(number).unwrap_or(0);
    let mut line = vec![("amd64", variant)];
    for older in (1..level).rev() {
        line.push(("amd64", Some(format!("v{older}"))));
    }
    line.push(("386", None));
    line
}

fn arm_line(variant: Option<String>) -> Vec<(&'static str, Option<String>)> {
    let version = variant.as_deref().and_then(number).unwrap_or(0);
    let mut line = vec![("arm", variant)];
    for older in (5..version).rev() {
        line.push(("arm", Some(format!("v{older}"))));
    }
    line
}

/// v9.x runs v9.0 to v9.x and, having parted from v8.5, v8.0 to v8.(x+5).
fn arm64_line(variant: Option<String>) -> Vec<(&'static str, Option<String>)> {
    let spelled = variant.clone().unwrap_or_else(|| "v8".into());
    let (major, minor) = spelled.split_once('.').unwrap_or((&spelled, "0"));
    let (major, minor) = (
        number(major).unwrap_or(0),
        minor.parse::<u32>().unwrap_or(0).min(99),
    );
    let name = |major: u32, minor: u32| match (major, minor) {
        (8, 0) => None,
        (_, 0) => Some(format!("v{major}")),
        _ => Some(format!("v{major}.{minor}")),
    };
    let mut line = vec![("arm64", variant)];
    if major == 9 {
        line.extend((0..minor).rev().map(|older| ("arm64", name(9, older))));
        line.extend((0..=minor + 5).rev().map(|older| ("arm64", name(8, older))));
    } else if major == 8 {
        line.extend((0..minor).rev().map(|older| ("arm64", name(8, older))));
    }
    let arm = if matches!(major, 8 | 9) {
        "v8".to_string()
    } else {
        spelled
    };
    line.extend(arm_line(Some(arm)));
    line
}

fn number(variant: &str) -> Option<u32> {
    let number = variant.strip_prefix('v').unwrap_or(variant).parse().ok()?;
    (number < 100).then_some(number)
}

/// The first three numbers: what must agree for a Windows container to start.
fn windows_build(version: &str) -> Vec<&str> {
    version.splitn(4, '.').take(3).collect()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`, or an architecture alone, which is Linux.
    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let malformed = || PlatformError::Malformed { text: text.into() };
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [word] => return from_one_word(word),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(malformed()),
        };
        let (os, version) = match os.strip_suffix(')').and_then(|os| os.split_once('(')) {
            Some((os, version)) => (os, Some(version)),
            None => (os, None),
        };
        if ![os, architecture]
            .into_iter()
            .chain(variant)
            .chain(version)
            .all(is_word)
        {
            return Err(malformed());
        }
        let mut platform = Platform::new(os, architecture, variant);
        platform.os_version = version.map(Into::into);
        Ok(platform)
    }
}

fn from_one_word(text: &str) -> Result<Platform, PlatformError> {
    if !is_word(text) {
        return Err(PlatformError::Malformed { text: text.into() });
    }
    let platform = Platform::new("linux", text, None);
    if KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
        return Ok(platform);
    }
    Err(match Platform::new(text, "", None).os.as_str() {
        os if KNOWN_OS.contains(&os) => PlatformError::NoArchitecture { text: text.into() },
        _ => PlatformError::Unknown { text: text.into() },
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_has_one_spelling() {
        #[track_caller]
        fn check(text: &str, spelling: &str) {
            let platform: Platform = text.parse().expect(text);
            assert_eq!(platform.to_string(), spelling);
            assert_eq!(platform.normalized(), platform);
        }
        check("linux/amd64", "linux/amd64");
        check("Linux/x86_64", "linux/amd64");
        check("linux/amd64/v1", "linux/amd64");
        check("linux/amd64/v3", "linux/amd64/v3");
        check("linux/i386", "linux/386");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/aarch64", "linux/arm64");
        check("linux/arm64/v9.0", "linux/arm64/v9");
        check("linux/arm", "linux/arm/v7");
        check("linux/arm/6", "linux/arm/v6");
        check("linux/armhf", "linux/arm/v7");
        check("linux/armel", "linux/arm/v6");
        check("arm64", "linux/arm64");
        check("macos/arm64", "darwin/arm64");
        check("windows(10.0.17763.1)/amd64", "windows(10.0.17763.1)/amd64");
        check("linux/unheardof", "linux/unheardof");
    }

    #[test]
    fn other_texts_are_refused() {
        #[track_caller]
        fn check(text: &str, message: &str) {
            let error = text.parse::<Platform>().expect_err(text).to_string();
            assert!(error.contains(message), "{error}");
        }
        check("", "not of the form");
        check("linux/", "not of the form");
        check("linux/amd64/v1/x", "not of the form");
        check("linux/*", "not of the form");
        check("linux/am d64", "not of the form");
        check("windows()/amd64", "not of the form");
        check("linux", "names no architecture");
        check("toaster", "neither a known operating system");
    }

    #[test]
    fn images_run_where_containerd_would_run_them() {
        #[track_caller]
        fn check(wanted: &str, offered: &str, rank: Option<usize>) {
            let wanted: Platform = wanted.parse().expect(wanted);
            let offered: Platform = offered.parse().expect(offered);
            assert_eq!(wanted.rank(&offered), rank, "{wanted} <- {offered}");
        }
        check("linux/amd64", "linux/amd64", Some(0));
        check("linux/amd64", "linux/386", Some(1));
        check("linux/amd64", "linux/amd64/v2", None);
        check("linux/amd64/v3", "linux/amd64/v2", Some(1));
        check("linux/amd64/v3", "linux/amd64", Some(2));
        check("linux/386", "linux/amd64", None);
        check("linux/arm64", "linux/arm64/v8", Some(0));
        check("linux/arm64", "linux/arm/v8", Some(1));
        check("linux/arm64", "linux/arm/v7", Some(2));
        check("linux/arm64/v9.1", "linux/arm64/v9", Some(1));
        check("linux/arm64/v9.1", "linux/arm64/v8.6", Some(2));
        check("linux/arm64/v9", "linux/arm64", Some(6));
        check("linux/arm64", "linux/arm64/v8.1", None);
        check("linux/arm/v7", "linux/arm/v6", Some(1));
        check("linux/arm/v6", "linux/arm/v7", None);
        check("linux/amd64", "windows/amd64", None);
        check("linux/riscv64", "linux/riscv64", Some(0));
        check("linux/unheardof", "linux/unheardof", Some(0));
        check("linux/unheardof", "linux/unheardof/v2", None);
        check(
            "windows(10.0.17763.1)/amd64",
            "windows(10.0.17763.9)/amd64",
            Some(0),
        );
        check(
            "windows(10.0.17763.1)/amd64",
            "windows(10.0.20348.1)/amd64",
            None,
        );
        check("windows/amd64", "windows(10.0.20348.1)/amd64", Some(0));
    }
}
