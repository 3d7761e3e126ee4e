//! Where the digits of blanks are in a compressed block, and how they are exchanged.
//!
//! In such a block the eight digits have codes of one length, in a row: which digit is where changes
//! nothing but the bits of that digit. A list tells the places, runs of digits one after the other,
//! in numbers of seven bits a byte with the lowest first (all but the last byte of a number have the
//! top bit):
//!
//! ```text
//! bits since the last run << 1 │ 1 │ codes │ number of digits << 1 │ 1 │ which of the time's is the first
//!      other codes than the last run's ┘   │                         └ of the time
//!                                          └ code of 0 << 4 │ bits of a code; 0 for bytes of a stored block
//! ```

use crate::compress::template::Digits;

/// The digit that stands in a slot which nobody filled yet.
pub(super) const NO_DIGIT: u8 = b'0';

/// Whose digit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// This one of the time's.
    Time(u8),
    /// The next one of the checksums'.
    Sum,
}

/// The codes of the digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    /// The bytes themselves, whose lowest bits come first.
    Bytes,
    /// Codes of 1 to 15 bits, whose highest bits come first.
    Huffman { bits: u32, zero: u32 },
}

impl Codes {
    fn bits(self) -> u32 {
        match self {
            Codes::Bytes => 8,
            Codes::Huffman { bits, .. } => bits,
        }
    }

    /// The bits of a digit, the first one lowest.
    fn code(self, digit: u8) -> u32 {
        match self {
            Codes::Bytes => u32::from(digit),
            Codes::Huffman { bits, zero } => {
                let code = zero.wrapping_add(u32::from(digit & 7));
                code.reverse_bits() >> (32 - bits)
            }
        }
    }
}

/// Digits one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Bits before the first.
    start: u64,
    codes: Codes,
    first: Slot,
    count: u32,
}

impl Run {
    fn end(&self) -> u64 {
        self.start + u64::from(self.count) * u64::from(self.codes.bits())
    }

    fn next(&self) -> Slot {
        match self.first {
            Slot::Time(first) => Slot::Time(first.wrapping_add(self.count as u8)),
            Slot::Sum => Slot::Sum,
        }
    }
}

/// Writes a list of slots.
#[derive(Default)]
pub(super) struct Recorder {
    list: Vec<u8>,
    run: Option<Run>,
    /// The last run of the list.
    last: Option<Run>,
}

impl Recorder {
    /// A slot with so many bits before it. They come in order.
    pub(super) fn put(&mut self, start: u64, slot: Slot, codes: Codes) {
        match &mut self.run {
            Some(run) if (run.end(), run.codes, run.next()) == (start, codes, slot) => {
                run.count += 1;
            }
            _ => {
                self.end_run();
                self.run = Some(Run {
                    start,
                    codes,
                    first: slot,
                    count: 1,
                });
            }
        }
    }

    /// The list.
    pub(super) fn into_list(mut self) -> Vec<u8> {
        self.end_run();
        self.list
    }

    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let end = self.last.map_or(0, |last| last.end());
        let codes = self.last.map_or(Codes::Bytes, |last| last.codes);
        put(
            &mut self.list,
            (run.start - end) << 1 | u64::from(run.codes != codes),
        );
        if run.codes != codes {
            put(
                &mut self.list,
                match run.codes {
                    Codes::Bytes => 0,
                    Codes::Huffman { bits, zero } => u64::from(zero << 4 | bits),
                },
            );
        }
        let count = u64::from(run.count) << 1;
        match run.first {
            Slot::Sum => put(&mut self.list, count),
            Slot::Time(first) => {
                put(&mut self.list, count | 1);
                put(&mut self.list, first.into());
            }
        }
        self.last = Some(run);
    }
}

/// Puts digits into the slots of a compressed block, which may have any others.
///
/// `None` if the list is none of such a block with so many digits; the block is spoilt then.
pub(super) fn fill(block: &mut [u8], list: &[u8], digits: &Digits) -> Option<()> {
    let mut sums = digits.sums.iter();
    let mut list = list;
    let (mut position, mut codes) = (0, Codes::Bytes);
    while !list.is_empty() {
        let gap = take(&mut list)?;
        if gap & 1 != 0 {
            codes = match take(&mut list)? {
                0 => Codes::Bytes,
                word if word & 0xf == 0 => return None,
                word => Codes::Huffman {
                    bits: (word & 0xf) as u32,
                    zero: u32::try_from(word >> 4).ok()?,
                },
            };
        }
        position += gap >> 1;
        let count = take(&mut list)?;
        let mut time = match count & 1 {
            0 => None,
            _ => Some(
                digits
                    .time
                    .get(usize::try_from(take(&mut list)?).ok()?..)?
                    .iter(),
            ),
        };
        for _ in 0..count >> 1 {
            let digit = time.as_mut().unwrap_or(&mut sums).next()?;
            exchange(block, position, codes, *digit)?;
            position += u64::from(codes.bits());
        }
    }
    sums.next().is_none().then_some(())
}

/// Writes one digit.
fn exchange(block: &mut [u8], position: u64, codes: Codes, digit: u8) -> Option<()> {
    let byte = usize::try_from(position / 8).ok()?;
    // Up to 15 bits, from anywhere in the first byte on.
    let window: &mut [u8; 4] = block.get_mut(byte..byte + 4)?.try_into().ok()?;
    let shift = position % 8;
    let mask = ((1 << codes.bits()) - 1) << shift;
    let bits = u32::from_le_bytes(*window) & !mask | codes.code(digit) << shift & mask;
    *window = bits.to_le_bytes();
    Some(())
}

fn put(list: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        list.push(number as u8 | 0x80);
        number >>= 7;
    }
    list.push(number as u8);
}

fn take(list: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = list.split_first()?;
        *list = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGITS: &[u8] = b"01234567";

    #[test]
    fn digits_are_put_where_the_list_says() {
        let mut recorder = Recorder::default();
        recorder.put(16, Slot::Time(9), Codes::Bytes);
        recorder.put(24, Slot::Time(10), Codes::Bytes);
        let codes = Codes::Huffman { bits: 5, zero: 8 };
        recorder.put(43, Slot::Sum, codes);
        recorder.put(48, Slot::Sum, codes);
        recorder.put(60, Slot::Sum, codes);
        let list = recorder.into_list();
        let mut block = [0xff; 12];
        let digits = Digits {
            time: *b"00000000012",
            sums: b"370".to_vec(),
        };
        fill(&mut block, &list, &digits).unwrap();
        assert_eq!(&block[..5], b"\xff\xff12\xff");
        // 0b01011, 0b01111 and 0b01000, the first bit of each lowest.
        let bits = |start: usize| {
            (u64::from_le_bytes(*block[4..].first_chunk().unwrap()) >> (start - 32)) & 31
        };
        assert_eq!([43, 48, 60].map(bits), [0b11010, 0b11110, 0b00010]);
        // Others take the places of these.
        let filled = block;
        let zeros = Digits {
            time: *b"00000000000",
            sums: b"000".to_vec(),
        };
        fill(&mut block, &list, &zeros).unwrap();
        fill(&mut block, &list, &digits).unwrap();
        assert_eq!(block, filled);
        for sums in [&b"37"[..], b"3700"] {
            let other = Digits {
                sums: sums.to_vec(),
                ..digits.clone()
            };
            assert_eq!(fill(&mut block, &list, &other), None);
        }
        assert_eq!(fill(&mut block[..8], &list, &digits), None);
    }

    proptest! {
        #[test]
        fn any_list_is_harmless(
            list in proptest::collection::vec(any::<u8>(), 0..60),
            sums in proptest::collection::vec(proptest::sample::select(DIGITS), 0..20),
        ) {
            let digits = Digits { time: *b"01234567012", sums };
            let _ = fill(&mut [0; 50], &list, &digits);
        }
    }
}
