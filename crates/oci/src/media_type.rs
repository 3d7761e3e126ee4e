//! Media types of image documents and layers, in the OCI's and in Docker's spelling.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a blob or manifest is (image-spec, media-types.md).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// An OCI image manifest.
    OciManifest,
    /// An OCI image index.
    OciIndex,
    /// An OCI image config.
    OciConfig,
    /// An OCI layer.
    OciLayer(Compression),
    /// An OCI layer that is not to be pushed (deprecated by the spec, still met).
    OciForeignLayer(Compression),
    /// The empty JSON object, config of artifacts that have none.
    OciEmpty,
    /// A Docker image manifest, version 2 schema 2.
    DockerManifest,
    /// A Docker manifest list.
    DockerIndex,
    /// A Docker image config.
    DockerConfig,
    /// A Docker layer.
    DockerLayer(Compression),
    /// A Docker layer that is not to be pushed.
    DockerForeignLayer(Compression),
    /// Anything else, as written.
    Other(String),
}

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Every media type but `Other` with its text. Docker never had a type for its uncompressed
/// foreign layers beside the one listed, nor for Zstandard ones.
const TABLE: &[(MediaType, &str)] = {
    use Compression::{Gzip, None, Zstd};
    use MediaType::*;
    &[
        (OciManifest, "application/vnd.oci.image.manifest.v1+json"),
        (OciIndex, "application/vnd.oci.image.index.v1+json"),
        (OciConfig, "application/vnd.oci.image.config.v1+json"),
        (OciLayer(None), "application/vnd.oci.image.layer.v1.tar"),
        (
            OciLayer(Gzip),
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        (
            OciLayer(Zstd),
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
        (
            OciForeignLayer(None),
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
        ),
        (
            OciForeignLayer(Gzip),
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ),
        (
            OciForeignLayer(Zstd),
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        ),
        (OciEmpty, "application/vnd.oci.empty.v1+json"),
        (
            DockerManifest,
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
        (
            DockerIndex,
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ),
        (
            DockerConfig,
            "application/vnd.docker.container.image.v1+json",
        ),
        (
            DockerLayer(None),
            "application/vnd.docker.image.rootfs.diff.tar",
        ),
        (
            DockerLayer(Gzip),
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
        (
            DockerLayer(Zstd),
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
        ),
        (
            DockerForeignLayer(None),
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
        ),
        (
            DockerForeignLayer(Gzip),
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ),
        (
            DockerForeignLayer(Zstd),
            "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
        ),
    ]
};

impl MediaType {
    /// The text of the type.
    pub fn as_str(&self) -> &str {
        if let MediaType::Other(text) = self {
            return text;
        }
        TABLE
            .iter()
            .find_map(|(known, text)| (known == self).then_some(*text))
            .unwrap_or_default()
    }

    /// Whether it is an image manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self, MediaType::OciManifest | MediaType::DockerManifest)
    }

    /// Whether it is an index of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self, MediaType::OciIndex | MediaType::DockerIndex)
    }

    /// Whether it is an image config.
    pub fn is_config(&self) -> bool {
        matches!(self, MediaType::OciConfig | MediaType::DockerConfig)
    }

    /// How the layer is compressed; `None` when it is no layer.
    pub fn layer_compression(&self) -> Option<Compression> {
        match self {
            MediaType::OciLayer(compression)
            | MediaType::OciForeignLayer(compression)
            | MediaType::DockerLayer(compression)
            | MediaType::DockerForeignLayer(compression) => Some(*compression),
            _ => None,
        }
    }

    /// Whether it is a layer that registries need not hold.
    pub fn is_foreign(&self) -> bool {
        matches!(
            self,
            MediaType::OciForeignLayer(_) | MediaType::DockerForeignLayer(_)
        )
    }

    /// The OCI's type for the same thing.
    #[must_use]
    pub fn to_oci(&self) -> MediaType {
        match self {
            MediaType::DockerManifest => MediaType::OciManifest,
            MediaType::DockerIndex => MediaType::OciIndex,
            MediaType::DockerConfig => MediaType::OciConfig,
            MediaType::DockerLayer(compression) => MediaType::OciLayer(*compression),
            MediaType::DockerForeignLayer(compression) => MediaType::OciForeignLayer(*compression),
            other => other.clone(),
        }
    }

    /// Docker's type for the same thing.
    #[must_use]
    pub fn to_docker(&self) -> MediaType {
        match self {
            MediaType::OciManifest => MediaType::DockerManifest,
            MediaType::OciIndex => MediaType::DockerIndex,
            MediaType::OciConfig => MediaType::DockerConfig,
            MediaType::OciLayer(compression) => MediaType::DockerLayer(*compression),
            MediaType::OciForeignLayer(compression) => MediaType::DockerForeignLayer(*compression),
            other => other.clone(),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> MediaType {
        TABLE
            .iter()
            .find_map(|(known, spelled)| (*spelled == text).then(|| known.clone()))
            .unwrap_or_else(|| MediaType::Other(text.into()))
    }
}

impl FromStr for MediaType {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<MediaType, Self::Err> {
        Ok(text.into())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
        Ok(String::deserialize(deserializer)?.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_as_it_is_written_and_converts_there_and_back() {
        for (known, text) in TABLE {
            assert_eq!(MediaType::from(*text), *known);
            assert_eq!(known.as_str(), *text);
            assert_eq!(known.to_docker().to_oci(), known.to_oci());
            assert_eq!(
                known.to_oci().layer_compression(),
                known.layer_compression()
            );
        }
        let other = MediaType::from("text/plain");
        assert_eq!(other.to_string(), "text/plain");
        assert_eq!(other.to_oci(), other);
    }
}
