//! Maps of sparse entries: the old GNU form in the header, and the PAX forms 0.0, 0.1 and 1.0.

use super::header::{Block, number};
use super::pax;

/// A run of stored bytes of a sparse file. What lies between runs reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// Bytes of one segment in the old GNU form: offset and length of twelve digits each.
const GNU_SEGMENT: usize = 24;

/// Where an extension block of the old GNU form says that another one follows.
const EXTENSION_IS_EXTENDED: usize = 504;

/// Reads segments of the old GNU form up to the first unused place.
pub(super) fn gnu_segments(fields: &[u8], map: &mut Vec<Segment>) -> Option<()> {
    for field in fields.chunks_exact(GNU_SEGMENT) {
        let (offset, len) = field.split_at(GNU_SEGMENT / 2);
        if offset[0] == 0 || len[0] == 0 {
            break;
        }
        map.push(Segment {
            offset: u64::try_from(number(offset)?).ok()?,
            len: u64::try_from(number(len)?).ok()?,
        });
    }
    Some(())
}

/// Reads an extension block of the old GNU form; says whether another one follows.
pub(super) fn gnu_extension(block: &Block, map: &mut Vec<Segment>) -> Option<bool> {
    gnu_segments(&block[..EXTENSION_IS_EXTENDED], map)?;
    Some(block[EXTENSION_IS_EXTENDED] != 0)
}

/// Reads `offset,length,offset,length…`, the PAX form 0.1.
pub(super) fn comma_separated(text: &[u8]) -> Option<Vec<Segment>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Option<Vec<u64>> = text.split(|&byte| byte == b',').map(pax::decimal).collect();
    pairs(&numbers?)
}

/// Pairs numbers up; an odd one out is malformed.
pub(super) fn pairs(numbers: &[u64]) -> Option<Vec<Segment>> {
    let (pairs, []) = numbers.as_chunks::<2>() else {
        return None;
    };
    let segment = |&[offset, len]: &[u64; 2]| Segment { offset, len };
    Some(pairs.iter().map(segment).collect())
}

/// Whether the segments are in order, apart, inside a file of `size` bytes, and have `stored`
/// bytes in all.
pub(super) fn is_sound(map: &[Segment], size: u64, stored: u64) -> bool {
    let mut end = 0;
    let mut total = 0_u64;
    for segment in map {
        let Some(after) = segment.offset.checked_add(segment.len) else {
            return false;
        };
        if segment.offset < end || after > size {
            return false;
        }
        end = after;
        total += segment.len;
    }
    total == stored
}
