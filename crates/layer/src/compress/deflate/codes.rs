//! Which codes a block has: their lengths, in the order of their symbols, tell all of them
//! (RFC 1951, 3.2.2).

use super::bits::Reader;

/// Bits of the longest code.
pub(super) const LONGEST: u32 = 15;

/// Bits of the longest code of the code that tells the lengths of others.
pub(super) const LONGEST_PRECODE: u32 = 7;

/// In which order the lengths of that code are written (RFC 1951, 3.2.7).
pub(super) const PRECODE_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Bits that follow the last symbols of that code.
pub(super) const PRECODE_EXTRA: [u32; 19] =
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];

/// The symbol that ends a block.
pub(super) const END: usize = 256;

/// Lengths of the codes of a block.
pub(super) struct Lengths {
    all: [u8; 320],
    literals: usize,
}

impl Lengths {
    /// Those of literals and lengths.
    pub(super) fn literals(&self) -> &[u8] {
        &self.all[..self.literals]
    }

    /// Those of distances.
    pub(super) fn distances(&self) -> &[u8] {
        &self.all[self.literals..]
    }

    /// Those that every decoder knows (RFC 1951, 3.2.6).
    pub(super) fn fixed() -> Lengths {
        let mut all = [8; 320];
        all[144..256].fill(9);
        all[256..280].fill(7);
        all[288..].fill(5);
        Lengths { all, literals: 288 }
    }

    /// Reads those of a block that has its own.
    pub(super) fn read(bits: &mut Reader<'_>) -> Option<Lengths> {
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
        let mut all = [0; 320];
        let mut next = 0;
        while next < count {
            bits.refill();
            let (symbol, length) = symbols[bits.peek(LONGEST_PRECODE)]?;
            bits.drop(length);
            let extra = bits.take(PRECODE_EXTRA[symbol]);
            let (value, repeat) = match symbol {
                0..16 => (symbol as u8, 1),
                16 => (*all.get(next.checked_sub(1)?)?, 3 + extra),
                17 => (0, 3 + extra),
                _ => (0, 11 + extra),
            };
            all.get_mut(next..next + repeat)?.fill(value);
            next += repeat;
        }
        // What follows belongs to no code.
        all.get_mut(next..)?.fill(0);
        Some(Lengths { all, literals })
    }
}

/// Symbols that have a code, its length, and the code with its first bit lowest.
pub(super) fn codes(lengths: &[u8]) -> impl Iterator<Item = (usize, u8, usize)> {
    let mut counts = [0_u32; LONGEST as usize + 1];
    for &length in lengths {
        counts[usize::from(length)] += 1;
    }
    counts[0] = 0;
    let mut next = [0_u32; LONGEST as usize + 1];
    for length in 1..next.len() {
        next[length] = (next[length - 1] + counts[length - 1]) << 1;
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
