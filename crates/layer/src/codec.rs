//! Records of lists in memory and in temporary files: numbers of variable length, paths that begin
//! as the one before them, inodes. Read by the process that wrote them, never kept.

use crate::{ContentDigest, Kind, LinkId, Metadata, Node, RelPath, Time, Xattrs};
use std::io;

/// A record is not what was written: the temporary file is damaged.
#[derive(Debug, thiserror::Error)]
#[error("a list in a temporary file is damaged")]
struct Damaged;

pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes `path` after `previous`, which becomes it.
pub(crate) fn put_path(out: &mut Vec<u8>, path: &[u8], previous: &mut Vec<u8>) {
    let common = path.iter().zip(&*previous).take_while(|(a, b)| a == b);
    let shared = common.count();
    put_number(out, shared as u64);
    put_bytes(out, &path[shared..]);
    previous.truncate(shared);
    previous.extend_from_slice(&path[shared..]);
}

/// Writes an inode. A directory, a file and so on; then what every inode has.
pub(crate) fn put_node(out: &mut Vec<u8>, node: &Node) {
    let Metadata {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    } = &node.metadata;
    let (tag, first, second) = match &node.kind {
        Kind::Directory => (0, 0, 0),
        Kind::File { size } => (1, *size, 0),
        Kind::Symlink { .. } => (2, 0, 0),
        Kind::CharDevice { major, minor } => (3, u64::from(*major), u64::from(*minor)),
        Kind::BlockDevice { major, minor } => (4, u64::from(*major), u64::from(*minor)),
        Kind::Fifo => (5, 0, 0),
        Kind::Socket => (6, 0, 0),
    };
    let flags = u8::from(!xattrs.is_empty()) << 3 | u8::from(node.links.is_some()) << 4;
    out.push(tag | flags);
    match &node.kind {
        Kind::File { .. } => put_number(out, first),
        Kind::Symlink { target } => put_bytes(out, target),
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
            put_number(out, first);
            put_number(out, second);
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    for number in [*mode, *uid, *gid] {
        put_number(out, number.into());
    }
    out.extend_from_slice(&mtime.seconds.to_le_bytes());
    out.extend_from_slice(&mtime.nanos.to_le_bytes());
    if !xattrs.is_empty() {
        put_number(out, xattrs.len() as u64);
        for (name, value) in xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
    if let Some(LinkId { device, inode }) = node.links {
        put_number(out, device);
        put_number(out, inode);
    }
}

/// Writes a digest, or that there is none.
pub(crate) fn put_digest(out: &mut Vec<u8>, digest: Option<ContentDigest>) {
    out.push(u8::from(digest.is_some()));
    if let Some(digest) = digest {
        out.extend_from_slice(&digest.0);
    }
}

/// Takes one field after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Fields<'a> {
        Fields { rest }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (field, rest) = self.rest.split_at_checked(len).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged())
    }

    pub(crate) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn number(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    pub(crate) fn small(&mut self) -> io::Result<u32> {
        u32::try_from(self.number()?).map_err(|_| damaged())
    }

    pub(crate) fn len(&mut self) -> io::Result<usize> {
        usize::try_from(self.number()?).map_err(|_| damaged())
    }

    pub(crate) fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    /// A path after `previous`, which becomes it.
    pub(crate) fn path(&mut self, previous: &mut Vec<u8>) -> io::Result<RelPath> {
        let shared = self.len()?;
        if shared > previous.len() {
            return Err(damaged());
        }
        previous.truncate(shared);
        previous.extend_from_slice(self.bytes()?);
        RelPath::new(previous.as_slice()).map_err(|_| damaged())
    }

    pub(crate) fn digest(&mut self) -> io::Result<Option<ContentDigest>> {
        Ok(match self.byte()? {
            0 => None,
            _ => Some(ContentDigest(self.array()?)),
        })
    }

    pub(crate) fn node(&mut self) -> io::Result<Node> {
        let tag = self.byte()?;
        let kind = match tag & 7 {
            0 => Kind::Directory,
            1 => Kind::File {
                size: self.number()?,
            },
            2 => Kind::Symlink {
                target: self.bytes()?.to_vec(),
            },
            3 => Kind::CharDevice {
                major: self.small()?,
                minor: self.small()?,
            },
            4 => Kind::BlockDevice {
                major: self.small()?,
                minor: self.small()?,
            },
            5 => Kind::Fifo,
            6 => Kind::Socket,
            _ => return Err(damaged()),
        };
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let mtime = Time {
            seconds: i64::from_le_bytes(self.array()?),
            nanos: u32::from_le_bytes(self.array()?),
        };
        let mut xattrs = Xattrs::new();
        if tag & 1 << 3 != 0 {
            for _ in 0..self.number()? {
                let name = self.bytes()?.to_vec();
                xattrs.insert(name, self.bytes()?.to_vec());
            }
        }
        let links = match tag & 1 << 4 {
            0 => None,
            _ => Some(LinkId {
                device: self.number()?,
                inode: self.number()?,
            }),
        };
        Ok(Node {
            kind,
            metadata: Metadata {
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            },
            links,
        })
    }
}

pub(crate) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = Kind> {
        let target = proptest::collection::vec(any::<u8>(), 0..9);
        prop_oneof![
            Just(Kind::Directory),
            any::<u64>().prop_map(|size| Kind::File { size }),
            target.prop_map(|target| Kind::Symlink { target }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
            Just(Kind::Fifo),
            Just(Kind::Socket),
        ]
    }

    prop_compose! {
        fn node()(
            kind in kind(),
            (mode, uid, gid, seconds, nanos) in any::<(u32, u32, u32, i64, u32)>(),
            xattrs in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 1..5),
                proptest::collection::vec(any::<u8>(), 0..5),
                0..3,
            ),
            links in proptest::option::of(any::<(u64, u64)>()),
        ) -> Node {
            let mtime = Time { seconds, nanos };
            Node {
                kind,
                metadata: Metadata { mode, uid, gid, mtime, xattrs },
                links: links.map(|(device, inode)| LinkId { device, inode }),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            paths in proptest::collection::vec("[a-c]{1,3}(/[a-c]{1,3}){0,3}", 1..6),
            node in node(),
            digest in proptest::option::of(any::<[u8; 32]>()),
        ) {
            let digest = digest.map(ContentDigest);
            let mut out = Vec::new();
            let mut previous = Vec::new();
            for path in &paths {
                put_path(&mut out, path.as_bytes(), &mut previous);
                put_node(&mut out, &node);
                put_digest(&mut out, digest);
            }
            let mut fields = Fields::new(&out);
            previous.clear();
            for path in &paths {
                let read = fields.path(&mut previous).unwrap();
                prop_assert_eq!(read.as_bytes(), path.as_bytes());
                prop_assert_eq!(fields.node().unwrap(), node.clone());
                prop_assert_eq!(fields.digest().unwrap(), digest);
            }
            prop_assert!(fields.rest().is_empty());
        }

        #[test]
        fn damage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut fields = Fields::new(&bytes);
            let _ = fields.path(&mut Vec::new());
            let _ = fields.node();
            let _ = fields.digest();
        }
    }
}
