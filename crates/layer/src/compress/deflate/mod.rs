//! Deflate streams (RFC 1951) made into what libdeflate does not write: blocks that others can
//! follow, and in which digits can be exchanged.

mod bits;
mod codes;
mod encode;
mod huffman;
#[cfg(test)]
mod samples;
mod slots;
mod symbols;
mod transcode;
mod unfinished;

pub(super) use transcode::transcode;
pub(super) use unfinished::unfinish;

use super::template::Digits;

/// A block that was compressed, as it is kept for the next time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deflated {
    /// What is written of it.
    pub bytes: Vec<u8>,
    /// Where in it digits are that depend on the layer's time. Empty if there are none.
    pub slots: Vec<u8>,
}

impl Deflated {
    /// With these digits, whichever it had before; `None` if it has not as many slots.
    pub(super) fn fill(mut self, digits: &Digits) -> Option<Deflated> {
        slots::fill(&mut self.bytes, &self.slots, digits)?;
        Some(self)
    }
}

/// Ends a block on a byte boundary: an empty stored block, without its first three bits and the
/// padding.
const FLUSH: [u8; 4] = [0, 0, 0xff, 0xff];
