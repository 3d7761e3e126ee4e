//! Blocks written anew, in whose codes digits can be exchanged.

use super::bits::Writer;
use super::codes::{END, LONGEST, LONGEST_PRECODE, Lengths, PRECODE_EXTRA, PRECODE_ORDER, codes};
use super::huffman;
use super::slots::{Codes, NO_DIGIT, Recorder, Slot};
use super::symbols::{DISTANCES, LITERALS, spell_distance, spell_len};
use std::ops::Range;

/// The symbols of the digits: so many that three bits tell them apart.
const DIGITS: Range<usize> = b'0' as usize..b'8' as usize;
const DIGIT_BITS: u8 = 3;

/// Literals, and what comes after them.
#[derive(Clone, Copy)]
struct Token {
    /// How many of them there are. They are the bytes of the template at their place.
    literals: u32,
    then: u32,
}

/// After literals: a copy of `length << 16`, from `distance - 1` back.
const COPY: u32 = 1 << 31;

/// A digit of the time, this one.
const TIME: u32 = 1 << 30;

/// A digit of a checksum.
const SUM: u32 = 1 << 29;

/// Nothing.
const NOTHING: u32 = 0;

/// What a block says, and how often.
pub(super) struct Tokens {
    list: Vec<Token>,
    /// Literals after all of them.
    pending: u32,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    has_slots: bool,
}

impl Tokens {
    pub(super) fn new() -> Tokens {
        Tokens {
            list: Vec::new(),
            pending: 0,
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
            has_slots: false,
        }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.pending = 0;
        self.literals.fill(0);
        self.distances.fill(0);
        self.has_slots = false;
    }

    /// The bytes that the template has here.
    #[inline]
    pub(super) fn literals(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.literals[usize::from(byte)] += 1;
        }
        self.pending += bytes.len() as u32;
    }

    #[inline]
    pub(super) fn copy(&mut self, len: usize, distance: usize) {
        self.literals[spell_len(len).symbol] += 1;
        self.distances[spell_distance(distance).symbol] += 1;
        self.push(COPY | (len as u32) << 16 | (distance - 1) as u32);
    }

    #[inline]
    fn push(&mut self, then: u32) {
        let literals = std::mem::take(&mut self.pending);
        self.list.push(Token { literals, then });
    }

    pub(super) fn slot(&mut self, slot: Slot) {
        self.literals[usize::from(NO_DIGIT)] += 1;
        self.has_slots = true;
        self.push(match slot {
            Slot::Time(digit) => TIME | u32::from(digit),
            Slot::Sum => SUM,
        });
    }

    /// Writes them as one block that is not the last. This is what the template has from their
    /// place on.
    pub(super) fn write(&mut self, template: &[u8], out: &mut Writer, slots: &mut Recorder) {
        self.push(NOTHING);
        self.literals[END] = 1;
        let own = Own::new(
            self.literal_lengths(),
            huffman::lengths(&self.distances, |_| LONGEST as u8),
        );
        let fixed = Lengths::fixed();
        let (literals, distances) = if self.cost(fixed.literals(), fixed.distances())
            <= self.cost(&own.literals, &own.distances) + own.cost()
        {
            out.put(1 << 1, 3);
            (fixed.literals(), fixed.distances())
        } else {
            out.put(2 << 1, 3);
            own.write(out);
            (&own.literals[..], &own.distances[..])
        };
        let writer = BlockWriter {
            literals: Alphabet::new(literals),
            distances: Alphabet::new(distances),
            out,
            slots,
        };
        writer.write(&self.list, template);
    }

    /// Lengths of the codes of literals and lengths. If there are slots, digits have codes of one
    /// length, in a row, and none depends on which digits there are: their symbol stands for any
    /// of them, and three bits tell which.
    fn literal_lengths(&self) -> Vec<u8> {
        if !self.has_slots {
            return huffman::lengths(&self.literals, |_| LONGEST as u8);
        }
        let mut weights = self.literals;
        let all = weights[DIGITS].iter().sum();
        weights[DIGITS].fill(0);
        weights[DIGITS.start] = all;
        let mut lengths = huffman::lengths(&weights, |symbol| {
            let more = if DIGITS.contains(&symbol) {
                DIGIT_BITS
            } else {
                0
            };
            LONGEST as u8 - more
        });
        let length = lengths[DIGITS.start] + DIGIT_BITS;
        lengths[DIGITS].fill(length);
        lengths
    }

    /// Bits of all codes of these lengths.
    fn cost(&self, literals: &[u8], distances: &[u8]) -> u64 {
        let of = |weights: &[u32], lengths: &[u8]| -> u64 {
            let each = weights.iter().zip(lengths);
            each.map(|(&weight, &length)| u64::from(weight) * u64::from(length))
                .sum()
        };
        of(&self.literals, literals) + of(&self.distances, distances)
    }
}

/// Writes what a block says in its codes.
struct BlockWriter<'a> {
    literals: Alphabet,
    distances: Alphabet,
    out: &'a mut Writer,
    slots: &'a mut Recorder,
}

impl BlockWriter<'_> {
    fn write(mut self, tokens: &[Token], template: &[u8]) {
        let digits = self.digits();
        let mut rest = template;
        for token in tokens {
            let (literals, after) = rest.split_at(token.literals as usize);
            self.write_literals(literals);
            let len = match token.then {
                NOTHING => 0,
                copy if copy & COPY != 0 => self.write_copy(copy),
                slot => {
                    let slot = match slot & TIME {
                        0 => Slot::Sum,
                        _ => Slot::Time(slot as u8),
                    };
                    self.slots.put(self.out.position(), slot, digits);
                    self.write_literals(&[NO_DIGIT]);
                    1
                }
            };
            rest = &after[len..];
        }
        let (code, bits) = self.literals.codes[END];
        self.out.put(code, bits);
    }

    fn digits(&self) -> Codes {
        let (zero, bits) = self.literals.codes[usize::from(NO_DIGIT)];
        let highest_first = (zero as u32).reverse_bits().checked_shr(32 - bits);
        Codes::Huffman {
            bits,
            zero: highest_first.unwrap_or(0),
        }
    }

    #[inline]
    fn write_literals(&mut self, bytes: &[u8]) {
        for three in bytes.chunks(3) {
            // Up to 45 bits.
            let (mut all, mut count) = (0, 0);
            for &byte in three {
                let (code, bits) = self.literals.codes[usize::from(byte)];
                all |= code << count;
                count += bits;
            }
            self.out.put(all, count);
        }
    }

    /// Returns how long it is.
    #[inline]
    fn write_copy(&mut self, copy: u32) -> usize {
        let length = (copy >> 16 & 0x1ff) as usize;
        let len = spell_len(length);
        let (mut all, mut count) = self.literals.codes[len.symbol];
        all |= (len.extra as u64) << count;
        count += len.count;
        let distance = spell_distance((copy & 0x7fff) as usize + 1);
        let (code, bits) = self.distances.codes[distance.symbol];
        // Up to 20 bits and 28.
        all |= code << count | (distance.extra as u64) << (count + bits);
        self.out.put(all, count + bits + distance.count);
        length
    }
}

/// Codes by their symbols.
struct Alphabet {
    /// The code with its first bit lowest, and how many bits it has.
    codes: [(u64, u32); 288],
}

impl Alphabet {
    fn new(lengths: &[u8]) -> Alphabet {
        let mut all = [(0, 0); 288];
        for (symbol, length, code) in codes(lengths) {
            all[symbol] = (code as u64, length.into());
        }
        Alphabet { codes: all }
    }
}

/// The lengths of a block's own codes, and how they are written (RFC 1951, 3.2.7).
struct Own {
    literals: Vec<u8>,
    distances: Vec<u8>,
    /// Symbols of a code of their own, with the bits that follow.
    spelled: Vec<(usize, usize)>,
    precode: Vec<u8>,
    /// How many lengths of that code are written.
    written: usize,
}

impl Own {
    fn new(mut literals: Vec<u8>, mut distances: Vec<u8>) -> Own {
        let until_last = |lengths: &[u8]| {
            lengths
                .iter()
                .rposition(|&l| l > 0)
                .map_or(0, |last| last + 1)
        };
        literals.truncate(until_last(&literals));
        distances.truncate(until_last(&distances));
        let spelled = spell(&[&literals[..], &distances].concat());
        let mut weights = [0; 19];
        for &(symbol, _) in &spelled {
            weights[symbol] += 1;
        }
        let precode = huffman::lengths(&weights, |_| LONGEST_PRECODE as u8);
        let last = PRECODE_ORDER
            .iter()
            .rposition(|&symbol| precode[symbol] > 0);
        Own {
            literals,
            distances,
            spelled,
            precode,
            written: last.map_or(4, |last| 4.max(last + 1)),
        }
    }

    /// Bits that this takes.
    fn cost(&self) -> u64 {
        let spelled = self
            .spelled
            .iter()
            .map(|&(symbol, _)| u64::from(self.precode[symbol]) + u64::from(PRECODE_EXTRA[symbol]));
        14 + 3 * self.written as u64 + spelled.sum::<u64>()
    }

    fn write(&self, out: &mut Writer) {
        out.put(self.literals.len() as u64 - 257, 5);
        out.put(self.distances.len() as u64 - 1, 5);
        out.put(self.written as u64 - 4, 4);
        for &symbol in &PRECODE_ORDER[..self.written] {
            out.put(self.precode[symbol].into(), 3);
        }
        let precode = Alphabet::new(&self.precode);
        for &(symbol, extra) in &self.spelled {
            let (code, bits) = precode.codes[symbol];
            out.put(code | (extra as u64) << bits, bits + PRECODE_EXTRA[symbol]);
        }
    }
}

/// Lengths as symbols: each for itself, or several that are the same at once.
fn spell(lengths: &[u8]) -> Vec<(usize, usize)> {
    let mut spelled = Vec::new();
    let (mut rest, mut before) = (lengths, None);
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|&&length| length == first).count();
        let (symbol, extra, count) = match run {
            11.. if first == 0 => (18, run.min(138) - 11, run.min(138)),
            3.. if first == 0 => (17, run - 3, run),
            3.. if before == Some(first) => (16, run.min(6) - 3, run.min(6)),
            _ => (first.into(), 0, 1),
        };
        spelled.push((symbol, extra));
        rest = &rest[count..];
        before = Some(first);
    }
    spelled
}
