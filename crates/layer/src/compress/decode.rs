//! Streams of strangers: which format they have is read off their first bytes.

use std::io::{self, BufRead, Read};

/// log2 of the largest zstd window that is taken: 128 MiB of memory, as the zstd program has it.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Memory that an xz stream may ask for.
const XZ_KIBIBYTES: u32 = 128 * 1024;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all, or in a way that is not known here.
    Plain,
    /// gzip, of any number of members.
    Gzip,
    /// zstd, of any number of frames.
    Zstd,
    /// bzip2, of any number of streams.
    Bzip2,
    /// xz, of any number of streams.
    Xz,
}

impl Format {
    /// Bytes that [`Format::detect`] wants to see, if there are as many.
    pub const MAGIC: usize = 512;

    /// Tells the format by the first bytes. A tar whose first name begins like a compressed stream
    /// is a tar.
    pub fn detect(start: &[u8]) -> Format {
        match start {
            tar if tar.get(..Format::MAGIC).is_some_and(crate::tar::is_header) => Format::Plain,
            [0x1f, 0x8b, 8, ..] => Format::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
            _ => Format::Plain,
        }
    }
}

/// Decompresses `source`.
///
/// # Errors
/// When the decompressor cannot be made. What is wrong with the stream shows on reading.
pub fn decoder<'a>(
    format: Format,
    source: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match format {
        Format::Plain => Box::new(source),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Format::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            source,
            true,
            XZ_KIBIBYTES,
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_their_first_bytes() {
        for (start, format) in [
            (&b"\x1f\x8b\x08\0"[..], Format::Gzip),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"\x50\x2a\x4d\x18", Format::Zstd),
            (b"BZh91AY", Format::Bzip2),
            (b"\xfd7zXZ\0", Format::Xz),
            (b"BZhang", Format::Plain),
            (b"", Format::Plain),
            (b"etc/passwd", Format::Plain),
        ] {
            assert_eq!(Format::detect(start), format, "{start:?}");
        }
        let mut tar = [0; 512];
        tar[..7].copy_from_slice(b"BZh91AY");
        assert_eq!(Format::detect(&tar), Format::Bzip2);
        // The sum of all bytes, the sum itself as eight spaces.
        let sum = 8 * 32 + b"BZh91AY".iter().map(|&byte| u32::from(byte)).sum::<u32>();
        tar[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert_eq!(Format::detect(&tar), Format::Plain);
    }
}
