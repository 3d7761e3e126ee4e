//! Directory blocks: an array of 12-byte entries, then their names; sorted by name within a block
//! and over the blocks, `.` and `..` in their places.
//!
//! A block but the last is filled with zeros, the last ends with its last name.

use super::format::{BLOCK, DIRENT_LEN, get};

/// One name, as the kernel wants it in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// Appends the blocks of a directory.
pub(super) fn encode<'a>(entries: impl Iterator<Item = Entry<'a>>, out: &mut Vec<u8>) {
    let mut block: Vec<Entry<'a>> = Vec::new();
    let mut used = 0;
    for entry in entries {
        let len = DIRENT_LEN + entry.name.len();
        if used + len > BLOCK as usize {
            encode_block(&block, out);
            out.resize(out.len() + (BLOCK as usize - used), 0);
            block.clear();
            used = 0;
        }
        used += len;
        block.push(entry);
    }
    encode_block(&block, out);
}

fn encode_block(entries: &[Entry<'_>], out: &mut Vec<u8>) {
    let mut name_at = entries.len() * DIRENT_LEN;
    for entry in entries {
        out.extend_from_slice(&entry.nid.to_le_bytes());
        out.extend_from_slice(&(name_at as u16).to_le_bytes());
        out.extend_from_slice(&[entry.file_type, 0]);
        name_at += entry.name.len();
    }
    for entry in entries {
        out.extend_from_slice(entry.name);
    }
}

/// A block of a directory, whose shape was checked.
pub(super) struct Block<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Block<'a> {
    /// Takes one block, or what the last one has. `None` when it cannot be one.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Block<'a>> {
        if bytes.len() < DIRENT_LEN {
            return None;
        }
        let names_at = usize::from(u16::from_le_bytes(get(bytes, 8)));
        let count = names_at / DIRENT_LEN;
        (count > 0 && names_at <= bytes.len()).then_some(Block { bytes, count })
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Entry `number` of [`Block::len`]; `None` when its name lies outside the block.
    pub(super) fn entry(&self, number: usize) -> Option<Entry<'a>> {
        let at = number * DIRENT_LEN;
        let start = self.name_at(number);
        let name = if number + 1 < self.count {
            self.bytes.get(start..self.name_at(number + 1))?
        } else {
            let rest = self.bytes.get(start..)?;
            let end = rest.iter().position(|&byte| byte == 0);
            &rest[..end.unwrap_or(rest.len())]
        };
        Some(Entry {
            name,
            nid: u64::from_le_bytes(get(self.bytes, at)),
            file_type: self.bytes[at + 10],
        })
    }

    fn name_at(&self, number: usize) -> usize {
        usize::from(u16::from_le_bytes(get(self.bytes, number * DIRENT_LEN + 8)))
    }
}
