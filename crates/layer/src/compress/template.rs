//! A block of a tar whose blanks are marked, and what they are filled with.
//!
//! The marks are bytes like any other: content that looks like them is no blank.

use super::blanks::{Blanks, Byte, Header, Time};

/// What stands for the first digit of the time, the next number for the second and so on: all
/// headers are to be alike, since they copy the time from each other. Such bytes in a row are no
/// text in UTF-8, and hardly anything else.
const TIME_MARK: u8 = 0xc8;

/// Spreads a number over eight bytes. No two headers have the same marks for their checksums: they
/// are not copied, and the compressor had better not plan with that.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the blanks of a block are filled with: bytes from `b'0'` to `b'7'`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digits {
    pub(super) time: Time,
    /// Those of all checksums, in order of their positions.
    pub(super) sums: Vec<u8>,
}

/// A block that has marks for its digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    bytes: Vec<u8>,
    blanks: Blanks,
    digits: Digits,
}

impl Template {
    /// Of a block that begins at this offset of the tar, and has no bytes so far.
    pub(super) fn new(offset: u64, capacity: usize) -> Template {
        Template {
            bytes: Vec::with_capacity(capacity),
            blanks: Blanks::new(offset),
            digits: Digits::default(),
        }
    }

    /// The bytes, marks among them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the blanks are.
    pub(super) fn blanks(&self) -> &Blanks {
        &self.blanks
    }

    /// What they are filled with.
    pub(super) fn digits(&self) -> &Digits {
        &self.digits
    }

    /// The block, to append bytes of the tar.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Replaces the digits of these headers by marks, from this position on. Called once for every
    /// byte, in order, with all headers that the byte may be in.
    pub(super) fn mark<'h>(
        &mut self,
        from: usize,
        headers: impl Iterator<Item = &'h Header>,
        time: Time,
    ) {
        self.digits.time = time;
        for header in headers {
            let place = self.blanks.add(header);
            let marks = u64::from(header.rest).wrapping_mul(SPREAD).to_be_bytes();
            let end = place.end.min(self.bytes.len());
            let mut next = self.blanks.next(from.max(place.start));
            while next < end {
                let byte = &mut self.bytes[next];
                match self.blanks.at(next) {
                    Byte::Plain => {}
                    Byte::Time(digit) => *byte = TIME_MARK + digit,
                    Byte::Sum(digit) => {
                        self.digits.sums.push(*byte);
                        *byte = marks[usize::from(digit)];
                    }
                }
                next = self.blanks.next(next + 1);
            }
        }
    }

    /// Drops what is behind the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        let mut next = self.blanks.next(len);
        while next < self.bytes.len() {
            if matches!(self.blanks.at(next), Byte::Sum(_)) {
                self.digits.sums.pop();
            }
            next = self.blanks.next(next + 1);
        }
        self.bytes.truncate(len);
        self.blanks.truncate(len);
    }

    /// The block as it is in the tar.
    pub(super) fn fill(mut self) -> Vec<u8> {
        let mut sums = self.digits.sums.iter();
        let mut next = self.blanks.next(0);
        while let Some(byte) = self.bytes.get_mut(next) {
            match self.blanks.at(next) {
                Byte::Plain => {}
                Byte::Time(digit) => *byte = self.digits.time[usize::from(digit)],
                Byte::Sum(_) => sums.next().into_iter().for_each(|&digit| *byte = digit),
            }
            next = self.blanks.next(next + 1);
        }
        self.bytes
    }
}
