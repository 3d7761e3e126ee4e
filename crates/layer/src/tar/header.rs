//! The fields of the 512-byte header block: where they are, how numbers are spelled, the checksum.

use super::BLOCK;
use std::ops::Range;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(crate) const MTIME: Range<usize> = 136..148;
pub(crate) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE_FLAG: usize = 156;
pub(super) const LINK_NAME: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const DEV_MAJOR: Range<usize> = 329..337;
pub(super) const DEV_MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
/// The prefix of the star variant, which keeps times behind it.
pub(super) const STAR_PREFIX: Range<usize> = 345..476;
pub(super) const STAR_TRAILER: Range<usize> = 508..512;
pub(super) const GNU_ATIME: Range<usize> = 345..357;
pub(super) const GNU_CTIME: Range<usize> = 357..369;
pub(super) const GNU_SPARSE: Range<usize> = 386..482;
pub(super) const GNU_IS_EXTENDED: usize = 482;
pub(super) const GNU_REAL_SIZE: Range<usize> = 483..495;

/// Magic and version of POSIX archives.
pub(super) const MAGIC_USTAR: &[u8; 8] = b"ustar\x0000";
/// Magic and version of GNU archives.
pub(super) const MAGIC_GNU: &[u8; 8] = b"ustar  \0";

/// One block.
pub(super) type Block = [u8; 512];

/// Whether a field of `width` bytes holds `value` as octal digits and a NUL.
pub(super) fn fits_octal(width: usize, value: i64) -> bool {
    value >= 0 && (width >= 22 || value < 1 << (3 * (width - 1)))
}

/// Writes octal digits, zero-padded, and a NUL. The value fits.
pub(super) fn put_octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let digits = format!("{value:0width$o}");
    field[..width].copy_from_slice(&digits.as_bytes()[digits.len() - width..]);
    field[width] = 0;
}

/// Puts the checksum into a block that is complete otherwise: six digits, NUL, space.
pub(super) fn seal(block: &mut Block) {
    let (sum, _) = sums(block);
    block[CHECKSUM][7] = b' ';
    put_octal(&mut block[CHECKSUM][..7], sum);
}

/// The checksum as unsigned bytes, and as the signed bytes that some old writers summed.
pub(super) fn sums(block: &Block) -> (u64, i64) {
    let mut unsigned = 0_u64;
    let mut signed = 0_i64;
    for (index, &byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) {
            b' '
        } else {
            byte
        };
        unsigned += u64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}

/// The bytes of a text field, up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// A number: octal digits between spaces and NULs, or base 256 when the top bit is set.
/// `None` when it is neither or does not fit.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        return base_256(field);
    }
    let digits = field.trim_ascii_start();
    let digits = match digits.iter().rposition(|&byte| byte != 0 && byte != b' ') {
        Some(last) => &digits[..=last],
        None => return Some(0),
    };
    // Leading NULs too: some writers pad with them.
    let first = digits.iter().position(|&byte| byte != 0).unwrap_or(0);
    let digits = text(&digits[first..]).trim_ascii_end();
    digits.iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big endian, the top bit of the first byte being the mark.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0 };
    let mut bytes = field.to_vec();
    bytes[0] = if negative {
        bytes[0] | 0x80
    } else {
        bytes[0] & 0x7f
    };
    while bytes.len() < 8 {
        bytes.insert(0, fill);
    }
    let (high, low) = bytes.split_at(bytes.len() - 8);
    let value = i64::from_be_bytes(low.try_into().ok()?);
    let fits = high.iter().all(|&byte| byte == fill) && (value < 0) == negative;
    fits.then_some(value)
}

/// Whether this is a header block of an archive and not a block of zeros.
pub fn is_header(block: &[u8]) -> bool {
    let Ok(block) = <&Block>::try_from(block) else {
        return false;
    };
    let (unsigned, signed) = sums(block);
    let sum = number(&block[CHECKSUM]);
    *block != [0; 512] && (sum == Some(unsigned.cast_signed()) || sum == Some(signed))
}

/// What follows a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// It is the content of a regular file.
    pub(crate) is_file: bool,
    /// The header tells more about the entry that follows, and is none of its own.
    pub(crate) is_extension: bool,
    /// Bytes from here to the next header, going by this block alone.
    pub(crate) padded: u64,
}

/// What follows this block; `None` if it is no header.
pub(crate) fn extent(block: &[u8]) -> Option<Extent> {
    if !is_header(block) {
        return None;
    }
    let size = u64::try_from(number(&block[SIZE])?).ok()?;
    let is_file = matches!(block[TYPE_FLAG], 0 | b'0' | b'7');
    let is_extension = matches!(block[TYPE_FLAG], b'x' | b'g' | b'L' | b'K');
    let has_data = is_file || is_extension || block[TYPE_FLAG] == b'S';
    let padded = if has_data {
        size.checked_next_multiple_of(BLOCK)?
    } else {
        0
    };
    Some(Extent {
        is_file,
        is_extension,
        padded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &[u8], expect: Option<i64>) {
        assert_eq!(number(field), expect, "{field:?}");
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"0000644 ", Some(0o644));
        check(b"00006440", Some(0o6440));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"        ", Some(0));
        check(b"0000648\0", None);
        check(b"-000644\0", None);
        check(b"12\x003\0\0\0\0", Some(0o12));
        check(b"\x80\0\0\0\0\0\x01\0", Some(256));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(
            b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
            Some(i64::MAX),
        );
        check(b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None);
        check(b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None);
        check(b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN));
    }

    #[test]
    fn octal_fields_end_in_nul() {
        let mut field = [b'x'; 8];
        put_octal(&mut field, 0o755);
        assert_eq!(&field, b"0000755\0");
        assert!(fits_octal(8, 0o777_7777));
        assert!(!fits_octal(8, 0o1000_0000));
        assert!(!fits_octal(8, -1));
    }
}
