//! The times of a layer's entries, and the digest they are derived from.
//!
//! A layer's own time is a function of its content without times: other content gets other times
//! (a web server's `ETag` is often no more than time and size), the same content gets the same
//! times, and none is before 1980, which zip cannot express.

use crate::model::{Change, ContentDigest, Kind, Metadata, RelPath, Time};
use sha2::{Digest, Sha256};

/// 2000-01-01T00:00:00Z, the earliest layer time.
const EARLIEST: i64 = 946_684_800;

/// Layer times span a year of 365 days.
const SPAN: u64 = 31_536_000;

/// Names the form that is hashed. A change of the form changes this text.
const DOMAIN: &[u8] = b"kiln layer content 1\n";

/// Which modification times the entries of a layer get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Times {
    /// All the same one, derived from the layer's content.
    #[default]
    Layer,
    /// Their own, whole seconds, but none later than this (`SOURCE_DATE_EPOCH`), in seconds since
    /// 1970-01-01T00:00:00Z.
    Clamp(i64),
    /// Their own, to the nanosecond.
    Preserve,
}

impl Times {
    /// The time that an inode of `mtime` gets in a layer whose own time is `layer`.
    pub fn of(self, mtime: Time, layer: Time) -> Time {
        let whole = |seconds| Time { seconds, nanos: 0 };
        match self {
            Times::Layer => layer,
            Times::Clamp(epoch) => whole(mtime.seconds.min(epoch)),
            Times::Preserve => mtime,
        }
    }

    /// The time of entries that stand for no inode: whiteouts and opaque markers.
    pub(crate) fn of_markers(self, layer: Time) -> Time {
        match self {
            Times::Layer => layer,
            Times::Clamp(epoch) => Time {
                seconds: epoch,
                nanos: 0,
            },
            Times::Preserve => Time::default(),
        }
    }
}

/// Hashes the content of a layer without its times.
///
/// Every entry is a tag and length-prefixed fields; integers are little endian.
pub(crate) struct ContentHasher(Sha256);

impl ContentHasher {
    pub(crate) fn new() -> ContentHasher {
        ContentHasher(Sha256::new_with_prefix(DOMAIN))
    }

    /// Takes the next entry; `content` is the digest of a regular file's bytes.
    pub(crate) fn entry(
        &mut self,
        path: &RelPath,
        change: &Change,
        content: Option<ContentDigest>,
    ) {
        match change {
            Change::Whiteout => {
                self.0.update([b'w']);
                self.bytes(path.as_bytes());
            }
            Change::Link { to } => {
                self.0.update([b'l']);
                self.bytes(path.as_bytes());
                self.bytes(to.as_bytes());
            }
            Change::Put { node, opaque, .. } => {
                self.0.update([b'p', u8::from(*opaque)]);
                self.bytes(path.as_bytes());
                self.metadata(&node.metadata);
                self.kind(&node.kind, content);
            }
        }
    }

    /// The digest of all entries.
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    fn metadata(&mut self, metadata: &Metadata) {
        for number in [metadata.mode, metadata.uid, metadata.gid] {
            self.0.update(number.to_le_bytes());
        }
        self.0.update((metadata.xattrs.len() as u64).to_le_bytes());
        for (name, value) in &metadata.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }

    fn kind(&mut self, kind: &Kind, content: Option<ContentDigest>) {
        let (tag, major, minor) = match kind {
            Kind::Directory => (b'd', 0, 0),
            Kind::File { size } => {
                self.0.update([b'f']);
                self.0.update(size.to_le_bytes());
                self.bytes(content.as_ref().map_or(&[][..], |digest| &digest.0));
                return;
            }
            Kind::Symlink { target } => {
                self.0.update([b's']);
                self.bytes(target);
                return;
            }
            Kind::CharDevice { major, minor } => (b'c', *major, *minor),
            Kind::BlockDevice { major, minor } => (b'b', *major, *minor),
            Kind::Fifo => (b'i', 0, 0),
            Kind::Socket => (b'o', 0, 0),
        };
        self.0.update([tag]);
        self.0.update(major.to_le_bytes());
        self.0.update(minor.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

/// The time of a layer whose content hashes to `digest`.
pub(crate) fn layer_time(digest: &[u8; 32]) -> Time {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    Time {
        seconds: EARLIEST + (number % SPAN).cast_signed(),
        nanos: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Node;

    #[test]
    fn layer_time_is_within_the_year_2000() {
        let mut digest = [0; 32];
        assert_eq!(layer_time(&digest).seconds, EARLIEST);
        digest[..8].copy_from_slice(&(SPAN + 5).to_be_bytes());
        assert_eq!(layer_time(&digest).seconds, EARLIEST + 5);
        assert!(layer_time(&[0xff; 32]).seconds < EARLIEST + SPAN.cast_signed());
    }

    #[test]
    fn policies() {
        let layer = Time {
            seconds: 950_000_000,
            nanos: 0,
        };
        let old = Time {
            seconds: 5,
            nanos: 7,
        };
        let new = Time {
            seconds: 2_000_000_000,
            nanos: 7,
        };
        assert_eq!(Times::Layer.of(old, layer), layer);
        assert_eq!(Times::Preserve.of(old, layer), old);
        assert_eq!(Times::Clamp(100).of(old, layer).seconds, 5);
        assert_eq!(Times::Clamp(100).of(old, layer).nanos, 0);
        assert_eq!(Times::Clamp(100).of(new, layer).seconds, 100);
    }

    fn digest(changes: &[(&str, Change)]) -> [u8; 32] {
        let mut hasher = ContentHasher::new();
        for (path, change) in changes {
            hasher.entry(&RelPath::new(*path).unwrap(), change, None);
        }
        hasher.finish()
    }

    fn put(kind: Kind, metadata: Metadata) -> Change {
        let links = None;
        Change::Put {
            node: Node {
                kind,
                metadata,
                links,
            },
            opaque: false,
            data: None,
        }
    }

    #[test]
    fn content_is_everything_but_times() {
        let plain = Metadata::default();
        let base = digest(&[("a", put(Kind::Fifo, plain.clone()))]);
        let mut touched = plain.clone();
        touched.mtime.seconds = 9;
        assert_eq!(digest(&[("a", put(Kind::Fifo, touched))]), base);
        let mut owned = plain.clone();
        owned.uid = 1;
        let mut attributed = plain.clone();
        attributed.xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
        for other in [
            vec![("b", put(Kind::Fifo, plain.clone()))],
            vec![("a", put(Kind::Socket, plain.clone()))],
            vec![("a", put(Kind::Fifo, owned))],
            vec![("a", put(Kind::Fifo, attributed))],
            vec![("a", Change::Whiteout)],
            vec![("a", put(Kind::Fifo, plain)), ("b", Change::Whiteout)],
        ] {
            assert_ne!(digest(&other), base);
        }
    }
}
