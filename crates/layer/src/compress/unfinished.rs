//! A finished deflate stream made unfinished, so that another can follow it.
//!
//! libdeflate writes whole streams only: the last block of each says that it is the last
//! (RFC 1951, 3.2.3). Where that block begins is written nowhere, so the codes are walked to find
//! it. Nothing is decompressed: a code only has to tell how many bits it and what follows it take.

/// Bits of the longest code.
const LONGEST: u32 = 15;

/// Bits of the longest code of the code that tells the lengths of others.
const LONGEST_PRECODE: u32 = 7;

/// In which order the lengths of that code are written (RFC 1951, 3.2.7).
const PRECODE_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Of an entry of [`Steps`]: how many bits it takes.
const BITS: u8 = 0x1f;

/// Of an entry: a distance is next.
const DISTANCE: u8 = 0x20;

/// Of an entry: the block ends, or if it takes no bits, there is no such code.
const STOP: u8 = 0x40;

/// Takes the mark of the end off a stream and pads it to a whole byte.
///
/// `None` if it is no deflate stream that ends with its last byte.
pub(super) fn unfinish(stream: &mut Vec<u8>) -> Option<()> {
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
    stream.extend([0, 0, 0xff, 0xff]);
    Some(())
}

/// Positions of a block, in bits.
struct Block {
    start: u64,
    end: u64,
}

fn last_block(stream: &[u8]) -> Option<Block> {
    let mut bits = Bits::new(stream);
    let mut steps = Steps::new();
    loop {
        bits.refill();
        let start = bits.position();
        let is_last = bits.take(1) == 1;
        match bits.take(2) {
            0 => bits.skip_stored(),
            1 => steps.fill(&fixed_lengths(), 288),
            2 => {
                let (lengths, literals) = dynamic_lengths(&mut bits)?;
                steps.fill(&lengths, literals);
            }
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

/// Lengths of codes: those of literals and lengths, then those of distances.
type Lengths = [u8; 320];

fn fixed_lengths() -> Lengths {
    let mut lengths = [8; 320];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    lengths[288..].fill(5);
    lengths
}

/// Reads the lengths of a block's own codes, and how many of them are of literals and lengths.
fn dynamic_lengths(bits: &mut Bits<'_>) -> Option<(Lengths, usize)> {
    let literals = 257 + bits.take(5);
    let count = literals + 1 + bits.take(5);
    let written = 4 + bits.take(4);
    let mut precode = [0; 19];
    for &symbol in PRECODE_ORDER.get(..written)? {
        bits.refill();
        precode[symbol] = bits.take(3) as u8;
    }
    let mut symbols = [None; 1 << LONGEST_PRECODE];
    for (symbol, length, code) in codes(&precode) {
        for entry in symbols.iter_mut().skip(code).step_by(1 << length) {
            *entry = Some((symbol, u32::from(length)));
        }
    }
    let mut lengths: Lengths = [0; 320];
    let mut next = 0;
    while next < count {
        bits.refill();
        let (symbol, length) = symbols[bits.peek(LONGEST_PRECODE)]?;
        bits.drop(length);
        let (value, repeat) = match symbol {
            0..16 => (symbol as u8, 1),
            16 => (*lengths.get(next.checked_sub(1)?)?, 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            _ => (0, 11 + bits.take(7)),
        };
        lengths.get_mut(next..next + repeat)?.fill(value);
        next += repeat;
    }
    // What follows belongs to no code.
    lengths.get_mut(next..)?.fill(0);
    Some((lengths, literals))
}

/// Symbols that have a code, its length, and the code with its first bit lowest.
fn codes(lengths: &[u8]) -> impl Iterator<Item = (usize, u8, usize)> {
    let mut next = [0_u32; LONGEST as usize + 1];
    for length in 1..=LONGEST {
        let shorter = length - 1;
        let shorter = match shorter {
            0 => 0,
            shorter => {
                let count = lengths.iter().filter(|&&one| u32::from(one) == shorter);
                next[shorter as usize] + count.count() as u32
            }
        };
        next[length as usize] = shorter << 1;
    }
    let coded = lengths
        .iter()
        .enumerate()
        .filter(|(_, length)| **length > 0);
    coded.map(move |(symbol, &length)| {
        let next = &mut next[usize::from(length)];
        let code = (*next as u16).reverse_bits() >> (16 - length);
        *next += 1;
        (symbol, length, usize::from(code))
    })
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

    fn fill(&mut self, lengths: &Lengths, literals: usize) {
        let longest = lengths.iter().max().copied().unwrap_or(0);
        self.width = u32::from(longest.max(1));
        self.entries[..2 << self.width].fill(STOP);
        let (literals, distances) = lengths.split_at(literals);
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
    fn walk(&self, bits: &mut Bits<'_>) -> Option<()> {
        // The branches below are all foreseeable, which makes up for the bits looked up twice.
        let mask = (1 << self.width) - 1;
        let mut entry = 0;
        loop {
            bits.refill();
            // A literal or length takes up to 20 bits with what follows, a distance up to 28.
            for _ in 0..2 {
                let state = u16::from(entry & DISTANCE != 0);
                let position = ((bits.buffer as u16 & mask) << 1) | state;
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

/// A stream bit by bit, the lowest of each byte first. Beyond its end there are zeros.
struct Bits<'a> {
    stream: &'a [u8],
    /// The next byte that is not in the buffer.
    next: usize,
    buffer: u64,
    /// Bits in the buffer.
    held: u32,
}

impl<'a> Bits<'a> {
    fn new(stream: &'a [u8]) -> Bits<'a> {
        Bits {
            stream,
            next: 0,
            buffer: 0,
            held: 0,
        }
    }

    /// Makes the buffer hold 56 bits or more.
    fn refill(&mut self) {
        let whole = self.stream.get(self.next..self.next + 8);
        if let Some(Ok(bytes)) = whole.map(<[u8; 8]>::try_from) {
            self.buffer |= u64::from_le_bytes(bytes) << self.held;
            self.next += (63 - self.held as usize) / 8;
            self.held |= 56;
        }
        while self.held < 56 {
            let byte = self.stream.get(self.next).copied().unwrap_or(0);
            self.buffer |= u64::from(byte) << self.held;
            self.next += 1;
            self.held += 8;
        }
    }

    fn peek(&self, count: u32) -> usize {
        (self.buffer & ((1 << count) - 1)) as usize
    }

    fn drop(&mut self, count: u32) {
        self.buffer >>= count;
        self.held -= count;
    }

    fn take(&mut self, count: u32) -> usize {
        let bits = self.peek(count);
        self.drop(count);
        bits
    }

    fn position(&self) -> u64 {
        self.next as u64 * 8 - u64::from(self.held)
    }

    /// Whether the end of the stream is more than a buffer behind.
    fn is_exhausted(&self) -> bool {
        self.next > self.stream.len() + 16
    }

    /// Goes to the end of a stored block, whose header was read.
    fn skip_stored(&mut self) {
        self.drop(self.held % 8);
        let len = self.take(16);
        self.drop(16);
        self.next = (self.position() / 8) as usize + len;
        (self.buffer, self.held) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use libdeflater::{CompressionLvl, Compressor};
    use proptest::prelude::*;
    use std::io::Read;

    /// Streams of the same bytes from two compressors, which between them write every kind of
    /// block.
    fn streams(bytes: &[u8], level: u32) -> [Vec<u8>; 2] {
        let own = CompressionLvl::new(level.cast_signed()).unwrap();
        let mut compressor = Compressor::new(own);
        let mut first = vec![0; compressor.deflate_compress_bound(bytes.len())];
        let len = compressor.deflate_compress(bytes, &mut first).unwrap();
        first.truncate(len);
        let mut second = Vec::with_capacity(2 * bytes.len() + 1024);
        Compress::new(Compression::new(level), false)
            .compress_vec(bytes, &mut second, FlushCompress::Finish)
            .unwrap();
        [first, second]
    }

    #[track_caller]
    fn check(bytes: &[u8], level: u32) {
        for mut stream in streams(bytes, level) {
            unfinish(&mut stream).unwrap();
            let more = stream.clone();
            stream.extend(more);
            // An empty last block.
            stream.extend([3, 0]);
            let mut found = Vec::new();
            flate2::read::DeflateDecoder::new(stream.as_slice())
                .read_to_end(&mut found)
                .unwrap();
            assert!(found == [bytes, bytes].concat());
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
