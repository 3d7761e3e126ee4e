//! Where a tar is cut into blocks: at places that its content decides.
//!
//! ```text
//! header │ data of a large file              │ header, small file, header, … │ data of a large file
//!        ↑          ↑           ↑            ↑                ↑              ↑
//!        always     where the bytes say so   always           the same       always
//! ```
//!
//! An insertion moves the places behind it along with the content, so that most blocks of a tar
//! that changed a little are the same as before. When a layer's content changes, its time does,
//! and so all its headers do: that is why the bytes decide with marks in place of such digits
//! ([`super::template`]), and why the data of large files keep out of the blocks of headers. The
//! places are part of the form of our blobs: changing anything here changes every blob's bytes, and
//! so [`super::gzip`]'s version.

use super::blanks::{self, Header, Time};
use super::template::Template;
use super::{CompressError, Tar};
use crate::tar::{BLOCK, extent};
use std::collections::VecDeque;
use std::ops::Range;

/// No block is shorter, but for those before a place that is always a cut.
pub(super) const LEAST: usize = 256 * 1024;

/// No block is longer.
pub(super) const MOST: usize = 1024 * 1024;

/// Files of so many bytes have blocks of their own.
const LARGE: u64 = LEAST as u64;

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
    /// The next header that was not looked at; `None` after the last, or what is no header.
    header: Option<u64>,
    /// The time of the tar's first entry, once its header was looked at: a layer's time.
    time: Option<Time>,
    /// Headers that have blanks, of those that were looked at and do not end before `offset`.
    blanks: VecDeque<Header>,
    /// The data of the last large file whose header was looked at, padding included.
    large: Range<u64>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(tar: &'a Tar<'a>) -> Blocks<'a> {
        Blocks {
            tar,
            offset: 0,
            header: Some(0),
            time: None,
            blanks: VecDeque::new(),
            large: 0..0,
        }
    }

    fn next_block(&mut self) -> Result<Option<Template>, CompressError> {
        let mut block = Template::new(self.offset, LEAST + STEP);
        let mut hash = 0;
        while block.bytes().len() < MOST {
            let scanned = block.bytes().len();
            let step = if scanned == 0 { LEAST } else { STEP };
            let step = step.min(MOST - scanned);
            let at = self.offset + scanned as u64;
            if self.tar.read(at, step, block.end())? == 0 {
                break;
            }
            let always = self.cut_within(block.bytes())?;
            block.end().truncate(always.unwrap_or(usize::MAX));
            if let Some(time) = self.time {
                block.mark(scanned, self.blanks.iter(), time);
            }
            if scanned == 0 {
                let before = block.bytes().len().min(LEAST).saturating_sub(WINDOW);
                block.bytes()[before..]
                    .iter()
                    .for_each(|&byte| hash = roll(hash, byte));
            } else if let Some(cut) = find_cut(&mut hash, &block.bytes()[scanned..]) {
                block.truncate(scanned + cut);
                break;
            }
            if always.is_some() {
                break;
            }
        }
        self.offset += block.bytes().len() as u64;
        let offset = self.offset;
        let ended = self.blanks.partition_point(|header| header.end() <= offset);
        self.blanks.drain(..ended);
        Ok((!block.bytes().is_empty()).then_some(block))
    }

    /// How long the block is that has begun, if one of the places that always are cuts is in what
    /// was read of it.
    fn cut_within(&mut self, read: &[u8]) -> Result<Option<usize>, CompressError> {
        let end = self.offset + read.len() as u64;
        loop {
            let places = [self.large.start, self.large.end];
            if let Some(place) = places.into_iter().find(|&place| place > self.offset) {
                return Ok((place <= end).then(|| (place - self.offset) as usize));
            }
            match self.header {
                Some(header) if header < end => self.pass_header(header, read)?,
                _ => return Ok(None),
            }
        }
    }

    fn pass_header(&mut self, header: u64, read: &[u8]) -> Result<(), CompressError> {
        let start = header.checked_sub(self.offset).map(|start| start as usize);
        let within = start.and_then(|start| read.get(start..start + BLOCK as usize));
        let mut in_two_reads = Vec::new();
        let block = match within {
            Some(block) => block,
            None => {
                self.tar.read(header, BLOCK as usize, &mut in_two_reads)?;
                &in_two_reads
            }
        };
        let extent = extent(block);
        let data = header + BLOCK;
        self.header = extent.and_then(|extent| data.checked_add(extent.padded));
        let (Some(extent), Some(next)) = (extent, self.header) else {
            return Ok(());
        };
        if extent.is_file && next - data >= LARGE {
            self.large = data..next;
        }
        if !extent.is_extension {
            let time = *self.time.get_or_insert_with(|| blanks::time(block));
            if blanks::time(block) == time {
                self.blanks.extend(Header::new(header, block));
            }
        }
        Ok(())
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<Template, CompressError>;

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
        let blocks = Blocks::new(&tar);
        blocks.map(|block| block.unwrap().fill()).collect()
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
