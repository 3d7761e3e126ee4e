//! Bytes of a tar that change when nothing but the layer's time does: the blanks of a template.
//!
//! All headers of a layer have the same time, which is derived from the content. When one file
//! changes, so do eleven digits in every header, and with them the header's checksum, the sum of
//! its bytes. In the template marks stand for these digits, so that headers of files that did not
//! change are the same bytes as before.
//!
//! ```text
//! header │ name, mode, owner, size │ time: 11 digits, NUL │ checksum: 6 digits, NUL, space │ …
//!        0                        136 ▔▔▔▔▔▔▔▔▔          148            ▔▔▔▔              156
//! ```
//!
//! Of a checksum the last digits are blanks: those that are not the same for all times.

use crate::tar::{BLOCK, CHECKSUM, MTIME};
use std::ops::Range;

/// Bytes of a header.
const HEADER: usize = BLOCK as usize;

/// The digits of the time, from the beginning of the header.
const TIME: Range<usize> = MTIME.start..MTIME.end - 1;

/// Those of the checksum.
const SUM: Range<usize> = CHECKSUM.start..CHECKSUM.start + 6;

/// The digits of a layer's time.
pub(super) type Time = [u8; TIME.end - TIME.start];

/// What a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Byte {
    /// It is in the template as it is in the tar.
    Plain,
    /// A digit of the time, this one: wherever it is, it has the same value.
    Time(u8),
    /// A digit of a checksum, this one, whose value is its own.
    Sum(u8),
}

/// The bytes of a header in which its time is.
pub(super) fn time(header: &[u8]) -> Time {
    let mut time = Time::default();
    time.copy_from_slice(&header[TIME]);
    time
}

/// A header that has blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Where in the tar it begins.
    pub(super) offset: u64,
    /// How many digits of the checksum are blanks.
    sums: u8,
    /// A number made of all bytes that are none.
    pub(super) rest: u32,
}

impl Header {
    /// Of this header; `None` if its time and checksum are not all digits.
    pub(super) fn new(offset: u64, header: &[u8]) -> Option<Header> {
        let time: usize = header[TIME].iter().map(digit).sum::<Option<_>>()?;
        let sum = |sum: usize, byte| Some(sum * 8 + digit(byte)?);
        let sum = header[SUM].iter().try_fold(0, sum)?;
        // Under any other time it is one of these.
        let least = sum.checked_sub(time)?;
        let most = least + 7 * TIME.len();
        let sums = (0..=SUM.len()).find(|digits| least >> (3 * digits) == most >> (3 * digits))?;
        let mut rest = crc32fast::Hasher::new();
        rest.update(&header[..TIME.start]);
        rest.update(&header[TIME.end..SUM.start]);
        rest.update(&header[SUM.end..]);
        Some(Header {
            offset,
            sums: sums as u8,
            rest: rest.finalize(),
        })
    }

    /// Where in the tar it ends.
    pub(super) fn end(&self) -> u64 {
        self.offset + BLOCK
    }
}

/// What an octal digit counts.
fn digit(byte: &u8) -> Option<usize> {
    matches!(byte, b'0'..=b'7').then(|| usize::from(byte & 7))
}

/// Where the blanks of a block are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blanks {
    /// Number of the 512-byte block of the tar in which this one begins.
    first: u64,
    /// How much of it is before this one.
    lead: usize,
    /// Of it and each that follows, how many digits of its checksum are blanks; none if it is no
    /// header that has blanks.
    headers: Vec<u8>,
}

impl Blanks {
    /// Of a block that begins at this offset of the tar: none so far.
    pub(super) fn new(offset: u64) -> Blanks {
        Blanks {
            first: offset / BLOCK,
            lead: (offset % BLOCK) as usize,
            headers: Vec::new(),
        }
    }

    /// Takes note of a header that does not end before the block. Returns where in the block it is.
    pub(super) fn add(&mut self, header: &Header) -> Range<usize> {
        let number = (header.offset / BLOCK).saturating_sub(self.first) as usize;
        let count = self.headers.len().max(number + 1);
        self.headers.resize(count, 0);
        self.headers[number] = header.sums;
        let place = |number: usize| (number * HEADER).saturating_sub(self.lead);
        place(number)..place(number + 1)
    }

    /// Forgets what is behind a block of this length.
    pub(super) fn truncate(&mut self, len: usize) {
        self.headers.truncate((self.lead + len).div_ceil(HEADER));
    }

    /// What tells these blanks from others in a block of the same length.
    pub(super) fn identity(&self) -> Vec<u8> {
        let lead = (self.lead as u16).to_le_bytes();
        [&lead[..], &self.headers].concat()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.headers.iter().all(|&sums| sums == 0)
    }

    /// What the byte at this position is.
    pub(super) fn at(&self, position: usize) -> Byte {
        let from_lead = self.lead + position;
        let within = from_lead % HEADER;
        match self.sum(from_lead / HEADER) {
            Some(_) if TIME.contains(&within) => Byte::Time((within - TIME.start) as u8),
            Some(sum) if sum.contains(&within) => Byte::Sum((within - SUM.start) as u8),
            _ => Byte::Plain,
        }
    }

    /// The first blank that is not before `position`; beyond any block when there is none.
    pub(super) fn next(&self, position: usize) -> usize {
        let from_lead = self.lead + position;
        let (first, within) = (from_lead / HEADER, from_lead % HEADER);
        if let Some(sum) = self.sum(first)
            && within < SUM.end
        {
            let is_behind_time = within >= TIME.end;
            let field = if is_behind_time {
                sum.start
            } else {
                TIME.start
            };
            return position + field.saturating_sub(within);
        }
        let later = self.headers.iter().skip(first + 1);
        match later.copied().position(|sums| sums > 0) {
            Some(more) => (first + 1 + more) * HEADER + TIME.start - self.lead,
            None => usize::MAX,
        }
    }

    /// Whether a blank may be among these bytes.
    pub(super) fn touch(&self, range: Range<usize>) -> bool {
        let range = self.lead + range.start..self.lead + range.end;
        (range.start / HEADER..=range.end / HEADER).any(|number| {
            let start = number * HEADER;
            let is_between = start + TIME.start < range.end && range.start < start + SUM.end;
            is_between && self.sum(number).is_some()
        })
    }

    /// Where in a header the blanks of its checksum are.
    fn sum(&self, number: usize) -> Option<Range<usize>> {
        let sums = usize::from(*self.headers.get(number)?);
        (sums > 0).then_some(SUM.end - sums..SUM.end)
    }
}
