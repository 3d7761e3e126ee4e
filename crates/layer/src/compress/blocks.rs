//! Where a tar is cut into blocks: at places that its content decides.
//!
//! An insertion moves the places behind it along with the content, so that most blocks of a tar
//! that changed a little are the same as before. The places are part of the form of our blobs:
//! changing anything here changes every blob's bytes, and so [`super::gzip`]'s version.

use super::{CompressError, Tar};

/// No block is shorter, but for the last.
pub(super) const LEAST: usize = 256 * 1024;

/// No block is longer.
pub(super) const MOST: usize = 1024 * 1024;

/// A place is a cut when these bits of its hash are zero: one in 256 Ki places.
const MASK: u64 = 0xffff_c000_0000_0000;

/// How many bytes before a place decide about it.
const WINDOW: usize = 64;

/// Bytes that are read at a time while a cut is looked for.
const STEP: usize = 128 * 1024;

/// A random number for every byte value.
static GEAR: [u64; 256] = gear();

/// Numbers of the splitmix64 generator.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = 0x6b69_6c6e_u64;
    let mut index = 0;
    while index < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = state;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = number ^ (number >> 31);
        index += 1;
    }
    table
}

/// The blocks of a tar, one after the other.
pub(super) struct Blocks<'a> {
    tar: &'a Tar<'a>,
    offset: u64,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(tar: &'a Tar<'a>) -> Blocks<'a> {
        Blocks { tar, offset: 0 }
    }

    fn next_block(&mut self) -> Result<Option<Vec<u8>>, CompressError> {
        let mut block = Vec::with_capacity(LEAST + STEP);
        if self.tar.read(self.offset, LEAST, &mut block)? < LEAST {
            self.offset += block.len() as u64;
            return Ok((!block.is_empty()).then_some(block));
        }
        let mut hash = 0;
        for &byte in &block[LEAST - WINDOW..] {
            hash = roll(hash, byte);
        }
        while block.len() < MOST {
            let scanned = block.len();
            let step = STEP.min(MOST - scanned);
            if self
                .tar
                .read(self.offset + scanned as u64, step, &mut block)?
                == 0
            {
                break;
            }
            if let Some(cut) = find_cut(&mut hash, &block[scanned..]) {
                block.truncate(scanned + cut);
                break;
            }
        }
        self.offset += block.len() as u64;
        Ok(Some(block))
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<Vec<u8>, CompressError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_block().transpose()
    }
}

fn roll(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[usize::from(byte)])
}

fn find_cut(hash: &mut u64, bytes: &[u8]) -> Option<usize> {
    for (index, &byte) in bytes.iter().enumerate() {
        *hash = roll(*hash, byte);
        if *hash & MASK == 0 {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn noise(len: usize, mut state: u64) -> Vec<u8> {
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(len)
        .collect()
    }

    fn blocks(content: &[u8]) -> Vec<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let tar = Tar {
            file: &file,
            len: content.len() as u64,
        };
        Blocks::new(&tar).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn blocks_are_the_content_within_bounds() {
        for len in [0, 1, LEAST - 1, LEAST, LEAST + 1, MOST, 5 * MOST + 7] {
            let content = noise(len, 1);
            let blocks = blocks(&content);
            assert_eq!(blocks.concat(), content);
            let (last, rest) = blocks
                .split_last()
                .map_or((0, &[][..]), |(l, r)| (l.len(), r));
            assert!(last <= MOST);
            assert!(rest.iter().all(|b| (LEAST..=MOST).contains(&b.len())));
        }
    }

    #[test]
    fn an_insertion_changes_the_blocks_around_it_only() {
        let mut content = noise(20 * MOST, 2);
        let before = blocks(&content);
        content.splice(10 * MOST..10 * MOST, *b"inserted");
        let after = blocks(&content);
        let new = after.iter().filter(|block| !before.contains(block)).count();
        assert!(new <= 4, "{new} of {} blocks are new", after.len());
    }
}
