//! How specs and reports cross the socket between caller and helper: plain bytes, numbers little
//! endian, everything of varying length behind its length.
//!
//! Both ends are the same program, so there are no versions; a message that does not decode means
//! that the other end died in the middle of it.

use crate::capability::CapabilitySet;
use crate::cgroup::{Cgroup, Node, Setting, Version};
use crate::network::Connector;
use crate::spec::{
    Device, DeviceNode, Io, Mount, MountKind, Network, ProcessSpec, Resource, Rlimit, Security,
    User, WindowSize,
};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use sys::mount::{Lower, RootMount};

/// A value that can be sent.
pub(crate) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// `None` when the input is cut or malformed.
    fn take(input: &mut &[u8]) -> Option<Self>;
}

/// Longest message that is accepted: room for a spec with many secrets.
const LONGEST: u32 = 256 << 20;

/// Sends one message, with descriptors riding on it.
pub(crate) fn send(
    to: &UnixStream,
    message: &impl Wire,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = frame(message)?;
    let sent = sys::net::send_with_descriptors(to, &bytes, descriptors)?;
    let mut to = to;
    to.write_all(&bytes[sent..])
}

/// A message as it is sent: its length, then its bytes.
fn frame(message: &impl Wire) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    message.put(&mut bytes);
    let len = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    if len > LONGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

/// Receives one message and the descriptors that came with it; `None` when the other end closed
/// before it began one.
pub(crate) fn receive<T: Wire>(from: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut len = [0; 4];
    let (have, descriptors) = sys::net::receive_with_descriptors(from, &mut len)?;
    if have == 0 {
        return Ok(None);
    }
    let mut from = from;
    from.read_exact(&mut len[have..])?;
    let len = u32::from_le_bytes(len);
    if len > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    let message = T::take(&mut bytes.as_slice()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((message, descriptors)))
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(u64::take(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u64).put(out);
    out.extend_from_slice(bytes);
}

macro_rules! wire_number {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = input.split_first_chunk()?;
                *input = rest;
                Some(<$type>::from_le_bytes(*bytes))
            }
        }
    )*};
}

wire_number!(u8, u16, u32, u64, i32, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(u8::take(input)? != 0)
    }
}

impl Wire for OsString {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(OsString::from_vec(take_bytes(input)?.to_vec()))
    }
}

impl Wire for PathBuf {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_os_str().as_bytes(), out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        OsString::take(input).map(PathBuf::from)
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        String::from_utf8(take_bytes(input)?.to_vec()).ok()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        match bool::take(input)? {
            true => T::take(input).map(Some),
            false => Some(None),
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        for item in self {
            item.put(out);
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let len = u64::take(input)?;
        (0..len).map(|_| T::take(input)).collect()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some((A::take(input)?, B::take(input)?))
    }
}

impl Wire for CapabilitySet {
    fn put(&self, out: &mut Vec<u8>) {
        self.bits().put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        u64::take(input).map(CapabilitySet::from_bits)
    }
}

/// Sends the fields one after the other.
macro_rules! wire_struct {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl $crate::wire::Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                $(let $field = $crate::wire::Wire::take(input)?;)*
                Some(Self { $($field),* })
            }
        }
    };
}

/// Sends a number for the variant, then its fields (`0: name` for those of tuple variants).
macro_rules! wire_enum {
    ($type:ident { $($tag:literal => $variant:ident { $($member:tt : $name:ident),* }),* $(,)? }) => {
        impl $crate::wire::Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($type::$variant { $($member: $name),* } => {
                        out.push($tag);
                        $($name.put(out);)*
                    })*
                }
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                match <u8 as $crate::wire::Wire>::take(input)? {
                    $($tag => {
                        $(let $name = $crate::wire::Wire::take(input)?;)*
                        Some($type::$variant { $($member: $name),* })
                    })*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {wire_enum, wire_struct};

wire_struct!(ProcessSpec {
    root,
    readonly_root,
    args,
    env,
    cwd,
    user,
    one_id,
    hostname,
    mounts,
    devices,
    network,
    security,
    rlimits,
    shm_size,
    cgroup,
    init,
    clock_ahead,
    io,
});
wire_struct!(User { uid, gid, groups });
wire_struct!(Mount { target, kind });
wire_struct!(Device {
    source,
    target,
    node
});
wire_struct!(DeviceNode {
    block,
    major,
    minor,
    mode,
    uid,
    gid
});
wire_struct!(Security {
    capabilities,
    seccomp,
    masked_paths,
    no_new_privileges,
    all_devices,
});
wire_struct!(Rlimit {
    resource,
    soft,
    hard
});
wire_struct!(Cgroup { nodes, memory });
wire_struct!(Node {
    version,
    parent,
    settings
});
wire_struct!(Setting {
    file,
    value,
    optional
});
wire_struct!(WindowSize { rows, columns });

wire_enum!(Version {
    0 => One {},
    1 => Two {},
});
wire_enum!(RootMount {
    0 => Overlay { lowers: lowers, upper: upper, work: work, userxattr: userxattr },
    1 => ReadOnly { lowers: lowers, userxattr: userxattr },
    2 => Bind { source: source, readonly: readonly },
});
wire_enum!(Lower {
    0 => Dir { 0: path },
    1 => Erofs { index: index, tar: tar },
});
wire_enum!(MountKind {
    0 => Bind { source: source, readonly: readonly, nosuid: nosuid, noexec: noexec },
    1 => Tree { tree: tree, path: path, readonly: readonly },
    2 => Tmpfs { size: size, mode: mode },
    3 => File { content: content, mode: mode, uid: uid, gid: gid, readonly: readonly },
});
wire_enum!(Network {
    0 => None {},
    1 => Host {},
    2 => Connected { 0: connector },
});
wire_enum!(Connector {
    0 => Pasta { 0: path },
    1 => Slirp4netns { 0: path },
});
wire_enum!(Io {
    0 => Captured {},
    1 => Inherited { stdin: stdin },
    2 => Terminal { 0: size },
});
wire_enum!(Resource {
    0 => Core {},
    1 => Cpu {},
    2 => Data {},
    3 => Fsize {},
    4 => Locks {},
    5 => Memlock {},
    6 => Msgqueue {},
    7 => Nice {},
    8 => Nofile {},
    9 => Nproc {},
    10 => Rss {},
    11 => Rtprio {},
    12 => Rttime {},
    13 => Sigpending {},
    14 => Stack {},
});

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn full_spec() -> ProcessSpec {
        let mut spec = ProcessSpec::new(
            RootMount::Overlay {
                lowers: vec![
                    Lower::Dir("/l/0".into()),
                    Lower::Erofs {
                        index: "/i".into(),
                        tar: "/t".into(),
                    },
                ],
                upper: "/u".into(),
                work: "/w".into(),
                userxattr: true,
            },
            ["/bin/sh", "-c", "true"],
        );
        spec.env
            .push(("A".into(), OsString::from_vec(vec![0xff, 0x3d])));
        spec.user = User {
            uid: 1,
            gid: 2,
            groups: vec![3, 4],
        };
        spec.mounts = vec![
            Mount {
                target: "/s".into(),
                kind: MountKind::File {
                    content: vec![1, 2, 3],
                    mode: 0o400,
                    uid: 5,
                    gid: 6,
                    readonly: true,
                },
            },
            Mount {
                target: "/t".into(),
                kind: MountKind::Tmpfs {
                    size: Some(1),
                    mode: 0o1777,
                },
            },
        ];
        spec.clock_ahead = 9;
        spec.rlimits.push(Rlimit {
            resource: Resource::Nofile,
            soft: 1,
            hard: u64::MAX,
        });
        spec.io = Io::Terminal(WindowSize {
            rows: 24,
            columns: 80,
        });
        spec.cgroup = Some(Cgroup {
            nodes: vec![Node {
                version: Version::Two,
                parent: "/sys/fs/cgroup".into(),
                settings: vec![Setting {
                    file: "pids.max".into(),
                    value: "7".into(),
                    optional: false,
                }],
            }],
            memory: Some(1),
        });
        spec
    }

    #[test]
    fn a_spec_arrives_as_it_was_sent() {
        let spec = full_spec();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(&ours, &spec, &[file.as_fd()]).unwrap();
        drop(ours);
        let (received, descriptors) = receive::<ProcessSpec>(&theirs).unwrap().unwrap();
        assert_eq!(format!("{received:?}"), format!("{spec:?}"));
        assert_eq!(descriptors.len(), 1);
        assert!(receive::<ProcessSpec>(&theirs).unwrap().is_none());
    }

    #[test]
    fn a_cut_message_is_an_error() {
        let bytes = frame(&full_spec()).unwrap();
        for len in 4..bytes.len() {
            let cut = &mut &bytes[4..len];
            assert!(ProcessSpec::take(cut).is_none(), "{len} bytes");
        }
    }
}
