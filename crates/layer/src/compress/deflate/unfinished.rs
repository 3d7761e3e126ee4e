//! A finished deflate stream made unfinished, so that another can follow it.
//!
//! libdeflate writes whole streams only: the last block of each says that it is the last
//! (RFC 1951, 3.2.3). Where that block begins is written nowhere, so the codes are walked to find
//! it. Nothing is decompressed: a code only has to tell how many bits it and what follows it take.

use super::FLUSH;
use super::bits::Reader;
use super::codes::{LONGEST, Lengths, codes};

/// Of an entry of [`Steps`]: how many bits it takes.
const BITS: u8 = 0x1f;

/// Of an entry: a distance is next.
const DISTANCE: u8 = 0x20;

/// Of an entry: the block ends, or if it takes no bits, there is no such code.
const STOP: u8 = 0x40;

/// Takes the mark of the end off a stream and pads it to a whole byte.
///
/// `None` if it is no deflate stream that ends with its last byte.
pub(in crate::compress) fn unfinish(stream: &mut Vec<u8>) -> Option<()> {
    let last = last_block(stream)?;
    let spare = (stream.len() as u64 * 8).checked_sub(last.end)?;
    if spare >= 8 {
        return None;
    }
    let mark = stream.get_mut(usize::try_from(last.start / 8).ok()?)?;
    *mark &= !(1 << (last.start % 8));
    // An empty stored block: three bits, padding, a length of zero and its complement.
    if spare < 3 {
        stream.push(0);
    }
    stream.extend(FLUSH);
    Some(())
}

/// Positions of a block, in bits.
struct Block {
    start: u64,
    end: u64,
}

fn last_block(stream: &[u8]) -> Option<Block> {
    let mut bits = Reader::new(stream);
    let mut steps = Steps::new();
    loop {
        bits.refill();
        let start = bits.position();
        let is_last = bits.take(1) == 1;
        match bits.take(2) {
            0 => _ = bits.skip_stored(),
            1 => steps.fill(&Lengths::fixed()),
            2 => steps.fill(&Lengths::read(&mut bits)?),
            _ => return None,
        }
        if !steps.is_empty() {
            steps.walk(&mut bits)?;
            steps.clear();
        }
        let end = bits.position();
        if end > stream.len() as u64 * 8 {
            return None;
        }
        if is_last {
            return Some(Block { start, end });
        }
    }
}

/// What the next bits of a block mean, for all that they can be. Entries of even numbers are for
/// literals and lengths, those of odd numbers for distances.
struct Steps {
    entries: Box<[u8; 2 << LONGEST]>,
    /// Bits that are looked at.
    width: u32,
}

impl Steps {
    fn new() -> Steps {
        Steps {
            entries: Box::new([STOP; 2 << LONGEST]),
            width: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.width == 0
    }

    fn clear(&mut self) {
        self.width = 0;
    }

    fn fill(&mut self, lengths: &Lengths) {
        let (literals, distances) = (lengths.literals(), lengths.distances());
        let longest = literals.iter().chain(distances).max().copied().unwrap_or(0);
        self.width = u32::from(longest.max(1));
        self.entries[..2 << self.width].fill(STOP);
        for (symbol, length, code) in codes(literals) {
            let entry = match symbol {
                0..256 => length,
                256 => STOP | length,
                257..265 | 285.. => DISTANCE | length,
                _ => DISTANCE | (length + ((symbol - 261) / 4) as u8),
            };
            self.put(0, code, length, entry);
        }
        for (symbol, length, code) in codes(distances) {
            let extra = (symbol as u8 / 2).saturating_sub(1);
            self.put(1, code, length, length + extra);
        }
    }

    fn put(&mut self, state: usize, code: usize, length: u8, entry: u8) {
        let table = &mut self.entries[..2 << self.width];
        for place in table.iter_mut().skip(2 * code + state).step_by(2 << length) {
            *place = entry;
        }
    }

    /// Goes to the end of a block.
    fn walk(&self, bits: &mut Reader<'_>) -> Option<()> {
        // The branches below are all foreseeable, which makes up for the bits looked up twice.
        let mut entry = 0;
        loop {
            bits.refill();
            // A literal or length takes up to 20 bits with what follows, a distance up to 28.
            for _ in 0..2 {
                let state = u16::from(entry & DISTANCE != 0);
                let position = ((bits.peek(self.width) as u16) << 1) | state;
                entry = self.entries[usize::from(position)];
                bits.drop(u32::from(entry & BITS));
                if entry & STOP != 0 {
                    return (entry & BITS != 0).then_some(());
                }
            }
            if bits.is_exhausted() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{inflated, streams};
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(bytes: &[u8], level: u32) {
        for mut stream in streams(bytes, level) {
            unfinish(&mut stream).unwrap();
            let more = stream.clone();
            stream.extend(more);
            assert!(inflated(&stream) == [bytes, bytes].concat());
        }
    }

    #[test]
    fn another_stream_can_follow() {
        let noise =
            |len: u64| (0..len).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8);
        let words: Vec<u8> = noise(300_000)
            .map(|byte| b"etaoin shrdlu\n/."[usize::from(byte >> 4)])
            .collect();
        let mixed = [
            &words[..],
            &noise(200_000).collect::<Vec<_>>(),
            &words[..1000],
        ]
        .concat();
        for level in [0, 1, 2, 6, 9] {
            for bytes in [
                &b""[..],
                b"a",
                b"aaaaaaaaaaaaaaaaaaaaaaaa",
                &words,
                &[0; 70_000],
                &mixed,
            ] {
                check(bytes, level);
            }
        }
    }

    proptest! {
        #[test]
        fn of_any_bytes(bytes in proptest::collection::vec(0_u8..9, 0..2000), level in 0_u32..10) {
            check(&bytes, level);
        }

        #[test]
        fn what_is_no_stream_is_refused_or_harmless(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0_usize..2000,
        ) {
            let _ = unfinish(&mut bytes.clone());
            let words: Vec<u8> = bytes.iter().cycle().take(5000).map(|byte| byte % 20).collect();
            for mut stream in streams(&words, 6) {
                stream.truncate(stream.len().saturating_sub(1 + cut));
                prop_assert_eq!(unfinish(&mut stream), None);
            }
        }
    }
}
