//! What the codes of a block stand for: literals and copies (RFC 1951, 3.2.5). Which bytes are
//! literals is not said: who asks has the decompressed bytes.

use super::bits::Reader;
use super::codes::{END, LONGEST, Lengths, codes};

/// The lengths of copies.
pub(super) const LEAST_COPY: usize = 3;
const MOST_COPY: usize = 258;

/// The symbol of the shortest copy, and the one that only the longest has.
const COPIES: usize = 257;
const LONGEST_COPY: usize = 285;

/// How many symbols there are of literals and lengths, and of distances.
pub(super) const LITERALS: usize = 286;
pub(super) const DISTANCES: usize = 30;

/// One step of decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes that are spelled out.
    Literals(usize),
    /// So many bytes from so far back.
    Copy { len: usize, distance: usize },
}

/// A symbol, and the bits that follow its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    pub(super) symbol: usize,
    pub(super) extra: usize,
    pub(super) count: u32,
}

/// How the length of a copy is spelled.
#[inline]
pub(super) fn spell_len(len: usize) -> Spelled {
    if len == MOST_COPY {
        return Spelled {
            symbol: LONGEST_COPY,
            extra: 0,
            count: 0,
        };
    }
    // Eight symbols for one length each, then four for each power of two.
    spell(len - LEAST_COPY, 2, COPIES)
}

/// How the distance of a copy is spelled.
#[inline]
pub(super) fn spell_distance(distance: usize) -> Spelled {
    spell(distance - 1, 1, 0)
}

/// Symbols for numbers from zero on, `1 << fine` of them for each power of two.
#[inline]
fn spell(number: usize, fine: u32, first: usize) -> Spelled {
    let count = (number | 1).ilog2().saturating_sub(fine);
    Spelled {
        symbol: first + ((count as usize) << fine) + (number >> count),
        extra: number & ((1 << count) - 1),
        count,
    }
}

/// The least number that a symbol spells, and how many bits follow: the reverse of [`spell`].
fn base(symbol: usize, fine: u32) -> (usize, u32) {
    let count = (symbol >> fine).saturating_sub(1);
    ((symbol - (count << fine)) << count, count as u32)
}

/// What the next bits of a block mean, for all that they can be.
pub(super) struct Decoder {
    literals: Table,
    distances: Table,
}

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder {
            literals: Table::new(),
            distances: Table::new(),
        }
    }

    /// Decodes a block with these codes to its end, step by step.
    ///
    /// `None` if it is none, or when `take` returns that. Steps are of lengths and distances that
    /// there are.
    pub(super) fn decode(
        &mut self,
        lengths: &Lengths,
        bits: &mut Reader<'_>,
        mut take: impl FnMut(Step) -> Option<()>,
    ) -> Option<()> {
        self.literals
            .fill(lengths.literals(), |symbol| match symbol {
                0..END => Some(Entry::new(LITERAL, 0, 0)),
                END => Some(Entry::new(STOP, 0, 0)),
                LONGEST_COPY => Some(Entry::new(0, MOST_COPY, 0)),
                COPIES..LITERALS => {
                    let (number, count) = base(symbol - COPIES, 2);
                    Some(Entry::new(0, LEAST_COPY + number, count))
                }
                _ => None,
            });
        self.distances.fill(lengths.distances(), |symbol| {
            let (number, count) = base(symbol, 1);
            (symbol < DISTANCES).then(|| Entry::new(0, 1 + number, count))
        });
        let mut spelled = 0;
        loop {
            bits.refill();
            let mut entry = self.literals.next(bits);
            // Three literals take up to 45 bits of the 56.
            for _ in 0..2 {
                if entry.0 & LITERAL == 0 {
                    break;
                }
                spelled += 1;
                entry = self.literals.next(bits);
            }
            if bits.is_exhausted() {
                return None;
            }
            if entry.0 & LITERAL != 0 {
                spelled += 1;
                continue;
            }
            if spelled > 0 {
                take(Step::Literals(spelled))?;
                spelled = 0;
            }
            if entry.0 & STOP != 0 {
                return entry.is_code().then_some(());
            }
            // What follows a length takes up to 5 bits, a distance up to 28.
            bits.refill();
            let len = entry.number() + bits.take(entry.extra());
            let entry = self.distances.next(bits);
            let distance = entry.number() + bits.take(entry.extra());
            if !entry.is_code() {
                return None;
            }
            take(Step::Copy { len, distance })?;
        }
    }
}

/// Of an [`Entry`]: how many bits its code has; none if there is no such code.
const BITS: u32 = 0xf;

/// A byte.
const LITERAL: u32 = 0x100;

/// The end of the block, or no code.
const STOP: u32 = 0x200;

/// What a code means: `number << 16 | flags | extra << 4 | bits`.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    fn new(flag: u32, number: usize, extra: u32) -> Entry {
        Entry((number as u32) << 16 | flag | extra << 4)
    }

    #[inline]
    fn number(self) -> usize {
        (self.0 >> 16) as usize
    }

    #[inline]
    fn extra(self) -> u32 {
        (self.0 >> 4) & 0xf
    }

    #[inline]
    fn is_code(self) -> bool {
        self.0 & BITS != 0
    }
}

/// Bits of most codes: a table for these stays in the processor's nearest cache.
const SHORT: u32 = 11;

struct Table {
    /// By the next bits: codes that are [`SHORT`].
    short: Box<[Entry; 1 << SHORT]>,
    /// Longer ones, if there are any.
    long: Box<[Entry; 1 << LONGEST]>,
    /// Bits of the longest code.
    width: u32,
}

impl Table {
    fn new() -> Table {
        Table {
            short: Box::new([Entry(STOP); 1 << SHORT]),
            long: Box::new([Entry(STOP); 1 << LONGEST]),
            width: 0,
        }
    }

    fn fill(&mut self, lengths: &[u8], entry: impl Fn(usize) -> Option<Entry>) {
        self.width = u32::from(lengths.iter().max().copied().unwrap_or(0));
        self.short.fill(Entry(STOP));
        let long = &mut self.long[..1 << self.width];
        if self.width > SHORT {
            long.fill(Entry(STOP));
        }
        for (symbol, length, code) in codes(lengths) {
            let Some(entry) = entry(symbol) else {
                continue;
            };
            let entry = Entry(entry.0 | u32::from(length));
            let is_short = u32::from(length) <= SHORT;
            let table = if is_short {
                &mut self.short[..]
            } else {
                &mut *long
            };
            for place in table.iter_mut().skip(code).step_by(1 << length) {
                *place = entry;
            }
        }
    }

    #[inline]
    fn next(&self, bits: &mut Reader<'_>) -> Entry {
        let mut entry = self.short[bits.peek(SHORT)];
        if !entry.is_code() && self.width > SHORT {
            entry = self.long[bits.peek(self.width) & ((1 << LONGEST) - 1)];
        }
        bits.drop(entry.0 & BITS);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_they_are_read() {
        for len in LEAST_COPY..MOST_COPY {
            let spelled = spell_len(len);
            let (number, count) = base(spelled.symbol - COPIES, 2);
            assert_eq!(
                (LEAST_COPY + number + spelled.extra, count),
                (len, spelled.count)
            );
        }
        for distance in 1..=32_768 {
            let spelled = spell_distance(distance);
            let (number, count) = base(spelled.symbol, 1);
            assert_eq!(
                (1 + number + spelled.extra, count),
                (distance, spelled.count)
            );
        }
        let symbols = |len| spell_len(len).symbol;
        assert_eq!(
            [3, 10, 11, 257, 258].map(symbols),
            [257, 264, 265, 284, 285]
        );
        let symbols = |distance| spell_distance(distance).symbol;
        assert_eq!([1, 4, 5, 24_577, 32_768].map(symbols), [0, 3, 4, 29, 29]);
    }
}
