//! Archives of strangers: an error or a layer whose index can be written (unless Linux has no room
//! for what it says) and whose files lie within what was stored; and packing that layer again says
//! the same.
#![no_main]

use layer::apply::{Expected, Limits, apply};
use layer::erofs::{IndexChange, IndexEntry, IndexError, write_index};
use layer::{Change, Content, Data, Kind, PackError, RelPath, Times, pack};
use libfuzzer_sys::fuzz_target;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use sys::fs::{MemfdFlags, memfd_create};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    mend_checksums(&mut bytes);
    let mut limits = Limits::default();
    limits.archive.total = 16 << 20;
    let stored = Arc::new(memory());
    let Ok(applied) = apply(bytes.as_slice(), &stored, Expected::default(), &limits) else {
        return;
    };
    match write_index(&applied.index, applied.stored_len, &memory()) {
        Ok(()) => {}
        // Numbers of devices and lengths that Linux has no room for: the layer is refused.
        Err(IndexError::TooLarge { .. }) => return,
        Err(error) => panic!("{error:?}"),
    }
    let changes = changes(&applied.index, &stored, applied.stored_len);
    let tar = memory();
    match pack(&changes, Times::Preserve, &tar) {
        Ok(packed) => {
            let len = usize::try_from(packed.tar_len).expect("a small archive");
            let mut again = vec![0; len];
            tar.read_exact_at(&mut again, 0).expect("a tar");
            let second = memory();
            let reapplied = apply(again.as_slice(), &second, Expected::default(), &limits)
                .expect("our own archive");
            assert_eq!(reapplied.diff_id, packed.diff_id);
            assert_eq!(describe(&reapplied.index), describe(&applied.index));
        }
        // What a stranger's header can say and ours cannot.
        Err(PackError::Header { .. } | PackError::ReservedName { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
});

/// Nearly every change of a header breaks its checksum, and would end every run there.
fn mend_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
}

fn memory() -> File {
    File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("memory"))
}

fn changes(index: &[IndexEntry], tar: &Arc<File>, stored_len: u64) -> Vec<(RelPath, Change)> {
    let change = |change: &IndexChange| match change {
        IndexChange::Whiteout => Change::Whiteout,
        IndexChange::Link { to } => Change::Link { to: to.clone() },
        IndexChange::Put {
            node,
            opaque,
            data_offset,
        } => {
            let data = match node.kind {
                Kind::File { size } => {
                    let offset = data_offset.unwrap_or(0);
                    assert!(offset % 512 == 0 && offset + size <= stored_len);
                    Some(Data::Open(Content {
                        file: Arc::clone(tar),
                        offset,
                        len: size,
                    }))
                }
                _ => None,
            };
            Change::Put {
                node: node.clone(),
                opaque: *opaque,
                data,
            }
        }
    };
    index
        .iter()
        .map(|entry| (entry.path.clone(), change(&entry.change)))
        .collect()
}

/// Everything but where the bytes lie.
fn describe(index: &[IndexEntry]) -> Vec<String> {
    index
        .iter()
        .map(|entry| match &entry.change {
            IndexChange::Put { node, opaque, .. } => format!("{} {node:?} {opaque}", entry.path),
            other => format!("{} {other:?}", entry.path),
        })
        .collect()
}
