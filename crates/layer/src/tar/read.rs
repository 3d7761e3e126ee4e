//! A streaming reader of tar archives that strangers made.
//!
//! It takes what the usual writers write: ustar, PAX with global records, GNU long names and
//! sparse files, star, v7. It refuses what the usual readers disagree about. Paths come out as
//! they stand in the archive: the caller confines them.

use super::header::{
    Block, DEV_MAJOR, DEV_MINOR, GID, GNU_ATIME, GNU_CTIME, GNU_IS_EXTENDED, GNU_REAL_SIZE,
    GNU_SPARSE, LINK_NAME, MAGIC, MAGIC_GNU, MAGIC_USTAR, MODE, MTIME, NAME, PREFIX, SIZE,
    STAR_PREFIX, STAR_TRAILER, TYPE_FLAG, UID, is_header, number, text,
};
use super::records::Records;
use super::sparse::{self, Segment};
use super::{BLOCK, padded};
use crate::model::{Metadata, Time};
use std::io::{self, BufRead};

/// What an archive may have at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of a path or link target.
    pub path: usize,
    /// Bytes of one extended header or long name.
    pub extended_header: u64,
    /// Segments of one sparse file.
    pub segments: usize,
    /// Bytes of the archive, and of all its files together with their holes.
    pub total: u64,
}

impl Default for Limits {
    /// Far above real images: ten million entries, a terabyte.
    fn default() -> Limits {
        Limits {
            entries: 10_000_000,
            path: 4096,
            extended_header: 1 << 20,
            segments: 1 << 20,
            total: 1 << 40,
        }
    }
}

/// Why an archive was refused. Offsets are bytes from its beginning.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source failed.
    #[error("read the archive at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// It ends within an entry.
    #[error("archive ends at byte {offset} within an entry")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// A block is no header.
    #[error("no tar header at byte {offset}: {reason}")]
    Malformed {
        /// Where the header begins.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Readers disagree about what this means.
    #[error("ambiguous tar header at byte {offset}: {reason}")]
    Ambiguous {
        /// Where the header begins.
        offset: u64,
        /// What is ambiguous.
        reason: &'static str,
    },
    /// An entry of a kind that no layer has.
    #[error("entry of unsupported type {type_flag:?} at byte {offset}")]
    Unsupported {
        /// Where the header begins.
        offset: u64,
        /// Its type.
        type_flag: char,
    },
    /// A limit was reached.
    #[error("archive has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(FileData),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// One more name of the entry at this path.
    HardLink(Vec<u8>),
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Where a file's bytes are in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileData {
    /// Bytes of the file.
    pub size: u64,
    /// Byte of the archive where the stored bytes begin, a multiple of [`BLOCK`].
    pub offset: u64,
    /// The segments of a sparse file, stored one after the other; `None` when it has no holes.
    pub sparse: Option<Vec<Segment>>,
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as it stands there.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Mode, owner, time, all extended attributes.
    pub metadata: Metadata,
}

/// Reads entry after entry; the data between them is skipped.
pub struct Reader<R> {
    source: R,
    limits: Limits,
    position: u64,
    /// Bytes from here to the next header.
    skip: u64,
    entries: u64,
    content: u64,
    global: Records,
}

/// The headers before an entry's own that speak of it.
#[derive(Default)]
struct Preface {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Preface {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads from `source`, which stands at the first header.
    pub fn new(source: R, limits: Limits) -> Reader<R> {
        Reader {
            source,
            limits,
            position: 0,
            skip: 0,
            entries: 0,
            content: 0,
            global: Records::default(),
        }
    }

    /// The next entry; `None` at the end of the archive.
    ///
    /// # Errors
    /// When the archive is malformed, ambiguous or beyond a limit, or cannot be read. The reader
    /// is of no use afterwards.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut preface = Preface::default();
        loop {
            self.skip_data()?;
            let offset = self.position;
            let Some(block) = self.header()? else {
                if preface.is_empty() {
                    return Ok(None);
                }
                return Err(ReadError::Truncated { offset });
            };
            self.entries += 1;
            self.limit("entries", self.entries, self.limits.entries)?;
            let field = |range| number(&block[range]).ok_or(malformed(offset, "size"));
            match block[TYPE_FLAG] {
                b'x' if preface.records.is_some() => {
                    return Err(ambiguous(offset, "two extended headers for one entry"));
                }
                b'x' => {
                    let records = self.extended_header(offset, field(SIZE)?)?;
                    preface.records = Some(self.parse_records(offset, &records)?);
                }
                b'g' => {
                    let records = self.extended_header(offset, field(SIZE)?)?;
                    let records = self.parse_records(offset, &records)?;
                    if records.is_about_one_entry() {
                        return Err(ambiguous(offset, "global path or size"));
                    }
                    self.global.replace(records);
                }
                flag @ (b'L' | b'K') => {
                    let long = self.extended_header(offset, field(SIZE)?)?;
                    let place = match flag {
                        b'L' => &mut preface.long_name,
                        _ => &mut preface.long_link,
                    };
                    if place.replace(text(&long).to_vec()).is_some() {
                        return Err(ambiguous(offset, "two long names for one entry"));
                    }
                }
                b'V' => self.skip = padded(self.size(offset, field(SIZE)?)?),
                _ => return self.entry(offset, &block, preface).map(Some),
            }
        }
    }

    /// Gives the source back, somewhere behind the last entry that was read.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The entry that the header at `offset` and what came before it describe.
    fn entry(&mut self, offset: u64, block: &Block, preface: Preface) -> Result<Entry, ReadError> {
        let own = preface.records.unwrap_or_default();
        let records = own.over(&self.global);
        let name = header_name(block);
        let path = one_of(preface.long_name, records.path.clone(), name)
            .ok_or(ambiguous(offset, "PAX and GNU paths that differ"))?;
        let link = text(&block[LINK_NAME]).to_vec();
        let link = one_of(preface.long_link, records.link_path.clone(), link)
            .ok_or(ambiguous(offset, "PAX and GNU link targets that differ"))?;
        let longest = path.len().max(link.len());
        self.limit("bytes of path", longest as u64, self.limits.path as u64)?;
        let metadata = metadata(block, &records).map_err(|field| malformed(offset, field))?;
        let kind = self.kind(offset, block, &records, (&path, link))?;
        let path = match (&kind, records.sparse.name) {
            (EntryKind::File(_), Some(name)) => name,
            _ => path,
        };
        if path.is_empty() {
            return Err(malformed(offset, "empty path"));
        }
        Ok(Entry {
            path,
            kind,
            metadata,
        })
    }

    fn kind(
        &mut self,
        offset: u64,
        block: &Block,
        records: &Records,
        (path, link): (&[u8], Vec<u8>),
    ) -> Result<EntryKind, ReadError> {
        let device = |range| {
            let value = number(&block[range]).and_then(|value| u32::try_from(value).ok());
            value.ok_or(malformed(offset, "device number"))
        };
        let flag = block[TYPE_FLAG];
        let is_sparse = flag == b'S' || records.sparse.is_some();
        match flag {
            // The oldest archives know a directory by its trailing slash.
            0 if path.ends_with(b"/") => Ok(EntryKind::Directory),
            b'0' | b'7' if path.ends_with(b"/") => {
                Err(ambiguous(offset, "regular file whose path ends in a slash"))
            }
            0 | b'0' | b'7' | b'S' => {
                let stored = match records.size {
                    Some(size) => size,
                    None => self.size(offset, number(&block[SIZE]).unwrap_or(-1))?,
                };
                self.file(offset, block, records, stored)
            }
            _ if is_sparse => Err(ambiguous(offset, "sparse entry that is no file")),
            b'1' if link.is_empty() => Err(malformed(offset, "empty link target")),
            b'1' => Ok(EntryKind::HardLink(link)),
            b'2' if link.is_empty() => Err(malformed(offset, "empty link target")),
            b'2' => Ok(EntryKind::Symlink(link)),
            b'3' => Ok(EntryKind::CharDevice(
                device(DEV_MAJOR)?,
                device(DEV_MINOR)?,
            )),
            b'4' => Ok(EntryKind::BlockDevice(
                device(DEV_MAJOR)?,
                device(DEV_MINOR)?,
            )),
            b'5' => Ok(EntryKind::Directory),
            b'6' => Ok(EntryKind::Fifo),
            flag => Err(ReadError::Unsupported {
                offset,
                type_flag: char::from(flag),
            }),
        }
    }

    /// A regular file whose data of `stored` bytes begins here, or after its sparse map.
    fn file(
        &mut self,
        offset: u64,
        block: &Block,
        records: &Records,
        stored: u64,
    ) -> Result<EntryKind, ReadError> {
        let bad_map = || malformed(offset, "sparse map");
        let begin = self.position;
        let sparse = if block[TYPE_FLAG] == b'S' {
            let size = number(&block[GNU_REAL_SIZE]).and_then(|size| u64::try_from(size).ok());
            let map = self.gnu_map(offset, block)?;
            Some((map, size.ok_or_else(bad_map)?, stored))
        } else if records.sparse.is_version_1() {
            let map = self.map_in_data(offset, stored)?;
            let rest = stored.checked_sub(self.position - begin);
            let size = records.sparse.size.ok_or_else(bad_map)?;
            Some((map, size, rest.ok_or_else(bad_map)?))
        } else if let Some(map) = records.sparse.map.clone() {
            let size = records.sparse.size.ok_or_else(bad_map)?;
            Some((map, size, stored))
        } else {
            None
        };
        let here = self.position;
        let (size, stored, map) = match sparse {
            Some((map, size, stored)) => {
                self.limit(
                    "sparse segments",
                    map.len() as u64,
                    self.limits.segments as u64,
                )?;
                if !sparse::is_sound(&map, size, stored) {
                    return Err(bad_map());
                }
                (size, stored, Some(map))
            }
            None => (stored, stored, None),
        };
        self.content = self.content.saturating_add(size);
        self.limit("bytes of content", self.content, self.limits.total)?;
        self.limit("bytes", stored, self.limits.total)?;
        self.skip = padded(stored);
        Ok(EntryKind::File(FileData {
            size,
            offset: here,
            sparse: map,
        }))
    }

    fn gnu_map(&mut self, offset: u64, block: &Block) -> Result<Vec<Segment>, ReadError> {
        let mut map = Vec::new();
        let mut more = block[GNU_IS_EXTENDED] != 0;
        let mut result = sparse::gnu_segments(&block[GNU_SPARSE], &mut map).map(|()| more);
        while more && result.is_some() {
            let extension = self.block()?.ok_or(ReadError::Truncated { offset })?;
            result = sparse::gnu_extension(&extension, &mut map);
            more = result.unwrap_or(false);
            self.limit(
                "sparse segments",
                map.len() as u64,
                self.limits.segments as u64,
            )?;
        }
        result.ok_or(malformed(offset, "sparse map"))?;
        Ok(map)
    }

    /// The map of the PAX form 1.0: decimal lines at the beginning of the data, padded.
    fn map_in_data(&mut self, offset: u64, stored: u64) -> Result<Vec<Segment>, ReadError> {
        let bad_map = || malformed(offset, "sparse map");
        let begin = self.position;
        let mut numbers: Vec<u64> = Vec::new();
        let mut digits = Vec::new();
        let mut wanted = 1_usize;
        while numbers.len() < wanted {
            if self.position - begin >= stored {
                return Err(bad_map());
            }
            let block = self.block()?.ok_or(ReadError::Truncated { offset })?;
            for &byte in &block {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                numbers.push(super::pax::decimal(&digits).ok_or_else(bad_map)?);
                digits.clear();
                if numbers.len() == 1 {
                    self.limit("sparse segments", numbers[0], self.limits.segments as u64)?;
                    wanted = 1 + 2 * usize::try_from(numbers[0]).map_err(|_| bad_map())?;
                }
                if numbers.len() == wanted {
                    break;
                }
            }
            if digits.len() > BLOCK as usize {
                return Err(bad_map());
            }
        }
        sparse::pairs(&numbers[1..]).ok_or_else(bad_map)
    }

    /// The data of an extended header or long name.
    fn extended_header(&mut self, offset: u64, size: i64) -> Result<Vec<u8>, ReadError> {
        let size = self.size(offset, size)?;
        self.limit(
            "bytes of extended header",
            size,
            self.limits.extended_header,
        )?;
        let mut data = Vec::new();
        for _ in 0..size.div_ceil(BLOCK) {
            let block = self.block()?;
            data.extend_from_slice(&block.ok_or(ReadError::Truncated { offset })?);
        }
        data.truncate(usize::try_from(size).unwrap_or(data.len()));
        Ok(data)
    }

    fn parse_records(&self, offset: u64, data: &[u8]) -> Result<Records, ReadError> {
        Records::parse(data, self.limits.segments).ok_or(malformed(offset, "extended header"))
    }

    fn size(&self, offset: u64, size: i64) -> Result<u64, ReadError> {
        u64::try_from(size).map_err(|_| malformed(offset, "size"))
    }

    fn limit(&self, what: &'static str, value: u64, limit: u64) -> Result<(), ReadError> {
        if value > limit {
            return Err(ReadError::Limit { what, limit });
        }
        Ok(())
    }

    /// The next header block; `None` at two blocks of zeros, or at the end of the source.
    fn header(&mut self) -> Result<Option<Block>, ReadError> {
        let offset = self.position;
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block == [0; 512] {
            return match self.block()? {
                Some(second) if second != [0; 512] => {
                    Err(ambiguous(offset, "entry after a block of zeros"))
                }
                _ => Ok(None),
            };
        }
        match is_header(&block) {
            true => Ok(Some(block)),
            false => Err(malformed(offset, "checksum")),
        }
    }

    /// The next block; `None` at the end of the source.
    fn block(&mut self) -> Result<Option<Block>, ReadError> {
        let mut block = [0; 512];
        let mut have = 0;
        while have < block.len() {
            let chunk = match self.source.fill_buf() {
                Ok([]) if have == 0 => return Ok(None),
                Ok([]) => {
                    return Err(ReadError::Truncated {
                        offset: self.position,
                    });
                }
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.io(source)),
            };
            let count = chunk.len().min(block.len() - have);
            block[have..have + count].copy_from_slice(&chunk[..count]);
            self.source.consume(count);
            have += count;
            self.position += count as u64;
        }
        self.limit("bytes", self.position, self.limits.total)?;
        Ok(Some(block))
    }

    fn skip_data(&mut self) -> Result<(), ReadError> {
        while self.skip > 0 {
            let available = match self.source.fill_buf() {
                Ok([]) => {
                    return Err(ReadError::Truncated {
                        offset: self.position,
                    });
                }
                Ok(chunk) => chunk.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.io(source)),
            };
            let count = usize::try_from(self.skip).map_or(available, |skip| skip.min(available));
            self.source.consume(count);
            self.skip -= count as u64;
            self.position += count as u64;
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            offset: self.position,
            source,
        }
    }
}

fn malformed(offset: u64, reason: &'static str) -> ReadError {
    ReadError::Malformed { offset, reason }
}

fn ambiguous(offset: u64, reason: &'static str) -> ReadError {
    ReadError::Ambiguous { offset, reason }
}

/// The text that GNU or PAX say, which must agree when both speak; else the header's own.
fn one_of(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, own: Vec<u8>) -> Option<Vec<u8>> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => None,
        (Some(text), _) | (None, Some(text)) => Some(text),
        (None, None) => Some(own),
    }
}

/// The path in the header itself, with the prefix where the variant has one.
fn header_name(block: &Block) -> Vec<u8> {
    let name = text(&block[NAME]);
    let prefix = match &block[MAGIC] {
        magic if magic == MAGIC_USTAR && &block[STAR_TRAILER] == b"tar\0" => {
            text(&block[STAR_PREFIX])
        }
        magic if magic == MAGIC_USTAR => text(&block[PREFIX]),
        // Go before 1.8 wrote the prefix of ustar into GNU headers, which have times there.
        magic if magic == MAGIC_GNU => {
            let has_times =
                number(&block[GNU_ATIME]).is_some() && number(&block[GNU_CTIME]).is_some();
            match text(&block[PREFIX]) {
                prefix if !has_times && prefix.is_ascii() => prefix,
                _ => b"",
            }
        }
        _ => b"",
    };
    match prefix {
        b"" => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    }
}

/// Mode, owner, time and attributes; the name of the field that is malformed otherwise.
fn metadata(block: &Block, records: &Records) -> Result<Metadata, &'static str> {
    let owner = |range, record: Option<u32>, name| match record {
        Some(id) => Ok(id),
        None => number(&block[range])
            .and_then(|id| u32::try_from(id).ok())
            .ok_or(name),
    };
    let mtime = match records.mtime {
        Some(time) => time,
        None => Time {
            seconds: number(&block[MTIME]).ok_or("mtime")?,
            nanos: 0,
        },
    };
    let mode = number(&block[MODE]).ok_or("mode")? & 0o7777;
    Ok(Metadata {
        mode: u32::try_from(mode).map_err(|_| "mode")?,
        uid: owner(UID, records.uid, "uid")?,
        gid: owner(GID, records.gid, "gid")?,
        mtime,
        xattrs: records.xattrs.clone(),
    })
}
