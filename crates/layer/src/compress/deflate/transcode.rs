//! A compressed template made into a block whose blanks are slots.
//!
//! libdeflate takes the marks of a template for bytes like any others. Here each mark becomes a
//! digit that is spelled out, unless it is copied from the same digit of the time in an earlier
//! header. What copies a digit to where none is, or something else to where one is, is cut in
//! pieces, so that the block decompresses to the right bytes whichever digits are filled in:
//!
//! ```text
//! name, mode, … │ copy of: size, time, NUL, checksum, NUL, type, …
//! name, mode, … │ copy of: size, time, NUL, 1 digit │ 5 slots │ copy of: NUL, type, …
//! ```

use super::bits::{Reader, Writer};
use super::codes::Lengths;
use super::encode::Tokens;
use super::slots::{Codes, NO_DIGIT, Recorder, Slot};
use super::symbols::{Decoder, LEAST_COPY, Step};
use super::{Deflated, FLUSH};
use crate::compress::blanks::{Blanks, Byte};
use crate::compress::template::Template;
use std::ops::Range;

/// Makes slots of a template's blanks. No block of the result is the last, and it ends on a byte
/// boundary.
///
/// `None` if `stream` is not what the template was compressed to.
pub(in crate::compress) fn transcode(stream: &[u8], template: &Template) -> Option<Deflated> {
    let mut bits = Reader::new(stream);
    let mut decoder = Decoder::new();
    let mut editor = Editor::new(template);
    let mut out = Writer::new(stream.len() + stream.len() / 64 + 1024);
    let mut slots = Recorder::default();
    loop {
        bits.refill();
        let is_last = bits.take(1) == 1;
        let lengths = match bits.take(2) {
            0 => None,
            1 => Some(Lengths::fixed()),
            2 => Some(Lengths::read(&mut bits)?),
            _ => return None,
        };
        if let Some(lengths) = lengths {
            let start = editor.position;
            editor.tokens.clear();
            decoder.decode(&lengths, &mut bits, |step| editor.take(step))?;
            let said = &template.bytes()[start..];
            editor.tokens.write(said, &mut out, &mut slots);
        } else {
            editor.store(bits.skip_stored(), &mut out, &mut slots)?;
        }
        if bits.position() > stream.len() as u64 * 8 {
            return None;
        }
        if is_last {
            break;
        }
    }
    if editor.position != template.bytes().len() {
        return None;
    }
    out.put(0, 3);
    out.put_bytes(&FLUSH);
    Some(Deflated {
        bytes: out.into_stream(),
        slots: slots.into_list(),
    })
}

/// Follows the steps of decompression and changes those that have to do with blanks.
struct Editor<'a> {
    template: &'a [u8],
    blanks: &'a Blanks,
    /// Bytes that the steps so far make.
    position: usize,
    /// The next blank, or the end.
    next: usize,
    tokens: Tokens,
}

impl<'a> Editor<'a> {
    fn new(template: &'a Template) -> Editor<'a> {
        let mut editor = Editor {
            template: template.bytes(),
            blanks: template.blanks(),
            position: 0,
            next: 0,
            tokens: Tokens::new(),
        };
        editor.pass(0);
        editor
    }

    #[inline]
    fn take(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Literals(len) => {
                let range = self.position..self.position + len;
                if range.end <= self.next {
                    self.tokens.literals(self.template.get(range)?);
                    self.position += len;
                } else {
                    self.spell(range)?;
                    self.pass(len);
                }
            }
            Step::Copy { len, distance } => {
                let from = self.position.checked_sub(distance)?;
                if self.position + len <= self.next && !self.blanks.touch(from..from + len) {
                    self.tokens.copy(len, distance);
                    self.position += len;
                } else {
                    self.split(len, distance)?;
                    self.pass(len);
                }
            }
        }
        Some(())
    }

    fn pass(&mut self, len: usize) {
        self.position += len;
        if self.next <= self.position {
            self.next = self.blanks.next(self.position).min(self.template.len());
        }
    }

    /// Copies what may be copied and spells the rest.
    fn split(&mut self, len: usize, distance: usize) -> Option<()> {
        let end = self.position + len;
        self.template.get(self.position..end)?;
        let mut copied = self.position;
        for position in self.position..end {
            let same = match self.blanks.at(position) {
                Byte::Sum(_) => false,
                byte => byte == self.blanks.at(position - distance),
            };
            if !same {
                self.copy(copied..position, distance)?;
                self.spell(position..position + 1)?;
                copied = position + 1;
            }
        }
        self.copy(copied..end, distance)
    }

    fn copy(&mut self, range: Range<usize>, distance: usize) -> Option<()> {
        if range.len() < LEAST_COPY {
            return self.spell(range);
        }
        self.tokens.copy(range.len(), distance);
        Some(())
    }

    fn spell(&mut self, range: Range<usize>) -> Option<()> {
        for position in range {
            match self.slot(position) {
                Some(slot) => self.tokens.slot(slot),
                None => self
                    .tokens
                    .literals(self.template.get(position..position + 1)?),
            }
        }
        Some(())
    }

    fn slot(&self, position: usize) -> Option<Slot> {
        match self.blanks.at(position) {
            Byte::Plain => None,
            Byte::Time(digit) => Some(Slot::Time(digit)),
            Byte::Sum(_) => Some(Slot::Sum),
        }
    }

    /// Writes so many bytes as a stored block.
    fn store(&mut self, len: usize, out: &mut Writer, slots: &mut Recorder) -> Option<()> {
        let end = self.position + len;
        let mut bytes = self.template.get(self.position..end)?.to_vec();
        let written = u16::try_from(len).ok()?.to_le_bytes();
        out.put(0, 3);
        out.put_bytes(&[written, written.map(|byte| !byte)].concat());
        let start = out.position();
        let mut next = self.next;
        while next < end {
            if let Some(slot) = self.slot(next) {
                let byte = next - self.position;
                bytes[byte] = NO_DIGIT;
                slots.put(start + 8 * byte as u64, slot, Codes::Bytes);
            }
            next = self.blanks.next(next + 1);
        }
        out.put_bytes(&bytes);
        self.pass(len);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{inflated, streams};
    use super::*;
    use crate::compress::blanks::{Header, Time};
    use crate::tar::{CHECKSUM, MTIME};
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Bytes of which most look like marks or digits.
    const BYTES: &[u8] = b"\0\0a0012345677\xc8\xc9\xca\xcb\xcc\xd2\xd8\xd9\xda\xdb\xdc";

    /// A block that begins at `offset` of a tar and has headers there with this time, whose
    /// checksums are as much more than `least` as the time has.
    fn template(offset: u64, block: &[u8], headers: &[u64], time: Time, least: usize) -> Template {
        let sum = least
            + time
                .map(|digit| usize::from(digit - b'0'))
                .iter()
                .sum::<usize>();
        let sum = format!("{sum:06o}");
        let mut tar = vec![0; offset as usize];
        tar.extend(block);
        tar.extend([0; 512]);
        let mut blanks = Vec::new();
        for &offset in headers {
            let header = &mut tar[offset as usize..][..512];
            header[MTIME.start..][..time.len()].copy_from_slice(&time);
            header[CHECKSUM.start..][..sum.len()].copy_from_slice(sum.as_bytes());
            blanks.push(Header::new(offset, header).unwrap());
        }
        let mut template = Template::new(offset, 0);
        template
            .end()
            .extend(&tar[offset as usize..][..block.len()]);
        template.mark(0, blanks.iter(), time);
        template
    }

    /// Both blocks are the same template, and what one is compressed to can become the other.
    #[track_caller]
    fn check(template: &Template, other: &Template, level: u32) {
        assert_eq!(
            (template.bytes(), template.blanks()),
            (other.bytes(), other.blanks())
        );
        for stream in streams(template.bytes(), level) {
            let packed = transcode(&stream, template).unwrap();
            let filled = packed.clone().fill(template.digits()).unwrap();
            assert!(inflated(&filled.bytes) == template.clone().fill());
            let others = packed.fill(other.digits()).unwrap();
            assert!(inflated(&others.bytes) == other.clone().fill());
            assert!(filled.fill(other.digits()).unwrap() == others);
        }
    }

    fn time() -> impl Strategy<Value = Time> {
        proptest::array::uniform11(select(&b"01234567"[..]))
    }

    proptest! {
        #[test]
        fn any_digits_can_be_filled_in(
            offset in 0_u64..1100,
            phrases in proptest::collection::vec(proptest::collection::vec(select(BYTES), 1..40), 1..20),
            order in proptest::collection::vec(0_usize..20, 1..400),
            headers in proptest::collection::btree_set(0_u64..20, 0..12),
            (one, two) in (time(), time()),
            least in 0_usize..0o700_000,
            level in 0_u32..10,
        ) {
            let block: Vec<u8> = order.iter().flat_map(|&n| phrases[n % phrases.len()].clone()).collect();
            let end = offset + block.len() as u64;
            let headers = headers.into_iter().map(|number| 512 * number);
            let headers: Vec<u64> = headers.filter(|&at| at < end && at + 512 > offset).collect();
            let template_of = |time| template(offset, &block, &headers, time, least);
            check(&template_of(one), &template_of(two), level);
        }

        #[test]
        fn what_is_no_stream_of_the_template_is_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            time in time(),
        ) {
            let template = template(0, &[b'.'; 3000], &[0, 1024], time, 5000);
            prop_assert_eq!(transcode(&bytes, &template), None);
        }
    }
}
