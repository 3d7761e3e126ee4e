//! Streams for tests, and what is in them.

use flate2::{Compress, Compression, FlushCompress};
use libdeflater::{CompressionLvl, Compressor};
use std::io::Read;

/// Streams of the same bytes from two compressors, which between them write every kind of
/// block.
pub(super) fn streams(bytes: &[u8], level: u32) -> [Vec<u8>; 2] {
    let own = CompressionLvl::new(level.cast_signed()).unwrap();
    let mut compressor = Compressor::new(own);
    let mut first = vec![0; compressor.deflate_compress_bound(bytes.len())];
    let len = compressor.deflate_compress(bytes, &mut first).unwrap();
    first.truncate(len);
    let mut second = Vec::with_capacity(2 * bytes.len() + 1024);
    Compress::new(Compression::new(level), false)
        .compress_vec(bytes, &mut second, FlushCompress::Finish)
        .unwrap();
    [first, second]
}

/// What another decompressor makes of a stream that has no last block.
pub(super) fn inflated(stream: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut decoder = flate2::read::DeflateDecoder::new(stream.chain(&[3, 0][..]));
    decoder.read_to_end(&mut found).unwrap();
    found
}
