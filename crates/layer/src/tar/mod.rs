//! The tar format: a canonical writer and a strict streaming reader.
//!
//! Nothing here opens a file or knows what a layer is; [`crate::pack`] and [`crate::apply`] do.
//!
//! ```text
//! ┌ extended header (only when ustar does not reach) ┐┌ header ┐┌ data, padded to 512 ┐ … ┌ 1024 zeros ┐
//! ```
//!
//! The writer makes the bytes that Go's `archive/tar` makes of the same fields, so that a layer of
//! the same files with the same times has the same digest as one that BuildKit wrote. The reader
//! takes ustar, PAX, GNU and v7 and refuses what the usual readers understand differently from
//! each other: two programs that see different files in one archive are a way to smuggle.

mod header;
mod pax;
mod read;
mod records;
mod sparse;
mod write;

pub use header::is_header;
pub(crate) use header::{CHECKSUM, MTIME, extent};
pub use read::{Entry, EntryKind, FileData, Limits, ReadError, Reader};
pub use sparse::Segment;
pub use write::{Header, HeaderError, TypeFlag, encode};

/// Bytes of a tar block. Headers and data begin at multiples of it.
pub const BLOCK: u64 = 512;

/// Bytes of zeros that end an archive.
pub const TRAILER: u64 = 2 * BLOCK;

/// What the name of a layer entry begins with when it says that a name of the layers below is
/// gone (OCI image-spec, "Whiteouts").
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Name of the entry that hides all that the layers below have in its directory.
pub const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Rounds up to whole blocks.
pub(crate) fn padded(len: u64) -> u64 {
    len.div_ceil(BLOCK) * BLOCK
}
